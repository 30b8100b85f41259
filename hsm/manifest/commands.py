"""``python -m hsm manifest``: what operators do with manifests, away from the machines that serve.

All but ``begin`` work with files only: no HSM token, no database. A FILE is a draft or signed.
"""

from __future__ import annotations

import argparse
import json
import os
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hsm import printing
from hsm.command_line import (
    ISSUER_HELP,
    OK,
    Commands,
    add_command,
    ask,
    issuer_id,
    new_passphrase,
    passphrase_of,
)
from hsm.printing import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crypto.jose.jws_json import SignedText
    from hsm.manifest.model import Manifest
    from hsm.manifest.operator_key import OperatorKey

MANIFEST_DAYS: Final = 365
MINIMUM_VERSIONS_DAYS: Final = 7


def add_to(commands: Commands) -> None:
    """Add the noun and its commands to the program."""
    noun = commands.add_parser("manifest", help="what issuers decide, and who signs it")
    manifests = noun.add_subparsers(required=True, metavar="COMMAND")
    _add_key(manifests)
    new = add_command(manifests, "new", print_new, "print a draft with every default")
    new.add_argument("issuer", type=issuer_id, help=ISSUER_HELP)
    new.add_argument("--sandbox", action="store_true", help="for trials only")
    show = add_command(manifests, "show", print_body, "print what a manifest says")
    show.add_argument("file", type=Path, metavar="FILE", help="a draft, or signed")
    diff = add_command(
        manifests, "diff", print_differences, "compare two manifests, member by member"
    )
    diff.add_argument("old", type=Path, metavar="OLD", help="the one before")
    diff.add_argument("new", type=Path, metavar="NEW", help="the one after it")
    printing.add_json(diff)
    _add_change(manifests)
    sign = add_command(manifests, "sign", add_signatures, "show what is signed, and sign it")
    sign.add_argument("file", type=Path, metavar="FILE", help="a draft, or signed already")
    add_keys(sign, required=True)
    sign.add_argument("--out", type=Path, metavar="FILE", help="where to; in place unless said")
    printing.add_json(sign)
    verify = add_command(manifests, "verify", print_signers, "say who signed, and if enough did")
    verify.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="signed: a manifest, minimum versions or generations",
    )
    text = "the trust file of a host"
    verify.add_argument("--trust", type=Path, required=True, metavar="FILE", help=text)
    printing.add_json(verify)
    _add_minimum_versions(manifests)
    begin = add_command(
        manifests, "begin", begin_host, "give a new host its signed minimum versions"
    )
    begin.add_argument("file", type=Path, metavar="FILE", help="a signed list")


def _add_key(commands: Commands) -> None:
    key = add_command(commands, "key", make_key, "make a key; print its entry of a trust file")
    key.add_argument("file", type=Path, metavar="FILE", help="a new file")
    key.add_argument("--name", required=True, help="whose it is")
    key.add_argument(
        "--issuer",
        action="extend",
        nargs="+",
        type=issuer_id,
        metavar="ID",
        help="an issuer for which it may sign; every issuer unless said",
    )
    text = "do not encipher the file"
    key.add_argument("--no-passphrase", action="store_true", help=text)


def _add_change(commands: Commands) -> None:
    text = "make the next version: show what differs, ask, and sign"
    change = add_command(commands, "change", change_members, text)
    change.add_argument("file", type=Path, metavar="FILE", help="a draft, or signed")
    change.add_argument(
        "members",
        nargs="*",
        type=_member,
        metavar="PATH=JSON",
        help="as policy.length_max=6 or clients[demobank01-app].language='\"de\"'",
    )
    change.add_argument("--out", type=Path, required=True, metavar="NEW", help="where to")
    add_keys(change, required=False)
    printing.add_json(change)


def _add_minimum_versions(commands: Commands) -> None:
    text = "make a list of minimum versions, good for 7 days, to be signed"
    listed = add_command(commands, "minimum-versions", make_minimum_versions, text)
    text = "of every issuer ever"
    listed.add_argument(
        "versions", nargs="*", type=_minimum_version, metavar="ISSUER=VERSION", help=text
    )
    text = "the version of the table of key generations, if there ever was one"
    listed.add_argument("--generations", type=int, default=0, metavar="N", help=text)
    listed.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to")


def add_keys(parser: ArgumentParser, *, required: bool) -> None:
    """Add the argument that names the keys to sign with."""
    parser.add_argument(
        "--key",
        action="extend",
        nargs="+",
        default=[],
        type=Path,
        required=required,
        metavar="KEY",
        help="the file of an operator's key",
    )


def _member(text: str) -> tuple[str, object]:
    path, is_given, value = text.partition("=")
    try:
        if is_given:
            return path, json.loads(value)
    except (ValueError, RecursionError):
        pass
    raise argparse.ArgumentTypeError("not PATH=JSON; a text is JSON in double quotes")


def _minimum_version(text: str) -> tuple[str, int]:
    issuer, _, version = text.rpartition("=")
    if not (version.isascii() and version.isdigit()):
        raise argparse.ArgumentTypeError("not ISSUER=VERSION")
    return issuer_id(issuer), int(version)


def make_key(arguments: Namespace) -> int:
    """Make an operator's private key in a new file; print its entry of a trust file."""
    from hsm.errors import ManifestRefused
    from hsm.manifest.operator_key import OperatorKey
    from hsm.manifest.trust import NAME_CHARS_MAX

    if not 0 < len(arguments.name) <= NAME_CHARS_MAX:
        raise ManifestRefused("a name has 1 to 64 characters")
    passphrase = None if arguments.no_passphrase else new_passphrase()
    key = OperatorKey.create(arguments.file, passphrase)
    print(json.dumps(key.entry(arguments.name, arguments.issuer or "all"), indent=2))
    return OK


def print_new(arguments: Namespace) -> int:
    """Print a draft of an issuer's first manifest: every default, in force for a year from now."""
    from hsm.manifest import model
    from hsm.manifest.body import canonical_body

    body = {
        **dates_from_now(MANIFEST_DAYS),
        "issuer_id": arguments.issuer,
        "version": 1,
        "sandbox": arguments.sandbox,
    }
    print(model.parse(canonical_body(body)).indented(), end="")
    return OK


def print_body(arguments: Namespace) -> int:
    """Print what a file says, as it would be signed or was."""
    from hsm.manifest import documents
    from hsm.manifest.body import indented

    print(indented(documents.read(arguments.file).payload), end="")
    return OK


def print_differences(arguments: Namespace) -> int:
    """Compare two manifests, member by member."""
    from hsm.manifest import documents
    from hsm.manifest.members import differences

    for path in (arguments.old, arguments.new):
        documents.read_manifest(path)
    old, new = (documents.read(path).payload for path in (arguments.old, arguments.new))
    found = [*map(str, differences(old, new))]
    if arguments.json:
        printing.print_json({"differences": found})
        return OK
    for difference in found:
        print(difference)
    return OK


@printing.with_result
def change_members(arguments: Namespace, result: Result) -> int:
    """Make the next version of a manifest, and sign it with the keys that are given."""
    from crypto.jose.jws_json import SignedText
    from hsm.errors import ManifestRefused
    from hsm.manifest import documents, members, model

    version = documents.read_manifest(arguments.file).version
    old = documents.read(arguments.file).payload
    new = members.with_member(old, "version", version + 1)
    for path, value in arguments.members:
        new = members.with_member(new, path, value)
    manifest = model.parse(new)
    document = SignedText(manifest.canonical(), ())
    differences = [*map(str, members.differences(old, document.payload))]
    for difference in differences:
        print(difference, flush=True)
    _print_cautions(manifest)
    if arguments.key:
        if ask(input, "Sign? [y/N] ").strip().lower() not in {"y", "yes"}:
            raise ManifestRefused("not signed: nothing was written")
        document = documents.with_signatures(document, _keys(arguments.key))
    documents.write(arguments.out, document)
    written = {"version": manifest.version, "file": str(arguments.out)}
    result |= {"differences": differences, **written, "signatures": len(document.signatures)}
    return OK


@printing.with_result
def add_signatures(arguments: Namespace, result: Result) -> int:
    """Show what is signed, and add the signatures of the keys that are given."""
    from hsm.manifest import documents

    document = documents.read(arguments.file)
    _print_summary(document)
    document = documents.with_signatures(document, _keys(arguments.key))
    file = arguments.out or arguments.file
    documents.write(file, document)
    print(f"signatures: {len(document.signatures)}")
    result |= {**_summary(document), "file": str(file), "signatures": len(document.signatures)}
    return OK


@printing.with_result
def print_signers(arguments: Namespace, result: Result) -> int:
    """Say who signed, and whether that is enough for hosts with that trust file."""
    from hsm.manifest import documents
    from hsm.manifest.model import Manifest
    from hsm.manifest.trust import read_trust

    document, trust = documents.read(arguments.file), read_trust(arguments.trust)
    body = documents.content(document)
    _print_summary(document)
    issuer_id = body.issuer_id if isinstance(body, Manifest) else None
    signers = trust.signers(document, documents.type_of(body), issuer_id)
    for operator in signers:
        print(f"signed by {operator.name!a}")
    names = [operator.name for operator in signers]
    result |= {**_summary(document), "signed_by": names, "threshold": trust.threshold}
    known = {operator.key.kid for operator in signers}
    for kid in (one.header.get("kid") for one in document.signatures):
        if kid not in known:
            print(f"does not count: the signature of {kid!a}")
    print(f"{len(signers)} of {trust.threshold} signatures", flush=True)
    if isinstance(body, Manifest):
        trust.accept_manifest(document)
    else:
        trust.require_signed(document, documents.type_of(body), None)
    return OK


def make_minimum_versions(arguments: Namespace) -> int:
    """Make a list of minimum versions, to be signed and given to new hosts."""
    from crypto.jose.jws_json import SignedText
    from hsm.errors import ManifestRefused
    from hsm.manifest import documents, minimum_versions
    from hsm.manifest.body import canonical_body

    versions = dict(arguments.versions)
    if len(versions) != len(arguments.versions):
        raise ManifestRefused("an issuer stands there twice")
    body = {**dates_from_now(MINIMUM_VERSIONS_DAYS), "minimum_versions": versions}
    listed = minimum_versions.parse(canonical_body({**body, "generations": arguments.generations}))
    documents.write(arguments.out, SignedText(listed.canonical(), ()))
    return OK


def begin_host(arguments: Namespace) -> int:
    """Give this host, which has none, the minimum versions that operators signed."""
    from hsm.errors import ManifestRefused
    from hsm.local import open_vault
    from hsm.manifest import documents
    from hsm.settings import VaultSettings

    text = documents.read_text(arguments.file)
    directory = VaultSettings().state_directory
    if not directory.is_dir():
        raise ManifestRefused("HSM_STATE_DIRECTORY is no directory")
    # What root writes there the vault could not read.
    if os.geteuid() == 0 != directory.stat().st_uid:
        raise ManifestRefused("run this as the user to whom HSM_STATE_DIRECTORY belongs")
    open_vault().load_minimum_versions(text)
    return OK


def _print_summary(document: SignedText) -> None:
    import hashlib

    from hsm.manifest import documents
    from hsm.manifest.generation_table import GenerationTable
    from hsm.manifest.minimum_versions import MinimumVersions

    body = documents.content(document)
    if isinstance(body, MinimumVersions):
        print("list of minimum versions")
        for issuer, version in body.minimum_versions.items():
            print(f"  {issuer!a} from version {version}")
        if body.generations:
            print(f"  table of key generations from version {body.generations}")
    elif isinstance(body, GenerationTable):
        print(f"table of key generations, version {body.version}")
        for label, one in body.generations.items():
            print(f"  {label!a} {one.state} since {one.since}")
    else:
        trials = ", for trials" if body.sandbox else ""
        print(f"manifest of {body.issuer_id!a}, version {body.version}{trials}")
        _print_cautions(body)
    print(f"in force from {body.valid_from} until {body.valid_until}")
    print(f"SHA-256 {hashlib.sha256(document.payload).hexdigest()}", flush=True)


def _summary(document: SignedText) -> Result:
    import hashlib

    from hsm.manifest import documents
    from hsm.manifest.model import Manifest

    body = documents.content(document)
    return {
        "type": documents.type_of(body),
        "issuer_id": body.issuer_id if isinstance(body, Manifest) else None,
        "valid_from": body.valid_from.isoformat(),
        "valid_until": body.valid_until.isoformat(),
        "sha256": hashlib.sha256(document.payload).hexdigest(),
    }


def _print_cautions(manifest: Manifest) -> None:
    from hsm.manifest.cautions import cautions

    for text in cautions(manifest):
        print(f"warning: {text}", flush=True)


def _keys(paths: Sequence[Path]) -> list[OperatorKey]:
    from hsm.manifest.operator_key import OperatorKey

    return [OperatorKey.read(path, partial(passphrase_of, path)) for path in paths]


def dates_from_now(days: int) -> dict[str, str]:
    """Return the dates of what is in force from now on."""
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC).replace(microsecond=0)
    until = now + timedelta(days=days)
    return {"valid_from": now.isoformat(), "valid_until": until.isoformat()}
