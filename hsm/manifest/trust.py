"""The trust file of a vault host: whose signatures count, for which issuers, and how many.

JSON, written by root of the host and by nobody else::

    {"threshold": 2,
     "operators": [{"name": "Ann", "jwk": {"kty": "EC", …}, "issuers": ["demobank01"]},
                   {"name": "Bob", "jwk": {"kty": "EC", …}, "issuers": "all"}]}

An operator's key is named by its thumbprint (RFC 7638). With ``"sandbox": true`` one signature may
be enough, and manifests for trials are taken; only ``serve --sandbox`` serves with such a file.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from crypto.errors import JoseError
from crypto.jose import json_object, jws_json
from crypto.jose.jwk import EcPublicKey, parse_public, thumbprint
from crypto.jose.jws_json import SignedText
from hsm.errors import ManifestRefused
from hsm.manifest.body import Body
from hsm.manifest.model import IssuerId

MANIFEST_TYPE: Final = "manifest+jws"
FLOORS_TYPE: Final = "floors+jws"
OPERATORS_NEEDED: Final = 2


class Operator(Body):
    """Somebody who may sign: a name for people, a public key, and for which issuers."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    jwk: dict[str, Any]
    issuers: Literal["all"] | tuple[IssuerId, ...]

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        try:
            _ = self.key
        except JoseError:
            raise ValueError("jwk is not a public P-256 key for signatures") from None
        return self

    @cached_property
    def key(self) -> EcPublicKey:
        """The key, named by its thumbprint."""
        parsed = parse_public(self.jwk, "sig")
        return EcPublicKey(thumbprint(parsed.x, parsed.y), parsed.x, parsed.y)

    def may_sign_for(self, issuer_id: str | None) -> bool:
        """Tell whether the signature counts; None: for what concerns every issuer."""
        return self.issuers == "all" or issuer_id in self.issuers


class Trust(Body):
    """Whose signatures count, and how many different ones are needed."""

    threshold: Annotated[int, Field(ge=1, le=jws_json.SIGNATURES_MAX)]
    operators: tuple[Operator, ...]
    sandbox: bool = False

    @model_validator(mode="after")
    def _needs_two(self) -> Self:
        if self.threshold < OPERATORS_NEEDED and not self.sandbox:
            raise ValueError("one signature is enough in a sandbox only")
        if len({operator.key.kid for operator in self.operators}) != len(self.operators):
            raise ValueError("two operators of one key")
        return self

    def signers(self, signed: SignedText, typ: str, issuer_id: str | None) -> list[str]:
        """Name the operators whose signatures count.

        Args:
            signed: what they signed.
            typ: :data:`MANIFEST_TYPE` or :data:`FLOORS_TYPE`.
            issuer_id: the issuer that it concerns; None: every issuer.
        """
        keys: Mapping[str, EcPublicKey] = {
            operator.key.kid: operator.key
            for operator in self.operators
            if operator.may_sign_for(issuer_id)
        }
        kids = jws_json.signers(signed, keys, typ)
        return [operator.name for operator in self.operators if operator.key.kid in kids]

    def require_signed(self, signed: SignedText, typ: str, issuer_id: str | None) -> None:
        """Let what enough operators signed pass.

        Raises:
            ManifestRefused: too few different ones did.
        """
        if len(self.signers(signed, typ, issuer_id)) < self.threshold:
            raise ManifestRefused("too few signatures of operators who may sign for this issuer")


def read_trust(path: Path) -> Trust:
    """Read a trust file.

    Raises:
        ManifestRefused: it cannot be read, or is not a trust file.
    """
    try:
        return Trust.model_validate_json(json.dumps(json_object.parse(path.read_bytes())))
    except (OSError, JoseError, ValidationError):
        raise ManifestRefused("HSM_TRUST_FILE names no trust file") from None
