"""Whoever has the account of the operator's commands at a host: its socket and the database.

It has every sealed value, and calls what that socket takes. It wants a cardholder's PIN.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from crypto.secret import Secret
from hsm.errors import HsmError, LimitReached, ManifestRefused
from hsm.messages import VERBS, ExportMailers, SocketName
from hsm.pkcs11.keys import KeyKind, KeyLabel, KeyRole
from hsm.port import BatchPart, StoredPin
from tests.attacks.table import Attacker
from tests.bureau import Bureau
from tests.contracts.issuer import CARD, ISSUER_ID, PIN, Issuer, open_host, open_issuer
from tests.contracts.software_token import SoftwareToken
from tests.pans import PAN

ATTACKER = Attacker(
    who="whoever has the account of the operator's commands at a host",
    gets=(
        "the admin socket and the database, with the lines above of whoever writes that. It can "
        "have PINs made of cards that have none, and where the manifest names a bureau, as many "
        "PINs a day as the manifest says, at each vault host, enciphered to that bureau: together "
        "with somebody there, or with the bureau's key, these PINs. Each is in the vault's log"
    ),
    does_not=(
        "see a PIN alone, or have one enciphered to a key of its own: the bureau's comes in by a "
        "ceremony of custodians, and the manifest says which it is. Get any where no bureau is "
        "named, or more on a day. Write a batch of its own, or move a PIN in one to another card, "
        "so that the bureau takes it"
    ),
)
KEYS: Mapping[KeyRole, bytes] = {
    KeyRole.BUREAU_PIN_AES: bytes(range(32)),
    KeyRole.BUREAU_MAC: bytes(range(40, 72)),
}
PART = BatchPart("0" * 32, 1, is_last=True)


@dataclass(frozen=True)
class Insider:
    """The attacker, and a PIN that a cardholder set."""

    issuer: Issuer
    victim: StoredPin

    def export(self, times: int = 1) -> str:
        """Call the socket's verb."""
        message = ExportMailers(ISSUER_ID, [self.victim] * times, PART)
        assert SocketName.ADMIN in message.sockets
        return message.perform(self.issuer.vault).text


def with_keys(keys: Mapping[KeyRole, bytes]) -> Bureau:
    return Bureau(keys[KeyRole.BUREAU_PIN_AES], keys[KeyRole.BUREAU_MAC], {CARD.card_id: PAN})


@pytest.fixture
def insider(tmp_path: Path) -> Insider:
    hsm_token = SoftwareToken()
    for role, key in KEYS.items():
        hsm_token.import_key(KeyLabel(role, 1, ISSUER_ID), KeyKind.AES_256, Secret(key))
    issuer = open_issuer(open_host(hsm_token, tmp_path), bureau={"pins_day_max": 3})
    record = issuer.seal_record()
    return Insider(issuer, StoredPin(CARD, 1, issuer.set_pin(PIN, record), record))


def test_it_gets_pins_that_only_the_bureau_reads(insider: Insider) -> None:
    text = insider.export()
    own = {role: bytes(32) for role in KEYS}
    with pytest.raises(AssertionError):
        with_keys(own).read(text)
    line = json.loads(text.splitlines()[1])
    with pytest.raises(ValueError, match="PIN block"):
        with_keys(own).pin({"block": "ISO-4"}, line)
    # The control: with the bureau's keys it reads it.
    assert with_keys(KEYS).pins(text) == {CARD.card_id: PIN}


def test_without_a_bureau_it_gets_none(insider: Insider) -> None:
    without = replace(insider, issuer=insider.issuer.with_members(bureau=None))
    with pytest.raises(ManifestRefused, match="names no bureau"):
        without.export()
    assert insider.export()


def test_it_names_no_bureau_of_its_own(insider: Insider) -> None:
    issuer = insider.issuer
    text = issuer.signed(2, bureau={"pins_day_max": 9_999})
    one_signature = {**json.loads(text), "signatures": json.loads(text)["signatures"][:1]}
    with pytest.raises(ManifestRefused):
        issuer.vault.load_manifest(json.dumps(one_signature))
    with pytest.raises(LimitReached):
        insider.export(times=4)
    # The control: two operators can.
    issuer.vault.load_manifest(text)
    assert insider.export(times=4)


def test_it_gets_no_more_than_the_manifest_says(insider: Insider) -> None:
    got = 0
    for _ in range(10):
        try:
            insider.export()
        except LimitReached:
            break
        got += 1
    assert got == 3
    # The control.
    more = replace(insider, issuer=insider.issuer.with_members(bureau={"pins_day_max": 10}))
    assert all(more.export() for _ in range(10))


def test_the_bureau_takes_no_batch_that_it_wrote(insider: Insider) -> None:
    text = insider.export()
    for forged in (
        text.replace(f'"cardId":"{CARD.card_id}"', '"cardId":"card-2"'),
        text.replace('"counter":1', '"counter":2'),
        text.replace('"last":true', '"last":false'),
    ):
        assert forged != text
        with pytest.raises(AssertionError):
            with_keys(KEYS).read(forged)
        # The control: whoever has the key of the MAC can write it.
        covered, _, _ = forged.rpartition(',"mac":')
        mac = with_keys(KEYS).mac(covered.encode(), "aes-cmac")
        assert with_keys(KEYS).read(f'{covered},"mac":"{mac}"}}\n')


def test_no_other_verb_of_the_socket_hands_out_a_pin(insider: Insider) -> None:
    admin_only = {
        name for name, verb in VERBS.items() if verb.sockets == frozenset({SocketName.ADMIN})
    }
    handing_out = {name for name in admin_only if not VERBS[name].repeatable}
    # A script is enciphered to the chip of its card, and values to the authorisation host.
    assert handing_out == {
        "build_script",
        "export_mailers",
        "export_values",
        "load_minimum_versions",
    }
    made = insider.issuer.vault.generate_pin(CARD, insider.victim.sealed_record, 2)
    assert made.sealed_pin is not None
    with pytest.raises(HsmError):
        # What it is sealed for is not another change.
        insider.issuer.export(made.sealed_pin, insider.victim.sealed_record, CARD, 1)
