"""What is wrong with a JWE, for the operator: no key is used, and no caller is told.

:func:`crypto.jose.jwe.parse` says only whether a JWE has the right form. This module reads the same
things one by one, and goes on where it can.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cms import logs
from cms.domain.errors import JweFault
from crypto.errors import JoseError, JweError
from crypto.jose import base64url, json_object, jwe
from crypto.jose.jwk import parse_point

PARTS: Final = ("header", "encrypted key", "IV", "ciphertext", "tag")
#: The parts whose size is fixed, in bytes.
SIZES: Final = {"encrypted key": 0, "IV": jwe.IV_BYTES, "tag": jwe.GCM_TAG_BYTES}
TEXTS: Final = ("typ", "cty")
PARTIES: Final = ("apu", "apv")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; *fault* is None where it is as it must be."""

    text: str
    fault: JweFault | None = None


def report(text: str, extra_members: frozenset[str]) -> list[Finding]:
    """Read a JWE step by step; it has the right form if no finding is a fault.

    Args:
        text: the JWE.
        extra_members: header members that the wire profile allows beside the usual ones.
    """
    return list(_findings(text, extra_members))


def first_fault(text: str, extra_members: frozenset[str]) -> JweFault | None:
    """Name the first thing that is wrong with a JWE, or None if it has the right form."""
    return next((found.fault for found in _findings(text, extra_members) if found.fault), None)


def loggable(text: str, extra_members: frozenset[str]) -> dict[str, str]:
    """Return what a log may say of a JWE: ``alg``, ``enc``, ``kid``, names of unknown members."""
    members = header(text)
    if members is None:
        return {}
    shown = {f"jwe_{name}": logs.shown(members.get(name, "")) for name in ("alg", "enc", "kid")}
    if unknown := sorted(members.keys() - jwe.ALLOWED - (extra_members - jwe.NEVER_ALLOWED)):
        shown["jwe_unknown"] = logs.shown(" ".join(unknown))
    return shown


def header(text: str) -> dict[str, object] | None:
    """Return the header of a JWE, or None if it cannot be read."""
    if len(text) > jwe.JWE_CHARS_MAX:
        return None
    try:
        return json_object.parse(base64url.decode(text.partition(".")[0]))
    except JoseError:
        return None


def _findings(text: str, extra_members: frozenset[str]) -> Iterator[Finding]:
    if len(text) > jwe.JWE_CHARS_MAX:
        yield Finding(
            f"{len(text)} characters, more than {jwe.JWE_CHARS_MAX}", JweFault.JWE_TOO_LONG
        )
        return
    parts = text.split(".")
    if len(parts) != len(PARTS):
        yield Finding(f"parts: {len(parts)}, not 5: no compact JWE", JweFault.JWE_PARTS)
        return
    yield Finding(f"5 parts, {len(text)} characters")
    for name, part in zip(PARTS, parts, strict=True):
        yield from _part(name, part)
        if name == "header":
            # Before the other parts: a JWE of another alg has other sizes.
            yield from _header(text, extra_members)


def _part(name: str, part: str) -> Iterator[Finding]:
    try:
        size = len(base64url.decode(part))
    except JoseError:
        yield Finding(f"{name}: no base64url without padding", JweFault.JWE_BASE64URL)
        return
    wanted = SIZES.get(name, size)
    if size == wanted:
        yield Finding(f"{name}: {size} bytes")
    else:
        yield Finding(f"{name}: {size} bytes, not {wanted}", JweFault.JWE_SIZES)


def _header(text: str, extra_members: frozenset[str]) -> Iterator[Finding]:
    members = header(text)
    if members is None:
        yield Finding("header: not a JSON object, or a member stands twice", JweFault.JWE_HEADER)
        return
    yield Finding("header: a JSON object")
    for name, wanted, fault in (
        ("alg", jwe.ALG, JweFault.JWE_ALG),
        ("enc", jwe.ENC, JweFault.JWE_ENC),
    ):
        right = members.get(name) == wanted
        shown = _member(members, name)
        yield Finding(shown) if right else Finding(f"{shown}, not {wanted}", fault)
    kid = members.get("kid")
    if isinstance(kid, str) and 1 <= len(kid) <= jwe.KID_CHARS_MAX:
        yield Finding(_member(members, "kid"))
    else:
        yield Finding(f"kid: not a text of 1 to {jwe.KID_CHARS_MAX} characters", JweFault.JWE_KID)
    yield _checked("epk: a point of P-256", JweFault.JWE_EPK, lambda: _read_point(members))
    for name in (*TEXTS, *PARTIES):
        if name in members:
            yield _checked(
                f"{name}: as it must be",
                JweFault.JWE_HEADER_VALUE,
                lambda name=name: _read_optional(members, name),  # type: ignore[misc]
            )
    for name in sorted(members.keys() - jwe.ALLOWED):
        shown = logs.shown(name)
        if name in extra_members - jwe.NEVER_ALLOWED:
            yield Finding(f"member {shown}: allowed by the wire profile")
        else:
            yield Finding(f"member {shown}: not allowed", JweFault.JWE_HEADER_MEMBER)


def _member(members: Mapping[str, object], name: str) -> str:
    return f"{name}: {logs.shown(members[name])}" if name in members else f"{name}: missing"


def _checked(text: str, fault: JweFault, read: Callable[[], None]) -> Finding:
    try:
        read()
    except JoseError:
        return Finding(f"not so: {text}", fault)
    return Finding(text)


def _read_point(members: Mapping[str, object]) -> None:
    epk = members.get("epk")
    if not isinstance(epk, dict):
        raise JweError
    parse_point(epk)


def _read_optional(members: Mapping[str, object], name: str) -> None:
    value = members[name]
    if not isinstance(value, str):
        raise JweError
    if name in PARTIES and len(base64url.decode(value)) > jwe.PARTY_BYTES_MAX:
        raise JweError
