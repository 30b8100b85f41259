"""What each state of a card allows, cell by cell, and what is left in the database."""

import pytest

from cms.domain.cards import CardState
from tests.bank import run_sql
from tests.cms.faces.scene import PIN, Scene, put_body, refusal

pytestmark = pytest.mark.anyio

STATE_FORBIDS = (403, "CARD_STATE_FORBIDDEN", "The state of the card does not allow this")
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
async def test_a_cell_of_the_table(scene: Scene, state: CardState, verb: str, status: int) -> None:
    card = await scene.add_card(state=state, pin=PIN)
    before = scene.stored(card)
    method, path = {
        "put": ("PUT", scene.d1.path(card)),
        "get": ("GET", scene.d1.path(card)),
        "counter": ("GET", scene.d1.path(card, "/pin/changeCounter")),
        "activate": ("POST", activation(scene, card)),
    }[verb]
    answer = await scene.send(method, path, put_body(scene.bank.pin_jwe("9382", card)))
    assert answer.status_code == status
    assert (scene.stored(card) == before) == ((state, verb) not in CHANGES)
    actor = scene.bank.client_id
    if status == 403:
        assert refusal(answer) == STATE_FORBIDS
        event, code = f"{EVENTS[verb]}.refused", "CARD_STATE_FORBIDDEN"
        assert scene.audit(answer) == [(event, card, actor, code, None)]
    else:
        counter = AUDITED.get((state, verb), NOT_AUDITED)
        rows = [] if counter == NOT_AUDITED else [(EVENTS[verb], card, actor, None, counter)]
        assert scene.audit(answer) == rows


async def test_an_activated_card_is_active_and_takes_a_pin(scene: Scene) -> None:
    card = await scene.add_card(state=CardState.INACTIVE)
    assert (await scene.send("POST", activation(scene, card))).status_code == 204
    assert scene.state(card) == "active"
    assert (await scene.put_pin(PIN, card)).status_code == 204


async def test_activating_again_is_answered_alike_and_audited_once(scene: Scene) -> None:
    card = await scene.add_card(state=CardState.INACTIVE)
    answers = [await scene.send("POST", activation(scene, card)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [204, 204, 204]
    assert [len(scene.audit(answer)) for answer in answers] == [1, 0, 0]


async def test_a_repeated_put_is_refused_once_the_card_is_blocked(scene: Scene) -> None:
    card = await scene.add_card(pin=PIN)
    repeated = put_body(scene.bank.pin_jwe("9382", card))
    assert (await scene.put(repeated, card)).status_code == 204
    block(scene, card)
    assert refusal(await scene.put(repeated, card)) == STATE_FORBIDS


async def test_a_card_that_is_unblocked_has_its_pin_again(scene: Scene) -> None:
    card = await scene.add_card(pin=PIN)
    block(scene, card)
    run_sql(scene.url, "UPDATE cards SET state = 'active' WHERE card_id = %s", card)
    assert await scene.d1.pin(card) == PIN


@pytest.mark.parametrize("body", [b"", b"junk", b"{}"])
async def test_activation_ignores_a_body(scene: Scene, body: bytes) -> None:
    assert (await scene.send("POST", activation(scene, "active"), body)).status_code == 204


def activation(scene: Scene, card: str) -> str:
    return f"/cms/api/v1/issuers/{scene.bank.issuer_id}/physicalCards/{card}/activate"


def block(scene: Scene, card: str) -> None:
    run_sql(scene.url, "UPDATE cards SET state = 'blocked' WHERE card_id = %s", card)
