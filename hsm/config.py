"""Vault configuration: what steers cryptography, sealed so that only an operator can change it.

A configuration is JSON of one of a few kinds. Its CMAC is made by a key of the token over
issuer, kind, version, dates, key label and bytes, each length-prefixed. ``python -m hsm config
seal`` makes it; the vault refuses bytes whose CMAC or dates fail.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from hmac import compare_digest
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from crypto.errors import JoseError, VerificationError
from crypto.jose import json_object, jwe
from crypto.jose.jwk import EcPublicKey, parse_public
from crypto.seccos.profile import SeccosProfile
from crypto.verification.ibm3624 import DecimalisationTable, ValidationRule
from crypto.verification.pvv import KeyIndex
from crypto.weak_pins import PinPolicy
from hsm.errors import CeremonyError, ConfigRefused
from hsm.keys import KeyLabel, KeyRole
from hsm.port import ConfigKind, PinBlockType, SealedConfig, VaultConfig
from hsm.sealed import length_prefixed

Member = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
HeaderMember = Annotated[str, Field(pattern=r"^[A-Za-z0-9_#.-]{1,64}$")]
Literals = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(min_length=1)
]


class _Body(BaseModel):
    """A configuration body: unknown members are refused, values are not coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TokenWire(_Body):
    """The OAuth token endpoint's answer, and what a bearer is bound to."""

    ttl_seconds: Annotated[int, Field(ge=30, le=900)] = 900
    expires_in_as_string: bool = True
    emit_expires_at: bool = True
    bearer_binding: Literal["certificate", "subject", "none"] = "certificate"


class PutPinWire(_Body):
    """The literals of ``type`` in PUT, after upper-casing."""

    iso0: Literals = ("ISO0", "ISO_0", "ISO-0", "PIN_ISO0", "PIN_BLOCK_ISO0", "PINBLOCK_ISO0")
    seccos: Literals = (
        "3DES_SECCOS",
        "SECCOS",
        "SECCOS_3DES",
        "PIN_3DES_SECCOS",
        "PIN_BLOCK_3DES_SECCOS",
    )


class GetPinWire(_Body):
    """The answer to GET pin."""

    field: Member = "encryptedPinBlock"
    type_literal: Annotated[str, Field(min_length=1, max_length=64)] = "ISO0"
    include_type: bool = True


class JweWire(_Body):
    """Header members, beside the usual ones, that D1's JWEs may have; they are ignored."""

    extra_header_members: tuple[HeaderMember, ...] = ()

    @model_validator(mode="after")
    def _changes_nothing(self) -> "JweWire":
        if jwe.NEVER_ALLOWED & {*self.extra_header_members}:
            raise ValueError("a header member that can never be allowed")
        return self

    @cached_property
    def extra(self) -> frozenset[str]:
        """The members as the reader takes them."""
        return frozenset(self.extra_header_members)


class Iso0Wire(_Body):
    """The plaintext of an ISO-0 JWE, in both directions."""

    inner: Literal["clear"] = "clear"
    field: Member = "pinBlock"
    aliases: tuple[Member, ...] = ("pinblock", "block", "value")
    hex_case: Literal["upper", "lower"] = "upper"
    pan_field: Member = "pan"

    @model_validator(mode="after")
    def _pan_has_a_member_of_its_own(self) -> "Iso0Wire":
        if self.pan_field in (self.field, *self.aliases):
            raise ValueError("a member cannot hold both the PAN and the block")
        return self


class CounterWire(_Body):
    """The answer to GET changeCounter."""

    field: Member = "changeCounter"
    as_string: bool = False


class ErrorWire(_Body):
    """The members of every answer that is not 2xx."""

    code_field: Member = "errorCode"
    error_field: Member = "error"


class WireProfile(_Body):
    """Every literal of the D1 wire that Thales does not publish, with our defaults.

    None of these defaults has been checked against Thales: ask before going live.
    """

    token: TokenWire = TokenWire()
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


class PolicyBody(_Body):
    """The PIN policy. D1's SDK lets a cardholder enter 4 to 8 digits."""

    length_min: Annotated[int, Field(ge=4, le=12)] = 4
    length_max: Annotated[int, Field(ge=4, le=12)] = 8
    page_length_max: int = Field(default_factory=lambda others: others["length_min"])
    """The longest PIN that a page of ours takes; by default it takes one length only."""
    refuse_repeated: bool = True
    refuse_runs: bool = True
    text_reveal: bool = False
    """Whether a page may get the digits as text, to be read out or spoken."""

    @field_validator("page_length_max")
    @classmethod
    def _is_between_the_others(cls, digits: int, info: ValidationInfo) -> int:
        # Others that are wrong themselves are not there.
        least, most = info.data.get("length_min", digits), info.data.get("length_max", digits)
        if not least <= digits <= most:
            raise ValueError("not between length_min and length_max")
        return digits

    @model_validator(mode="after")
    def _is_a_policy(self) -> "PolicyBody":
        self.for_d1  # noqa: B018 - raises ValueError when the lengths do not fit
        return self

    @cached_property
    def for_d1(self) -> PinPolicy:
        """The policy for what D1 sends, as the checker takes it."""
        return self._up_to(self.length_max)

    @cached_property
    def for_pages(self) -> PinPolicy:
        """The policy for a page of ours, as the checker takes it."""
        return self._up_to(self.page_length_max)

    def _up_to(self, length_max: int) -> PinPolicy:
        return PinPolicy(self.length_min, length_max, self.refuse_repeated, self.refuse_runs)


class RecipientBody(_Body):
    """A partner's public key: GET pin is encrypted to D1's, verification values to the host's."""

    jwk: dict[str, Any]

    @model_validator(mode="after")
    def _is_a_key(self) -> "RecipientBody":
        try:
            parse_public(self.jwk)
        except JoseError:
            raise ValueError("jwk is not a public P-256 key") from None
        return self

    @cached_property
    def key(self) -> EcPublicKey:
        """The key, parsed."""
        return parse_public(self.jwk)


Generation = Annotated[int, Field(ge=1, le=999_999)]


class PvvBody(_Body):
    """The Visa PVV: the key's index at the authorisation host, and which of our keys that is."""

    key_index: Annotated[int, Field(ge=1, le=6)]
    key_generation: Generation = 1

    @cached_property
    def index(self) -> KeyIndex:
        """The index, parsed."""
        return KeyIndex(self.key_index)


class OffsetBody(_Body):
    """The IBM 3624 offset: 16 digits for the nibbles 0 to F, and which digits of the PAN count."""

    table: str
    start: Annotated[int, Field(ge=0, le=18)] = 0
    length: Annotated[int, Field(ge=1, le=16)] = 16
    pad: Annotated[str, Field(pattern="^[0-9A-F]$")] = "F"
    key_generation: Generation = 1

    @field_validator("table")
    @classmethod
    def _is_a_table(cls, table: str) -> str:
        try:
            DecimalisationTable(table)
        except VerificationError:
            raise ValueError("16 digits, at least 8 of them different") from None
        return table

    @cached_property
    def decimalisation(self) -> DecimalisationTable:
        """The table, parsed."""
        return DecimalisationTable(self.table)

    @cached_property
    def rule(self) -> ValidationRule:
        """The rule, parsed."""
        return ValidationRule(self.start, self.length, self.pad)


class VerificationBody(_Body):
    """The verification values that are made of every PIN; by default none."""

    pvv: PvvBody | None = None
    offset_3624: OffsetBody | None = None
    prw: bool = False
    """A PRW, laid out as in the SECCOS profile, which also says whose it is. Where that is D1's,
    a PIN that does not come as SECCOS is refused."""
    prw_key_generation: Generation = 1


BODIES: Final[Mapping[ConfigKind, type[BaseModel]]] = {
    ConfigKind.WIRE: WireProfile,
    ConfigKind.POLICY: PolicyBody,
    ConfigKind.RECIPIENT: RecipientBody,
    ConfigKind.SECCOS: SeccosProfile,
    ConfigKind.VERIFICATION: VerificationBody,
    ConfigKind.VERIFICATION_HOST: RecipientBody,
}
B = TypeVar("B", bound=BaseModel)
Mac = Callable[[KeyLabel, bytes], bytes]


def parse_body(kind: ConfigKind, body: bytes) -> BaseModel:
    """Read the body of a configuration.

    Raises:
        ConfigRefused: it is not JSON of this kind. The message names the members at fault
            and never shows a value.
    """
    try:
        return BODIES[kind].model_validate_json(json.dumps(json_object.parse(body)))
    except JoseError:
        raise ConfigRefused("the body is not a JSON object") from None
    except ValidationError as error:
        # A default that could not be made from a member at fault is not at fault itself.
        errors = [item for item in error.errors() if item["type"] != "default_factory_not_called"]
        where = sorted({".".join(map(str, item["loc"])) or "body" for item in errors})
        raise ConfigRefused("refused members: " + ", ".join(where)) from None


def seal(config: SealedConfig, label: KeyLabel, mac: Mac) -> SealedConfig:
    """Check *config* and return it with its CMAC under the key *label*.

    Every default is written out, so that a later version of this program reads the same.
    """
    if not config.valid_from < config.valid_until or config.version < 1:
        raise ConfigRefused("refused members: version, valid_from, valid_until")
    body = canonical_body(parse_body(config.kind, config.body).model_dump(mode="json"))
    labelled = replace(config, key_label=str(label), body=body)
    return replace(labelled, cmac=mac(label, _mac_input(labelled)))


class ConfigReader:
    """Opens sealed configurations; each is verified once and kept."""

    def __init__(self, mac: Mac, now: Callable[[], datetime]) -> None:
        self._mac = mac
        self._now = now
        self._verified: dict[SealedConfig, BaseModel] = {}

    def read(self, kind: ConfigKind, model: type[B], config: VaultConfig, issuer_id: str) -> B:
        """Return the body of the configuration of *kind*.

        Raises:
            ConfigRefused: it is missing, of another issuer, not sealed here, or not valid now.
        """
        sealed = config.get(kind)
        if sealed is None or sealed.issuer_id != issuer_id or sealed.kind is not kind:
            raise ConfigRefused("a configuration is missing")
        if not sealed.valid_from <= self._now() < sealed.valid_until:
            raise ConfigRefused("a configuration is not valid now")
        if sealed not in self._verified:
            self._verify(sealed)
            self._verified[sealed] = parse_body(kind, sealed.body)
        body = self._verified[sealed]
        if not isinstance(body, model):
            raise ConfigRefused("a configuration is of another kind")
        return body

    def find(
        self, kind: ConfigKind, model: type[B], config: VaultConfig, issuer_id: str
    ) -> B | None:
        """Return the body of the configuration of *kind*, or None when the issuer has none.

        Raises:
            ConfigRefused: it has one, and :meth:`read` refuses it.
        """
        return self.read(kind, model, config, issuer_id) if kind in config else None

    def _verify(self, sealed: SealedConfig) -> None:
        try:
            label = KeyLabel.parse(sealed.key_label)
        except CeremonyError:
            raise ConfigRefused("a configuration is not sealed") from None
        if label.role is not KeyRole.CONFIG_MAC or not compare_digest(
            self._mac(label, _mac_input(sealed)), sealed.cmac
        ):
            raise ConfigRefused("a configuration is not sealed")


def to_json(config: SealedConfig) -> str:
    """Write a configuration as the text that ``config seal`` prints and ``config load`` reads."""
    return json.dumps(
        {
            "issuer_id": config.issuer_id,
            "kind": config.kind.value,
            "version": config.version,
            "valid_from": config.valid_from.isoformat(),
            "valid_until": config.valid_until.isoformat(),
            "key_label": config.key_label,
            "cmac": config.cmac.hex(),
            "body": json.loads(config.body),
        },
        indent=2,
    )


def from_json(text: str) -> SealedConfig:
    """Read what :func:`to_json` wrote, or the same without ``key_label`` and ``cmac``.

    Raises:
        ConfigRefused: it is not such a text.
    """
    try:
        fields = json_object.parse(text.encode())
        return SealedConfig(
            issuer_id=str(fields["issuer_id"]),
            kind=ConfigKind(str(fields["kind"])),
            version=int(str(fields["version"])),
            valid_from=_utc(str(fields["valid_from"])),
            valid_until=_utc(str(fields["valid_until"])),
            key_label=str(fields.get("key_label", "")),
            cmac=bytes.fromhex(str(fields.get("cmac", ""))),
            body=canonical_body(fields["body"]),
        )
    except (JoseError, KeyError, OverflowError, ValueError):
        raise ConfigRefused("not a configuration") from None


def canonical_body(body: object) -> bytes:
    """Write a body as the bytes that are sealed: JSON, members sorted, no white space."""
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment.astimezone(UTC)


def _mac_input(config: SealedConfig) -> bytes:
    return length_prefixed(
        b"config",
        config.issuer_id.encode(),
        config.kind.value.encode(),
        str(config.version).encode(),
        config.valid_from.astimezone(UTC).isoformat().encode(),
        config.valid_until.astimezone(UTC).isoformat().encode(),
        config.key_label.encode(),
        config.body,
    )
