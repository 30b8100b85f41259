"""What every PinVault promises of cards on their way in."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from jwcrypto.jwk import JWK

from hsm.errors import FeedRefused, SealBroken
from hsm.port import CardRef, RefusedCard, SealedCard
from tests import feeds
from tests.contracts.hostile_jwes import flip_first_of_tag
from tests.contracts.issuer import CARD, OTHER_ISSUER_ID, Issuer, open_issuer
from tests.feeds import described
from tests.pans import PAN, PANS

OTHER_PAN = PANS[1]
DAY = timedelta(days=1)
ANOTHER_KEY = JWK.generate(kty="EC", crv="P-256", kid="personaliser-1")


def refusal(issuer: Issuer, text: str) -> str:
    with pytest.raises(FeedRefused) as refused:
        issuer.vault.seal_cards(text, issuer.issuer_id)
    assert PAN not in str(refused.value)
    return str(refused.value)


# Cards


def test_a_card_comes_with_what_the_database_may_know_of_it(issuer: Issuer) -> None:
    others: Mapping[str, str | bool] = {
        "state": "active",
        "personalised": True,
        "encryptedPinBlock": "a.b.c.d.e",
    }
    record = {"psn": 2, "expiry": "1231", "plasticId": "0047", "cardholder": "ann"}
    sealed = issuer.sealed_card("card-7", PAN, **record, **others)
    assert sealed == SealedCard(
        CardRef(issuer.issuer_id, "card-7"),
        sealed.sealed_record,
        "1111",
        2,
        "1231",
        "47",
        "ann",
        others,
    )
    for form in (PAN.encode(), bytes.fromhex(PAN), int(PAN).to_bytes(7)):
        assert form not in bytes(sealed.sealed_record)


def test_a_feed_may_say_little_of_a_card(issuer: Issuer) -> None:
    sealed = issuer.sealed_card(psn=None)
    assert (sealed.psn, sealed.plastic_id, sealed.cardholder_id, sealed.others) == (
        0,
        *[None] * 2,
        {},
    )


def test_the_same_card_is_sealed_differently_each_time(issuer: Issuer) -> None:
    assert issuer.seal_record() != issuer.seal_record()


def test_cards_come_in_their_order_and_a_bad_one_stops_no_other(issuer: Issuer) -> None:
    cards = [described("one", PAN), described("two", PAN, expiry="1330"), described("three", PAN)]
    sealed = issuer.vault.seal_cards(issuer.feed(*cards), issuer.issuer_id)
    assert [one.card.card_id if isinstance(one, SealedCard) else one for one in sealed] == [
        "one",
        RefusedCard("refused member: expiry (MMYY)"),
        "three",
    ]


def test_a_card_stands_in_a_feed_once(issuer: Issuer) -> None:
    text = issuer.feed(described("one", PAN), described("one", OTHER_PAN))
    _, second = issuer.vault.seal_cards(text, issuer.issuer_id)
    assert second == RefusedCard("the card stands in this feed twice")


def test_a_feed_has_up_to_500_cards(issuer: Issuer) -> None:
    cards = [described(f"card-{number}", PAN) for number in range(501)]
    assert len(issuer.vault.seal_cards(issuer.feed(*cards[:500]), issuer.issuer_id)) == 500
    too_many = "cards is not a list of 1 to 500 cards"
    for wrong in (cards, []):
        assert refusal(issuer, issuer.feed(*wrong)) == too_many


@pytest.mark.parametrize("pan", ["40000002", "79927398713", "6304000000000000000"])
def test_a_pan_has_8_to_19_digits(issuer: Issuer, pan: str) -> None:
    assert issuer.sealed_card(pan=pan).last_four == pan[-4:]


# Who may bring them


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"key": ANOTHER_KEY}, "not signed by a feed of the issuer's manifest"),
        ({"jws_header": {"kid": "another"}}, "not signed by a feed of the issuer's manifest"),
        ({"jws_header": {"typ": "at+jwt"}}, "not signed by a feed of the issuer's manifest"),
        ({"jws_header": {"typ": None}}, "not signed by a feed of the issuer's manifest"),
        ({"jws_header": {"cty": "JWT"}}, "not signed by a feed of the issuer's manifest"),
        ({"jwe_header": {"cty": None}}, "the JWE's cty is not JWT"),
        ({"jwe_header": {"cty": "jwt"}}, "the JWE's cty is not JWT"),
        ({"jwe_header": {"zip": "DEF"}}, "not a JWT in a JWE to a key of role intake"),
        ({"jwe_header": {"kid": "unknown"}}, "not a JWT in a JWE to a key of role intake"),
        ({"iss": "another"}, "iss is not the name of the feed whose key signed it"),
        ({"aud": "another"}, "aud is not the kid of the key to which it is encrypted"),
        ({"aud": ["another"]}, "aud is not the kid of the key to which it is encrypted"),
        ({"issuerId": "testbank02"}, "issuerId is not this issuer"),
        ({"iat": "now"}, "iat is no whole number of seconds"),
        ({"iat": True}, "iat is no whole number of seconds"),
        ({"iat": time.time()}, "iat is no whole number of seconds"),
        ({"cards": {}}, "cards is not a list of 1 to 500 cards"),
        ({"exp": 1}, "its claims are not iss, aud, issuerId, iat and cards"),
        *(
            ({name: None}, "its claims are not iss, aud, issuerId, iat and cards")
            for name in ("iss", "aud", "issuerId", "iat", "cards")
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else ", ".join(value),
)
def test_a_feed_says_who_it_is_from_and_for_whom(
    issuer: Issuer, said: Mapping[str, object], reason: str
) -> None:
    assert issuer.vault.seal_cards(issuer.feed(described("card-1", PAN)), issuer.issuer_id)
    assert refusal(issuer, issuer.feed(described("card-1", PAN), **said)) == reason


@pytest.mark.parametrize(
    ("ahead", "reason"),
    [
        (timedelta(seconds=61), "iat is in the future"),
        (timedelta(seconds=59), None),
        (-7 * DAY, None),
        (-7 * DAY - timedelta(seconds=1), "iat is more than 7 days ago"),
    ],
    ids=str,
)
def test_a_feed_is_from_the_last_7_days(
    issuer: Issuer, ahead: timedelta, reason: str | None
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    text = issuer.feed(described("card-1", PAN), iat=int((now + ahead).timestamp()))
    vault = issuer.host.reopened(lambda: now).vault
    if reason is None:
        assert vault.seal_cards(text, issuer.issuer_id)
        return
    with pytest.raises(FeedRefused) as refused:
        vault.seal_cards(text, issuer.issuer_id)
    assert str(refused.value) == reason


def test_the_feed_of_one_issuer_brings_no_card_of_another(issuer: Issuer) -> None:
    theirs = open_issuer(issuer.host.another(), OTHER_ISSUER_ID, feeds=[])
    text = issuer.feed(described("card-1", PAN), issuerId=OTHER_ISSUER_ID)
    assert refusal(theirs, text) == "not signed by a feed of the issuer's manifest"


def test_what_one_feed_signed_is_not_from_another(issuer: Issuer) -> None:
    members = [feeds.feed_member(), feeds.feed_member("bank", JWK.generate(kty="EC", crv="P-256"))]
    both = issuer.with_members(feeds=members)
    text = both.feed(described("card-1", PAN), iss="bank")
    assert refusal(both, text) == "iss is not the name of the feed whose key signed it"


@pytest.mark.parametrize(
    "text",
    [
        lambda _: feeds.sign("{}"),
        lambda issuer: feeds.encrypt("{}", issuer.intake_jwk),
        lambda issuer: feeds.encrypt("é", issuer.intake_jwk),
        lambda issuer: feeds.encrypt(feeds.sign("[]"), issuer.intake_jwk),
        lambda issuer: feeds.encrypt(feeds.sign('{"iss":1,"iss":1}'), issuer.intake_jwk),
        lambda issuer: feeds.encrypt(unsigned(issuer), issuer.intake_jwk),
        lambda issuer: feeds.encrypt(edited(issuer), issuer.intake_jwk),
        lambda issuer: feeds.feed(issuer.issuer_id, issuer.d1_jwk, described("card-1", PAN)),
        lambda issuer: flip_first_of_tag(issuer.feed(described("card-1", PAN))),
        lambda issuer: issuer.feed(described("card-1", PAN)) + ".",
        lambda issuer: issuer.feed(described("card-1", PAN)) + "A" * (1 << 20),
        lambda _: "",
        lambda _: "....",
        lambda _: PAN,
        lambda _: "é" * 9000,
    ],
    ids=[
        *("not encrypted", "not signed", "not ASCII", "no object", "a claim twice", "unsigned"),
        *("edited", "d1 key", "flipped", "6 parts", "too long", *"abcd"),
    ],
)
def test_what_is_not_a_signed_text_to_the_intake_key_is_refused(
    issuer: Issuer, text: Callable[[Issuer], str]
) -> None:
    assert refusal(issuer, text(issuer)).startswith(("not signed by", "not a JWT in a JWE"))


def claims(issuer: Issuer, **members: object) -> str:
    said = {"iss": feeds.NAME, "aud": issuer.intake_jwk["kid"], "issuerId": issuer.issuer_id}
    cards = [described("card-1", PAN, **members)]
    return json.dumps({**said, "iat": int(time.time()), "cards": cards})


def unsigned(issuer: Issuer) -> str:
    header, payload, _ = feeds.sign(claims(issuer)).split(".")
    return f"{header}.{payload}."


def edited(issuer: Issuer) -> str:
    header, _, signature = feeds.sign(claims(issuer)).split(".")
    _, payload, _ = feeds.sign(claims(issuer, cardholder="mallory")).split(".")
    return f"{header}.{payload}.{signature}"


# Renewal


@pytest.mark.parametrize(
    ("members", "kept"),
    [
        ({"expiry": "1232", "psn": 2, "plasticId": "5"}, True),
        ({"cardholder": "bob"}, False),
        ({"cardholder": None}, False),
        ({"pan": OTHER_PAN}, False),
    ],
    ids=str,
)
def test_a_card_keeps_its_pin_while_pan_and_holder_stay(
    issuer: Issuer, members: Mapping[str, str], kept: bool
) -> None:
    before = issuer.sealed_card(cardholder="ann").sealed_record
    after = issuer.sealed_card(**{"cardholder": "ann", **members}).sealed_record
    assert issuer.vault.keeps_pin(before, after, CARD) is kept


def test_a_card_whose_record_was_tampered_with_keeps_no_pin(issuer: Issuer) -> None:
    record, of_another = issuer.seal_record(), issuer.sealed_card("card-2").sealed_record
    assert issuer.vault.keeps_pin(of_another, record, CARD) is False
    with pytest.raises(SealBroken):
        issuer.vault.keeps_pin(record, of_another, CARD)
