"""The PIN operations without a page of ours, at the pincontrol face. All are off unless said.

They hand out format-1 blocks of PINs that are stored bound to their PAN, which PCI PIN 3-3 does not
allow but to convey a PIN to its cardholder: whether that is so here is for the issuer to answer.
"""

from typing import Annotated

from pydantic import Field, model_validator

from hsm.manifest.body import Body
from hsm.manifest.clients import ClientId
from hsm.manifest.wire import Generation

PRE_SHARED_KEYS_MAX = 32
ZpkIndex = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,16}$")]


class PreSharedKeyBody(Body):
    """A zone PIN key (ZPK) that one server of the issuer has, and what the server calls it."""

    client_id: ClientId
    """The server."""
    zpk_index: ZpkIndex
    """What it calls the key."""
    generation: Generation = 1
    """Of the issuer's key of role ``zpk-server``."""


class PinOperationsBody(Body):
    """Who may ask for PIN blocks, and in which way."""

    pre_shared_keys: Annotated[
        tuple[PreSharedKeyBody, ...], Field(max_length=PRE_SHARED_KEYS_MAX)
    ] = ()
    """The servers that see PINs in clear, by their keys; none: the operations are off."""
    pki: bool = False
    """Whether cardholders' devices get PINs, by keys that they make."""

    @model_validator(mode="after")
    def _an_index_names_one_key(self) -> "PinOperationsBody":
        named = {(key.client_id, key.zpk_index) for key in self.pre_shared_keys}
        if len(named) != len(self.pre_shared_keys):
            raise ValueError("a zpk_index of a client stands twice")
        return self

    def has_keys(self, client_id: str) -> bool:
        """Tell whether a server has any pre-shared key."""
        return any(key.client_id == client_id for key in self.pre_shared_keys)

    def generation(self, client_id: str, zpk_index: str) -> int | None:
        """Return the generation of the key that a server calls so; None: it has none."""
        for key in self.pre_shared_keys:
            if (key.client_id, key.zpk_index) == (client_id, zpk_index):
                return key.generation
        return None
