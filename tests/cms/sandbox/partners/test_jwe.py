"""The partners' JWE: what D1 documents, and nothing else is opened."""

import base64
import json
from typing import Any

import pytest
from jwcrypto.jwe import JWE

from cms.sandbox.partners.jwe import decrypt, encrypt
from tests.cms.sandbox.issuer import D1_KEY, ISSUER_KEY, opened, public


def _header(jwe: str) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(base64.urlsafe_b64decode(jwe.partition(".")[0] + "=="))
    return header


def test_jwe_is_what_d1_documents() -> None:
    jwk = {**public(ISSUER_KEY), "use": "sig"}  # a label that must not matter
    jwe = encrypt({"pinBlock": "041223C6FFEFEFFE"}, jwk)
    parts = jwe.split(".")
    header = _header(jwe)

    assert set(header) == {"alg", "enc", "kid", "epk"}
    assert (header["alg"], header["enc"], header["kid"]) == ("ECDH-ES", "A256GCM", "issuer-1")
    assert set(header["epk"]) == {"kty", "crv", "x", "y"}
    assert [len(part) for part in parts[1:3] + parts[4:]] == [0, 16, 22]
    assert opened(jwe, ISSUER_KEY) == {"pinBlock": "041223C6FFEFEFFE"}
    assert _header(encrypt({}, jwk))["epk"] != header["epk"]


def test_decrypt_takes_only_our_algorithms() -> None:
    header = {"alg": "ECDH-ES+A128KW", "enc": "A256GCM", "kid": "d1-1"}
    jwe = JWE(b"{}", json.dumps(header), recipient=D1_KEY).serialize(compact=True)

    with pytest.raises(ValueError, match="does not open"):
        decrypt(jwe, D1_KEY)
