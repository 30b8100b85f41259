"""What every PinVault promises of PANs on their way in."""

from collections.abc import Callable

import pytest

from hsm.errors import CardIdHoldsPan, LuhnInvalid, PanRejected
from hsm.port import CardRef
from tests.contracts.hostile_jwes import flip_first_of_tag
from tests.contracts.issuer import CARD, ISSUER_ID, Issuer, jwe_to
from tests.pans import PAN


def test_a_sealed_pan_comes_with_its_last_four_digits_and_hides_the_others(issuer: Issuer) -> None:
    sealed = issuer.vault.seal_record(issuer.pan_jwe(PAN), CARD, 1, "1229")
    assert sealed.last_four == "1111"
    for form in (PAN.encode(), bytes.fromhex(PAN), int(PAN).to_bytes(7)):
        assert form not in bytes(sealed.sealed_record)


def test_the_same_pan_is_sealed_differently_each_time(issuer: Issuer) -> None:
    assert issuer.seal_record() != issuer.seal_record()


@pytest.mark.parametrize("pan", ["40000002", "79927398713", "6304000000000000000"])
def test_a_pan_has_8_to_19_digits(issuer: Issuer, pan: str) -> None:
    assert issuer.vault.seal_record(issuer.pan_jwe(pan), CARD, 1, "1229").last_four == pan[-4:]


@pytest.mark.parametrize("pan", ["4111111111111112", "1411111111111111", "40000003"])
def test_a_pan_whose_check_digit_is_wrong_is_refused(issuer: Issuer, pan: str) -> None:
    with pytest.raises(LuhnInvalid):
        issuer.seal_record(pan)


HOLDING_THE_PAN = [PAN, f"card-{PAN}", f"9{PAN}9"]


@pytest.mark.parametrize("card_id", HOLDING_THE_PAN)
def test_a_card_id_does_not_hold_the_pan(issuer: Issuer, card_id: str) -> None:
    with pytest.raises(CardIdHoldsPan):
        issuer.seal_record(PAN, CardRef(ISSUER_ID, card_id))


@pytest.mark.parametrize("plastic_id", HOLDING_THE_PAN)
def test_no_other_id_of_a_card_holds_the_pan(issuer: Issuer, plastic_id: str) -> None:
    jwe = issuer.pan_jwe(PAN)
    if plastic_id.isdecimal():
        with pytest.raises(CardIdHoldsPan):
            issuer.vault.seal_record(jwe, CARD, 1, "1229", plastic_id)
    with pytest.raises(CardIdHoldsPan):
        issuer.vault.seal_record(jwe, CARD, 1, "1229", None, plastic_id)
    assert issuer.vault.seal_record(jwe, CARD, 1, "1229", PAN[1:]).last_four == PAN[-4:]


@pytest.mark.parametrize(
    "plaintext",
    [
        {"pan": ""},
        {"pan": "4000006"},
        {"pan": "4111 1111 1111 1111"},
        {"pan": "41111111111111111111"},
        {"pan": "４１１１１１１１１１１１１１１１"},  # noqa: RUF001 - digits that are not ASCII
        {"pan": 4111111111111111},
        {"pan": None},
        {"PAN": PAN},
        {},
        [PAN],
        PAN.encode(),
        b"",
        b'{"pan":"4111111111111111","pan":"4111111111111111"}',
        b"\xff\xfe",
    ],
    ids=repr,
)
def test_what_is_not_a_pan_is_refused(issuer: Issuer, plaintext: object) -> None:
    with pytest.raises(PanRejected) as refusal:
        issuer.vault.seal_record(jwe_to(issuer.intake_jwk, plaintext), CARD, 1, "1229")
    assert refusal.type is PanRejected


@pytest.mark.parametrize(
    "jwe",
    [
        lambda issuer: jwe_to(issuer.d1_jwk, {"pan": PAN}),
        lambda issuer: jwe_to({**issuer.intake_jwk, "kid": "unknown"}, {"pan": PAN}),
        lambda issuer: jwe_to({**issuer.d1_jwk, "kid": issuer.intake_jwk["kid"]}, {"pan": PAN}),
        lambda issuer: flip_first_of_tag(issuer.pan_jwe(PAN)),
        lambda issuer: issuer.pan_jwe(PAN) + ".",
        lambda _: "",
        lambda _: "....",
        lambda _: PAN,
        lambda _: "é" * 9000,
    ],
    ids=["d1 key", "no such kid", "kid of another key", "flipped", "6 parts", *"abcd"],
)
def test_what_is_not_a_jwe_to_the_intake_key_is_refused(
    issuer: Issuer, jwe: Callable[[Issuer], str]
) -> None:
    with pytest.raises(PanRejected) as refusal:
        issuer.vault.seal_record(jwe(issuer), CARD, 1, "1229")
    assert refusal.type is PanRejected
