"""Whatever a profile says: what D1's side writes is accepted, and nothing else is."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crypto.seccos.payload import parse
from crypto.seccos.profile import SeccosProfile
from crypto.seccos.verify import Keys, Verdict, verify
from crypto.types import Pin
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.seccos.d1_side import Card, SharedKeys, Writer
from tests.crypto.seccos.profiles import (
    KEYS_OF_ALL_CARDS,
    Body,
    profile,
    profiles,
    profiles_with_prw,
)
from tests.crypto.seccos.vault_side import card_data, keys_for, received
from tests.crypto.strategies import pans, pins, randoms, seeded

pytestmark = takes_tdes_the_old_way

KEYS = SharedKeys(
    spe=bytes.fromhex("1F2F3D4C5B6B79890123456789ABCDEF"),
    prw=bytes.fromhex("23456789ABCDEF01DCBA98765432100E"),
    mac=bytes.fromhex("A1B3C2D5E5F70719FEDCBA9876543210"),
)
CARD = Card("6725901234567890125", 1, "2912")
EXPIRY = st.builds("{:02d}{:02d}".format, st.integers(0, 99), st.integers(1, 12))
cards = st.builds(Card, pan=pans, psn=st.integers(0, 99), expiry=EXPIRY)


@st.composite
def writers(draw: st.DrawFn, settings_of: st.SearchStrategy[SeccosProfile] = profiles) -> Writer:
    settings = draw(settings_of)
    counter = draw(st.integers(0, settings.counter.max))
    return Writer(settings, KEYS, draw(cards), counter, draw(randoms))


def verdict(writer: Writer, members: dict[str, object], counter: int | None = None) -> Verdict:
    """Judge what *writer* wrote by what the issuer expects."""
    expected = writer.counter if counter is None else counter
    card = card_data(writer.card)
    return received(members, writer.profile, writer.keys, card, expected).verdict


@given(writer=writers(), pin=pins, with_counter=st.booleans())
def test_what_d1_writes_is_accepted(writer: Writer, pin: str, *, with_counter: bool) -> None:
    members = writer.payload(pin, with_counter=with_counter)

    card = card_data(writer.card)
    outcome = received(members, writer.profile, writer.keys, card, writer.counter)

    assert outcome.verdict is Verdict.ACCEPTED
    if writer.profile.verify == "full":
        assert outcome.pin is not None
        assert outcome.pin.reveal() == pin
    else:
        assert outcome.pin is None


@given(writer=writers(), pin=pins, data=st.data())
def test_one_changed_bit_is_refused(writer: Writer, pin: str, data: st.DataObject) -> None:
    members = writer.payload(pin)
    names = writer.profile.payload
    name = data.draw(st.sampled_from([key for key in members if isinstance(members[key], str)]))
    raw = bytearray.fromhex(str(members[name]))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    members[name] = raw.hex()

    found = verdict(writer, members)

    parts = writer.profile.mac.input
    under_mac = (
        name in names.pin_block + names.mac
        or (name in names.prw and "prw" in parts)
        or (name in names.prw_random and "random" in parts)
    )
    if under_mac:
        assert found is Verdict.NOT_GENUINE
    elif writer.profile.verify == "full":
        assert found is Verdict.WRONG_PIN_DATA
    else:
        # mac_only does not look at a PRW that its MAC does not cover: the profile's word.
        assert found is Verdict.ACCEPTED


@given(writer=writers(), pin=pins, data=st.data())
def test_another_counter_is_refused(writer: Writer, pin: str, data: st.DataObject) -> None:
    other = data.draw(st.integers(0, writer.profile.counter.max))
    assume(other != writer.counter)

    assert verdict(writer, writer.payload(pin), other) is Verdict.NOT_GENUINE
    # Also when D1 does not say which counter it used, where it need not.
    unsaid = writer.payload(pin, with_counter=False)
    assert verdict(writer, unsaid, other) is Verdict.NOT_GENUINE


@given(writer=writers(profiles_with_prw), pin=pins, other=pins)
def test_a_prw_of_another_pin_is_refused(writer: Writer, pin: str, other: str) -> None:
    assume(pin != other)
    forged = Mixed(writer, other)

    assert verdict(writer, forged.payload(pin)) is Verdict.WRONG_PIN_DATA


class Mixed:
    """A writer whose PRW is of another PIN than its block; its MAC is right."""

    def __init__(self, writer: Writer, other: str) -> None:
        self._writer, self._other = writer, other

    def payload(self, pin: str) -> dict[str, object]:
        names = self._writer.profile.payload
        random = self._writer.random_hex()
        block, prw = self._writer.block(pin), self._writer.prw(self._other, random)
        members: dict[str, object] = {
            names.pin_block[0]: block,
            names.prw[0]: prw,
            names.mac[0]: self._writer.mac(block, prw, random),
            names.counter[0]: self._writer.counter,
        }
        return members | ({names.prw_random[0]: random} if random else {})


def default_writer(body: Body | None = None) -> Writer:
    prw = bytes(range(32))
    return Writer(profile(body or {}), replace(KEYS, prw=prw), CARD, 7, seeded(7))


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (replace(CARD, pan="6725901234567890126"), Verdict.NOT_GENUINE),
        (replace(CARD, psn=2), Verdict.NOT_GENUINE),
        # Session keys know no expiry date; the PRW does.
        (replace(CARD, expiry="2911"), Verdict.WRONG_PIN_DATA),
    ],
)
def test_another_card_is_refused(card: Card, expected: Verdict) -> None:
    writer = default_writer()
    assert verdict(replace(writer, card=card), writer.payload("1234")) is expected
    # The control: under keys of all cards the MAC is that of a script and knows no card.
    writer = default_writer(KEYS_OF_ALL_CARDS)
    found = verdict(replace(writer, card=card), writer.payload("1234"))
    assert found is Verdict.WRONG_PIN_DATA


def cards_of(number: int) -> list[Card]:
    """Cards of one issuer, which differ in the number of their accounts."""
    return [replace(CARD, pan=f"67259012345{number:07}0") for number in range(number)]


def distinct_blocks(body: Body) -> int:
    """Count the blocks of one PIN on 100 cards that were changed equally often."""
    writer = default_writer(body)
    return len({replace(writer, card=card).block("1234") for card in cards_of(100)})


def test_a_pin_makes_another_block_on_every_card() -> None:
    assert distinct_blocks({}) == 100
    # The control, which a manifest must ask for by name.
    assert distinct_blocks(KEYS_OF_ALL_CARDS) == 1


@pytest.mark.parametrize("clear_format", ["iso0", "iso1", "iso3"])
def test_another_format_makes_another_block_too(clear_format: str) -> None:
    block = {"session_key": "none", "clear_format": clear_format}
    assert distinct_blocks({"pin_block": block}) == 100


def test_a_pin_makes_another_block_at_every_counter() -> None:
    writer = default_writer()
    assert len({replace(writer, counter=counter).block("1234") for counter in range(100)}) == 100


@pytest.mark.parametrize("name", ["spe", "prw", "mac"])
def test_another_key_is_refused(name: str) -> None:
    writer = default_writer()
    keys = replace(writer.keys, **{name: bytes(range(100, 116))})

    found = verdict(replace(writer, keys=keys), writer.payload("1234"))

    assert found is (Verdict.NOT_GENUINE if name == "mac" else Verdict.WRONG_PIN_DATA)


def counting(keys: Keys, calls: list[str]) -> Keys:
    def count(name: str, call: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        def counted(data: bytes) -> bytes:
            calls.append(name)
            return call(data)

        return counted

    return Keys(
        decrypt=count("decrypt", keys.decrypt),
        prw=count("prw", keys.prw),
        mac=count("mac", keys.mac),
    )


@pytest.mark.parametrize("broken", [None, "pinBlock", "prw", "prwRandom", "mac", "counter"])
def test_all_three_are_always_computed(broken: str | None) -> None:
    writer = default_writer()
    members = writer.payload("1234") | {"pinBlock": writer.block("1234")}
    del members["value"]
    members["prw"] = members.pop("pinReferenceWord")
    if broken == "counter":
        members["pinChangeCounter"] = 6
    elif broken:
        members[broken] = f"{int(str(members[broken]), 16) ^ 1:0{len(str(members[broken]))}x}"
    card, calls = card_data(writer.card), list[str]()
    keys = counting(keys_for(writer.profile, writer.keys, card, 7), calls)

    outcome = verify(parse(members, writer.profile), card, 7, writer.profile, keys)

    assert (outcome.verdict is Verdict.ACCEPTED) is (broken is None)
    assert (outcome.pin is None) is (broken is not None)
    assert sorted(calls) == ["decrypt", "mac", "prw"]


def test_mac_only_uses_no_other_key() -> None:
    writer = replace(default_writer(), profile=profile({"verify": "mac_only"}))
    card, calls = card_data(writer.card), list[str]()
    keys = counting(keys_for(writer.profile, writer.keys, card, 7), calls)

    verify(parse(writer.payload("1234"), writer.profile), card, 7, writer.profile, keys)

    assert calls == ["mac"]


def test_an_outcome_does_not_show_the_pin() -> None:
    writer = default_writer()
    card = card_data(writer.card)

    outcome = received(writer.payload("739182"), writer.profile, writer.keys, card, 7)

    assert isinstance(outcome.pin, Pin)
    assert "739182" not in repr(outcome)
