"""What crosses the sockets of the vault: a message for each verb of the port, and the answers.

A message has the verb's name and its arguments by their names; it says which answer it gets. On
the wire it is MessagePack in a frame (:mod:`hsm.frames`)::

    call      [version, request number, {"verb": name, argument: value, …}]
    answer    [request number, nil, answer]
    refusal   [request number, {"error": class of hsm.errors, "reason", "receipt"}, nil]
    greeting  [version]

A worker greets a caller first. Answers come in any order. What is not of this form, of another
version, or no verb of the socket has no answer: the vault closes the connection.
"""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Generic, TypeAlias, TypeVar, Union, get_args

import msgspec
from msgspec import Raw, Struct, structs
from msgspec.msgpack import Decoder, Encoder

import hsm.errors
from crypto.pin_image import ImageStyle
from crypto.secret import Secret
from hsm.errors import HsmError, MessageRefused
from hsm.port import (
    MAILERS_MAX,
    RESEAL_CARDS_MAX,
    BatchPart,
    CardRef,
    CertificateFacts,
    ChipTransaction,
    DeviceBlock,
    DeviceKey,
    GrantedToken,
    HandOut,
    IssuedAccessToken,
    KeyGenerations,
    KeyUse,
    MailerBatch,
    PinBlockType,
    PublicKeyRole,
    Purpose,
    RefusedCard,
    Resealing,
    SealedCard,
    SealedChange,
    SealedGrant,
    SealedPin,
    SealedRecord,
    SealedTzpk,
    SealedValue,
    StoredCard,
    StoredPin,
    ValueKind,
)
from hsm.verbs import PinVault

VERSION: Final = 2
"""Of these messages; web and vault of one release have the same."""
T = TypeVar("T")
Counter: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
"""A change counter: no negative one can be written in a sealed value."""


class SocketName(StrEnum):
    """The sockets of the vault; each takes the verbs of those who may connect to it."""

    D1 = "d1"
    CARDHOLDER = "cardholder"
    ADMIN = "admin"


WEB: Final = frozenset((SocketName.D1, SocketName.CARDHOLDER))
ALL: Final = frozenset(SocketName)
D1: Final = frozenset((SocketName.D1,))
CARDHOLDER: Final = frozenset((SocketName.CARDHOLDER,))
ADMIN: Final = frozenset((SocketName.ADMIN,))

MESSAGE_BYTES_MAX: Final[Mapping[SocketName, int]] = {
    SocketName.D1: 1 << 20,
    SocketName.CARDHOLDER: 1 << 20,
    SocketName.ADMIN: 8 << 20,
}
"""How long a call may be. A signed manifest is the longest of the first two."""
ANSWER_BYTES_MAX: Final = 8 << 20
INT_BITS: Final = 64
MALFORMED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises: for a text that is not UTF-8, and for depth, no errors of its own."""


@cache
def _verb(class_name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z][a-z])", "_", class_name).lower()


class Verb(
    Struct, Generic[T], frozen=True, forbid_unknown_fields=True, tag_field="verb", tag=_verb
):
    """A call of a verb of :class:`hsm.verbs.PinVault` that is answered with a *T*.

    Fields and answer are those of the port, and so are the errors.
    """

    sockets: ClassVar[frozenset[SocketName]] = ALL
    """Who may call it."""
    repeatable: ClassVar[bool] = True
    """Whether nobody minds that the vault did it twice. A hand-out is counted and logged."""

    def __repr__(self) -> str:
        """Show the verb and no argument: some are control tokens."""
        return f"{type(self).__name__}(…)"

    def perform(self, vault: PinVault) -> T:
        """Call the verb on *vault*.

        Raises:
            HsmError: as the verb does.
        """
        answer: T = getattr(vault, self.name())(**structs.asdict(self))
        return answer

    @classmethod
    def name(cls) -> str:
        """Return the verb's name."""
        return _verb(cls.__name__)

    @classmethod
    def answer_type(cls) -> Any:  # noqa: ANN401 - a type form
        """Return *T*."""
        return get_args(cls.__orig_bases__[0])[0]  # type: ignore[attr-defined]

    @classmethod
    def wire_type(cls) -> Any:  # noqa: ANN401 - a type form
        """Return what msgspec reads an answer as."""
        return cls.answer_type()

    @classmethod
    def from_wire(cls, read: Any) -> T:  # noqa: ANN401 - of the wire type
        """Make the answer of it."""
        answer: T = read
        return answer


class ManifestText(Struct, frozen=True, forbid_unknown_fields=True):
    """A manifest that is in force."""

    version: int
    """0: this host never had one."""
    canonical: bytes | None
    """As it was signed; None: there is none, or the caller knows this version."""


# The socket of D1.


class IssueToken(Verb[IssuedAccessToken], frozen=True):
    """``issue_token``."""

    sockets = D1

    client_id: str
    secret: Secret[str]
    certificate: CertificateFacts


class SetPinFromJwe(Verb[SealedChange], frozen=True):
    """``set_pin_from_jwe``; operators bring PINs with their cards."""

    sockets = D1 | ADMIN

    jwe: str
    block_type: PinBlockType
    card: CardRef
    sealed_record: SealedRecord
    counter: Counter
    client_id: str | None


class ExportJwe(Verb[HandOut[str]], frozen=True):
    """``export_jwe``."""

    sockets = D1
    repeatable = False

    sealed_pin: SealedPin
    sealed_record: SealedRecord
    card: CardRef
    counter: Counter


# The socket of cardholders.


class VerifyBearer(Verb[str], frozen=True):
    """``verify_bearer``."""

    sockets = CARDHOLDER

    bearer: Secret[str]
    issuer_id: str
    for_pin: bool = False


class GrantBearer(Verb[GrantedToken], frozen=True):
    """``grant_bearer``."""

    sockets = CARDHOLDER

    bearer: Secret[str]
    client_id: str
    purpose: Purpose
    card: CardRef
    sealed_record: SealedRecord
    counter: Counter


class GrantServer(Verb[GrantedToken], frozen=True):
    """``grant_server``."""

    sockets = CARDHOLDER

    user: str
    secret: Secret[str]
    plastic_id: str
    purpose: Purpose
    card: CardRef
    sealed_record: SealedRecord
    counter: Counter


class SetPinFromPage(Verb[SealedChange], frozen=True):
    """``set_pin_from_page``."""

    sockets = CARDHOLDER

    grant: SealedGrant
    control_token: str
    jwe: str
    sealed_record: SealedRecord


class RenderImage(Verb[HandOut[bytes]], frozen=True):
    """``render_image``."""

    sockets = CARDHOLDER
    repeatable = False

    grant: SealedGrant
    control_token: str
    sealed_pin: SealedPin
    sealed_record: SealedRecord
    style: ImageStyle


class DigitsJwe(Verb[HandOut[str]], frozen=True):
    """``digits_jwe``."""

    sockets = CARDHOLDER
    repeatable = False

    grant: SealedGrant
    control_token: str
    sealed_pin: SealedPin
    sealed_record: SealedRecord
    key: Mapping[str, Any]


class ExportServerBlock(Verb[HandOut[bytes]], frozen=True):
    """``export_server_block``."""

    sockets = CARDHOLDER
    repeatable = False

    user: str
    secret: Secret[str]
    plastic_id: str
    zpk_index: str
    card: CardRef
    sealed_pin: SealedPin
    sealed_record: SealedRecord
    counter: Counter


class SetPinFromServer(Verb[SealedChange], frozen=True):
    """``set_pin_from_server``."""

    sockets = CARDHOLDER

    user: str
    secret: Secret[str]
    plastic_id: str
    zpk_index: str
    block: bytes
    card: CardRef
    sealed_record: SealedRecord
    counter: Counter


class ExportDeviceBlock(Verb[HandOut[DeviceBlock]], frozen=True):
    """``export_device_block``."""

    sockets = CARDHOLDER
    repeatable = False

    grant: SealedGrant
    control_token: str
    public_key: bytes
    sealed_pin: SealedPin
    sealed_record: SealedRecord


class MakeDeviceKey(Verb[DeviceKey], frozen=True):
    """``make_device_key``."""

    sockets = CARDHOLDER

    grant: SealedGrant
    control_token: str
    public_key: bytes
    sealed_record: SealedRecord


class SetPinFromDevice(Verb[SealedChange], frozen=True):
    """``set_pin_from_device``."""

    sockets = CARDHOLDER

    grant: SealedGrant
    control_token: str
    sealed_tzpk: SealedTzpk
    block: bytes
    sealed_record: SealedRecord


# The socket of operators.


class SealCards(Verb[Sequence[SealedCard | RefusedCard]], frozen=True):
    """``seal_cards``."""

    sockets = ADMIN

    feed: str
    issuer_id: str

    @classmethod
    def wire_type(cls) -> Any:  # noqa: ANN401 - a type form
        """Return JSON objects: msgspec cannot tell one class of them from another."""
        return list[dict[str, Any]]

    @classmethod
    def from_wire(cls, read: Any) -> Sequence[SealedCard | RefusedCard]:  # noqa: ANN401 - as above
        """Tell sealed cards from refused ones."""
        return [
            msgspec.convert(each, RefusedCard)
            if "reason" in each
            else msgspec.convert(each, SealedCard, builtin_types=(bytes,))
            for each in read
        ]


class KeepsPin(Verb[bool], frozen=True):
    """``keeps_pin``."""

    sockets = ADMIN

    before: SealedRecord
    after: SealedRecord
    card: CardRef


class GeneratePin(Verb[SealedChange], frozen=True):
    """``generate_pin``."""

    sockets = ADMIN

    card: CardRef
    sealed_record: SealedRecord
    counter: Counter


class ForgetFailures(Verb[None], frozen=True):
    """``forget_failures``."""

    sockets = ADMIN

    card: CardRef


class ExportValues(Verb[HandOut[str]], frozen=True):
    """``export_values``."""

    sockets = ADMIN
    repeatable = False

    values: Mapping[ValueKind, SealedValue]
    sealed_record: SealedRecord
    card: CardRef
    counter: Counter


class ExportMailers(Verb[MailerBatch], frozen=True):
    """``export_mailers``."""

    sockets = ADMIN
    repeatable = False

    issuer_id: str
    pins: Annotated[Sequence[StoredPin], msgspec.Meta(max_length=MAILERS_MAX)]
    part: BatchPart


class BuildScript(Verb[HandOut[bytes]], frozen=True):
    """``build_script``."""

    sockets = ADMIN
    repeatable = False

    sealed_pin: SealedPin
    sealed_record: SealedRecord
    card: CardRef
    counter: Counter
    transaction: ChipTransaction


class ReversePin(Verb[SealedChange], frozen=True):
    """``reverse_pin``."""

    sockets = ADMIN

    sealed_pin: SealedPin
    earlier_pin: SealedPin
    sealed_record: SealedRecord
    card: CardRef
    counter: Annotated[int, msgspec.Meta(ge=1)]


class Reseal(Verb[Resealing], frozen=True):
    """``reseal``."""

    sockets = ADMIN

    cards: Annotated[Sequence[StoredCard], msgspec.Meta(max_length=RESEAL_CARDS_MAX)]


class LoadMinimumVersions(Verb[None], frozen=True):
    """``load_minimum_versions``."""

    sockets = ADMIN
    repeatable = False

    text: str


class LoadGenerations(Verb[int], frozen=True):
    """``load_generations``: operators signed it, and whoever carries it needs no trust."""

    sockets = ADMIN

    text: str


class ReadGenerations(Verb[KeyGenerations], frozen=True):
    """``read_generations``."""

    sockets = ADMIN


# Every socket.


class LoadManifest(Verb[int], frozen=True):
    """``load_manifest``: operators signed it, and whoever carries it needs no trust."""

    text: str


class ManifestVersion(Verb[int], frozen=True):
    """``manifest_version``."""

    issuer_id: str


class ReadManifest(Verb[ManifestText], frozen=True):
    """``read_manifest``, for a caller who may know the newest version already."""

    issuer_id: str
    known_version: int = 0

    def perform(self, vault: PinVault) -> ManifestText:
        """Read the manifest; write it out for a caller who has another version."""
        if not vault.manifest_version(self.issuer_id):
            return ManifestText(0, None)
        manifest = vault.read_manifest(self.issuer_id)
        same = manifest.version == self.known_version
        return ManifestText(manifest.version, None if same else manifest.canonical())


class PublicJwks(Verb[Mapping[str, list[dict[str, str]]]], frozen=True):
    """``public_jwks``."""

    role: PublicKeyRole
    own_kids: Mapping[str, int] = {}


class TokenIssuer(Verb[str | None], frozen=True):
    """``token_issuer``: every access token names it."""


class KeyUses(Verb[Sequence[KeyUse]], frozen=True):
    """``key_uses``: it is public, and the web's metrics may show it."""


class Health(Verb[None], frozen=True):
    """``health``."""


class Metrics(Verb[str], frozen=True):
    """``metrics``."""


VERBS: Final[Mapping[str, type[Verb[Any]]]] = {verb.name(): verb for verb in Verb.__subclasses__()}


class _Refusal(Struct, frozen=True, forbid_unknown_fields=True):
    error: str
    reason: str
    receipt: str | None


ERRORS: Final[Mapping[str, type[HsmError]]] = {
    name: error
    for name, error in vars(hsm.errors).items()
    if isinstance(error, type) and issubclass(error, HsmError)
}


def encode_greeting() -> bytes:
    """Write what a worker sends first."""
    return _ENCODER.encode((VERSION,))


def read_greeting(data: bytes | memoryview) -> None:
    """Read what a worker sends first.

    Raises:
        MessageRefused: it is of another version, or no worker of a vault.
    """
    try:
        (version,) = _GREETING.decode(data)
    except MALFORMED:
        raise MessageRefused("no answer of a vault") from None
    if version != VERSION:
        raise MessageRefused("the vault is of another version")


def encode_call(number: int, message: Verb[Any]) -> bytes:
    """Write a call.

    A text that is not Unicode and a number too large for the wire, which strangers can send, are
    replaced: the vault refuses what comes, as it would have refused what was.
    """
    try:
        return _ENCODER.encode((VERSION, number, message))
    except (UnicodeEncodeError, OverflowError):
        fields = map(_writable, structs.astuple(message))
        return _ENCODER.encode((VERSION, number, type(message)(*fields)))


def decode_call(data: bytes | memoryview, socket: SocketName) -> tuple[int, Verb[Any]]:
    """Read a call that came on *socket*: its number and the message.

    Raises:
        MessageRefused: it is no call, of another version, or no verb of this socket.
    """
    try:
        version, number, message = _CALL.decode(data)
        if version != VERSION:
            raise MessageRefused("the caller is of another version")
        verb = _message_decoder(socket).decode(message)
    except MALFORMED:
        # Its text can hold a value.
        raise MessageRefused("no call of a verb of this socket") from None
    if (
        isinstance(verb, SetPinFromJwe)
        and verb.client_id is None
        and socket is not SocketName.ADMIN
    ):
        # Failures are counted by client; only who imports cards has none.
        raise MessageRefused("only an import sets a PIN for no client")
    return number, verb


def encode_answer(number: int, answer: object) -> bytes:
    """Write the answer to a call."""
    return _ENCODER.encode((number, None, answer))


def encode_refusal(number: int, error: HsmError) -> bytes:
    """Write that a call was refused."""
    refusal = _Refusal(type(error).__name__, _writable(str(error)), error.receipt)
    return _ENCODER.encode((number, refusal, None))


def decode_answer(data: bytes | memoryview) -> tuple[int, HsmError | None, Raw]:
    """Read an answer: the number of its call, and the refusal or what :func:`read_answer` reads.

    Raises:
        MessageRefused: it is no answer.
    """
    try:
        number, refusal, answer = _ANSWER.decode(data)
        return number, None if refusal is None else _error(refusal), answer
    except (*MALFORMED, KeyError):
        raise MessageRefused("no answer of a vault") from None


def read_answer(verb: type[Verb[T]], answer: Raw) -> T:
    """Read what *verb* is answered with.

    Raises:
        MessageRefused: it is something else.
    """
    try:
        return verb.from_wire(_answer_decoder(verb).decode(answer))
    except MALFORMED:
        raise MessageRefused("no answer of the verb") from None


def _error(refusal: _Refusal) -> HsmError:
    error = ERRORS[refusal.error](*filter(None, (refusal.reason,)))
    error.receipt = refusal.receipt
    return error


def _writable(value: object) -> Any:  # noqa: ANN401 - of the type that it had
    """Replace what MessagePack cannot write in what strangers sent: texts, and JSON objects."""
    if isinstance(value, Secret):
        return Secret(_writable(value.reveal()))
    if isinstance(value, Mapping):
        return {_writable(name): _writable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [*map(_writable, value)]
    if isinstance(value, int) and value.bit_length() >= INT_BITS:
        return None
    if isinstance(value, str) and not isinstance(value, StrEnum):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return value


def _to_wire(value: object) -> object:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError


def _from_wire(to: Any, value: Any) -> object:  # noqa: ANN401 - msgspec's
    if to == Secret[str] and isinstance(value, str):
        return Secret(value)
    raise ValueError("not a text")  # which msgspec makes its own error of


_ENCODER: Final = Encoder(enc_hook=_to_wire)
_GREETING: Final = Decoder(tuple[int])
_CALL: Final = Decoder(tuple[int, int, Raw])
_ANSWER: Final = Decoder(tuple[int, _Refusal | None, Raw])


@cache
def _message_decoder(socket: SocketName) -> Decoder[Verb[Any]]:
    verbs = tuple(verb for verb in VERBS.values() if socket in verb.sockets)
    return Decoder(Union[verbs], dec_hook=_from_wire)  # noqa: UP007 - made at run time


@cache
def _answer_decoder(verb: type[Verb[Any]]) -> Decoder[Any]:
    return Decoder(verb.wire_type())
