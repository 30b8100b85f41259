"""The private key of an operator: a file (:mod:`hsm.key_file`) that no machine that serves has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec

from crypto.jose import jws_json
from crypto.jose.jwk import EcPublicKey, point_jwk
from crypto.jose.jws_json import Signature
from crypto.secret import Secret
from hsm import key_file


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
        return cls(key_file.create(path, passphrase))

    @classmethod
    def read(cls, path: Path, passphrase: Callable[[], Secret[str]]) -> Self:
        """Read a key from its file; *passphrase* is called when the file needs one.

        Raises:
            ManifestRefused: the file cannot be read, holds no such key, or the passphrase is wrong.
        """
        return cls(key_file.read(path, passphrase))

    @property
    def public(self) -> EcPublicKey:
        """The public half, named by its thumbprint."""
        return key_file.public(self.private)

    def entry(self, name: str, issuers: Sequence[str] | str = "all") -> dict[str, Any]:
        """Return its entry in a trust file (:mod:`hsm.manifest.trust`)."""
        return {"name": name, "jwk": point_jwk(self.public.point), "issuers": issuers}

    def sign(self, payload: bytes, typ: str) -> Signature:
        """Sign *payload*; *typ* says what it is (:mod:`hsm.manifest.signed`)."""
        protected = jws_json.protected_header(self.public.kid, typ)
        signing_input = jws_json.signing_input(protected, payload)
        return Signature(protected, key_file.sign(self.private, signing_input))
