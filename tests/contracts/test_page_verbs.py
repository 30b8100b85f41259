"""What a cardholder's page needs of the vault: a PIN taken from it, drawn, and told as text."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from crypto.pin_image import render
from crypto.types import Pin
from hsm.errors import (
    PageKeyRejected,
    PinRejected,
    SealBroken,
    TextNotOffered,
    ValueNotPossible,
    WeakPinRefused,
)
from hsm.port import (
    CardRef,
    GrantedToken,
    PinBlockType,
    PublicKeyRole,
    SealedChange,
    SealedPin,
    SealedRecord,
    ValueKind,
)
from tests.contracts.edits import every_change
from tests.contracts.issuer import LONG_PINS, PIN, Issuer, block, jwe_to, page_key
from tests.contracts.partner import Partner
from tests.pans import PAN, PANS


@dataclass(frozen=True)
class Page:
    """A page of the service, opened for a card of an issuer."""

    partner: Partner

    @property
    def issuer(self) -> Issuer:
        return self.partner.issuer

    @property
    def card(self) -> CardRef:
        return self.partner.card

    @property
    def sealed_record(self) -> SealedRecord:
        return self.issuer.seal_record(PAN, self.card)

    def set_pin(
        self, pin: str = PIN, role: PublicKeyRole = PublicKeyRole.PAGE, **members: object
    ) -> SealedChange:
        """Encrypt as the page does, to a key of *role*; *members* replace those of the page."""
        sealed_record = self.sealed_record
        granted = self.issuer.grant_set(sealed_record, self.card)
        return self.issuer.set_on_page(granted, sealed_record, pin, role, **members)

    def with_policy(self, **policy: object) -> "Page":
        return Page(self.partner.with_members(policy=policy))


@pytest.fixture
def page(partner: Partner) -> Page:
    return Page(partner)


@pytest.mark.parametrize("pin", ["4071", "407193", "40719352"])
def test_a_pin_set_on_a_page_is_what_d1_reads(page: Page, pin: str) -> None:
    issuer, card = page.issuer, page.card
    sealed = page.with_policy(**LONG_PINS).set_pin(pin).sealed_pin
    assert sealed is not None
    assert issuer.pin(sealed, issuer.seal_record(PAN, card), card=card) == pin


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


@pytest.mark.parametrize("role", [PublicKeyRole.D1, PublicKeyRole.INTAKE])
def test_a_jwe_to_a_key_of_another_verb_is_refused(page: Page, role: PublicKeyRole) -> None:
    with pytest.raises(PinRejected):
        page.set_pin(role=role)


def test_a_jwe_to_the_page_key_is_refused_by_the_other_verbs(page: Page) -> None:
    jwe = jwe_to(
        page.issuer.vault.public_jwks(PublicKeyRole.PAGE)["keys"][0], {"pinBlock": block(PIN)}
    )
    with pytest.raises(PinRejected):
        page.issuer.change(jwe, page.sealed_record, PinBlockType.ISO0, page.card)


def test_what_d1_sends_sets_no_pin_on_a_page(page: Page) -> None:
    record = page.sealed_record
    granted = page.issuer.grant_set(record, page.card)
    from_d1 = page.issuer.pin_jwe({"pinBlock": block(PIN)})
    assert page.issuer.change(from_d1, record, card=page.card)
    with pytest.raises(PinRejected):
        page.issuer.vault.set_pin_from_page(granted.grant, granted.control_token, from_d1, record)


def test_a_jwe_of_another_grant_is_refused(page: Page) -> None:
    record = page.sealed_record
    granted, other = (page.issuer.grant_set(record, page.card) for _ in range(2))
    recorded = page.issuer.page_jwe(other)
    with pytest.raises(PinRejected):
        page.issuer.vault.set_pin_from_page(granted.grant, granted.control_token, recorded, record)
    assert page.issuer.vault.set_pin_from_page(other.grant, other.control_token, recorded, record)


@pytest.mark.parametrize(
    "members",
    [
        {"grantId": None},
        {"grantId": 1},
        {"grantId": ""},
        {"grantId": "é"},
        {"controlToken": None},
        {"controlToken": ""},
        {"controlToken": "0b3c1a9e-5f64-4e2e-9d0c-3e1b7a2f6d58"},
        {"block": None},
        {"block": ""},
        {"block": block(PIN)},
        {"block": "24" + "4071" + "F" * 10},
        {"block": "13" + "407" + "F" * 11},
        {"block": "14" + "40A1" + "F" * 10},
        {"block": "14" + "4071" + "F" * 9},
    ],
)
def test_what_no_page_of_ours_sends_is_refused(page: Page, members: dict[str, Any]) -> None:
    with pytest.raises(PinRejected):
        page.set_pin(**members)


def test_the_policy_holds_on_a_page(page: Page) -> None:
    with pytest.raises(WeakPinRefused):
        page.set_pin("1111")


@pytest.mark.parametrize(
    ("policy", "taken"),
    [
        ({}, [4]),
        ({"length_min": 6}, [6]),
        ({"page_length_max": 6}, [4, 5, 6]),
        ({"length_min": 5, "page_length_max": 6}, [5, 6]),
        (LONG_PINS, [*range(4, 13)]),
    ],
    ids=str,
)
def test_a_page_has_lengths_of_its_own(
    page: Page, policy: dict[str, object], taken: list[int]
) -> None:
    page = page.with_policy(**policy)
    for digits in range(4, 13):
        pin = "407193521846"[:digits]
        if digits in taken:
            assert page.set_pin(pin).sealed_pin
        else:
            with pytest.raises(WeakPinRefused):
                page.set_pin(pin)


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
    assert drawn_of(page, change)
    with pytest.raises(SealBroken):
        drawn_of(page, change, counter=2)
    with pytest.raises(SealBroken):
        drawn_of(page, change, card=replace(page.card, card_id="another"))
    with pytest.raises(SealBroken):
        drawn_of(page, change, pan=PANS[1])


# Digits as text

BAD_KEYS: Mapping[str, Callable[[JWK, dict[str, object]], dict[str, object]]] = {
    "no key": lambda *_: {},
    "not on the curve": lambda _, jwk: {**jwk, "y": jwk["x"]},
    "of another curve": lambda *_: json.loads(JWK.generate(kty="EC", crv="P-384").export_public()),
    "said to be of another curve": lambda _, jwk: {**jwk, "crv": "P-384"},
    "of another type": lambda _, jwk: {**jwk, "kty": "OKP"},
    "private": lambda key, _: json.loads(key.export_private()),
    "without y": lambda _, jwk: {name: jwk[name] for name in jwk if name != "y"},
    "y is a number": lambda _, jwk: {**jwk, "y": 1},
    "y is empty": lambda _, jwk: {**jwk, "y": ""},
    "y is not base64url": lambda _, jwk: {**jwk, "y": "é" * 43},
    "y is cut": lambda _, jwk: {**jwk, "y": str(jwk["y"])[:40]},
    "to sign with": lambda _, jwk: {**jwk, "key_ops": ["verify"]},
}


@pytest.fixture
def text_page(page: Page) -> Page:
    return page.with_policy(**LONG_PINS, text_reveal=True)


@pytest.mark.parametrize("pin", ["4071", "407193", "407193521846"])
def test_a_page_that_asks_for_text_gets_the_digits_and_the_id_of_its_grant(
    text_page: Page, pin: str
) -> None:
    key, jwk = page_key()
    granted, sealed_pin, sealed_record = shown_of(text_page, text_page.set_pin(pin))
    message = JWE()
    message.deserialize(text_page.issuer.digits(granted, sealed_pin, sealed_record, jwk), key)
    assert json.loads(message.payload) == {"grantId": granted.grant_id, "digits": pin}
    header = message.jose_header
    assert (header["alg"], header["enc"]) == ("ECDH-ES", "A256GCM")
    assert header["kid"] == key.thumbprint()


def test_text_is_told_only_where_the_issuer_offers_it(page: Page) -> None:
    _, jwk = page_key()
    change = page.set_pin()
    for off in (page, page.with_policy(text_reveal=False)):
        with pytest.raises(TextNotOffered):
            told_of(off, change, jwk)


def test_text_is_of_its_card_and_counter_only(text_page: Page) -> None:
    _, jwk = page_key()
    change = text_page.set_pin()
    with pytest.raises(SealBroken):
        told_of(text_page, change, jwk, counter=2)
    with pytest.raises(SealBroken):
        told_of(text_page, change, jwk, card=replace(text_page.card, card_id="another"))
    with pytest.raises(SealBroken):
        told_of(text_page, change, jwk, pan=PANS[1])


def test_no_byte_of_what_is_told_as_text_can_be_changed(text_page: Page) -> None:
    _, jwk = page_key()
    granted, pin, record = shown_of(text_page, text_page.set_pin())
    assert text_page.issuer.digits(granted, pin, record, jwk)
    changed = [(SealedPin(edited), record) for edited in every_change(pin)]
    changed += [(pin, SealedRecord(edited)) for edited in every_change(record)]
    for wrong in changed:
        with pytest.raises(SealBroken):
            text_page.issuer.digits(granted, *wrong, jwk)


@pytest.mark.parametrize("bad", BAD_KEYS)
def test_a_key_that_no_page_of_ours_makes_is_refused(text_page: Page, bad: str) -> None:
    change = text_page.set_pin()
    with pytest.raises(PageKeyRejected) as refusal:
        told_of(text_page, change, BAD_KEYS[bad](*page_key()))
    assert (refusal.value.args, refusal.value.__suppress_context__) == ((), True)


@pytest.mark.parametrize("role", PublicKeyRole)
def test_none_of_our_own_keys_is_a_pages(text_page: Page, role: PublicKeyRole) -> None:
    ours = text_page.issuer.vault.public_jwks(role)["keys"][0]
    jwk = {name: ours[name] for name in ("kty", "crv", "x", "y")} | {"kid": "theirs"}
    with pytest.raises(PageKeyRejected):
        told_of(text_page, text_page.set_pin(), jwk)


def test_the_length_tells_neither_how_many_digits_there_are_nor_whose_key_it_is(
    text_page: Page,
) -> None:
    pins = [text_page.set_pin("407193521846"[:digits]) for digits in range(4, 13)]
    _, jwk = page_key()
    keys: list[dict[str, object]] = [jwk, {**jwk, "kid": "a name of the page's own choice"}]
    assert len({len(told_of(text_page, pin, key)) for pin, key in product(pins, keys)}) == 1


def told_of(
    page: Page,
    change: SealedChange,
    key: Mapping[str, object],
    *,
    counter: int = 1,
    card: CardRef | None = None,
    pan: str = PAN,
) -> str:
    return page.issuer.digits(*shown_of(page, change, counter, card, pan), key)


def drawn_of(
    page: Page,
    change: SealedChange,
    *,
    counter: int = 1,
    card: CardRef | None = None,
    pan: str = PAN,
) -> bytes:
    return page.issuer.draw(*shown_of(page, change, counter, card, pan))


def shown_of(
    page: Page,
    change: SealedChange,
    counter: int = 1,
    card: CardRef | None = None,
    pan: str = PAN,
) -> tuple[GrantedToken, SealedPin, SealedRecord]:
    assert change.sealed_pin is not None
    card = card or page.card
    sealed_record = page.issuer.seal_record(pan, card)
    return (
        page.issuer.grant_view(sealed_record, card, counter),
        change.sealed_pin,
        sealed_record,
    )
