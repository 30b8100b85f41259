"""``python -m cms manifest``: signed manifests are given to the hosts, and shown."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cms.operator import command_line
from hsm.command_line import OK

if TYPE_CHECKING:
    from crypto.jose.jws_json import SignedText
    from hsm.manifest.model import Manifest

POLL_SECONDS: Final = 0.5
WAIT_SECONDS: Final = 60
WAIT_SECONDS_MAX: Final = 24 * 60 * 60


def add_to(commands: command_line.Commands) -> None:
    """Add the noun and its commands to the program."""
    manifest = command_line.add_noun(
        commands, "manifest", "what issuers decide, as operators signed it"
    )
    text = "store a manifest for the hosts to take"
    load = command_line.add_command(manifest, "load", load_manifest, text)
    load.add_argument("file", type=Path, help="a signed manifest, or -")
    load.add_argument(
        "--host",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME",
        help="wait until this host has taken it, as CMS_HOST_NAME names it",
    )
    load.add_argument(
        "--wait-seconds",
        type=_seconds,
        default=WAIT_SECONDS,
        metavar="N",
        help=f"how long to wait for hosts; {WAIT_SECONDS} unless said",
    )
    text = "print what the newest manifest says"
    show = command_line.add_command(manifest, "show", show_manifest, text, "issuer")
    show.add_argument("--signed", action="store_true", help="print it as it was signed")
    show.add_argument("--version", type=int, metavar="N", help="this one, not the newest")
    text = "list versions, and who has which"
    command_line.add_json(command_line.add_command(manifest, "list", list_manifests, text))


def load_manifest(arguments: Namespace) -> int:
    """Store a manifest; the hosts verify and take it. With hosts, wait for each of them.

    Where the settings name a vault of this host, that takes it first: nothing is stored that it
    refuses.
    """
    from cms.operator.vault import open_vault
    from cms.persistence import admin
    from hsm.messages import LoadManifest

    given = str(arguments.file)
    text = sys.stdin.read() if given == "-" else arguments.file.read_text("utf-8-sig")
    signed, manifest = _read(text)
    with command_line.open_database() as database:
        admin.load_manifest(database, manifest.issuer_id, manifest.version, str(signed))
        if os.environ.get("CMS_VAULT_SOCKET_DIRECTORY"):
            with open_vault() as vault:
                vault.call(LoadManifest(str(signed)))
    _await_hosts(manifest, arguments.host, arguments.wait_seconds)
    return OK


def show_manifest(arguments: Namespace) -> int:
    """Print a manifest, as JSON for people or as it was signed."""
    from cms.persistence import admin
    from hsm.manifest.body import indented
    from hsm.manifest.signed import parse

    with command_line.open_database() as database:
        text = admin.manifest_text(database, arguments.issuer, arguments.version)
    print(text if arguments.signed else indented(parse(text).payload), end="")
    return OK


def list_manifests(arguments: Namespace) -> int:
    """Print every version of every issuer, with each host that answered of it last, and what."""
    from cms.persistence import admin

    with command_line.open_database() as database:
        rows = admin.manifest_rows(database)
    command_line.print_rows(rows, as_json=arguments.json)
    return OK


def _read(text: str) -> tuple[SignedText, Manifest]:
    """Read a signed manifest; whether enough operators signed, the hosts look at.

    Raises:
        Refused: it has ended.
        ManifestRefused: it is none.
    """
    from hsm.manifest import model, signed

    document = signed.parse(text)
    manifest = model.parse(document.payload)
    if manifest.valid_until <= datetime.now(UTC):
        raise command_line.Refused("the manifest has ended")
    return document, manifest


def _await_hosts(manifest: Manifest, hosts: Sequence[str], seconds: float) -> None:
    """Wait until each host has taken a manifest, or a newer one.

    Raises:
        Refused: one refused it, or did not answer in time.
    """
    deadline = time.monotonic() + seconds
    while left := _without_it(manifest, hosts):
        if time.monotonic() >= deadline:
            raise command_line.Refused(f"stored; no answer yet of {', '.join(left)}")
        time.sleep(POLL_SECONDS)


def _without_it(manifest: Manifest, hosts: Sequence[str]) -> list[str]:
    """Name the hosts that have not answered yet.

    Raises:
        Refused: one refused it.
    """
    from cms.domain.records import TAKEN
    from cms.persistence import admin

    if not hosts:
        return []
    with command_line.open_database() as database:
        answers = admin.manifest_answers(database, manifest.issuer_id)
    left = []
    for host in hosts:
        answer = answers.get(host)
        if answer is None or answer.version < manifest.version:
            left.append(host)
        elif answer.outcome != TAKEN:
            raise command_line.Refused(f"stored; {host} refused it: {answer.outcome}")
    return left


def _seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > WAIT_SECONDS_MAX:
        raise ArgumentTypeError(f"a number from 0 to {WAIT_SECONDS_MAX}")
    return int(text)
