"""The primitives of an HSM token over one session of a PKCS#11 module."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from typing import Any, Final, Self, TypeVar

from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.constants import DEFAULT
from pkcs11.exceptions import (
    AttributeTypeInvalid,
    PinExpired,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PinLocked,
    PKCS11Error,
)
from pkcs11.util.ec import encode_named_curve_parameters

from crypto.emv.key_derivation import odd_parity
from crypto.errors import JwkError
from crypto.jose.jwk import Point
from crypto.kcv import KCV_BYTES
from crypto.secret import Secret
from hsm import development
from hsm.errors import CeremonyError, KeyMissing, LoginRefused, VaultUnavailable
from hsm.pkcs11 import mechanisms
from hsm.pkcs11.calls import AES_CMAC, AES_ECB, DES3_CMAC, DES3_ECB, ECDSA, Calls
from hsm.pkcs11.derived_key import DerivedKey
from hsm.pkcs11.device_call import device_call
from hsm.pkcs11.device_info import DeviceInfo
from hsm.pkcs11.hsm_token import (
    AES_MAC_BYTES,
    TDES_MAC_BYTES,
    CountUses,
    KeyUnit,
    not_counted,
    tdes_blocks,
)
from hsm.pkcs11.keys import AES_KINDS, KEY_BYTES, TDES_KINDS, KeyKind, KeyLabel, KeyRole, Usage
from hsm.pkcs11.module import LockingLibrary, functions, load, one_at_a_time, token_of
from hsm.pkcs11.structures import Template
from hsm.pkcs11.templates import (
    BIRTH,
    DERIVED_KEY,
    HELD_SECRET,
    KEY_TYPES,
    KINDS,
    MAY_BE_UNKNOWN,
    SHARED_SECRET,
    attribute_mapper,
    private_template,
    public_template,
)
from hsm.settings import HsmTokenSettings

T = TypeVar("T")

P256_POINT_BYTES: Final = 65
P256_SIGNATURE_BYTES: Final = 64
MARK_BYTES: Final = 16
"""Random ones, by which what was made to try something is found again."""
_SHARED_SECRET: Final = Template(SHARED_SECRET)
PIN_REFUSALS: Final = (PinExpired, PinIncorrect, PinInvalid, PinLenRange, PinLocked)


class Pkcs11Token:
    """An :class:`hsm.pkcs11.hsm_token.HsmToken` behind a PKCS#11 module.

    Open and use it on one thread of a process that is not forked afterwards.
    """

    def __init__(
        self,
        library: Any,  # noqa: ANN401 - the binding has no types
        session: Any,  # noqa: ANN401 - as above
        calls: Calls,
        settings: HsmTokenSettings,
        count_uses: CountUses = not_counted,
    ) -> None:
        self._count_uses = count_uses
        self._library = library
        self._calls = calls
        self._settings = settings
        self._session = session
        self._keys: dict[KeyLabel, Any] = {}
        self._public_keys: dict[KeyLabel, Any] = {}
        self.find_keys()

    @classmethod
    def open(
        cls,
        settings: HsmTokenSettings,
        *,
        writable: bool = False,
        production: bool = False,
        probing: bool = False,
        beside: Self | None = None,
        count_uses: CountUses = not_counted,
    ) -> Self:
        """Initialise the module, log in and find every key.

        Args:
            settings: which module, HSM token and PIN.
            writable: whether keys can be made and brought in.
            production: whether what is for development only is refused.
            probing: whether a module that lacks a mechanism is opened all the same.
            beside: one that is open and stays so, of the same module.
            count_uses: told of each use of a key that has a budget (:mod:`hsm.key_budgets`).

        Raises:
            CeremonyError: it is the one *beside* which it is opened.
            NotForProduction: *production* is asked for, and token or PIN is for development only.
                Said before the login.
            MechanismMissing: the module cannot do what the service, or a key that is there, needs.
            LoginRefused: the user PIN is wrong, expired or locked. Do not try again.
            VaultUnavailable: the PIN file or the library cannot be used, or it does not have
                exactly one token with the label.
        """
        with one_at_a_time(settings) as pin:
            try:
                if production:
                    development.refuse_secret(pin)
                # To initialise a module twice would end every session of the first time.
                library = load(settings) if beside is None else beside.library
                hsm_token = token_of(settings, library)
                if beside is not None and beside.is_in(hsm_token.slot):
                    raise CeremonyError("the second token is the first one")
                if production:
                    development.refuse_token(DeviceInfo.of(hsm_token))
                session: Any = hsm_token.open(
                    rw=writable, user_pin=pin.reveal(), attribute_mapper=attribute_mapper()
                )
                calls = Calls(functions(library.so), session.handle)
                opened = cls(library, session, calls, settings, count_uses)
                if not probing:
                    mechanisms.require(opened)
            except PIN_REFUSALS:
                raise LoginRefused("the token refused the PIN") from None
            except (PKCS11Error, OSError, RuntimeError) as error:
                raise VaultUnavailable(type(error).__name__) from None
        return opened

    def close(self) -> None:
        """Finalise the module: every session and handle of this process ends."""
        functions(self._library.so).finalize(None)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes of this machine from making keys; find those they made before."""
        with one_at_a_time(self._settings):
            self.find_keys()
            yield

    @property
    def device(self) -> DeviceInfo:
        """What the module says of the HSM token."""
        return DeviceInfo.of(self._session.token)

    @property
    def library(self) -> LockingLibrary:
        """The module, initialised."""
        found: LockingLibrary = self._library
        return found

    def is_in(self, slot: Any) -> bool:  # noqa: ANN401 - the binding has no types
        """Tell whether it is the one in *slot*, of the same module."""
        return bool(slot.slot_id == self._session.token.slot.slot_id)

    def labels(self) -> Sequence[KeyLabel]:
        """List the keys that have a label of ours."""
        return tuple(self._keys)

    def encrypt_block(self, label: KeyLabel, block: bytes) -> bytes:
        """Encipher 16-byte blocks with AES, each alone (ECB)."""
        return self._calls.encrypt(AES_ECB, self._handle(label), block)

    def decrypt_block(self, label: KeyLabel, block: bytes) -> bytes:
        """Decipher 16-byte blocks with AES, each alone (ECB)."""
        return self._calls.decrypt(AES_ECB, self._handle(label), block)

    def encrypt_cbc(self, label: KeyLabel, iv: bytes, data: bytes) -> bytes:
        """Encipher with AES in CBC mode."""
        return self._calls.encrypt_cbc(Mechanism.AES_CBC, self._handle(label), iv, data)

    def encrypt_gcm(self, label: KeyLabel, nonce: bytes, plaintext: bytes) -> bytes:
        """Encipher with AES-GCM."""
        self._count_uses(label, KeyUnit.GCM_INVOCATIONS, 1)
        return self._calls.encrypt_gcm(self._handle(label), nonce, plaintext)

    def decrypt_gcm(self, label: KeyLabel, nonce: bytes, ciphertext: bytes) -> bytes:
        """Undo :meth:`encrypt_gcm`."""
        return self._calls.decrypt_gcm(self._handle(label), nonce, ciphertext)

    def mac(self, label: KeyLabel, data: bytes) -> bytes:
        """Make a 16-byte AES-CMAC."""
        return self._calls.sign(AES_CMAC, self._handle(label), data, AES_MAC_BYTES)

    def tdes_encrypt(self, label: KeyLabel, data: bytes) -> bytes:
        """Encipher with TDES in ECB mode."""
        self._count_uses(label, KeyUnit.TDES_BLOCKS, tdes_blocks(data))
        return self._calls.encrypt(DES3_ECB, self._handle(label), data)

    def tdes_decrypt(self, label: KeyLabel, data: bytes) -> bytes:
        """Decipher with TDES in ECB mode."""
        self._count_uses(label, KeyUnit.TDES_BLOCKS, tdes_blocks(data))
        return self._calls.decrypt(DES3_ECB, self._handle(label), data)

    def tdes_encrypt_cbc(self, label: KeyLabel, iv: bytes, data: bytes) -> bytes:
        """Encipher with TDES in CBC mode."""
        self._count_uses(label, KeyUnit.TDES_BLOCKS, tdes_blocks(data))
        return self._calls.encrypt_cbc(Mechanism.DES3_CBC, self._handle(label), iv, data)

    def tdes_mac(self, label: KeyLabel, data: bytes) -> bytes:
        """Make an 8-byte TDES-CMAC."""
        self._count_uses(label, KeyUnit.TDES_BLOCKS, tdes_blocks(data))
        return self._calls.sign(DES3_CMAC, self._handle(label), data, TDES_MAC_BYTES)

    @contextmanager
    def derived(self, label: KeyLabel, *data: bytes) -> Iterator[DerivedKey]:
        """Derive TDES keys one from another; the last one can be used until the context ends."""
        self._count_uses(label, KeyUnit.TDES_BLOCKS, tdes_blocks(data[0]))
        with ExitStack() as made:
            handle = self._handle(label)
            for step in data:
                handle = self._calls.derive_tdes(handle, step, self._derived_key)
                made.callback(self._calls.destroy, handle)
            yield DerivedKey(self._calls, handle)

    def agree(self, label: KeyLabel, point: Point, other_info: bytes) -> bytes:
        """Derive a 32-byte content key; the shared secret stays in the HSM token."""
        handle = self._handle(label)
        return self._calls.agree(handle, point.uncompressed, other_info, _SHARED_SECRET)

    def sign(self, label: KeyLabel, digest: bytes) -> bytes:
        """Sign a 32-byte digest with ECDSA P-256."""
        return self._calls.sign(ECDSA, self._handle(label), digest, P256_SIGNATURE_BYTES)

    def random(self, size_bytes: int) -> bytes:
        """Draw random bytes from the HSM token's generator."""
        return self._calls.random(size_bytes)

    @device_call
    def public_point(self, label: KeyLabel) -> Point:
        """Read the public half of an EC key."""
        if label not in self._public_keys:
            raise KeyMissing("a key is not on the token")
        # CKA_EC_POINT is a DER octet string; its last 65 bytes are the uncompressed point.
        encoded = bytes(self._public_keys[label][Attribute.EC_POINT])[-P256_POINT_BYTES:]
        try:
            return Point(encoded[1:33], encoded[33:])
        except JwkError:
            raise VaultUnavailable("a key on the token is not a P-256 key") from None

    @device_call
    def kind(self, label: KeyLabel) -> KeyKind:
        """Say what a key is made of."""
        key = self._key(label)
        key_type = key[Attribute.KEY_TYPE]
        size_bytes = key[Attribute.VALUE_LEN] if key_type == KeyType.AES else None
        kind = KINDS.get((key_type, size_bytes))
        if kind is None:
            raise VaultUnavailable("a key on the token is of no kind of ours")
        return kind

    @device_call
    def check_value(self, label: KeyLabel) -> bytes:
        """Read ``CKA_CHECK_VALUE`` of a secret key, or compute it with a key that enciphers."""
        # A device without it has no such attribute, or leaves it empty.
        with suppress(AttributeTypeInvalid):
            if kept := bytes(self._key(label)[Attribute.CHECK_VALUE]):
                return kept
        if label.role.usage not in (Usage.ENCRYPT, Usage.ENCRYPT_ONLY):
            return b""
        if self.kind(label) in TDES_KINDS:
            return self.tdes_encrypt(label, bytes(8))[:KCV_BYTES]
        return self.encrypt_block(label, bytes(16))[:KCV_BYTES]

    @device_call
    def attributes(self, label: KeyLabel) -> Mapping[str, bool]:
        """Read back the attributes that protect the secret or private key."""
        key = self._key(label)
        names = self._known({**private_template(label.role), **BIRTH})
        read = {name.name: bool(key[name]) for name in names}
        stored = self._limits(label)
        if stored is not None:
            # What it says is compared: the others are true or false.
            allowed = {*mechanisms.allowed(label.role, self.kind(label))}
            read[Attribute.ALLOWED_MECHANISMS.name] = stored == allowed
        return read

    def unknown_attributes(self) -> Sequence[str]:
        """Name the attributes of our keys that the device does not know."""
        return sorted(f"CKA_{name.name}" for name in self._unknown)

    @device_call
    def expected_attributes(self, label: KeyLabel) -> Mapping[str, bool]:
        """Say what :meth:`attributes` must read for a key of this role."""
        birth = dict.fromkeys(BIRTH, not label.role.per_issuer)
        expected = {**private_template(label.role), **birth}
        if self._limits(label) is not None:
            expected[Attribute.ALLOWED_MECHANISMS] = True
        return {name.name: value for name, value in expected.items()}

    def is_as_expected(self, label: KeyLabel) -> bool:
        """Tell whether kind and attributes are those of its role, and the device knows them."""
        read, expected = self.attributes(label), self.expected_attributes(label)
        return read == expected and self.kind(label) in label.role.kinds

    @device_call
    def mechanisms(self) -> Set[Mechanism]:
        """List what the module says that the HSM token can do; some can do more."""
        return frozenset(self._session.token.slot.get_mechanisms())

    @device_call
    def make_temporary(self, label: KeyLabel, kind: KeyKind) -> None:
        """Make a random key of this session only, with the attributes of its role otherwise.

        A shared one comes from outside, as it does in a ceremony.
        """
        if label.role.per_issuer:
            value = odd_parity(Secret(self.random(KEY_BYTES[kind])))
            if kind in AES_KINDS:
                value = Secret(self.random(KEY_BYTES[kind]))
            self._create(label, kind, value, {Attribute.TOKEN: False})
        else:
            self._generate(label, {Attribute.TOKEN: False})

    @device_call
    def generate(self, label: KeyLabel) -> None:
        """Make the key *label* on the HSM token, with the attributes of its role."""
        if label.role.per_issuer:
            raise CeremonyError("shared keys are imported")
        if label in self._keys:
            raise CeremonyError("the key is already on the token")
        self._generate(label, {})

    @device_call
    def destroy(self, label: KeyLabel) -> None:
        """Destroy a key, of a pair both halves, where it is there.

        It is looked for anew: whoever was interrupted does not know what was made, nor what a
        device that failed has destroyed.
        """
        self.find_keys()
        for keys in (self._keys, self._public_keys):
            if label in keys:
                keys[label].destroy()
                del keys[label]

    @device_call
    def change_pin(self, new: Secret[str]) -> None:
        """Give the HSM token another user PIN; those who are logged in stay so."""
        with one_at_a_time(self._settings) as old:
            self._session.set_pin(old.reveal(), new.reveal())

    @device_call
    def import_key(self, label: KeyLabel, kind: KeyKind, key: Secret[bytes]) -> None:
        """Bring a secret key in, with the attributes of its role."""
        if label in self._keys:
            raise CeremonyError("the key is already on the token")
        self._create(label, kind, key, {})

    def _generate(self, label: KeyLabel, changes: Mapping[Attribute, bool]) -> None:
        def make(template: Mapping[Attribute, Any]) -> None:
            if label.role.kind is KeyKind.AES_256:
                self._session.generate_key(KeyType.AES, 256, label=str(label), template=template)
                return
            self._generate_pair(str(label), template, {**public_template(label.role), **changes})

        self._limited(label.role, label.role.kind, changes, make)

    def _generate_pair(
        self, name: str, private: Mapping[Attribute, Any], public: Mapping[Attribute, bool]
    ) -> None:
        curve = self._session.create_domain_parameters(
            KeyType.EC,
            {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
            local=True,
        )
        curve.generate_keypair(label=name, private_template=private, public_template=public)

    def _create(
        self,
        label: KeyLabel,
        kind: KeyKind,
        key: Secret[bytes],
        changes: Mapping[Attribute, bool],
    ) -> None:
        def make(template: Mapping[Attribute, Any]) -> None:
            self._session.create_object(
                {
                    Attribute.CLASS: ObjectClass.SECRET_KEY,
                    Attribute.KEY_TYPE: KEY_TYPES[kind],
                    Attribute.LABEL: str(label),
                    Attribute.VALUE: key.reveal(),
                    **template,
                }
            )

        self._limited(label.role, kind, changes, make)

    def _limited(
        self,
        role: KeyRole,
        kind: KeyKind,
        changes: Mapping[Attribute, bool],
        make: Callable[[Mapping[Attribute, Any]], None],
    ) -> None:
        """Make a key that the device limits to its role as far as it stores that."""
        template = {**self._known(private_template(role)), **changes}
        limits: Mapping[Attribute, Any] = {
            Attribute.ALLOWED_MECHANISMS: mechanisms.allowed(role, kind)
        }
        wanted = [limits]
        if role.usage is Usage.AGREE and self._takes_derive_templates:
            wanted.insert(0, {**limits, Attribute.DERIVE_TEMPLATE: HELD_SECRET})
        for each in wanted:
            # With whatever error it is refused: NSS softoken has none of its own for it.
            with suppress(PKCS11Error):
                make({**template, **each})
                break
        else:
            make(template)
        self.find_keys()

    @cached_property
    def _takes_derive_templates(self) -> bool:
        """Find once whether the device takes ``CKA_DERIVE_TEMPLATE``, on a temporary pair.

        Not on a key that stays: SoftHSM2 leaves half of a pair that it refuses.
        """
        mark = self.random(MARK_BYTES).hex()
        private, public = private_template(KeyRole.PAGE), public_template(KeyRole.PAGE)
        of_session = {Attribute.TOKEN: False}
        held = {Attribute.DERIVE_TEMPLATE: HELD_SECRET}
        try:
            self._generate_pair(
                mark, {**self._known(private), **of_session, **held}, {**public, **of_session}
            )
        except PKCS11Error:
            return False
        finally:
            for half in list(self._session.get_objects({Attribute.LABEL: mark})):
                half.destroy()
        return True

    def _limits(self, label: KeyLabel) -> Set[int] | None:
        """Read which mechanisms a key is limited to; None: to none, or the device does not say.

        A key that is not limited was made before keys were, or where the device does not store it.
        """
        try:
            return frozenset(self._key(label)[Attribute.ALLOWED_MECHANISMS]) or None
        except AttributeTypeInvalid:
            return None

    def _known(self, attributes: Mapping[Attribute, T]) -> dict[Attribute, T]:
        """Leave out the attributes that the device does not know: it would refuse all of them."""
        return {name: attributes[name] for name in attributes if name not in self._unknown}

    @cached_property
    def _derived_key(self) -> Template:
        return Template(self._known(DERIVED_KEY))

    @cached_property
    @device_call
    def _unknown(self) -> frozenset[Attribute]:
        """Find once what the device does not know, on a key of ours or else on a temporary one."""
        key = next(iter(self._keys.values()), None)
        if key is not None:
            return _unknown_of(key)
        template = {
            **private_template(KeyRole.PIN),
            Attribute.TOKEN: False,
            Attribute.COPYABLE: DEFAULT,
        }
        key = self._session.generate_key(KeyType.AES, 256, template=template)
        try:
            return _unknown_of(key)
        finally:
            key.destroy()

    def _key(self, label: KeyLabel) -> Any:  # noqa: ANN401 - the binding has no types
        key = self._keys.get(label)
        if key is None:
            raise KeyMissing("a key is not on the token")
        return key

    def _handle(self, label: KeyLabel) -> int:
        key = self._keys.get(label)
        if key is None:
            raise KeyMissing("a key is not on the token")
        handle: int = key.handle
        return handle

    @device_call
    def find_keys(self) -> None:
        """Find every key once, or fail when two carry the same label."""
        self._keys = _by_label(self._session, ObjectClass.SECRET_KEY)
        self._keys |= _by_label(self._session, ObjectClass.PRIVATE_KEY)
        self._public_keys = _by_label(self._session, ObjectClass.PUBLIC_KEY)


def _unknown_of(key: Any) -> frozenset[Attribute]:  # noqa: ANN401 - as above
    unknown = set()
    for name in MAY_BE_UNKNOWN:
        try:
            bool(key[name])
        except AttributeTypeInvalid:
            unknown.add(name)
    return frozenset(unknown)


def _by_label(session: Any, kind: ObjectClass) -> dict[KeyLabel, Any]:  # noqa: ANN401 - as above
    found: dict[KeyLabel, Any] = {}
    for key in session.get_objects({Attribute.CLASS: kind}):
        try:
            label = KeyLabel.parse(key.label)
        except (CeremonyError, UnicodeDecodeError):
            continue  # another application's key on the same token
        if label in found:
            raise VaultUnavailable("two keys carry the same label")
        found[label] = key
    return found
