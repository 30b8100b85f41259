"""Simulate the issuer's identity provider: a key pair, and access tokens.

In a directory of its own (0700) it keeps ``private.jwk`` (0600): the issuer's manifest names its
public half. Anybody who can read that file can be any cardholder of the demo. Never for production.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

ISSUER: Final = "https://identity.sandbox.test"
KEY_FILE: Final = "private.jwk"
#: The demo may be left running.
ACCESS_TOKEN_SECONDS: Final = 24 * 3600


class IdentityProvider:
    """An identity provider whose access tokens are for *audience*.

    Args:
        directory: where its key pair is, or is made.
        audience: the ``aud`` of its access tokens.
        now: the time in seconds since 1970.
    """

    def __init__(
        self,
        directory: Path,
        audience: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._key = _ensure_key(directory)
        self._audience = audience
        self._now = now

    @property
    def public_jwk(self) -> dict[str, str]:
        """Its public key, which a manifest names."""
        public: dict[str, str] = self._key.export_public(as_dict=True)
        return public

    def issue(
        self, subject: str, *, acr: str | None = None, seconds: int = ACCESS_TOKEN_SECONDS
    ) -> str:
        """Issue an access token to *subject*, who proves now who it is, in the way *acr* names."""
        now = int(self._now())
        claims: dict[str, object] = {
            "iss": ISSUER,
            "aud": self._audience,
            "sub": subject,
            "iat": now,
            "exp": now + seconds,
            "auth_time": now,
        }
        if acr is not None:
            claims["acr"] = acr
        header = {"alg": "ES256", "kid": self._key["kid"], "typ": "at+jwt"}
        jws = JWS(json.dumps(claims))
        jws.add_signature(self._key, protected=json.dumps(header))
        return str(jws.serialize(compact=True))

    def write_access_token(self, file: Path, subject: str) -> None:
        """Issue an access token into a file that its owner alone can read."""
        _write(file, self.issue(subject) + "\n")


def _ensure_key(directory: Path) -> JWK:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    file = directory / KEY_FILE
    if not file.exists():
        key = JWK.generate(kty="EC", crv="P-256", use="sig", alg="ES256")
        key.update(kid=key.thumbprint())
        _write(file, key.export_private())
    return JWK.from_json(file.read_text())


def _write(path: Path, text: str) -> None:
    """Put *text* at *path* in one step, readable by its owner alone from the start."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
