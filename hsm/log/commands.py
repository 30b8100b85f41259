"""``python -m hsm log``: is the vault's log as the vault wrote it?"""

from __future__ import annotations

import argparse
import re
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hsm import printing
from hsm.command_line import FAULT, OK, Commands, add_command
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.printing import Result

if TYPE_CHECKING:
    from hsm.pkcs11.hsm_token import HsmToken


def add_to(commands: Commands) -> None:
    """Add the noun and its command to the program."""
    noun = commands.add_parser("log", help="what the vault of a host did")
    log = noun.add_subparsers(required=True, metavar="COMMAND")
    verify = add_command(log, "verify", verify_log, "follow the log, line by line, and its MACs")
    verify.add_argument(
        "directory",
        nargs="?",
        type=Path,
        metavar="DIRECTORY",
        help="a copy of a host's log, with all that is in it; this host's own unless said",
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
    printing.add_json(verify)


@printing.with_result
def verify_log(arguments: Namespace, result: Result) -> int:
    """Check that every line of every chain follows the one before it, has its MAC, and is there.

    Of each chain the first fault is named.
    """
    from hsm.log.host_log import HostLog
    from hsm.pkcs11.token import Pkcs11Token
    from hsm.settings import HsmTokenSettings

    directory = arguments.directory or _directory_of_this_host()
    hsm_token = Pkcs11Token.open(HsmTokenSettings())
    host_log = HostLog(directory, hsm_token.mac)
    compromised = _compromised(hsm_token) if arguments.directory is None else {}
    wanted, doubtful = {*arguments.receipt}, Counter[KeyLabel]()
    for line in host_log.lines():
        wanted.discard(line.receipt)
        if line.key in compromised:
            doubtful[line.key] += 1
    result |= {
        "faults": [*map(str, host_log.faults)],
        "torn": [*map(str, host_log.torn)],
        "lines_with_a_compromised_key": sum(doubtful.values()),
        "chains": [{"file": str(path), "lines": seq} for path, seq in host_log.ends.items()],
        "receipts_that_are_missing": sorted(wanted, key=_seq),
    }
    for fault in host_log.faults:
        print(fault)
    for place in host_log.torn:
        print(f"{place}: not whole, as when a process ends while it writes")
    for label, count in doubtful.items():
        print(f"{label} is compromised since {compromised[label]}: {count} lines have no other MAC")
    for path, seq in host_log.ends.items():
        print(f"{path}: lines 1 to {seq} are as the vault wrote them")
    for receipt in sorted(wanted, key=_seq):
        print(f"{receipt}: no line has this receipt")
    if host_log.faults or wanted:
        return FAULT
    print("whether there were more after these, only a later receipt can tell")
    return OK


def _compromised(hsm_token: HsmToken) -> Mapping[KeyLabel, str]:
    """Name the keys of role ``log-mac`` that are compromised, and since when."""
    from hsm import generations
    from hsm.errors import ManifestRefused
    from hsm.manifest.generation_table import State
    from hsm.settings import VaultSettings

    try:
        table = generations.of_host(VaultSettings().state_directory, hsm_token).table()
    except ManifestRefused:
        # Whether the log is whole can be told without it.
        table = None
    states = {} if table is None else table.states
    return {
        label: table.generations[str(label)].since.isoformat()
        for label, state in states.items()
        if table is not None and label.role is KeyRole.LOG_MAC and state is State.COMPROMISED
    }


def _directory_of_this_host() -> Path:
    """Name the directory of the log in ``HSM_STATE_DIRECTORY``.

    Raises:
        LogUnavailable: the log did not begin, or its list of chains is gone.
    """
    from hsm.errors import LogUnavailable
    from hsm.log import files
    from hsm.settings import VaultSettings

    directory = VaultSettings().state_directory / files.DIRECTORY
    if not files.list_of(directory).exists():
        raise LogUnavailable(
            "this host has no log: it begins with a list of minimum versions, see docs/operating.md"
        )
    return directory


def _receipt(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,18}\.[0-9a-f]{32}", text):
        raise argparse.ArgumentTypeError("not a receipt")
    return text


def _seq(receipt: str) -> int:
    return int(receipt.partition(".")[0])
