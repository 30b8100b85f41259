"""The wire profile: what Thales tells an issuer of the D1 wire and does not publish."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, model_validator

from crypto.jose import jwe
from hsm.manifest.body import Body
from hsm.port import PinBlockType

Member = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
Kid = Annotated[str, Field(pattern=rf"^[!-~]{{1,{jwe.KID_CHARS_MAX}}}$")]
Generation = Annotated[int, Field(ge=1, le=999_999)]
Scope = Annotated[
    str, Field(pattern=r"^[!#-\[\]-~]+(?: [!#-\[\]-~]+)*$", max_length=256)  # RFC 6749, 3.3
]
HeaderMember = Annotated[str, Field(pattern=r"^[A-Za-z0-9_#.-]{1,64}$")]
Literals = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(min_length=1)
]


class AccessTokenWire(Body):
    """The answer of the OAuth token endpoint, and what an access token is bound to."""

    ttl_seconds: Annotated[int, Field(ge=30, le=900)] = 900
    """The life of an access token."""
    expires_in_as_string: bool = True
    """Whether ``expires_in`` is text."""
    emit_expires_at: bool = True
    """Whether the answer has ``expires_at``."""
    scope: Scope = "pin"
    """Given to every client, whatever scope it asks for."""
    bearer_binding: Literal["certificate", "subject", "none"] = "certificate"
    """What an access token is bound to: the client certificate, its subject, or nothing."""


class PutPinWire(Body):
    """The literals of ``type`` in PUT; upper and lower case are the same."""

    iso0: Literals = (
        "ISO0",
        "ISO_0",
        "ISO-0",
        "PIN_ISO0",
        "PIN_BLOCK_ISO0",
        "PINBLOCK_ISO0",
        "PIN Block ISO0",
    )
    """What an ISO-0 block is called."""
    seccos: Literals = (
        "3DES_SECCOS",
        "SECCOS",
        "SECCOS_3DES",
        "PIN_3DES_SECCOS",
        "PIN_BLOCK_3DES_SECCOS",
        "PIN Block 3DES Seccos",
    )
    """What 3DES SECCOS is called."""


class GetPinWire(Body):
    """The members of the answer to GET pin."""

    field: Member = "encryptedPinBlock"
    """The member with the JWE."""
    type_literal: Annotated[str, Field(min_length=1, max_length=64)] = "ISO0"
    """What the block is called."""
    include_type: bool = True
    """Whether ``type`` is in the answer."""


class OurKid(Body):
    """A ``kid`` of one of our keys of role ``d1``, and the generation of that key."""

    kid: Kid
    """What D1 calls the key."""
    generation: Generation = 1
    """Of our key of role ``d1``."""


class JweWire(Body):
    """The header of D1's JWEs: what else it may hold, and what it calls our keys."""

    extra_header_members: tuple[HeaderMember, ...] = ()
    """Members that may be there beside the usual ones; they are ignored."""
    our_kids: tuple[OurKid, ...] = ()
    """What D1 calls our keys; the thumbprint (RFC 7638) names each of them too."""

    @model_validator(mode="after")
    def _changes_nothing(self) -> "JweWire":
        if jwe.NEVER_ALLOWED & {*self.extra_header_members}:
            raise ValueError("a header member that can never be allowed")
        return self

    @model_validator(mode="after")
    def _kids_name_one_key(self) -> "JweWire":
        if len(self.own_kids) != len(self.our_kids):
            raise ValueError("a kid names two keys")
        return self

    @cached_property
    def own_kids(self) -> Mapping[str, int]:
        """The generation that each ``kid`` names, as :class:`hsm.jose_keys.JoseKeys` takes them."""
        return {own.kid: own.generation for own in self.our_kids}

    @cached_property
    def extra(self) -> frozenset[str]:
        """The members as :func:`crypto.jose.jwe.parse` takes them."""
        return frozenset(self.extra_header_members)


class Iso0Wire(Body):
    """The JSON object inside an ISO-0 JWE, in both directions."""

    protection: Literal["none", "zpk-tdes", "zpk-aes"] = "none"
    """What protects the block beside the JWE: nothing, or a zone PIN key (ZPK) of the issuer.

    ``zpk-tdes`` is TDES in ECB mode over the format-0 block. ISO 9564-1 has no format 0 for AES:
    ``zpk-aes`` is a format-4 block.
    """
    key_generation: Generation = 1
    """Which of the issuer's ZPKs that is."""
    field: Member = "pinBlock"
    """The member with the block."""
    aliases: tuple[Member, ...] = ("pinblock", "block", "value")
    """Other names that it may have in PUT."""
    hex_case: Literal["upper", "lower"] = "upper"
    """Of the block in GET; in PUT either is taken."""
    pan_field: Member = "pan"
    """A member that may hold the PAN, which then must be that of the card."""

    @model_validator(mode="after")
    def _pan_has_a_member_of_its_own(self) -> "Iso0Wire":
        if self.pan_field in (self.field, *self.aliases):
            raise ValueError("a member cannot hold both the PAN and the block")
        return self


class CounterWire(Body):
    """The member of the answer to GET changeCounter."""

    field: Member = "changeCounter"
    """The member with the counter."""
    as_string: bool = False
    """Whether it is text."""


class ErrorWire(Body):
    """The members of every answer that is not 2xx."""

    code_field: Member = "errorCode"
    """The member with the code."""
    error_field: Member = "error"
    """The member with the text."""


class WireProfile(Body):
    """Every literal of the D1 wire that Thales does not publish, with our defaults.

    None of these defaults has been checked against Thales: ask before going live.
    """

    token: AccessTokenWire = AccessTokenWire()
    put_pin: PutPinWire = PutPinWire()
    get_pin: GetPinWire = GetPinWire()
    jwe: JweWire = JweWire()
    iso0: Iso0Wire = Iso0Wire()
    counter: CounterWire = CounterWire()
    errors: ErrorWire = ErrorWire()

    def block_type(self, literal: str) -> PinBlockType | None:
        """Name the PIN-block type that D1 calls *literal*, or ``None`` for an unknown one."""
        return self._types.get(literal.upper())

    @model_validator(mode="after")
    def _literals_name_one_type(self) -> "WireProfile":
        if len(self._types) != len(self.put_pin.iso0) + len(self.put_pin.seccos):
            raise ValueError("a literal of type stands twice")
        return self

    @cached_property
    def _types(self) -> dict[str, PinBlockType]:
        iso0 = dict.fromkeys(map(str.upper, self.put_pin.iso0), PinBlockType.ISO0)
        return iso0 | dict.fromkeys(map(str.upper, self.put_pin.seccos), PinBlockType.SECCOS)
