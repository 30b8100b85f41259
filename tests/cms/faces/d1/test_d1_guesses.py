"""Whoever may call as D1 cannot try out which PAN a card has: after a few tries nothing tells."""

import itertools

import httpx
import pytest

from cms.sandbox.partners.jwe import encrypt
from cms.sandbox.partners.pin_blocks import iso0_block
from crypto.types import Pan
from hsm.counts import Counts
from tests.cms.faces.d1 import refusals
from tests.cms.faces.d1_face import PIN, D1Face, put_body, refusal

pytestmark = pytest.mark.anyio

BIN, LAST_FOUR = "41111111", "0043"
WEAK = "1111"


@pytest.fixture
async def card(d1_face: D1Face) -> str:
    """Add a card of which an attacker knows the first eight digits and the last four."""
    return await d1_face.add_card(pan=victims_pan())


def possible_pans() -> list[str]:
    """List the PANs that begin and end so: of 10,000 middles a tenth passes the Luhn check."""
    middles = (f"{number:04}" for number in range(10_000))
    pans = (f"{BIN}{middle}{LAST_FOUR}" for middle in middles)
    return [pan for pan in pans if Pan(pan).luhn_valid]


def victims_pan() -> str:
    return possible_pans()[40]


async def guess(d1_face: D1Face, card: str, pan: str, pin: str = WEAK) -> httpx.Response:
    jwe = d1_face.sample_issuer.pin_jwe(pin, card, pan)
    return await d1_face.put(put_body(jwe), card)


async def attack(d1_face: D1Face, card: str) -> str | None:
    """Send a weak PIN for one PAN after the other: the policy refuses it if the PAN is right."""
    for pan in possible_pans()[:60]:
        if (await guess(d1_face, card, pan)).status_code == 403:
            return pan
    return None


async def test_a_pan_cannot_be_found_by_sending_weak_pins(d1_face: D1Face, card: str) -> None:
    assert await attack(d1_face, card) is None


async def test_where_failures_do_not_count_it_is_found(
    d1_face: D1Face, card: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counts, "begin", lambda *_: [])
    assert await attack(d1_face, card) == victims_pan()


async def test_a_pin_that_is_too_long_tells_no_digit_of_the_pan(d1_face: D1Face, card: str) -> None:
    """Under 12 digits of a PIN, ten of the PAN: those that fit would be one answer, others not."""
    pans = [BIN + str(digit) * 4 + LAST_FOUR for digit in range(10)]
    answers = [await guess(d1_face, card, pan, "987698769876") for pan in pans]
    assert {refusal(answer) for answer in answers} == {refusals.POLICY}


async def test_after_5_wrong_blocks_every_pin_in_a_block_has_one_answer(
    d1_face: D1Face, card: str
) -> None:
    wrong = possible_pans()
    answers = [await guess(d1_face, card, pan) for pan in wrong[:5]]
    pins = (PIN, WEAK, "407193825061")
    for pan, pin in itertools.product((victims_pan(), wrong[9]), pins):
        answers.append(await guess(d1_face, card, pan, pin))
        assert d1_face.audit(answers[-1])[0][3] == "CARD_REFUSED"
    assert {refusal(answer) for answer in answers} == {refusals.BLOCK}
    assert len({tuple(seen(answer)) for answer in answers}) == 1
    assert d1_face.counter(card) == 0


async def test_after_20_pins_that_the_policy_refuses_too(d1_face: D1Face, card: str) -> None:
    pins = [digit * 4 for digit in "0123456789"] * 2
    answers = [await guess(d1_face, card, victims_pan(), pin) for pin in pins]
    assert {refusal(answer) for answer in answers} == {refusals.POLICY}
    for pan, pin in itertools.product((victims_pan(), possible_pans()[9]), (PIN, WEAK)):
        assert refusal(await guess(d1_face, card, pan, pin)) == refusals.BLOCK


async def test_a_pan_that_is_named_beside_a_block_is_a_guess_as_well(
    d1_face: D1Face, card: str
) -> None:
    block = {"pinBlock": iso0_block(PIN, victims_pan())}
    for pan in possible_pans()[:5]:
        jwe = encrypt({**block, "pan": pan}, d1_face.sample_issuer.d1_jwk)
        assert refusal(await d1_face.put(put_body(jwe), card)) == refusals.BLOCK
    assert refusal(await guess(d1_face, card, victims_pan(), PIN)) == refusals.BLOCK


async def test_who_tries_weak_pins_first_may_then_set_a_good_one(
    d1_face: D1Face, card: str
) -> None:
    for _ in range(19):
        assert refusal(await guess(d1_face, card, victims_pan())) == refusals.POLICY
    assert (await guess(d1_face, card, victims_pan(), PIN)).status_code == 204
    assert (await d1_face.d1.pin(card)) == PIN


async def test_a_jwe_that_does_not_open_is_no_guess(d1_face: D1Face, card: str) -> None:
    good = d1_face.sample_issuer.pin_jwe(PIN, card)
    head, _, tag = good.rpartition(".")
    spoilt = f"{head}.{'B' if tag[0] == 'A' else 'A'}{tag[1:]}"
    for _ in range(20):
        answer = await d1_face.put(put_body(spoilt), card)
        assert refusal(answer) == refusals.BLOCK
        assert d1_face.audit(answer)[0][3] == "PIN_REFUSED"
    assert (await d1_face.put(put_body(good), card)).status_code == 204


async def test_what_was_accepted_before_is_accepted_again_and_never_counts(
    d1_face: D1Face, card: str
) -> None:
    accepted = put_body(d1_face.sample_issuer.pin_jwe(PIN, card))
    for _ in range(30):
        assert (await d1_face.put(accepted, card)).status_code == 204
    for pan in possible_pans()[:5]:
        assert refusal(await guess(d1_face, card, pan)) == refusals.BLOCK
    assert (await d1_face.put(accepted, card)).status_code == 204
    assert d1_face.counter(card) == 1


def seen(answer: httpx.Response) -> tuple[object, ...]:
    """Return all that a caller sees, but for its own correlation id."""
    headers = [item for item in answer.headers.items() if item[0] != "x-correlation-id"]
    return answer.status_code, answer.content, tuple(headers)
