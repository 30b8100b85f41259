"""Whoever recorded PIN blocks of the pincontrol face's PIN operations, and has a server's password.

It calls the vault itself, with every sealed value that the database has. A block under a pre-shared
key it cannot read, but sends again. Of a device's block it has all that passed the server: the
public key, the enciphered temporary key, the block, the control id.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from crypto.secret import Secret
from hsm import seals
from hsm.errors import EvidenceRefused, GrantRefused, HsmError, PinRejected, SealBroken
from hsm.pkcs11 import shared_keys
from hsm.pkcs11.keys import KeyKind, KeyRole
from hsm.pkcs11.shared_keys import ClearKey
from hsm.port import CardRef, DeviceKey, GrantedToken, Purpose, SealedPin, SealedRecord
from tests.attacks.table import Attacker
from tests.contracts.issuer import ISSUER_ID, SERVER_SECRET, Issuer, open_host, open_issuer
from tests.contracts.software_token import SoftwareToken
from tests.crypto.ciphers import tdes_ecb, tdes_ecb_decrypt
from tests.devices import PythonDevice, iso1_text
from tests.pans import PANS

ATTACKER = Attacker(
    who=(
        "whoever recorded PIN blocks of the [PIN operations](docs/cardholder-faces.md"
        "#pin-operations-without-our-pages), and has the password of the issuer's server"
    ),
    gets=(
        "with a block under a pre-shared key: its PIN set again, later or on another plastic "
        "that is not produced, without knowing the key; so whose own card's block it is knows "
        "the other's PIN then. Such a block is neither fresh nor bound to a card. With PKI: the "
        "PIN of each plastic for which it asks with a key of its own"
    ),
    does_not=(
        "read a recorded block; use a device's block, or the temporary key of one, with another "
        "control id, with any row of the database. Do either where the manifest does not have "
        "the operations on, which it has not by default, nor without the password"
    ),
)
OWN, VICTIM = "card-0", "card-1"
PLASTICS = {OWN: "70000", VICTIM: "70001"}
OWN_PIN, PIN, NEW_PIN = "9382", "4071", "2846"
ZPK = bytes(range(1, 17))
PRE_SHARED: Mapping[str, object] = {
    "pre_shared_keys": [{"client_id": f"{ISSUER_ID}-server", "zpk_index": "0"}],
    "pki": True,
}
HOLDERS_DEVICE, OWN_DEVICE = PythonDevice(), PythonDevice(1)


@dataclass
class Recorder:
    """The attacker: it has the password and all rows, and no key."""

    issuer: Issuer
    records: Mapping[str, SealedRecord]
    pins: dict[str, SealedPin]

    def see_block(self, card_id: str, secret: str = SERVER_SECRET) -> bytes:
        """Ask for a block that it cannot read."""
        return self.issuer.vault.export_server_block(
            *(self.issuer.server_id, Secret(secret), PLASTICS[card_id], "0"),
            *(CardRef(ISSUER_ID, card_id), self.pins[card_id], self.records[card_id], 1),
        ).value

    def send_block(self, card_id: str, block: bytes, secret: str = SERVER_SECRET) -> None:
        """Set a PIN that it need not know, in place of the card's last change."""
        change = self.issuer.vault.set_pin_from_server(
            *(self.issuer.server_id, Secret(secret), PLASTICS[card_id], "0"),
            *(block, CardRef(ISSUER_ID, card_id), self.records[card_id], 1),
        )
        assert change.sealed_pin is not None
        self.pins[card_id] = change.sealed_pin

    def grant(self, purpose: Purpose) -> GrantedToken:
        return self.issuer.grant_plastic(
            *(purpose, self.records[VICTIM], CardRef(ISSUER_ID, VICTIM)),
            plastic_id=PLASTICS[VICTIM],
        )

    def pin(self, card_id: str) -> str:
        """What the card's PIN is, as D1 reads it."""
        card, number = CardRef(ISSUER_ID, card_id), int(card_id[-1])
        return self.issuer.pin(self.pins[card_id], self.records[card_id], PANS[number], card)


def recorder(directory: Path, operations: Mapping[str, object] = PRE_SHARED) -> Recorder:
    hsm_token = SoftwareToken()
    zpk = ClearKey(KeyKind.TDES_2KEY, Secret(ZPK))
    shared_keys.store(hsm_token, KeyRole.ZPK_SERVER, ISSUER_ID, zpk)
    issuer = open_issuer(open_host(hsm_token, directory), pin_operations=operations)
    records, pins = {}, {}
    for number, (card_id, pin) in enumerate({OWN: OWN_PIN, VICTIM: PIN}.items()):
        card, pan = CardRef(ISSUER_ID, card_id), PANS[number]
        records[card_id] = issuer.seal_record(pan, card, plastic_id=PLASTICS[card_id])
        pins[card_id] = issuer.set_pin(pin, records[card_id], pan, card)
    return Recorder(issuer, records, pins)


def sent_by_the_server(pin: str) -> bytes:
    """What the honest server, which has the key, sends."""
    return tdes_ecb(ZPK)(bytes.fromhex(iso1_text(pin)))


# Pre-shared keys: what it gets


def test_a_block_of_its_own_card_sets_its_own_pin_on_another_plastic(tmp_path: Path) -> None:
    attacker = recorder(tmp_path)
    attacker.send_block(VICTIM, attacker.see_block(OWN))
    assert attacker.pin(VICTIM) == OWN_PIN


def test_a_block_that_it_recorded_is_good_again_when_the_pin_was_changed(tmp_path: Path) -> None:
    attacker = recorder(tmp_path)
    recorded = sent_by_the_server(NEW_PIN)
    attacker.send_block(VICTIM, recorded)
    attacker.send_block(VICTIM, sent_by_the_server("6193"))
    assert attacker.pin(VICTIM) == "6193"
    attacker.send_block(VICTIM, recorded)
    assert attacker.pin(VICTIM) == NEW_PIN


def test_without_the_key_it_makes_no_block_in_the_tries_that_it_has(tmp_path: Path) -> None:
    attacker = recorder(tmp_path)
    for number in range(20):
        with pytest.raises(HsmError):
            attacker.send_block(VICTIM, number.to_bytes(8))
    with pytest.raises(PinRejected):
        attacker.send_block(VICTIM, sent_by_the_server(NEW_PIN))
    assert attacker.pin(VICTIM) == PIN


def test_without_the_password_it_sees_and_sends_nothing(tmp_path: Path) -> None:
    attacker = recorder(tmp_path)
    with pytest.raises(EvidenceRefused):
        attacker.see_block(VICTIM, "guessed")
    with pytest.raises(EvidenceRefused):
        attacker.send_block(VICTIM, sent_by_the_server(NEW_PIN), "guessed")


def test_where_the_manifest_says_nothing_of_them_it_sees_and_sends_nothing(tmp_path: Path) -> None:
    attacker = recorder(tmp_path, {})
    with pytest.raises(HsmError):
        attacker.see_block(VICTIM)
    with pytest.raises(HsmError):
        attacker.send_block(VICTIM, sent_by_the_server(NEW_PIN))
    view, change = attacker.grant(Purpose.VIEW), attacker.grant(Purpose.SET)
    with pytest.raises(HsmError):
        see_on_own_device(attacker, view)
    with pytest.raises(HsmError):
        attacker.issuer.key_of_device(change, OWN_DEVICE, attacker.records[VICTIM])


# PKI


@dataclass(frozen=True)
class Recording:
    """What passed the server, and the row of its control id."""

    granted: GrantedToken
    made: DeviceKey
    block: bytes


def recorded(attacker: Recorder, pin: str = NEW_PIN) -> Recording:
    """A cardholder's device sends a PIN; the attacker keeps all of it from the vault."""
    granted = attacker.grant(Purpose.SET)
    made = attacker.issuer.key_of_device(granted, HOLDERS_DEVICE, attacker.records[VICTIM])
    block = HOLDERS_DEVICE.write(b64encode(made.tzpk).decode(), pin)
    return Recording(granted, made, b64decode(block))


def send(attacker: Recorder, granted: GrantedToken, made: DeviceKey, block: bytes) -> None:
    change = attacker.issuer.vault.set_pin_from_device(
        *(granted.grant, granted.control_token, made.sealed_tzpk, block),
        attacker.records[VICTIM],
    )
    assert change.sealed_pin is not None
    attacker.pins[VICTIM] = change.sealed_pin


def test_a_devices_block_is_none_of_another_control_id(tmp_path: Path) -> None:
    attacker = recorder(tmp_path)
    recording, own = recorded(attacker), attacker.grant(Purpose.SET)
    deciphered = "1"
    while deciphered.startswith("1"):  # by chance it would be a block of format 1
        key = attacker.issuer.key_of_device(own, OWN_DEVICE, attacker.records[VICTIM])
        tzpk = OWN_DEVICE.tzpk(b64encode(key.tzpk).decode())
        deciphered = tdes_ecb_decrypt(tzpk)(recording.block).hex()
    with pytest.raises(PinRejected):
        send(attacker, own, key, recording.block)
    with pytest.raises(SealBroken):
        send(attacker, own, recording.made, recording.block)
    crossed = GrantedToken(own.control_token, recording.granted.grant, own.grant_id)
    with pytest.raises(GrantRefused):
        send(attacker, crossed, recording.made, recording.block)
    send(attacker, recording.granted, recording.made, recording.block)  # the control


def test_were_a_temporary_key_not_bound_to_its_control_id_it_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seals, "_of_token", lambda *_: b"")
    attacker = recorder(tmp_path)
    recording, own = recorded(attacker), attacker.grant(Purpose.SET)
    send(attacker, own, recording.made, recording.block)


def see_on_own_device(attacker: Recorder, granted: GrantedToken) -> str:
    return attacker.issuer.view_on_device(
        granted, OWN_DEVICE, attacker.pins[VICTIM], attacker.records[VICTIM]
    )


def test_with_a_key_of_its_own_it_sees_the_pin_as_the_server_could(tmp_path: Path) -> None:
    """What it still gets: nobody tells the vault whose a key is."""
    attacker = recorder(tmp_path)
    assert see_on_own_device(attacker, attacker.grant(Purpose.VIEW)) == PIN


def test_what_a_device_was_shown_it_cannot_read(tmp_path: Path) -> None:
    attacker = recorder(tmp_path)
    granted = attacker.grant(Purpose.VIEW)
    shown = attacker.issuer.vault.export_device_block(
        *(granted.grant, granted.control_token, b64decode(HOLDERS_DEVICE.public_key)),
        *(attacker.pins[VICTIM], attacker.records[VICTIM]),
    ).value
    texts = b64encode(shown.tzpk).decode(), b64encode(shown.block).decode()
    with pytest.raises(ValueError, match=r"[Dd]ecryption"):
        OWN_DEVICE.read(*texts)
    assert HOLDERS_DEVICE.read(*texts) == PIN  # the control
