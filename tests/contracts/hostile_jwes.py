"""JWEs that an attacker or a careless sender makes."""

import json
from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from jwcrypto.jwk import JWK

from crypto.jose import base64url


def flip_first_of_tag(jwe: str) -> str:
    """Change the first character of the last part."""
    head, _, tag = jwe.rpartition(".")
    return f"{head}.{'B' if tag[0] == 'A' else 'A'}{tag[1:]}"


def forged(
    jwk: Mapping[str, str],
    plaintext: object,
    header: Mapping[str, str] | None = None,
    *,
    off_curve: bool = False,
) -> str:
    """Encrypt as a sender does who leaves party names out of the key, or sends a wrong point."""
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    point = ephemeral.public_key().public_numbers()
    x, y = (base64url.encode(number.to_bytes(32)) for number in (point.x, point.y))
    epk = {"kty": "EC", "crv": "P-256", "x": x, "y": x if off_curve else y}
    members = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": jwk["kid"], "epk": epk, **(header or {})}
    protected = base64url.encode(json.dumps(members).encode())
    ours = JWK(**jwk).get_op_key("wrapKey")
    info = b"\0\0\0\7A256GCM" + bytes(8) + (256).to_bytes(4)
    key = ConcatKDFHash(hashes.SHA256(), 32, info).derive(ephemeral.exchange(ec.ECDH(), ours))
    sealed = AESGCM(key).encrypt(bytes(12), json.dumps(plaintext).encode(), protected.encode())
    tail = map(base64url.encode, (bytes(12), sealed[:-16], sealed[-16:]))
    return ".".join((protected, "", *tail))
