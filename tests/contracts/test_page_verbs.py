"""What a cardholder's page and an image need of the vault: a PIN taken from a page, and drawn."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from crypto.pin_image import ImageStyle, render
from crypto.pinblock import iso1
from crypto.types import Pin
from hsm.errors import PinRejected, SealBroken, ValueNotPossible, WeakPinRefused
from hsm.keys import KeyRole
from hsm.port import CardFacts, CardRef, ConfigKind, PinBlockType, SealedChange, ValueKind
from tests.bank import PAN, PANS
from tests.contracts.issuer import CARD, LONG_PINS, PIN, block, jwe_to
from tests.contracts.partner import Partner

SID = "sid-of-this-page-session"
FACTS = CardFacts(1, "1230")
NOTHING: Mapping[str, object] = {}


@dataclass(frozen=True)
class Page:
    """A page of the service, opened for a card of an issuer."""

    partner: Partner

    def set_pin(
        self,
        pin: str = PIN,
        *,
        sid: str = SID,
        role: KeyRole = KeyRole.PAGE,
        members: Mapping[str, object] = NOTHING,
    ) -> SealedChange:
        """Encrypt as the page does, to a key of *role*; *members* replace those of the page."""
        issuer = self.partner.issuer
        clear = iso1.encode(Pin(pin), os.urandom).reveal().hex()
        key = issuer.vault.public_jwks(role)["keys"][0]
        jwe = jwe_to(key, {"sid": SID, "block": clear, **members})
        card = self.partner.card
        pan = issuer.seal_pan(PAN, card)
        return issuer.vault.set_pin_from_page(jwe, sid, issuer.config, card, pan, 1, FACTS)


@pytest.fixture
def page(partner: Partner) -> Page:
    return Page(partner)


@pytest.mark.parametrize("pin", ["4071", "407193", "40719352"])
def test_a_pin_set_on_a_page_is_what_d1_reads(page: Page, pin: str) -> None:
    issuer, card = page.partner.issuer, page.partner.card
    sealed = page.set_pin(pin).sealed_pin
    assert sealed is not None
    assert issuer.pin(sealed, issuer.seal_pan(PAN, card), card=card) == pin


def test_a_page_makes_every_verification_value_that_is_asked_for(page: Page) -> None:
    asking = page.partner.asking(pvv={"key_index": 1}, offset_3624={"table": "0123456789012345"})
    change = Page(asking).set_pin()
    assert change.values.keys() == {ValueKind.PVV, ValueKind.OFFSET_3624}
    from_d1 = asking.set_iso0(changes=0)
    exported = asking.exported(change, 1)
    assert from_d1.values.keys() == change.values.keys()
    assert exported["pvv"]["keyIndex"] == 1


def test_a_page_cannot_set_a_pin_where_only_d1_makes_the_prw(page: Page) -> None:
    with pytest.raises(ValueNotPossible):
        Page(page.partner.asking(prw=True)).set_pin()


@pytest.mark.parametrize("role", [KeyRole.D1, KeyRole.INTAKE])
def test_a_jwe_to_a_key_of_another_verb_is_refused(page: Page, role: KeyRole) -> None:
    with pytest.raises(PinRejected):
        page.set_pin(role=role)


def test_a_jwe_to_the_page_key_is_refused_by_the_other_verbs(page: Page) -> None:
    issuer, card = page.partner.issuer, page.partner.card
    key = issuer.vault.public_jwks(KeyRole.PAGE)["keys"][0]
    jwe = jwe_to(key, {"pinBlock": block(PIN)})
    with pytest.raises(PinRejected):
        issuer.change(jwe, issuer.seal_pan(PAN, card), PinBlockType.ISO0, card, 1, FACTS)


def test_a_jwe_of_another_page_session_is_refused(page: Page) -> None:
    with pytest.raises(PinRejected):
        page.set_pin(sid="another session")


@pytest.mark.parametrize(
    "members",
    [
        {"sid": None},
        {"sid": 1},
        {"sid": SID + "é"},
        {"block": None},
        {"block": ""},
        {"block": block(PIN)},
        {"block": "24" + "4071" + "F" * 10},
        {"block": "13" + "407" + "F" * 11},
        {"block": "14" + "40A1" + "F" * 10},
        {"block": "14" + "4071" + "F" * 9},
    ],
)
def test_what_no_page_of_ours_sends_is_refused(page: Page, members: dict[str, object]) -> None:
    with pytest.raises(PinRejected):
        page.set_pin(members=members)


def test_the_policy_holds_on_a_page(page: Page) -> None:
    with pytest.raises(WeakPinRefused):
        page.set_pin("1111")
    with pytest.raises(PinRejected):
        page.set_pin("407193521")
    Page(page.partner.configured(ConfigKind.POLICY, LONG_PINS)).set_pin("407193521")


def test_an_image_shows_the_pin_that_is_sealed(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def noted(pin: Pin, *others: object) -> bytes:
        drawn.append(pin.reveal())
        return render(pin, *others)  # type: ignore[arg-type] # as the vault gave them

    monkeypatch.setattr("crypto.pin_image.render", noted)
    image = drawn_of(page, page.set_pin())
    assert drawn == [PIN]
    assert image.startswith(b"\x89PNG\r\n\x1a\n")


def test_an_image_is_of_its_card_and_counter_only(page: Page) -> None:
    change = page.set_pin()
    for wrong in (
        {"counter": 2},
        {"card": replace(page.partner.card, card_id="another")},
        {"card": CardRef("otherbank1", CARD.card_id)},
        {"pan": PANS[1]},
    ):
        with pytest.raises(SealBroken):
            drawn_of(page, change, **wrong)


def drawn_of(
    page: Page,
    change: SealedChange,
    *,
    counter: int = 1,
    card: CardRef | None = None,
    pan: str = PAN,
) -> bytes:
    issuer = page.partner.issuer
    assert change.sealed_pin is not None
    sealed_pan = issuer.seal_pan(pan, card or page.partner.card)
    return issuer.vault.render_image(
        change.sealed_pin, sealed_pan, ImageStyle(), card or page.partner.card, counter
    )
