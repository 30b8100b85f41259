"""The public key of a cardholder's device, to which a temporary zone PIN key (TZPK) is enciphered.

::

    key       DER SubjectPublicKeyInfo (RFC 5280, 4.1): rsaEncryption, 2048 bits, exponent 65537
    padding   RSAES-OAEP (RFC 8017, 7.1): SHA-256, MGF1 with SHA-256, empty label

Source: Enfuce Card PIN API, PIN operations using PKI, v3. Java's ``OAEPWithSHA-256AndMGF1Padding``
means MGF1 with SHA-1 unless it is told otherwise.
"""

from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from crypto.errors import DeviceKeyError
from crypto.secret import Secret

BITS: Final = 2048
EXPONENT: Final = 65537
DER_BYTES: Final = 294
"""The one length that such a key has: its modulus has its highest bit set."""
OAEP: Final = padding.OAEP(padding.MGF1(SHA256()), SHA256(), label=None)


def parse(der: bytes) -> rsa.RSAPublicKey:
    """Read a key; whose it is nobody can tell.

    >>> parse(b"")
    Traceback (most recent call last):
    crypto.errors.DeviceKeyError

    Raises:
        DeviceKeyError: it is another kind of key, of another size or exponent, written in another
            way, or no key at all.
    """
    # Before a parser of all kinds of keys sees what strangers send.
    if len(der) != DER_BYTES:
        raise DeviceKeyError
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise DeviceKeyError from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise DeviceKeyError
    numbers = key.public_numbers()
    is_usual = key.key_size == BITS and numbers.e == EXPONENT and numbers.n % 2 == 1
    if not is_usual or key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != der:
        raise DeviceKeyError
    return key


def encipher(key: rsa.RSAPublicKey, tzpk: Secret[bytes]) -> bytes:
    """Encipher a TZPK to a device: 256 bytes, others each time."""
    return key.encrypt(tzpk.reveal(), OAEP)
