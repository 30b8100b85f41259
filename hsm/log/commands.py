"""``python -m hsm log``: is the vault's log as the vault wrote it?"""

from __future__ import annotations

import argparse
import re
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from hsm.command_line import FAULT, OK, Commands, add_command

if TYPE_CHECKING:
    from collections.abc import Sequence


def add_to(commands: Commands) -> None:
    """Add the noun and its command to the program."""
    noun = commands.add_parser("log", help="what the vault of a host did")
    log = noun.add_subparsers(required=True, metavar="COMMAND")
    verify = add_command(log, "verify", verify_log, "follow the log, line by line, and its MACs")
    verify.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="all files of one host's log; those of this host unless said",
    )
    verify.add_argument(
        "--receipt",
        action="extend",
        nargs="+",
        default=[],
        type=_receipt,
        metavar="RECEIPT",
        help="a line that must be there, as an audit row names it",
    )


def verify_log(arguments: Namespace) -> int:
    """Check that every line follows the one before it and has its MAC; name the first at fault."""
    from hsm.errors import LogBroken
    from hsm.log.chain import Chain
    from hsm.pkcs11.token import Pkcs11Token
    from hsm.settings import HsmTokenSettings

    paths = sorted(arguments.files or _files_of_this_host(), key=lambda path: path.name)
    wanted = {*arguments.receipt}
    chain = Chain(Pkcs11Token.open(HsmTokenSettings()).mac)
    try:
        for line in chain.follow(paths):
            wanted.discard(line.receipt)
    except LogBroken as fault:
        print(f"{chain.place}: {fault}")
        return FAULT
    for place in chain.torn:
        print(f"{place}: not whole, as when a process ends while it writes")
    print(f"lines 1 to {chain.seq} are as the vault wrote them")
    if wanted:
        return _print_missing(sorted(wanted, key=_seq), chain.seq)
    print(f"whether there were more after line {chain.seq}, only a later receipt can tell")
    return OK


def _print_missing(receipts: Sequence[str], last_seq: int) -> int:
    for receipt in receipts:
        is_cut = _seq(receipt) > last_seq
        print(f"{receipt}: " + ("cut off at the end" if is_cut else "not of this log"))
    return FAULT


def _files_of_this_host() -> Sequence[Path]:
    """List the files of the log in ``HSM_STATE_DIRECTORY``.

    Raises:
        LogUnavailable: there are none.
    """
    from hsm.errors import LogUnavailable
    from hsm.log.writer import DIRECTORY, files_of
    from hsm.settings import VaultSettings

    paths = files_of(VaultSettings().state_directory / DIRECTORY)
    if not paths:
        raise LogUnavailable("this host has no log: it begins with a list of floors")
    return paths


def _receipt(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,18}\.[0-9a-f]{32}", text):
        raise argparse.ArgumentTypeError("not a receipt")
    return text


def _seq(receipt: str) -> int:
    return int(receipt.partition(".")[0])
