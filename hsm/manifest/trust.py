"""The trust file of a vault host: whose signatures count, for which issuers, and how many.

JSON, written by root of the host and by nobody else::

    {"threshold": 2,
     "operators": [{"name": "Ann", "jwk": {"kty": "EC", …}, "issuers": ["demobank01"]},
                   {"name": "Bob", "jwk": {"kty": "EC", …}, "issuers": "all"}]}

The optional member ``custodians`` has the same entries: who takes part in key ceremonies
(:mod:`hsm.ceremonies.custodians`). A key is an operator's or a custodian's, never both.

A key is named by its thumbprint (RFC 7638). With ``"sandbox": true`` one signature may
be enough, and manifests for trials are taken; only ``serve --sandbox`` serves with such a file.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from crypto.errors import JoseError
from crypto.jose import json_object, jws_json
from crypto.jose.jwk import EcPublicKey, parse_public, thumbprint
from crypto.jose.jws_json import SignedText
from hsm.errors import ManifestRefused
from hsm.manifest import generation_table, minimum_versions, model
from hsm.manifest.body import Body, parse_body
from hsm.manifest.generation_table import GenerationTable
from hsm.manifest.minimum_versions import MinimumVersions
from hsm.manifest.model import IssuerId, Manifest
from hsm.manifest.signed import GENERATIONS_TYPE, MANIFEST_TYPE, MINIMUM_VERSIONS_TYPE

OPERATORS_NEEDED: Final = 2
NAME_CHARS_MAX: Final = 64


class Operator(Body):
    """Somebody who may sign: a name for people, a public key, and for which issuers.

    A custodian is one, too.
    """

    name: Annotated[str, Field(min_length=1, max_length=NAME_CHARS_MAX)]
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
    """Whose signatures count, and how many different ones are needed.

    No operator's signature is needed of custodians, nor one of theirs of a manifest.
    """

    threshold: Annotated[int, Field(ge=1, le=jws_json.SIGNATURES_MAX)]
    operators: tuple[Operator, ...]
    custodians: tuple[Operator, ...] = ()
    sandbox: bool = False

    @model_validator(mode="after")
    def _needs_two(self) -> Self:
        if self.threshold < OPERATORS_NEEDED and not self.sandbox:
            raise ValueError("one signature is enough in a sandbox only")
        every = (*self.operators, *self.custodians)
        if len({one.key.kid for one in every}) != len(every):
            raise ValueError("two operators or custodians of one key")
        for several in (self.operators, self.custodians):
            if len({one.name for one in several}) != len(several):
                raise ValueError("two operators, or two custodians, of one name")
        if self.threshold > len(self.operators):
            raise ValueError("more signatures are needed than there are operators")
        return self

    def accept_manifest(self, signed: SignedText) -> Manifest:
        """Read a manifest that enough operators signed; whether it is in force is not checked.

        Raises:
            ManifestRefused: it is none, too few operators who may sign for its issuer signed it,
                or it is for trials and this trust file is not.
        """
        # First: to read what is in a manifest can take long, and anybody may offer one.
        self.require_signed(signed, MANIFEST_TYPE, _issuer_id(signed.payload))
        manifest = model.parse(signed.payload)
        if manifest.sandbox and not self.sandbox:
            raise ManifestRefused("a manifest for trials")
        return manifest

    def accept_minimum_versions(self, signed: SignedText) -> MinimumVersions:
        """Read a list of minimum versions that enough operators signed; its dates are not checked.

        Raises:
            ManifestRefused: it is none, or too few operators who may sign for every issuer did.
        """
        self.require_signed(signed, MINIMUM_VERSIONS_TYPE, None)
        return minimum_versions.parse(signed.payload)

    def accept_generations(self, signed: SignedText) -> GenerationTable:
        """Read a table of key generations that enough operators signed; no date is checked.

        Raises:
            ManifestRefused: it is none, or too few operators who may sign for every issuer did.
        """
        self.require_signed(signed, GENERATIONS_TYPE, None)
        return generation_table.parse(signed.payload)

    def signers(self, signed: SignedText, typ: str, issuer_id: str | None) -> list[Operator]:
        """List the operators whose signatures count.

        Args:
            signed: what they signed.
            typ: :data:`MANIFEST_TYPE`, :data:`MINIMUM_VERSIONS_TYPE` or :data:`GENERATIONS_TYPE`.
            issuer_id: the issuer that it concerns; None: every issuer.
        """
        return _signers(self.operators, signed, typ, issuer_id)

    def signing_custodians(
        self, signed: SignedText, typ: str, issuer_id: str | None
    ) -> list[Operator]:
        """List the custodians whose signatures count, as :meth:`signers` lists the operators."""
        return _signers(self.custodians, signed, typ, issuer_id)

    def require_signed(self, signed: SignedText, typ: str, issuer_id: str | None) -> None:
        """Let what enough operators signed pass.

        Raises:
            ManifestRefused: too few different ones did.
        """
        if len(self.signers(signed, typ, issuer_id)) < self.threshold:
            raise ManifestRefused("too few signatures of operators who may sign for this issuer")


def _signers(
    several: Sequence[Operator], signed: SignedText, typ: str, issuer_id: str | None
) -> list[Operator]:
    keys: Mapping[str, EcPublicKey] = {
        one.key.kid: one.key for one in several if one.may_sign_for(issuer_id)
    }
    kids = jws_json.signers(signed, keys, typ)
    return [one for one in several if one.key.kid in kids]


def _issuer_id(payload: bytes) -> str | None:
    """Read whose manifest it says it is, and nothing else of it; None: nobody's."""
    try:
        issuer_id = json_object.parse(payload).get("issuer_id")
    except JoseError:
        return None
    return issuer_id if isinstance(issuer_id, str) else None


def read_trust(path: Path) -> Trust:
    """Read a trust file.

    Raises:
        ManifestRefused: it cannot be read, is not a trust file, or anybody may write it.
    """
    try:
        with path.open("rb") as file:
            mode, text = os.fstat(file.fileno()).st_mode, file.read()
    except OSError:
        raise ManifestRefused("the trust file cannot be read") from None
    if mode & stat.S_IWOTH:
        raise ManifestRefused("anybody may write the trust file")
    try:
        return parse_body(Trust, text)
    except ManifestRefused as error:
        raise ManifestRefused("the trust file: " + str(error)) from None
