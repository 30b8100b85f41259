"""PINs to and from cardholders' devices, under keys that the vault makes for a control token."""

from base64 import b64encode
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hsm.errors import (
    ClientLimited,
    GrantRefused,
    LimitReached,
    PageKeyRejected,
    PinRejected,
    SealBroken,
    TypeNotOffered,
    WeakPinRefused,
    WrongPinData,
)
from hsm.port import (
    CardRef,
    DeviceKey,
    GrantedToken,
    Purpose,
    SealedPin,
    SealedRecord,
    SealedTzpk,
)
from tests.contracts.edits import every_change
from tests.contracts.issuer import ISSUER_ID, LONG_PINS, PIN, Issuer
from tests.crypto.ciphers import tdes_ecb
from tests.devices import PythonDevice, iso1_text, rsa_key

NOW = datetime(2026, 11, 27, tzinfo=UTC)
SECOND = timedelta(seconds=1)
COUNTER = 5
DEVICE = PythonDevice()
KEY = rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class Card:
    """A card of an issuer that has PKI on, with the PIN of change 5."""

    issuer: Issuer
    sealed_record: SealedRecord
    sealed_pin: SealedPin

    def grant(self, purpose: Purpose) -> GrantedToken:
        return self.issuer.grant_plastic(purpose, self.sealed_record, counter=COUNTER)

    def view(self, granted: GrantedToken) -> str:
        return self.issuer.view_on_device(granted, DEVICE, self.sealed_pin, self.sealed_record)

    def view_with(self, public_key: bytes) -> object:
        granted = self.grant(Purpose.VIEW)
        return self.issuer.vault.export_device_block(
            *(granted.grant, granted.control_token, public_key),
            *(self.sealed_pin, self.sealed_record),
        )

    def key(self, granted: GrantedToken) -> DeviceKey:
        return self.issuer.key_of_device(granted, DEVICE, self.sealed_record)

    def set(self, granted: GrantedToken, made: DeviceKey, pin: str = PIN) -> str:
        """Set a PIN, and read it as D1 does."""
        change = self.issuer.set_on_device(granted, made, DEVICE, self.sealed_record, pin)
        assert change.sealed_pin is not None
        return self.issuer.pin(change.sealed_pin, self.sealed_record, counter=COUNTER + 1)

    def send(self, granted: GrantedToken, sealed_tzpk: SealedTzpk, block: bytes) -> object:
        return self.issuer.vault.set_pin_from_device(
            granted.grant, granted.control_token, sealed_tzpk, block, self.sealed_record
        )

    def send_clear(self, text: str) -> object:
        """Send what need be no block of format 1, under a new key."""
        granted = self.grant(Purpose.SET)
        made = self.key(granted)
        tzpk = DEVICE.tzpk(b64encode(made.tzpk).decode())
        return self.send(granted, made.sealed_tzpk, tdes_ecb(tzpk)(bytes.fromhex(text)))

    def at(self, moment: datetime) -> "Card":
        """The same at a vault whose clock stands still."""
        return replace(self, issuer=replace(self.issuer, host=self.issuer.host.at(moment)))

    def at_host_with(self, **members: object) -> "Card":
        """The same at another host over the same HSM token, whose manifest has other *members*."""
        return replace(self, issuer=self.issuer.with_members(**members))


@pytest.fixture
def card(issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin) -> Card:
    """At a host of its own, which has counted nothing."""
    with_pki = issuer.with_members(pin_operations={"pki": True})
    return Card(with_pki, sealed_record, sealed_pin)


def test_a_device_sees_the_pin_that_is_sealed(card: Card) -> None:
    assert card.view(card.grant(Purpose.VIEW)) == PIN


@pytest.mark.parametrize("pin", ["4071", "407193", "407193521846"])
def test_a_device_sets_a_pin_for_the_change_after_the_grants(card: Card, pin: str) -> None:
    card = card.at_host_with(policy=LONG_PINS)
    granted = card.grant(Purpose.SET)
    assert card.set(granted, card.key(granted), pin) == pin


def test_a_key_is_good_for_its_control_token_only(card: Card) -> None:
    granted, other = card.grant(Purpose.SET), card.grant(Purpose.SET)
    made = card.key(granted)
    with pytest.raises(SealBroken):
        card.set(other, made)
    # Another control token of the same grant there is none; nor is another grant's row of use.
    with pytest.raises(GrantRefused):
        card.set(replace(granted, control_token=other.control_token), made)
    with pytest.raises(GrantRefused):
        card.set(replace(granted, grant=other.grant), made)
    assert card.set(granted, made) == PIN


def test_a_control_token_gets_a_few_keys_and_no_more(card: Card) -> None:
    granted, other = card.grant(Purpose.SET), card.grant(Purpose.SET)
    for _ in range(3):
        made = card.key(granted)
    with pytest.raises(GrantRefused) as refused:
        card.key(granted)
    assert refused.value.receipt
    # The last of them is good, and another control token has its own.
    assert card.key(other)
    assert card.set(granted, made) == PIN


def test_no_byte_of_a_sealed_key_can_be_changed(card: Card) -> None:
    granted = card.grant(Purpose.SET)
    made = card.key(granted)
    for edited in [*every_change(made.sealed_tzpk), b""]:
        with pytest.raises(SealBroken):
            card.send(granted, SealedTzpk(edited), bytes(8))
    for other in (card.sealed_pin, card.sealed_record, granted.grant):
        with pytest.raises(SealBroken):
            card.send(granted, SealedTzpk(other), bytes(8))


def test_a_sealed_key_shows_nothing_of_the_key(card: Card) -> None:
    granted = card.grant(Purpose.SET)
    made = [card.key(granted) for _ in range(2)]
    keys = [DEVICE.tzpk(b64encode(one.tzpk).decode()) for one in made]
    assert all(len(key) == 16 and key[:8] != key[8:] for key in keys)
    assert all(byte.bit_count() % 2 == 1 for key in keys for byte in key)
    assert len({*keys, *(one.tzpk for one in made), *(one.sealed_tzpk for one in made)}) == 6
    assert not any(key.hex() in one.sealed_tzpk.hex() for key in keys for one in made)
    assert keys[0].hex() not in repr(made[0])


@pytest.mark.parametrize("purpose", Purpose)
def test_a_grant_is_good_for_its_purpose_only(card: Card, purpose: Purpose) -> None:
    granted = card.grant(purpose)
    if purpose is Purpose.VIEW:
        with pytest.raises(GrantRefused):
            card.key(granted)
    else:
        with pytest.raises(GrantRefused):
            card.view(granted)


def test_a_grant_of_an_app_is_none_for_a_device(card: Card) -> None:
    view = card.issuer.grant_view(card.sealed_record, counter=COUNTER)
    change = card.issuer.grant_set(card.sealed_record, counter=COUNTER)
    with pytest.raises(GrantRefused):
        card.view(view)
    with pytest.raises(GrantRefused):
        card.key(change)


def test_a_grant_ends_a_minute_after_its_control_token(card: Card) -> None:
    begun = card.at(NOW)
    view, change = begun.grant(Purpose.VIEW), begun.grant(Purpose.SET)
    made = begun.key(change)
    end = NOW + timedelta(seconds=30 + 60)
    late = card.at(end)
    with pytest.raises(GrantRefused):
        late.view(view)
    with pytest.raises(GrantRefused):
        late.key(change)
    with pytest.raises(GrantRefused):
        late.set(change, made)
    in_time = card.at(end - SECOND)
    assert in_time.view(view) == PIN
    assert in_time.set(change, made) == PIN


def test_a_grant_shows_a_pin_to_one_device_once(card: Card) -> None:
    granted = card.grant(Purpose.VIEW)
    assert card.view(granted) == PIN
    with pytest.raises(LimitReached):
        card.view(granted)


def test_devices_count_against_the_limits_of_a_day(card: Card) -> None:
    card = card.at_host_with(limits={"handouts_card_day_max": 2})
    assert card.view(card.grant(Purpose.VIEW)) == PIN
    granted = card.grant(Purpose.SET)
    assert card.set(granted, card.key(granted)) == PIN
    with pytest.raises(LimitReached):
        card.view(card.grant(Purpose.VIEW))
    granted = card.grant(Purpose.SET)
    with pytest.raises(LimitReached):
        card.set(granted, card.key(granted))


def test_devices_get_nothing_unless_the_manifest_says_so(card: Card) -> None:
    view, change = card.grant(Purpose.VIEW), card.grant(Purpose.SET)
    made = card.key(change)
    for operations in ({}, {"pki": False}):
        off = card.at_host_with(pin_operations=operations)
        with pytest.raises(TypeNotOffered):
            off.view(view)
        with pytest.raises(TypeNotOffered):
            off.key(change)
        with pytest.raises(TypeNotOffered):
            off.set(change, made)


def test_a_record_of_another_holder_or_card_ends_it(card: Card) -> None:
    granted = card.grant(Purpose.VIEW)
    other = replace(card, sealed_record=card.issuer.seal_record(holder="holder-2"))
    with pytest.raises(GrantRefused):
        other.view(granted)
    another = card.issuer.seal_record(card=CardRef(ISSUER_ID, "card-2"))
    with pytest.raises(SealBroken):
        replace(card, sealed_record=another).view(granted)


@pytest.mark.parametrize(
    "clear",
    [
        *(start + PIN + "A" * 10 for start in ("04", "24", "34", "1D", "1F")),
        "13" + "407" + "A" * 11,
        "14" + "40A1" + "A" * 10,
        "14" + "407A" + "0" * 10,
    ],
)
def test_what_is_no_block_of_format_1_is_refused(card: Card, clear: str) -> None:
    with pytest.raises(PinRejected) as refusal:
        card.send_clear(clear)
    assert (type(refusal.value), refusal.value.args) == (WrongPinData, ())
    assert refusal.value.__context__ is None or refusal.value.__suppress_context__


@pytest.mark.parametrize("size_bytes", [0, 1, 7, 9, 16, 4096])
def test_a_block_has_8_bytes(card: Card, size_bytes: int) -> None:
    granted = card.grant(Purpose.SET)
    made = card.key(granted)
    with pytest.raises(WrongPinData):
        card.send(granted, made.sealed_tzpk, bytes(size_bytes))


def test_the_policy_of_our_pages_holds(card: Card) -> None:
    for pin in ("1111", "1234", "407193"):
        with pytest.raises(WeakPinRefused):
            card.send_clear(iso1_text(pin))


def test_wrong_blocks_are_counted_for_card_and_client(card: Card) -> None:
    for _ in range(5):
        with pytest.raises(WrongPinData):
            card.send_clear("0" * 16)
    with pytest.raises(PinRejected) as refusal:
        card.send_clear(iso1_text(PIN))
    assert type(refusal.value).__name__ == "CardRefusesForm"
    card.issuer.vault.forget_failures(CardRef(ISSUER_ID, "card-1"))
    assert card.send_clear(iso1_text(PIN))
    strict = card.at_host_with(policy={"failures_client_max": 1})
    with pytest.raises(WrongPinData):
        strict.send_clear("0" * 16)
    with pytest.raises(ClientLimited):
        strict.send_clear(iso1_text(PIN))


# Keys that are none


def der(key: object) -> bytes:
    made: bytes = key.public_bytes(  # type: ignore[attr-defined] # each of the library's keys
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return made


#: The object identifiers 1.2.840.113549.1.1.1, and 10 at its end for RSASSA-PSS.
RSA_ENCRYPTION = bytes.fromhex("2a864886f70d010101")
BAD_KEYS = {
    "empty": b"",
    "cut": KEY[:-1],
    "longer": KEY + b"\0",
    "1024 bits": der(rsa_key(bits=1024).public_key()),
    "2047 bits": der(rsa_key(bits=2047).public_key()),
    "3072 bits": der(rsa_key(bits=3072).public_key()),
    "exponent 3": der(rsa.generate_private_key(3, 2048).public_key()),
    "exponent 257": der(
        rsa.RSAPublicNumbers(257, rsa_key().public_key().public_numbers().n).public_key()
    ),
    "even modulus": KEY[:-6] + bytes((KEY[-6] & 0xFE,)) + KEY[-5:],
    "P-256": der(ec.generate_private_key(ec.SECP256R1()).public_key()),
    "Ed25519": der(ed25519.Ed25519PrivateKey.generate().public_key()),
    "RSASSA-PSS": KEY.replace(RSA_ENCRYPTION, RSA_ENCRYPTION[:-1] + b"\x0a"),
    "PKCS 1": rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1),
    "PEM": rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
}


@pytest.mark.parametrize("bad", BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_key_that_no_device_may_have_is_refused(card: Card, bad: bytes) -> None:
    with pytest.raises(PageKeyRejected) as refusal:
        card.view_with(bad)
    assert refusal.value.args == ()
    granted = card.grant(Purpose.SET)
    with pytest.raises(PageKeyRejected):
        card.issuer.vault.make_device_key(
            granted.grant, granted.control_token, bad, card.sealed_record
        )


def test_a_refused_key_shows_no_pin_and_counts_as_none(card: Card) -> None:
    granted = card.grant(Purpose.VIEW)
    for bad in BAD_KEYS.values():
        with pytest.raises(PageKeyRejected):
            card.issuer.vault.export_device_block(
                granted.grant, granted.control_token, bad, card.sealed_pin, card.sealed_record
            )
    assert card.view(granted) == PIN
