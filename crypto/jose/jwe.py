"""JWE in compact form: ECDH-ES with A256GCM on P-256, read strictly.

Sources: RFC 7516, 7.1 (compact form); RFC 7518, 4.6 (ECDH-ES) and 5.3 (GCM)::

    header . (empty) . IV, 12 bytes . ciphertext . tag, 16 bytes      each as base64url

The key agreement is an argument, since the private key may be in a token.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from crypto.errors import JoseError, JweError
from crypto.jose import base64url, json_object
from crypto.jose.jwk import EcPublicKey, Point, parse_point, point_jwk
from crypto.secret import Secret
from crypto.types import Random

ALG: Final = "ECDH-ES"
ENC: Final = "A256GCM"
JWE_CHARS_MAX: Final = 8192
KID_CHARS_MAX: Final = 128
PARTY_BYTES_MAX: Final = 512
KEY_BITS: Final = 256
IV_BYTES: Final = 12
GCM_TAG_BYTES: Final = 16

REQUIRED: Final = frozenset({"alg", "enc", "kid", "epk"})
ALLOWED: Final = REQUIRED | {"typ", "cty", "apu", "apv"}
NEVER_ALLOWED: Final = frozenset(
    {"zip", "crit", "jku", "jwk", "x5u", "x5c", "p2s", "p2c", "b64"},
)
"""Header members that change how a message is read, or that name or carry a key."""

KeyAgreement = Callable[[str, Point, bytes], bytes]
"""Takes the recipient's ``kid``, the ephemeral public point and OtherInfo (:func:`other_info`);
returns the content encryption key, 32 bytes."""


@dataclass(frozen=True)
class CompactJwe:
    """The parts of a JWE of the right form. Only :func:`decrypt` shows whether it opens."""

    kid: str
    cty: str | None
    epk: Point
    apu: bytes
    apv: bytes
    protected_ascii: bytes
    iv: bytes
    ciphertext: bytes
    tag: bytes

    @property
    def digest(self) -> bytes:
        """What identifies the message: SHA-256 over its decoded parts, 32 bytes.

        The parts are header, IV, ciphertext and tag, each after its length in 4 bytes,
        big-endian. The text itself does not count, since others may accept variants of it.
        """
        header = base64url.decode(self.protected_ascii.decode("ascii"))
        parts = (header, self.iv, self.ciphertext, self.tag)
        return hashlib.sha256(b"".join(map(_length_prefixed, parts))).digest()


def parse(
    text: str,
    extra_members: frozenset[str] = frozenset(),
    chars_max: int = JWE_CHARS_MAX,
) -> CompactJwe:
    """Read the form of a JWE; no key is needed.

    The header must have ``alg enc kid epk`` and may have ``typ cty apu apv``. Any other member
    is refused. ``apu`` and ``apv`` are at most 512 bytes each. Other public members inside
    ``epk`` are ignored (:func:`crypto.jose.jwk.parse_point`).

    Args:
        text: the JWE.
        extra_members: further header members that are allowed, and ignored. The members of
            ``NEVER_ALLOWED`` are refused even if they are named here.
        chars_max: how many characters *text* may have.

    Raises:
        JweError: *text* is not such a JWE.
    """
    parts = text.split(".") if len(text) <= chars_max else []
    try:
        header, encrypted_key, iv, ciphertext, tag = map(base64url.decode, parts)
        members = json_object.parse(header)
        kid, cty, epk = _recipient(members, ALLOWED | extra_members - NEVER_ALLOWED)
        apu, apv = _party(members, "apu"), _party(members, "apv")
    except (JoseError, ValueError):
        raise JweError from None
    if encrypted_key or len(iv) != IV_BYTES or len(tag) != GCM_TAG_BYTES:
        raise JweError
    return CompactJwe(kid, cty, epk, apu, apv, parts[0].encode("ascii"), iv, ciphertext, tag)


def decrypt(jwe: CompactJwe, agree: KeyAgreement) -> Secret[bytes]:
    """Return the clear content of *jwe*.

    Args:
        jwe: the message.
        agree: derives the content encryption key. Its exceptions pass through unchanged.

    Raises:
        JweError: the message was encrypted with another key, or was altered.
    """
    key = agree(jwe.kid, jwe.epk, other_info(ENC, jwe.apu, jwe.apv, KEY_BITS))
    try:
        plaintext = AESGCM(key).decrypt(jwe.iv, jwe.ciphertext + jwe.tag, jwe.protected_ascii)
    except InvalidTag:
        raise JweError from None
    return Secret(plaintext)


def encrypt(
    plaintext: bytes,
    recipient: EcPublicKey,
    *,
    ephemeral: ec.EllipticCurvePrivateKey,
    random: Random,
    cty: str | None = None,
) -> str:
    """Encrypt *plaintext* for *recipient*; the header has ``alg enc kid epk``, and *cty*.

    Args:
        plaintext: the clear content.
        recipient: the public key of the reader.
        ephemeral: a private P-256 key, new for each message.
        random: is asked for the 12 bytes of the IV.
        cty: what *plaintext* is, where the header says so (RFC 7519, section 5.2).

    Returns:
        The JWE in compact form.
    """
    numbers = ephemeral.public_key().public_numbers()
    epk = Point(numbers.x.to_bytes(32), numbers.y.to_bytes(32))
    header: dict[str, object] = {"alg": ALG, "enc": ENC, "kid": recipient.kid}
    header |= {"epk": point_jwk(epk)} | ({} if cty is None else {"cty": cty})
    protected = base64url.encode(json_object.serialize(header))
    z = ephemeral.exchange(ec.ECDH(), recipient.point.public_key())
    info = other_info(ENC, b"", b"", KEY_BITS)
    key = ConcatKDFHash(SHA256(), KEY_BITS // 8, info).derive(z)
    iv = random(IV_BYTES)
    sealed = AESGCM(key).encrypt(iv, plaintext, protected.encode("ascii"))
    tail = map(base64url.encode, (iv, sealed[:-GCM_TAG_BYTES], sealed[-GCM_TAG_BYTES:]))
    return ".".join((protected, "", *tail))


def other_info(enc: str, apu: bytes, apv: bytes, key_bits: int) -> bytes:
    """Return OtherInfo, an input of the Concat KDF (RFC 7518, 4.6.2; NIST SP 800-56A, 5.8.1).

    ::

        length ‖ enc ‖ length ‖ apu ‖ length ‖ apv ‖ key_bits      lengths and bits in 4 bytes

    The example is from RFC 7518, appendix C.

    >>> other_info("A128GCM", b"Alice", b"Bob", 128).hex()
    '000000074131323847434d00000005416c69636500000003426f6200000080'

    Args:
        enc: AlgorithmID: with ECDH-ES, the header's ``enc``.
        apu: PartyUInfo, decoded.
        apv: PartyVInfo, decoded.
        key_bits: the length of the key to derive, in bits.
    """
    fields = map(_length_prefixed, (enc.encode("ascii"), apu, apv))
    return b"".join(fields) + key_bits.to_bytes(4)


def _recipient(
    members: dict[str, object], allowed: frozenset[str]
) -> tuple[str, str | None, Point]:
    kid, cty, epk = members.get("kid"), members.get("cty"), members.get("epk")
    if not REQUIRED <= members.keys() <= allowed:
        raise JweError
    if members["alg"] != ALG or members["enc"] != ENC:
        raise JweError
    if not all(isinstance(members.get(name, ""), str) for name in ("typ", "cty")):
        raise JweError
    if not isinstance(kid, str) or not 1 <= len(kid) <= KID_CHARS_MAX:
        raise JweError
    if not isinstance(epk, dict):
        raise JweError
    return kid, cty if isinstance(cty, str) else None, parse_point(epk)


def _party(members: dict[str, object], name: str) -> bytes:
    value = members.get(name, "")
    if not isinstance(value, str):
        raise JweError
    party = base64url.decode(value)
    if len(party) > PARTY_BYTES_MAX:
        raise JweError
    return party


def _length_prefixed(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data
