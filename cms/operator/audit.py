"""``python -m cms audit``: what happened at an issuer, and whether its vaults say the same."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cms.operator import command_line
from hsm import printing
from hsm.command_line import FAULT, OK

if TYPE_CHECKING:
    from cms.operator.log_comparison import Comparison

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
    text = "compare the audit with the logs of the vaults, hand-out by hand-out"
    compare = command_line.add_command(audit, "compare", compare_logs, text, "issuer")
    text = "the log of each host, with all that is in it"
    compare.add_argument(
        "--log",
        action="extend",
        nargs="+",
        type=Path,
        required=True,
        metavar="DIRECTORY",
        dest="directories",
        help=text,
    )
    printing.add_json(compare)


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


def compare_logs(arguments: Namespace) -> int:
    """Print what is in the audit and not in the logs, or the other way round.

    That no chain of a log is missing, and that each line follows the one before it, is looked at
    too; its MAC is not, for which ``python -m hsm log verify`` is.
    """
    from datetime import UTC, datetime

    from cms.operator.log_comparison import EVENTS, Comparison
    from cms.persistence import admin
    from hsm.log.host_log import HostLog

    began_at = datetime.now(UTC)
    host_logs = [HostLog(path) for path in {path.resolve() for path in arguments.directories}]
    lines = {
        line.receipt: line
        for host_log in host_logs
        for line in host_log.lines()
        if line.event.issuer_id == arguments.issuer
    }
    faults = [fault for host_log in host_logs for fault in host_log.faults]
    if faults:
        if arguments.json:
            printing.print_json({"faults": [*map(str, faults)]})
        else:
            print(*faults, sep="\n")
        return FAULT
    comparison = Comparison(lines, began_at)
    with command_line.open_database() as database:
        rows = admin.receipt_rows(database, arguments.issuer, EVENTS)
        if arguments.json:
            differences = [*map(str, comparison.differences(rows))]
            _print_comparison(comparison, len(lines), differences)
            return FAULT if differences else OK
        count = 0
        for difference in comparison.differences(rows):
            print(difference)
            count += 1
    print(f"compared: {comparison.rows} rows with {len(lines)} lines")
    print(f"set and not stored: {comparison.not_stored()}")
    print(f"differences: {count}")
    return FAULT if count else OK


def _print_comparison(comparison: Comparison, lines: int, differences: Sequence[str]) -> None:
    counts = {"rows": comparison.rows, "lines": lines, "not_stored": comparison.not_stored()}
    printing.print_json({"faults": [], **counts, "differences": differences})


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= EVENTS_MAX:
        raise ArgumentTypeError(f"a number from 1 to {EVENTS_MAX}")
    return int(text)
