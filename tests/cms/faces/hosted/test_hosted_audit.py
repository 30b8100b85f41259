"""What the audit says: who did what to which card in which call, and never a value."""

import httpx
import pytest

from cms.domain.cards import CardState
from tests.bank import PAN, run_sql
from tests.cms.faces.hosted.counter import KEY, OTHER_KEY, Counter, page_jwe
from tests.cms.faces.scene import PIN

pytestmark = pytest.mark.anyio


def audit(counter: Counter, answer: httpx.Response) -> list[tuple[object, ...]]:
    """What is recorded of a call by the app: event, card, reason, counter."""
    rows = counter.scene.audit(answer)
    assert {row[2] for row in rows} <= {KEY}
    return [(event, card_id, reason, count) for event, card_id, _, reason, count in rows]


async def test_a_pin_that_is_shown_or_set_is_recorded_with_its_counter(counter: Counter) -> None:
    card_id, holder = await counter.holder()
    asked = await counter.ask("pin", holder)
    assert audit(counter, asked) == [("control.issued", card_id, "hosted view", 1)]
    shown = await counter.image(asked.json()["token"])
    assert audit(counter, shown) == [("pin.get", card_id, "hosted", 1)]
    asked = await counter.ask("set-pin", holder)
    assert audit(counter, asked) == [("control.issued", card_id, "hosted set", 1)]
    session = await counter.post("session", token=asked.json()["token"])
    assert audit(counter, session) == []
    opened = session.json()
    sent = await counter.post("submit", session=opened["session"], jwe=page_jwe(opened, "5938"))
    assert audit(counter, sent) == [("pin.set", card_id, "hosted", 2)]


async def test_the_callers_correlation_id_and_client_are_recorded(counter: Counter) -> None:
    card_id, holder = await counter.holder()
    headers = {"x_correlation_id": f"call of {card_id}", "x_client_key": OTHER_KEY}
    answer = await counter.ask("pin", holder, **headers)
    assert answer.headers["x-correlation-id"] == f"call of {card_id}"
    assert counter.scene.audit(answer) == [("control.issued", card_id, OTHER_KEY, "hosted view", 1)]


@pytest.mark.parametrize("state", ["inactive", "blocked", "closed"])
async def test_a_token_that_the_state_forbids_is_recorded(counter: Counter, state: str) -> None:
    card_id, holder = await counter.holder(CardState(state))
    for purpose, event in (("pin", "pin.get.refused"), ("set-pin", "pin.set.refused")):
        refused = await counter.ask(purpose, holder)
        assert audit(counter, refused) == [(event, card_id, "CARD_STATE_FORBIDDEN", None)]


async def test_a_pin_that_is_not_there_to_be_shown_is_recorded(counter: Counter) -> None:
    card_id, holder = await counter.holder(pin=None)
    expected = [("pin.get.refused", card_id, "PIN_NOT_AVAILABLE", None)]
    assert audit(counter, await counter.ask("pin", holder)) == expected
    # One that came as SECCOS only is none either.
    card_id, holder = await counter.holder()
    token = await counter.token("pin", holder)
    run_sql(counter.scene.url, "UPDATE cards SET pin_type = 'SECCOS' WHERE card_id = %s", card_id)
    expected = [("pin.get.refused", card_id, "PIN_NOT_AVAILABLE", None)]
    refused = await counter.ask("pin", holder)
    assert refused.status_code == 403
    assert audit(counter, refused) == expected
    shown = await counter.image(token)
    assert (shown.status_code, shown.headers["x-pin-result"]) == (410, "ended")
    assert audit(counter, shown) == expected


async def test_what_becomes_of_a_card_meanwhile_is_recorded(counter: Counter) -> None:
    card_id, holder = await counter.holder()
    token, opened = await counter.token("pin", holder), await counter.session(holder)
    run_sql(counter.scene.url, "UPDATE cards SET state = 'blocked' WHERE card_id = %s", card_id)
    shown = await counter.image(token)
    assert audit(counter, shown) == [("pin.get.refused", card_id, "CARD_STATE_FORBIDDEN", None)]
    sent = await counter.post("submit", session=opened["session"], jwe=page_jwe(opened, "5938"))
    assert audit(counter, sent) == [("pin.set.refused", card_id, "CARD_STATE_FORBIDDEN", None)]


async def test_each_pin_that_is_refused_is_recorded_and_the_fifth_is_the_last(
    counter: Counter,
) -> None:
    card_id, holder = await counter.holder()
    opened = await counter.session(holder)
    members = {"session": opened["session"], "jwe": page_jwe(opened, "1111")}
    for status in (422, 422, 422, 422, 410):
        sent = await counter.post("submit", **members)
        assert sent.status_code == status
        assert audit(counter, sent) == [("pin.set.refused", card_id, "PIN_CHANGE_FORBIDDEN", None)]
    assert counter.controls(card_id) == [(True, "tries")]
    assert audit(counter, await counter.post("submit", **members)) == []


@pytest.mark.parametrize("changed", [{"sid": "x"}, {"block": "zz"}])
async def test_a_jwe_that_is_wrong_is_recorded(counter: Counter, changed: dict[str, str]) -> None:
    card_id, holder = await counter.holder()
    opened = await counter.session(holder)
    jwe = page_jwe(opened, "5938", **changed)
    sent = await counter.post("submit", session=opened["session"], jwe=jwe)
    assert sent.status_code == 410
    assert audit(counter, sent) == [("pin.set.refused", card_id, "PIN_REFUSED", None)]


async def test_a_session_that_is_cancelled_is_recorded_once(counter: Counter) -> None:
    card_id, holder = await counter.holder()
    opened = await counter.session(holder)
    first, second = [await counter.post("cancel", session=opened["session"]) for _ in range(2)]
    assert audit(counter, first) == [("pin.set.refused", card_id, "CANCELLED", None)]
    assert audit(counter, second) == []


async def test_no_guess_is_recorded(counter: Counter) -> None:
    for answer in (
        await counter.image("no token"),
        await counter.post("session", token="no token"),
        await counter.post("submit", session="no session", jwe="no JWE"),
    ):
        assert answer.status_code == 410
        assert audit(counter, answer) == []


async def test_no_row_holds_a_value(counter: Counter) -> None:
    _, holder = await counter.holder()
    token, opened = await counter.token("pin", holder), await counter.session(holder)
    jwe = page_jwe(opened, "593816")
    await counter.image(token)
    await counter.post("submit", session=opened["session"], jwe=jwe)
    rows = run_sql(counter.scene.url, "SELECT concat_ws(' ', event, actor, reason, card_id) FROM"
                   " audit_events")  # fmt: skip
    text = "\n".join(row for (row,) in rows)
    assert "control.issued" in text
    assert not [v for v in (PIN, "593816", PAN, token, opened["session"], jwe) if v in text]
