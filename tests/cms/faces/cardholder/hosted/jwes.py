"""What the scripts of the pages send, and what nobody may."""

import json
from collections.abc import Callable
from typing import Any

from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from tests.cms.faces.d1_face import D1Face

MakeJwe = Callable[[dict[str, Any]], str]
"""Makes what is sent in a session that was opened."""


def iso1(pin: str) -> str:
    """A format-1 block; its filler is as good as random."""
    return f"1{len(pin):X}{pin}".ljust(16, "7")


def submission(opened: dict[str, Any], jwe: str) -> dict[str, str]:
    """What the page's script sends with a JWE."""
    return {"session": opened["session"], "controlToken": opened["controlToken"], "jwe": jwe}


def page_jwe(opened: dict[str, Any], pin: str, **changed: object) -> str:
    """What the page's script sends for *pin*."""
    named = {name: opened[name] for name in ("grantId", "controlToken")}
    return encrypt({**named, "block": iso1(pin), **changed}, opened["key"])


def hostile_jwes(d1_face: D1Face, card_id: str, other: dict[str, Any]) -> tuple[MakeJwe, ...]:
    """Make what no page sends in its session; *other* is another session."""
    return (
        lambda _: page_jwe(other, "5938"),
        lambda _: d1_face.sample_issuer.pin_jwe("5938", card_id),
        lambda opened: page_jwe(opened, "593"),
        lambda opened: page_jwe(opened, "5938")[:-4] + "AAAA",
        lambda _: "a.b.c.d.e",
        lambda _: "",
    )


def encrypt(plaintext: object, jwk: dict[str, Any]) -> str:
    header = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": jwk["kid"]}
    made = JWE(json.dumps(plaintext).encode(), json.dumps(header))
    made.add_recipient(JWK(**jwk))
    return str(made.serialize(compact=True))
