"""``python -m cms audit``: what happened at an issuer, the oldest first."""

from argparse import ArgumentTypeError, Namespace
from typing import Final

from cms.operator import command_line
from hsm.command_line import OK

EVENTS_MAX: Final = 100_000


def add_to(commands: command_line.Commands) -> None:
    """Add the noun and its command to the program."""
    audit = command_line.add_noun(commands, "audit", "what happened")
    show = command_line.add_command(audit, "list", list_events, "list the newest events", "issuer")
    show.add_argument("--card", metavar="ID", help="only those of this card")
    show.add_argument("--event", metavar="NAME", help="only those of this name, as pin.set")
    show.add_argument("--correlation-id", metavar="ID", help="only those of this request")
    zoned = "ISO 8601 with a zone"
    show.add_argument("--since", metavar="TIME", help=f"of then or later; {zoned}")
    show.add_argument("--until", metavar="TIME", help=f"of before then; {zoned}")
    show.add_argument(
        "--limit",
        type=_count,
        default=1000,
        metavar="N",
        help="the newest so many; 1000 unless said",
    )
    command_line.add_json(show)


def list_events(arguments: Namespace) -> int:
    """Print audit events, a line each; say so when there are more than that."""
    from cms.persistence import admin

    with command_line.open_database() as database:
        found = admin.audit_rows(
            database,
            arguments.issuer,
            count_max=arguments.limit + 1,
            since=command_line.moment(arguments.since),
            until=command_line.moment(arguments.until),
            card_id=arguments.card,
            event=arguments.event,
            correlation_id=arguments.correlation_id,
        )
    command_line.print_rows(found[-arguments.limit :], as_json=arguments.json)
    if len(found) > arguments.limit:
        command_line.complain(
            f"there are older events than these {arguments.limit}: see --limit and --until"
        )
    return OK


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= EVENTS_MAX:
        raise ArgumentTypeError(f"a number from 1 to {EVENTS_MAX}")
    return int(text)
