"""Files of private keys that sign away from the HSM token: those of operators and of feeds.

PKCS#8 as PEM (RFC 5958, RFC 7468), P-256, enciphered with a passphrase where it has one. No machine
that serves has one of them.
"""

import os
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from crypto.jose.jwk import EcPublicKey, thumbprint
from crypto.secret import Secret
from hsm.errors import ManifestRefused


def create(path: Path, passphrase: Secret[str] | None) -> ec.EllipticCurvePrivateKey:
    """Make a key and write it to a new file of mode 0600.

    Raises:
        ManifestRefused: there is a file already, or it cannot be written.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        encryption = BestAvailableEncryption(passphrase.reveal().encode())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "wb") as stream:
            stream.write(pem)
    except FileExistsError:
        raise ManifestRefused("the file of the key is there already") from None
    except OSError:
        raise ManifestRefused("the file of the key cannot be written") from None
    return private


def read(path: Path, passphrase: Callable[[], Secret[str]]) -> ec.EllipticCurvePrivateKey:
    """Read a key from its file; *passphrase* is called when the file needs one.

    Raises:
        ManifestRefused: the file cannot be read, holds no such key, or the passphrase is wrong.
    """
    try:
        pem = path.read_bytes()
        try:
            private = load_pem_private_key(pem, None)
        except TypeError:  # it is enciphered
            private = load_pem_private_key(pem, passphrase().reveal().encode())
    except OSError:
        raise ManifestRefused("the file of the key cannot be read") from None
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise ManifestRefused("not the file of a private key, or a wrong passphrase") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(
        private.curve, ec.SECP256R1
    ):
        raise ManifestRefused("a key that signs is one of P-256")
    return private


def public(private: ec.EllipticCurvePrivateKey) -> EcPublicKey:
    """Return the public half of a key, named by its thumbprint."""
    numbers = private.public_key().public_numbers()
    x, y = numbers.x.to_bytes(32), numbers.y.to_bytes(32)
    return EcPublicKey(thumbprint(x, y), x, y)


def sign(private: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Sign *data* (ES256: r ‖ s, 64 bytes; RFC 7518, section 3.4)."""
    r, s = decode_dss_signature(private.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)
