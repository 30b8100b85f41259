"""``python -m cms reseal``: what is stored of cards goes under the active keys of the vault."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from contextlib import suppress
from math import inf, isfinite

from cms.operator import command_line, progress
from cms.operator.command_line import POSITIONALS
from hsm.command_line import FAULT, OK


def add_to(commands: command_line.Commands) -> None:
    """Add the command to the program."""
    text = "seal anew, under the active keys, what is stored of cards"
    reseal = command_line.add_command(commands, "reseal", reseal_cards, text)
    reseal.add_argument("issuer", nargs="?", help=f"{POSITIONALS['issuer']}; all when none")
    reseal.add_argument(
        "--cards-per-second",
        type=_rate,
        default=inf,
        metavar="N",
        help="at most so many; without it, as fast as others let the vault be",
    )
    text = "only print, key by key, how much is stored under it, of all issuers"
    reseal.add_argument("--count", action="store_true", help=text)
    command_line.add_json(reseal)


def reseal_cards(arguments: Namespace) -> int:
    """Reseal cards and print a line for each issuer; name those cards that are refused."""
    if arguments.count:
        return _count(as_json=arguments.json)
    try:
        return _reseal(arguments)
    except KeyboardInterrupt:
        raise command_line.Refused(
            "interrupted: what was resealed is stored, the next run does the rest"
        ) from None


def _reseal(arguments: Namespace) -> int:
    from cms.operator.card_reseal import CardReseal
    from cms.operator.pace import Pace
    from cms.operator.vault import open_vault
    from cms.persistence import admin, reseal, tables
    from hsm.port import RESEAL_CARDS_MAX

    code = OK
    with open_vault() as vault, command_line.open_database() as database:
        if arguments.issuer is not None:
            admin.row(database, tables.issuers, issuer_id=arguments.issuer)
        issuer_ids = [arguments.issuer] if arguments.issuer else reseal.issuer_ids(database)
        run = CardReseal(database, vault, Pace(RESEAL_CARDS_MAX, arguments.cards_per_second))
        total = sum(map(run.count_left, issuer_ids))
        with progress.bar("cards", total) as bar:
            reports = {issuer_id: run.run(issuer_id, bar.update) for issuer_id in issuer_ids}
    rows = []
    for issuer_id, report in reports.items():
        for (card, _), reason in report.refused.items():
            command_line.complain(f"issuer {issuer_id}, card {card.card_id}: {reason}")
        if report.left:
            code = FAULT
        counts = {"resealed": report.resealed, "skipped": report.skipped}
        refused = {"refused": len(report.refused), "left": report.left}
        rows.append({"issuer_id": issuer_id, **counts, **refused})
    command_line.print_rows(rows, as_json=arguments.json)
    return code


def _count(*, as_json: bool) -> int:
    from cms.persistence.key_labels import rows_by_generation

    with command_line.open_database() as database:
        counts = rows_by_generation(database)
    rows = [{"key": label, "rows": count} for label, count in counts.items()]
    command_line.print_rows(rows, as_json=as_json)
    return OK


def _rate(text: str) -> float:
    with suppress(ValueError):
        if isfinite(rate := float(text)) and rate > 0:
            return rate
    raise ArgumentTypeError("not a number above 0")
