"""``python -m cms cards``: what an operator types and gets back, one card at a time."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from cms.domain.cards import NEXT_STATES, CardState
from cms.sandbox import HANG_SECONDS
from hsm.errors import CardRefusesForm, WrongPinData
from hsm.port import PinBlockType
from hsm.vault import Vault
from tests.cms.operator.operator_at_work import NEW_PAN, PIN, ROOT, Answer, Operator, run_module
from tests.issuer_records import PANS, SampleIssuer, run_sql

EXPIRY = ("--expiry", "0131")

PAN_IN_NAME = "the card id, the plastic id or the cardholder contains the PAN"


def test_a_card_moves_only_where_its_state_lets_it(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str
) -> None:
    for start in CardState:
        for goal in CardState:
            run_sql(database_url, "UPDATE cards SET state = %s WHERE card_id = 'card-1'", start)
            move = ("cards", "state", sample_issuer.issuer_id, "card-1", goal)
            if goal in NEXT_STATES[start]:
                operator.must(*move)
            else:
                assert operator.refused(*move) == f"a card that is {start} cannot become {goal}"
            end = goal if goal in NEXT_STATES[start] else start
            shown = operator.must("cards", "show", sample_issuer.issuer_id, "card-1")
            assert re.search(f"state +{end}\n", shown)
    moves = sorted(f"card.{goal}" for goals in NEXT_STATES.values() for goal in goals)
    assert moves == [
        event
        for (event,) in run_sql(
            database_url,
            "SELECT event FROM audit_events WHERE card_id = 'card-1' AND event <> 'card.added'"
            " ORDER BY event",
        )
    ]


@pytest.mark.parametrize(
    "card", [("testbank01", "card-9"), ("testbank02", "card-1"), ("testbank01", "no card")]
)
def test_a_card_that_is_not_there_cannot_be_shown_or_moved(
    operator: Operator, sample_issuer: SampleIssuer, card: tuple[str, str]
) -> None:
    assert operator.refused("cards", "show", *card) == "no such card"
    assert operator.refused("cards", "state", *card, "blocked") == "no such card"


def test_cards_are_listed_without_what_is_sealed(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    listed = operator.must("cards", "list", sample_issuer.issuer_id).splitlines()
    assert [line.split()[1] for line in listed] == [f"card_id=card-{n}" for n in range(1, 5)]
    assert "last_four=1111" in listed[0]
    for shown in (
        "\n".join(listed),
        operator.must("cards", "show", sample_issuer.issuer_id, "card-1"),
    ):
        assert "sealed" not in shown
    assert operator.refused("cards", "list", "testbank02") == "no such issuer"


def test_a_card_is_added_with_a_pan_from_a_file(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "pan.jwe"
    file.write_text(sample_issuer.pan_jwe(NEW_PAN) + "\n")
    adding = ("cards", "add", sample_issuer.issuer_id, "new-1", *EXPIRY, "--pan-jwe", file)
    more = ("--state", "active", "--cardholder", "somebody", "--type", "METAL")
    operator.must(*adding, "--psn", "7", *more)
    shown = operator.must("cards", "show", sample_issuer.issuer_id, "new-1")
    for expected in (
        *("last_four +1117", "expiry +0131", "psn +7", "state +active"),
        *("cardholder_id +somebody", "card_type +METAL"),
    ):
        assert re.search(expected, shown)
    assert operator.refused(*adding) == "duplicate card"


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"issuer": "testbank02"}, "unknown issuer"),
        ({"issuer": "testbank"}, "refused member: cardId (1 to 48 letters, digits, '-' and '_')"),
        ({"card": "no card"}, "refused member: cardId (1 to 48 letters, digits, '-' and '_')"),
        ({"card": f"card-{NEW_PAN}"}, PAN_IN_NAME),
        ({"expiry": "1330"}, "refused member: expiry (MMYY)"),
        ({"psn": "100"}, "refused member: psn (a number from 0 to 99)"),
        ({"pan": "6011111111111118"}, "the PAN's check digit is wrong"),
        ({"pan": "1234567"}, "panJwe does not hold a PAN encrypted to the intake key"),
    ],
)
def test_a_card_that_is_refused_is_not_stored(
    operator: Operator,
    sample_issuer: SampleIssuer,
    tmp_path: Path,
    given: Mapping[str, str],
    refusal: str,
) -> None:
    before = operator.must("cards", "list", sample_issuer.issuer_id)
    file = tmp_path / "pan.jwe"
    file.write_text(sample_issuer.pan_jwe(given.get("pan", NEW_PAN)))
    answer = main_refused(
        operator,
        ("cards", "add", given.get("issuer", sample_issuer.issuer_id), given.get("card", "new-1")),
        ("--expiry", given.get("expiry", "0131"), "--pan-jwe", file),
        ("--psn", given.get("psn", "0")),
    )
    assert answer == refusal
    assert operator.must("cards", "list", sample_issuer.issuer_id) == before


def main_refused(operator: Operator, *parts: tuple[object, ...]) -> str:
    return operator.refused(*(word for part in parts for word in part))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), (None, False)),
        (("--plastic-id", "9" * 38), ("9" * 38, False)),
        (("--plastic-id", "0", "--personalised"), ("0", True)),
        (("--plastic-id", "007"), ("7", False)),
        (("--state", "active"), (None, True)),
        (("--state", "active", "--no-personalised"), (None, False)),
    ],
)
def test_a_card_may_have_a_plastic_id_and_be_personalised(
    operator: Operator,
    sample_issuer: SampleIssuer,
    database_url: str,
    tmp_path: Path,
    words: tuple[str, ...],
    expected: tuple[object, ...],
) -> None:
    file = tmp_path / "pan.jwe"
    file.write_text(sample_issuer.pan_jwe(NEW_PAN))
    card = (sample_issuer.issuer_id, "new-1")
    operator.must("cards", "add", *card, *EXPIRY, "--pan-jwe", file, *words)
    stored = run_sql(
        database_url, "SELECT plastic_id, personalised FROM cards WHERE card_id = 'new-1'"
    )
    assert stored == [expected]


@pytest.mark.parametrize(
    ("plastic_id", "refusal"),
    [
        ("9" * 39, "refused member: plasticId (a number of up to 38 digits)"),
        ("", "refused member: plasticId (a number of up to 38 digits)"),
        ("x", "refused member: plasticId (a number of up to 38 digits)"),
        (NEW_PAN, PAN_IN_NAME),
        (f"77{NEW_PAN}", PAN_IN_NAME),
    ],
)
def test_a_plastic_id_that_is_refused_stores_no_card(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path, plastic_id: str, refusal: str
) -> None:
    file = tmp_path / "pan.jwe"
    file.write_text(sample_issuer.pan_jwe(NEW_PAN))
    before = operator.must("cards", "list", sample_issuer.issuer_id)
    adding = ("cards", "add", sample_issuer.issuer_id, "new-1", *EXPIRY, "--pan-jwe", file)
    assert operator.refused(*adding, "--plastic-id", plastic_id) == refusal
    assert operator.must("cards", "list", sample_issuer.issuer_id) == before


def test_a_plastic_id_is_one_cards_of_its_issuer(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "pan.jwe"
    file.write_text(sample_issuer.pan_jwe(NEW_PAN))
    options = (*EXPIRY, "--pan-jwe", file, "--plastic-id", "77")
    operator.must("cards", "add", sample_issuer.issuer_id, "new-1", *options)
    refusal = operator.refused("cards", "add", sample_issuer.issuer_id, "new-2", *options)
    assert refusal == "another card has this plastic id"


def test_a_card_is_noted_as_personalised(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str
) -> None:
    run_sql(database_url, "UPDATE cards SET personalised = false")
    card = (sample_issuer.issuer_id, "card-1")
    for _ in range(2):
        assert operator.must("cards", "personalised", *card) == ""
    personalised = run_sql(database_url, "SELECT card_id FROM cards WHERE personalised")
    assert personalised == [("card-1",)]
    assert operator.must("audit", "list", sample_issuer.issuer_id).count("card.personalised") == 2
    for unknown in ((sample_issuer.issuer_id, "none"), ("testbank02", "card-1")):
        assert operator.refused("cards", "personalised", *unknown) == "no such card"


def test_a_file_that_holds_no_jwe_is_refused(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "pan.jwe"
    for content in (b"", b"junk", b"\xff\xfe\0", b"a" * 100_000, NEW_PAN.encode()):
        file.write_bytes(content)
        adding = ("cards", "add", sample_issuer.issuer_id, "new-1", *EXPIRY, "--pan-jwe", file)
        assert operator.refused(*adding) == (
            "panJwe does not hold a PAN encrypted to the intake key"
        )


def test_a_refused_card_takes_pins_again_once_an_operator_unblocks_it(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str, vault: Vault
) -> None:
    cards = dict(run_sql(database_url, "SELECT card_id, sealed_record FROM cards"))

    def send(card_id: str, pan: str) -> None:
        jwe, card = sample_issuer.pin_jwe(PIN, card_id, pan), sample_issuer.card(card_id)
        vault.set_pin_from_jwe(jwe, PinBlockType.ISO0, card, cards[card_id], 1, None)

    for card_id in ("card-1", "card-2"):
        for _ in range(5):
            with pytest.raises(WrongPinData):
                send(card_id, PANS[3])
    answer = run_module("cms", "cards", "unblock", sample_issuer.issuer_id, "card-1")
    assert answer == Answer(0, "", "")
    send("card-1", sample_issuer.pans["card-1"])
    with pytest.raises(CardRefusesForm):
        send("card-2", sample_issuer.pans["card-2"])
    listed = operator.must("audit", "list", sample_issuer.issuer_id).splitlines()
    assert re.search(r"event=card\.unblock  card_id=card-1  actor=operator", listed[-1])


@pytest.mark.parametrize("card", [("testbank01", "card-9"), ("testbank09", "card-1"), ("x", "")])
def test_a_card_that_is_not_there_cannot_be_unblocked(
    operator: Operator, sample_issuer: SampleIssuer, card: tuple[str, str]
) -> None:
    assert operator.refused("cards", "unblock", *card) == "no such card"


# Real processes, with the HSM token that the environment names


def test_a_pan_is_typed_at_a_prompt_that_shows_nothing(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    code, shown = type_in(sample_issuer, "new-1", "6011 1111 1111 1117\n")
    assert (code, shown) == (0, "PAN (not shown): \r\n")
    assert "last_four             1117" in operator.must(
        "cards", "show", sample_issuer.issuer_id, "new-1"
    )


def test_what_was_typed_and_is_no_pan_is_not_shown(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    code, shown = type_in(sample_issuer, "new-1", "6011x\n")
    assert (code, shown) == (2, "PAN (not shown): \r\nThe PAN could not be taken.\r\n")


def test_a_prompt_that_gets_no_answer_is_a_refusal(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    code, shown = type_in(sample_issuer, "new-1", "\x04")
    assert code == 2
    assert "Traceback" not in shown


def type_in(sample_issuer: SampleIssuer, card_id: str, text: str) -> tuple[int, str]:
    """Add a card at a terminal; return the exit code and all that the terminal showed."""
    ours, theirs = pty.openpty()
    adding = ("cms", "cards", "add", sample_issuer.issuer_id, card_id, *EXPIRY)
    command = ["setsid", "--ctty", "--wait", sys.executable, "-m", *adding]
    with subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"PAN" not in shown:
            shown += os.read(ours, 1024)
        os.write(ours, text.encode())
        try:
            while True:
                shown += os.read(ours, 1024)
        except OSError:  # the terminal's other end was closed
            os.close(ours)
        return process.wait(HANG_SECONDS), shown.decode()
