"""``python -m cms cards``: what an operator types and gets back, one card at a time."""

import re

import pytest

from cms.domain.cards import NEXT_STATES, CardState
from hsm.errors import CardRefusesForm, WrongPinData
from hsm.port import PinBlockType
from hsm.vault import Vault
from tests.cms.operator.operator_at_work import PIN, Answer, Operator, run_module
from tests.issuer_records import PANS, SampleIssuer, run_sql


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


@pytest.mark.usefixtures("served")
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
