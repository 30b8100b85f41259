"""The manifest: all that an issuer decides, in one JSON document that operators sign.

What is absent is in it too: every default is written before it is signed, so that a later version
of this program does not read another meaning into it.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from crypto.seccos.profile import SeccosProfile
from hsm.manifest.body import SignedBody, parse_body
from hsm.manifest.bureau import BureauBody
from hsm.manifest.clients import (
    AppClient,
    Client,
    D1Client,
    ServerClient,
    only_in_a_sandbox,
)
from hsm.manifest.feeds import FeedBody
from hsm.manifest.identity_provider import IdentityProviderBody
from hsm.manifest.limits import LimitsBody
from hsm.manifest.pin_operations import PinOperationsBody
from hsm.manifest.policy import PolicyBody
from hsm.manifest.recipient import RecipientBody
from hsm.manifest.scripts import ScriptsBody
from hsm.manifest.verification import VerificationBody
from hsm.manifest.wire import WireProfile

VERSION_MAX: Final = 2**53 - 1
"""Larger numbers are not the same to every JSON reader."""
IssuerId = Annotated[str, Field(pattern=r"^[^@]{10}$")]


class Manifest(SignedBody):
    """What one issuer decides, while it is in force."""

    issuer_id: IssuerId
    """Whose it is."""
    version: Annotated[int, Field(ge=1, le=VERSION_MAX)]
    """Higher than that of the one before: a host takes no lower one."""
    name: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,40}$")] | None = None
    """What cardholders call it, for the head of its pages; None: they name nobody."""
    sandbox: bool = False
    """For trials: a vault takes it only where its trust file is for trials too."""
    wire: WireProfile = WireProfile()
    policy: PolicyBody = PolicyBody()
    limits: LimitsBody = LimitsBody()
    recipient: RecipientBody | None = None
    """D1's key, to which GET pin is encrypted."""
    seccos: SeccosProfile | None = None
    """How D1 sends PINs as SECCOS; None: it does not."""
    verification: VerificationBody = VerificationBody()
    verification_host: RecipientBody | None = None
    """The authorisation host's key, to which PIN verification values are encrypted."""
    bureau: BureauBody | None = None
    """How the personalisation bureau gets PINs; None: it gets none."""
    identity_provider: IdentityProviderBody | None = None
    """Whose access tokens name the cardholders at the hosted face."""
    clients: tuple[Client, ...] = ()
    """Who may call."""
    feeds: tuple[FeedBody, ...] = ()
    """Who may bring cards."""
    scripts: ScriptsBody | None = None
    """How a new PIN gets onto the chip; None: by no script of ours."""
    pin_operations: PinOperationsBody = PinOperationsBody()
    """The operations of the pincontrol face that work with PIN blocks, without a page of ours."""

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

    @model_validator(mode="after")
    def _feeds_are_told_apart(self) -> Self:
        names, kids = ({feed.name for feed in self.feeds}, {feed.key.kid for feed in self.feeds})
        if not len(names) == len(kids) == len(self.feeds):
            raise ValueError("two feeds of one name, or of one kid")
        return self

    @model_validator(mode="after")
    def _pre_shared_keys_are_of_servers(self) -> Self:
        servers = {server.client_id for server in self.servers}
        if any(key.client_id not in servers for key in self.pin_operations.pre_shared_keys):
            raise ValueError("a pre-shared key is of a client that is no server of the issuer")
        return self

    @cached_property
    def by_client_id(self) -> Mapping[str, D1Client | AppClient | ServerClient]:
        """Its clients, by their ids."""
        return {client.client_id: client for client in self.clients}

    @property
    def servers(self) -> tuple[ServerClient, ...]:
        """Its clients at the pincontrol face."""
        return tuple(client for client in self.clients if isinstance(client, ServerClient))


def parse(text: bytes) -> Manifest:
    """Read a manifest, or a draft of one, from JSON.

    Raises:
        ManifestRefused: *text* is not a JSON object with the members of a manifest. The message
            names the members at fault and never shows a value.

    >>> parse(b'{"issuer_id": "demobank01", "version": 0}')
    Traceback (most recent call last):
    hsm.errors.ManifestRefused: refused members: valid_from, valid_until, version
    """
    return parse_body(Manifest, text)
