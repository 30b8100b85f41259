"""What each state of a card allows, cell by cell, and what is left in the database."""

import pytest

from cms.domain.cards import CardState
from tests.cms.faces.d1 import refusals
from tests.cms.faces.d1_face import PIN, D1Face, put_body, refusal
from tests.issuer_records import run_sql

pytestmark = pytest.mark.anyio

EVENTS = {"put": "pin.set", "get": "pin.get", "counter": "pin.counter", "activate": "card.activate"}
TABLE = """
              put  get  counter  activate
    inactive  403  403  200      204
    active    204  200  200      204
    blocked   403  403  200      403
    closed    403  403  403      403
"""
_head, *_rows = (line.split() for line in TABLE.strip().splitlines())
CELLS = [
    pytest.param(CardState(state), verb, int(status), id=f"{state}-{verb}-{status}")
    for state, *statuses in _rows
    for verb, status in zip(_head, statuses, strict=True)
]
#: The cells in which something is stored.
CHANGES = {(CardState.ACTIVE, "put"), (CardState.INACTIVE, "activate")}
#: The allowed cells that leave an audit row, and its counter. Reading a counter changes nothing
#: and shows nothing of a PIN; activating an active card is a repetition.
AUDITED = {
    (CardState.ACTIVE, "put"): 2,
    (CardState.ACTIVE, "get"): 1,
    (CardState.INACTIVE, "activate"): None,
}
NOT_AUDITED = -1


@pytest.mark.parametrize(("state", "verb", "status"), CELLS)
async def test_a_cell_of_the_table(
    d1_face: D1Face, state: CardState, verb: str, status: int
) -> None:
    card = await d1_face.add_card(state=state, pin=PIN)
    before = d1_face.stored(card)
    method, path = {
        "put": ("PUT", d1_face.d1.path(card)),
        "get": ("GET", d1_face.d1.path(card)),
        "counter": ("GET", d1_face.d1.path(card, "/pin/changeCounter")),
        "activate": ("POST", activation(d1_face, card)),
    }[verb]
    answer = await d1_face.send(method, path, put_body(d1_face.sample_issuer.pin_jwe("9382", card)))
    assert answer.status_code == status
    assert (d1_face.stored(card) == before) == ((state, verb) not in CHANGES)
    actor = d1_face.sample_issuer.client_id
    if status == 403:
        assert refusal(answer) == refusals.STATE
        event, code = f"{EVENTS[verb]}.refused", "CARD_STATE_FORBIDDEN"
        assert d1_face.audit(answer) == [(event, card, actor, code, None)]
    else:
        counter = AUDITED.get((state, verb), NOT_AUDITED)
        rows = [] if counter == NOT_AUDITED else [(EVENTS[verb], card, actor, None, counter)]
        assert d1_face.audit(answer) == rows


async def test_an_activated_card_is_active_and_takes_a_pin(d1_face: D1Face) -> None:
    card = await d1_face.add_card(state=CardState.INACTIVE)
    assert (await d1_face.send("POST", activation(d1_face, card))).status_code == 204
    assert d1_face.state(card) == "active"
    assert (await d1_face.put_pin(PIN, card)).status_code == 204


async def test_activating_again_is_answered_alike_and_audited_once(d1_face: D1Face) -> None:
    card = await d1_face.add_card(state=CardState.INACTIVE)
    answers = [await d1_face.send("POST", activation(d1_face, card)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [204, 204, 204]
    assert [len(d1_face.audit(answer)) for answer in answers] == [1, 0, 0]


async def test_a_repeated_put_is_refused_once_the_card_is_blocked(d1_face: D1Face) -> None:
    card = await d1_face.add_card(pin=PIN)
    repeated = put_body(d1_face.sample_issuer.pin_jwe("9382", card))
    assert (await d1_face.put(repeated, card)).status_code == 204
    block(d1_face, card)
    assert refusal(await d1_face.put(repeated, card)) == refusals.STATE


async def test_a_card_that_is_unblocked_has_its_pin_again(d1_face: D1Face) -> None:
    card = await d1_face.add_card(pin=PIN)
    block(d1_face, card)
    run_sql(d1_face.url, "UPDATE cards SET state = 'active' WHERE card_id = %s", card)
    assert await d1_face.d1.pin(card) == PIN


@pytest.mark.parametrize("body", [b"", b"junk", b"{}"])
async def test_activation_ignores_a_body(d1_face: D1Face, body: bytes) -> None:
    assert (await d1_face.send("POST", activation(d1_face, "active"), body)).status_code == 204


def activation(d1_face: D1Face, card: str) -> str:
    return f"/cms/api/v1/issuers/{d1_face.sample_issuer.issuer_id}/physicalCards/{card}/activate"


def block(d1_face: D1Face, card: str) -> None:
    run_sql(d1_face.url, "UPDATE cards SET state = 'blocked' WHERE card_id = %s", card)
