"""What the audit says: who did what to which card in which call, and never a value."""

import httpx
import pytest

from cms.domain.cards import CardState
from tests.cms.faces.cardholder.hosted import apps
from tests.cms.faces.cardholder.hosted.hosted_face import HostedFace
from tests.cms.faces.cardholder.hosted.jwes import page_jwe, submission
from tests.cms.faces.d1_face import PIN
from tests.issuer_records import PAN, run_sql

pytestmark = pytest.mark.anyio


def audit(hosted_face: HostedFace, answer: httpx.Response) -> list[tuple[object, ...]]:
    """What is recorded of a call by the app: event, card, reason, counter."""
    rows = hosted_face.d1_face.audit(answer)
    assert {row[2] for row in rows} <= {apps.KEY}
    return [(event, card_id, reason, count) for event, card_id, _, reason, count in rows]


async def test_a_pin_that_is_shown_or_set_is_recorded_with_its_counter(
    hosted_face: HostedFace,
) -> None:
    card_id, holder = await hosted_face.holder()
    asked = await hosted_face.ask("pin", holder)
    assert audit(hosted_face, asked) == [("control.issued", card_id, "hosted view", 1)]
    shown = await hosted_face.image(asked.json()["token"])
    assert audit(hosted_face, shown) == [("pin.get", card_id, "hosted", 1)]
    asked = await hosted_face.ask("set-pin", holder)
    assert audit(hosted_face, asked) == [("control.issued", card_id, "hosted set", 1)]
    session = await hosted_face.post("session", token=asked.json()["token"])
    assert audit(hosted_face, session) == []
    opened = session.json() | {"controlToken": asked.json()["token"]}
    sent = await hosted_face.submit(opened, "5938")
    assert audit(hosted_face, sent) == [("pin.set", card_id, "hosted", 2)]


async def test_the_callers_correlation_id_and_client_are_recorded(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    headers = {"x_correlation_id": f"call of {card_id}", "x_client_key": apps.OTHER_KEY}
    answer = await hosted_face.ask("pin", holder, **headers)
    assert answer.headers["x-correlation-id"] == f"call of {card_id}"
    assert hosted_face.d1_face.audit(answer) == [
        ("control.issued", card_id, apps.OTHER_KEY, "hosted view", 1)
    ]


@pytest.mark.parametrize("state", ["inactive", "blocked", "closed"])
async def test_a_control_token_that_the_state_forbids_is_recorded(
    hosted_face: HostedFace, state: str
) -> None:
    card_id, holder = await hosted_face.holder(CardState(state))
    for purpose, event in (("pin", "pin.get.refused"), ("set-pin", "pin.set.refused")):
        refused = await hosted_face.ask(purpose, holder)
        assert audit(hosted_face, refused) == [(event, card_id, "CARD_STATE_FORBIDDEN", None)]


async def test_a_request_that_cannot_be_taken_is_recorded(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    for purpose, event in (("pin", "pin.get.refused"), ("set-pin", "pin.set.refused")):
        refused = await hosted_face.ask(purpose, holder, {"isEmbedded": 1})
        assert refused.status_code == 422
        assert audit(hosted_face, refused) == [(event, card_id, "REQUEST_INVALID", None)]


async def test_a_cardholder_without_a_card_is_recorded(hosted_face: HostedFace) -> None:
    for purpose, event in (("pin", "pin.get.refused"), ("set-pin", "pin.set.refused")):
        refused = await hosted_face.ask(purpose, "nobody")
        assert audit(hosted_face, refused) == [(event, None, "CARD_NOT_FOUND", None)]
    headers = hosted_face.headers("nobody")
    refused = await hosted_face.http.get("/v1/card/status", headers=headers)
    assert audit(hosted_face, refused) == [("status.refused", None, "CARD_NOT_FOUND", None)]


async def test_an_access_token_that_is_none_is_nobodys_to_record(hosted_face: HostedFace) -> None:
    refused = await hosted_face.ask("pin", "nobody", authorization="Bearer none")
    assert refused.status_code == 401
    assert audit(hosted_face, refused) == []


async def test_a_pin_that_is_not_there_to_be_shown_is_recorded(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder(pin=None)
    expected = [("pin.get.refused", card_id, "PIN_NOT_AVAILABLE", None)]
    assert audit(hosted_face, await hosted_face.ask("pin", holder)) == expected
    # One that came as SECCOS only is none either.
    card_id, holder = await hosted_face.holder()
    control_token = await hosted_face.control_token("pin", holder)
    run_sql(
        hosted_face.d1_face.url, "UPDATE cards SET pin_type = 'SECCOS' WHERE card_id = %s", card_id
    )
    expected = [("pin.get.refused", card_id, "PIN_NOT_AVAILABLE", None)]
    refused = await hosted_face.ask("pin", holder)
    assert refused.status_code == 403
    assert audit(hosted_face, refused) == expected
    shown = await hosted_face.image(control_token)
    assert (shown.status_code, shown.headers["x-pin-result"]) == (410, "ended")
    assert audit(hosted_face, shown) == expected


async def test_what_becomes_of_a_card_meanwhile_is_recorded(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    control_token, opened = (
        await hosted_face.control_token("pin", holder),
        await hosted_face.session(holder),
    )
    run_sql(
        hosted_face.d1_face.url, "UPDATE cards SET state = 'blocked' WHERE card_id = %s", card_id
    )
    shown = await hosted_face.image(control_token)
    assert audit(hosted_face, shown) == [("pin.get.refused", card_id, "CARD_STATE_FORBIDDEN", None)]
    sent = await hosted_face.submit(opened, "5938")
    assert audit(hosted_face, sent) == [("pin.set.refused", card_id, "CARD_STATE_FORBIDDEN", None)]


async def test_each_pin_that_is_refused_is_recorded_and_the_fifth_is_the_last(
    hosted_face: HostedFace,
) -> None:
    card_id, holder = await hosted_face.holder()
    opened = await hosted_face.session(holder)
    members = submission(opened, page_jwe(opened, "1111"))
    for status in (422, 422, 422, 422, 410):
        sent = await hosted_face.post("submit", **members)
        assert sent.status_code == status
        assert audit(hosted_face, sent) == [
            ("pin.set.refused", card_id, "PIN_CHANGE_FORBIDDEN", None)
        ]
    assert hosted_face.controls(card_id) == [(True, "tries")]
    assert audit(hosted_face, await hosted_face.post("submit", **members)) == []


@pytest.mark.parametrize("changed", [{"grantId": "x"}, {"controlToken": "x"}, {"block": "zz"}])
async def test_a_jwe_that_is_wrong_is_recorded(
    hosted_face: HostedFace, changed: dict[str, str]
) -> None:
    card_id, holder = await hosted_face.holder()
    opened = await hosted_face.session(holder)
    jwe = page_jwe(opened, "5938", **changed)
    sent = await hosted_face.post("submit", **submission(opened, jwe))
    assert sent.status_code == 410
    assert audit(hosted_face, sent) == [("pin.set.refused", card_id, "PIN_REFUSED", None)]


async def test_a_session_that_is_cancelled_is_recorded_once(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    opened = await hosted_face.session(holder)
    first, second = [await hosted_face.post("cancel", session=opened["session"]) for _ in range(2)]
    assert audit(hosted_face, first) == [("pin.set.refused", card_id, "CANCELLED", None)]
    assert audit(hosted_face, second) == []


async def test_no_guess_is_recorded(hosted_face: HostedFace) -> None:
    for answer in (
        await hosted_face.image("no token"),
        await hosted_face.post("session", token="no token"),
        await hosted_face.post("submit", session="no session", controlToken="none", jwe="no JWE"),
    ):
        assert answer.status_code == 410
        assert audit(hosted_face, answer) == []


async def test_no_row_holds_a_value(hosted_face: HostedFace) -> None:
    _, holder = await hosted_face.holder()
    control_token, opened = (
        await hosted_face.control_token("pin", holder),
        await hosted_face.session(holder),
    )
    jwe = page_jwe(opened, "593816")
    await hosted_face.image(control_token)
    await hosted_face.post("submit", **submission(opened, jwe))
    rows = run_sql(
        hosted_face.d1_face.url,
        "SELECT concat_ws(' ', event, actor, reason, card_id) FROM audit_events",
    )
    text = "\n".join(row for (row,) in rows)
    assert "control.issued" in text
    assert not [v for v in (PIN, "593816", PAN, control_token, opened["session"], jwe) if v in text]
