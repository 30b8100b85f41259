"""The private key of an operator: a file that no machine that serves has.

PKCS#8 as PEM (RFC 5958, RFC 7468), P-256, enciphered with a passphrase where it has one.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

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

from crypto.jose import jws_json
from crypto.jose.jwk import EcPublicKey, point_jwk, thumbprint
from crypto.jose.jws_json import Signature
from crypto.secret import Secret
from hsm.errors import ManifestRefused


@dataclass(frozen=True)
class OperatorKey:
    """The key of somebody who may sign."""

    private: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, path: Path, passphrase: Secret[str] | None) -> Self:
        """Make a key and write it to a new file of mode 0600.

        Raises:
            ManifestRefused: there is a file already, or it cannot be written.
        """
        key = cls(ec.generate_private_key(ec.SECP256R1()))
        encryption: KeySerializationEncryption = NoEncryption()
        if passphrase is not None:
            encryption = BestAvailableEncryption(passphrase.reveal().encode())
        pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "wb") as stream:
                stream.write(pem)
        except FileExistsError:
            raise ManifestRefused("the file of the key is there already") from None
        except OSError:
            raise ManifestRefused("the file of the key cannot be written") from None
        return key

    @classmethod
    def read(cls, path: Path, passphrase: Callable[[], Secret[str]]) -> Self:
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
            raise ManifestRefused("not the key of an operator, or a wrong passphrase") from None
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(
            private.curve, ec.SECP256R1
        ):
            raise ManifestRefused("the key of an operator is one of P-256")
        return cls(private)

    @property
    def public(self) -> EcPublicKey:
        """The public half, named by its thumbprint."""
        numbers = self.private.public_key().public_numbers()
        x, y = numbers.x.to_bytes(32), numbers.y.to_bytes(32)
        return EcPublicKey(thumbprint(x, y), x, y)

    def entry(self, name: str, issuers: Sequence[str] | str = "all") -> dict[str, Any]:
        """Return its entry in a trust file (:mod:`hsm.manifest.trust`)."""
        return {"name": name, "jwk": point_jwk(self.public.point), "issuers": issuers}

    def sign(self, payload: bytes, typ: str) -> Signature:
        """Sign *payload*; *typ* says what it is (:mod:`hsm.manifest.signed`)."""
        protected = jws_json.protected_header(self.public.kid, typ)
        signing_input = jws_json.signing_input(protected, payload)
        r, s = decode_dss_signature(self.private.sign(signing_input, ec.ECDSA(SHA256())))
        return Signature(protected, r.to_bytes(32) + s.to_bytes(32))
