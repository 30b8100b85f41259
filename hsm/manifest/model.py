"""The manifest: all that an issuer decides, in one JSON document that operators sign.

What is absent is in it too: every default is written before it is signed, so that a later version
of this program does not read another meaning into it.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Annotated, Final, Self

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from crypto.errors import JoseError
from crypto.jose import json_object
from crypto.seccos.profile import SeccosProfile
from hsm.errors import ManifestRefused
from hsm.manifest.body import Body, canonical_body
from hsm.manifest.clients import (
    AppClient,
    Client,
    D1Client,
    ServerClient,
    only_in_a_sandbox,
)
from hsm.manifest.policy import PolicyBody
from hsm.manifest.recipient import RecipientBody
from hsm.manifest.verification import VerificationBody
from hsm.manifest.wire import WireProfile

VERSION_MAX: Final = 2**53 - 1
"""Larger numbers are not the same to every JSON reader."""
IssuerId = Annotated[str, Field(pattern=r"^[^@]{10}$")]


class Manifest(Body):
    """What one issuer decides, from *valid_from* until just before *valid_until*."""

    issuer_id: IssuerId
    version: Annotated[int, Field(ge=1, le=VERSION_MAX)]
    valid_from: AwareDatetime
    valid_until: AwareDatetime
    sandbox: bool = False
    """For trials: a vault takes it only where its trust file is for trials too."""
    wire: WireProfile = WireProfile()
    policy: PolicyBody = PolicyBody()
    recipient: RecipientBody | None = None
    """D1's key, to which GET pin is encrypted."""
    seccos: SeccosProfile | None = None
    """How D1 sends PINs as SECCOS; None: it does not."""
    verification: VerificationBody = VerificationBody()
    verification_host: RecipientBody | None = None
    """The authorisation host's key, to which PIN verification values are encrypted."""
    clients: tuple[Client, ...] = ()

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if not self.valid_from < self.valid_until:
            raise ValueError("valid_until is not after valid_from")
        return self

    @model_validator(mode="after")
    def _clients_are_its_own(self) -> Self:
        ids = [client.client_id for client in self.clients]
        keys = [key for client in self.servers if (key := client.frame_key) is not None]
        if len({*ids}) != len(ids) or len({*keys}) != len(keys):
            raise ValueError("two clients of one id, or of one frame key")
        if not all(name.startswith(self.issuer_id) for name in (*ids, *keys)):
            raise ValueError("the id of a client, and a frame key, start with the issuer's id")
        if not self.sandbox and any(map(only_in_a_sandbox, self.clients)):
            raise ValueError("an origin that is for a sandbox only")
        return self

    def is_valid_at(self, moment: datetime) -> bool:
        """Tell whether it is in force."""
        return self.valid_from <= moment < self.valid_until

    @cached_property
    def by_client_id(self) -> Mapping[str, D1Client | AppClient | ServerClient]:
        """Its clients, by their ids."""
        return {client.client_id: client for client in self.clients}

    @property
    def servers(self) -> tuple[ServerClient, ...]:
        """Its clients at the pincontrol face."""
        return tuple(client for client in self.clients if isinstance(client, ServerClient))

    def canonical(self) -> bytes:
        """Write it as the bytes that are signed: JSON in ASCII, members sorted, no white space."""
        return canonical_body(self.model_dump(mode="json"))


def parse(text: bytes) -> Manifest:
    """Read a manifest, or a draft of one, from JSON.

    Raises:
        ManifestRefused: *text* is not a JSON object with the members of a manifest. The message
            names the members at fault and never shows a value.

    >>> parse(b'{"issuer_id": "demobank01", "version": 0}')
    Traceback (most recent call last):
    hsm.errors.ManifestRefused: refused members: valid_from, valid_until, version
    """
    try:
        return Manifest.model_validate_json(json.dumps(json_object.parse(text)))
    except JoseError:
        raise ManifestRefused("not a JSON object") from None
    except ValidationError as error:
        raise ManifestRefused("refused members: " + ", ".join(_members(error))) from None


def _members(error: ValidationError) -> list[str]:
    """Name the members at fault."""
    # A default that could not be made from a member at fault is not at fault itself.
    errors = [item for item in error.errors() if item["type"] != "default_factory_not_called"]
    return sorted({".".join(map(str, item["loc"])) or "manifest" for item in errors})
