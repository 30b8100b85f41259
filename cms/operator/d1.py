"""``python -m cms d1``: what Thales D1 sends, as an operator may look at it."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cms.operator import command_line
from hsm import printing
from hsm.command_line import BYTE_ORDER_MARK, OK, REFUSED

if TYPE_CHECKING:
    from hsm.manifest.wire import WireProfile

Line: TypeAlias = tuple[bool, str]
"""Whether something is as it must be, and what it is."""


def add_to(commands: command_line.Commands) -> None:
    """Add the noun and its commands to the program."""
    d1 = command_line.add_noun(commands, "d1", "what Thales D1 sends")
    text = "say why the form of a PUT is refused; no key is used"
    explain = command_line.add_command(d1, "explain", explain_put, text, "issuer")
    explain.add_argument("file", type=Path, help="the body of a PUT, or the JWE in it; or -")
    printing.add_json(explain, "array of objects")


def explain_put(arguments: Namespace) -> int:
    """Print what is right and what is wrong with a PUT, a line each. Nothing is decrypted."""
    from cms.operator.vault import open_vault, read_manifest
    from cms.persistence import admin, tables
    from hsm.messages import PublicJwks
    from hsm.port import PublicKeyRole

    given = str(arguments.file)
    data = sys.stdin.buffer.read() if given == "-" else arguments.file.read_bytes()
    with command_line.open_database() as database:
        admin.row(database, tables.issuers, issuer_id=arguments.issuer)
    with open_vault() as vault:
        wire = read_manifest(vault, arguments.issuer).wire
        jwks = {role: vault.call(PublicJwks(role))["keys"] for role in PublicKeyRole}
    roles = {key["kid"]: str(role) for role, keys in jwks.items() for key in keys}
    lines = list(explain_body(data, wire, roles))
    code = OK if all(right for right, _ in lines) else REFUSED
    if arguments.json:
        printing.print_json([{"ok": right, "what": text} for right, text in lines])
        return code
    for right, text in lines:
        print(f"{'ok' if right else 'WRONG':<5}  {text}")
    if code == OK:
        print("The form is right. Whether it opens, and what is in it, is not looked at here.")
    return code


def explain_body(data: bytes, wire: WireProfile, roles: Mapping[str, str]) -> Iterator[Line]:
    """Look at the body of a PUT, or at a JWE alone.

    Args:
        data: either of them; white space around it does not count, nor a byte-order mark.
        wire: the issuer's wire profile.
        roles: the thumbprint of each of our public keys, and its role.
    """
    from crypto.errors import JoseError
    from crypto.jose import json_object

    text = data.removeprefix(BYTE_ORDER_MARK).strip()
    if not text.startswith(b"{"):
        yield from explain_jwe(text.decode("ascii", errors="replace"), wire, roles)
        return
    try:
        members = json_object.parse(text)
    except JoseError:
        yield False, "body: not a JSON object, or a member stands twice"
        return
    yield True, "body: a JSON object"
    yield _explain_type(members.get("type"), wire)
    encrypted = members.get("encryptedPinBlock")
    if not isinstance(encrypted, str):
        yield False, "encryptedPinBlock: missing, or not a text"
        return
    yield from explain_jwe(encrypted, wire, roles)


def explain_jwe(text: str, wire: WireProfile, roles: Mapping[str, str]) -> Iterator[Line]:
    """Look at a JWE; the arguments are those of :func:`explain_body`."""
    from cms.services.d1 import jwe_report

    for found in jwe_report.report(text, wire.jwe.extra):
        yield found.fault is None, found.text
    members = jwe_report.header(text)
    kid = members.get("kid") if members else None
    if not isinstance(kid, str):
        return
    if kid in wire.jwe.own_kids:
        yield True, f"kid: the wire profile's name of d1.g{wire.jwe.own_kids[kid]}"
    elif roles.get(kid) == "d1":
        yield True, "kid: the thumbprint of a key of role d1"
    elif kid in roles:
        yield False, f"kid: the thumbprint of a key of role {roles[kid]}, not d1"
    else:
        yield False, "kid: no key of ours; see python -m hsm jwks d1, and jwe.our_kids"


def _explain_type(literal: object, wire: WireProfile) -> Line:
    from cms import logs

    block_type = wire.block_type(literal) if isinstance(literal, str) else None
    shown = logs.shown(literal)
    if block_type is None:
        return False, f"type: {shown}, no literal of the wire profile's put_pin"
    return True, f"type: {shown}, a PIN block of type {block_type}"
