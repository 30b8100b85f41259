"""Whoever has the key of a feed, and writes the database.

It is a cardholder itself, knows its victim's card and PAN, and makes feeds that name itself as the
holder. It has every sealed value that was ever in the database, and asks the vault itself.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from crypto.secret import Secret
from hsm import sealed, seals
from hsm.errors import EvidenceRefused, FeedRefused, GrantRefused, SealBroken
from hsm.grants import Grant, Grants
from hsm.pkcs11.keys import KeyLabel
from hsm.port import CardRef, GrantedToken, Purpose, SealedPin, SealedRecord
from hsm.vault import Vault
from tests.attacks.database_owner import decrypted
from tests.attacks.table import Attacker
from tests.bearers import bearer
from tests.contracts.issuer import CARD, HOLDER, OTHER_ISSUER_ID, Issuer, open_host, open_issuer
from tests.contracts.issuer import page_key as new_page_key
from tests.contracts.software_token import SoftwareToken
from tests.feeds import described
from tests.issuer_records import SampleIssuer, load_cards, run_sql
from tests.issuer_records import open_issuer as open_sample_issuer
from tests.pans import PAN

ATTACKER = Attacker(
    who="whoever holds the key of a feed",
    gets=(
        "cards: it can bring new ones, renew those that are there under another holder, "
        "expiry or plastic, move them to another state as an operator can, say of one that its "
        "plastic is not produced, bring the PIN of a new card, and so have the PINs of cards "
        "forgotten. Who holds them then sets a PIN and sees that one. It can guess at a "
        "PAN, a guess for each card of each feed that an operator loads: the right one, "
        "with the right holder, keeps the PIN. Where an issuer's own server shows PINs by "
        "plastic id, it sees the PIN of a card that it gives a plastic of its own: a card "
        "whose plastic is replaced keeps the PIN"
    ),
    does_not=(
        "see, by an access token of its own, a PIN that another holder set: it is "
        "forgotten, and put back by whoever "
        "writes the database it does not open for the new one, nor under a record of the "
        "old one; bring cards of another issuer; bring them later than 7 days after a "
        "feed was made"
    ),
)

MALLORY = "mallory"
PIN, OWN_PIN = "4071", "9382"


@dataclass(frozen=True)
class Thief:
    """The attacker, and what the database had of its victim's card before it renewed that card."""

    issuer: Issuer
    victims_record: SealedRecord
    victims_pin: SealedPin

    def renew(self) -> SealedRecord:
        """Name itself the holder, by a feed."""
        return self.issuer.seal_record(holder=MALLORY)

    def granted(
        self, record: SealedRecord, purpose: Purpose = Purpose.VIEW, counter: int = 1
    ) -> GrantedToken:
        """Ask for a control token with an access token of its own."""
        own = Secret(bearer(MALLORY, self.issuer.issuer_id))
        app = self.issuer.app_id
        return self.issuer.vault.grant_bearer(own, app, purpose, CARD, record, counter)

    def see(self, granted: GrantedToken, pin: SealedPin, record: SealedRecord) -> str:
        """Read a PIN as a page that tells text does."""
        key, jwk = new_page_key()
        return str(decrypted(self.issuer.digits(granted, pin, record, jwk), key)["digits"])


@pytest.fixture
def thief(tmp_path: Path) -> Thief:
    return thief_of(tmp_path)


def thief_of(tmp_path: Path) -> Thief:
    issuer = open_issuer(open_host(SoftwareToken(), tmp_path), policy={"text_reveal": True})
    record = issuer.seal_record(holder=HOLDER)
    return Thief(issuer, record, issuer.set_pin(PIN, record))


def forget_the_holder(patch: pytest.MonkeyPatch) -> None:
    """Bind sealed PINs to their card and counter only."""

    def mac_input(card: CardRef, _: str, counter: int, label: KeyLabel, block: bytes) -> bytes:
        return sealed.pin_mac_input(card, "", counter, label, block)

    patch.setattr(seals, "pin_mac_input", mac_input)


def test_the_victims_pin_does_not_open_for_the_new_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attack() -> str:
        thief = thief_of(tmp_path)
        record = thief.renew()
        return thief.see(thief.granted(record), thief.victims_pin, record)

    with pytest.raises(SealBroken):
        attack()
    forget_the_holder(monkeypatch)
    assert attack() == PIN


def test_nor_does_it_under_the_victims_record_put_back(
    thief: Thief, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EvidenceRefused):
        thief.granted(thief.victims_record)
    granted = thief.granted(thief.renew())
    with pytest.raises(GrantRefused):
        thief.see(granted, thief.victims_pin, thief.victims_record)
    believe_the_record(monkeypatch)
    assert thief.see(granted, thief.victims_pin, thief.victims_record) == PIN


def believe_the_record(patch: pytest.MonkeyPatch) -> None:
    """Open grants as if they said nothing of who held the card."""
    open_grant = Grants.open

    def opened(self: Grants, *given: object) -> Grant:
        return replace(open_grant(self, *given), cardholder_id=HOLDER)  # type: ignore[arg-type]

    patch.setattr(Grants, "open", opened)


@pytest.mark.parametrize("keeps_every_pin", [False, True])
def test_the_victims_pin_is_forgotten_when_the_card_is_renewed(
    database_url: str, vault: Vault, monkeypatch: pytest.MonkeyPatch, keeps_every_pin: bool
) -> None:
    bank = open_sample_issuer(database_url, vault, "feedvictim")
    give(database_url, vault, bank, HOLDER)
    run_sql(database_url, "UPDATE cards SET sealed_pin = 'sealed', pin_type = 'ISO0'")
    if keeps_every_pin:
        monkeypatch.setattr(Vault, "keeps_pin", lambda *_, **__: True)
    give(database_url, vault, bank, MALLORY)
    pins: list[tuple[object, ...]] = run_sql(
        database_url, "SELECT sealed_pin IS NOT NULL FROM cards WHERE card_id = 'card-1'"
    )
    assert pins == [(keeps_every_pin,)]


def give(url: str, vault: Vault, bank: SampleIssuer, holder: str) -> None:
    load_cards(url, vault, bank, described("card-1", bank.pans["card-1"], cardholder=holder))


def test_it_brings_no_card_of_another_issuer(thief: Thief) -> None:
    open_issuer(thief.issuer.host, OTHER_ISSUER_ID, feeds=[])
    for claims in ({}, {"issuerId": OTHER_ISSUER_ID}):
        feed = thief.issuer.feed(described("card-1", PAN, cardholder=MALLORY), **claims)
        with pytest.raises(FeedRefused):
            thief.issuer.vault.seal_cards(feed, OTHER_ISSUER_ID)


# What it still gets


def test_it_holds_the_card_from_then_on_and_sees_the_pin_that_it_sets_itself(thief: Thief) -> None:
    record = thief.renew()
    granted = thief.granted(record, Purpose.SET)
    own = thief.issuer.set_on_page(granted, record, OWN_PIN).sealed_pin
    assert own is not None
    assert thief.see(thief.granted(record, counter=2), own, record) == OWN_PIN


def test_the_victim_holds_it_again_when_the_older_record_and_pin_are_put_back(
    thief: Thief,
) -> None:
    thief.renew()
    granted = thief.issuer.grant_view(thief.victims_record)
    assert thief.see(granted, thief.victims_pin, thief.victims_record) == PIN


def test_it_can_try_a_pan_since_the_right_one_keeps_the_pin(thief: Thief) -> None:
    records = [thief.issuer.seal_record(pan) for pan in ("4111111111111129", PAN)]
    keeps_pin = thief.issuer.vault.keeps_pin
    assert [keeps_pin(thief.victims_record, record, CARD) for record in records] == [False, True]


def test_it_sees_a_pin_where_the_issuers_server_asks_for_a_plastic_that_it_moved_to_the_card(
    thief: Thief,
) -> None:
    """It is a cardholder itself, so the server asks for its plastic; PAN and holder stay."""
    own_plastic = "4712"
    record = thief.issuer.seal_record(holder=HOLDER, plastic_id=own_plastic)
    assert thief.issuer.vault.keeps_pin(thief.victims_record, record, CARD)
    granted = thief.issuer.grant_plastic(Purpose.VIEW, record, counter=1, plastic_id=own_plastic)
    assert thief.see(granted, thief.victims_pin, record) == PIN
