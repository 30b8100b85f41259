"""Database or vault unavailable, or a defect: the documented answer, nothing twice, no log."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cms.faces.d1.oauth import TOKEN_PATH
from cms.logs import JsonLines, RequestLog
from cms.services.cardholder.control_tokens import ControlTokens
from cms.services.cardholder.pincontrol import ControlIds
from hsm.vault import Vault
from tests.cms.faces.cardholder.hosted.jwes import page_jwe, submission
from tests.cms.faces.cardholder.pincontrol import backends, outcomes
from tests.cms.faces.cardholder.pincontrol.pincontrol_face import PinControlFace, basic, opened
from tests.cms.faces.d1_face import D1Face
from tests.cms.faces.losing import Losing
from tests.cms.persistence.opened_store import opened_store
from tests.issuer_records import PAN, SECRET, run_sql
from tests.service import running

pytestmark = pytest.mark.anyio
LATER = (503, "TRY_LATER", "INTEGRATION_ERROR")
#: More than any request takes.
TURNS = range(1, 9)


@asynccontextmanager
async def losing(d1_face: D1Face, *, late: bool) -> AsyncIterator[tuple[PinControlFace, Losing]]:
    async with (
        opened_store(Losing.connect(d1_face.url)) as store,
        opened(d1_face, store=store) as pincontrol_face,
    ):
        store.late = late
        yield pincontrol_face, store


async def test_an_id_is_issued_or_it_is_503(with_backends: D1Face, late: bool) -> None:
    async with losing(with_backends, late=late) as (pincontrol_face, store):
        blocked, forbidden = await pincontrol_face.plastic()
        pincontrol_face.block(blocked)
        _, plastic_id = await pincontrol_face.plastic()
        seen = set()
        for turn in TURNS:
            for plastic, otherwise in ((plastic_id, 201), (forbidden, 403), ("1", 404)):
                store.turn = turn
                answer = await pincontrol_face.ask(plastic)
                seen.add(answer.status_code)
                assert answer.status_code == otherwise or outcomes.failure(answer) == LATER
            store.turn = turn
            answer = await pincontrol_face.ask(plastic_id, "NONE")
            assert answer.status_code == 400 or outcomes.failure(answer) == LATER
        store.turn = 0
        assert seen == {201, 403, 404, 503}


@pytest.mark.parametrize("scope", ["VIEW_PIN", "SET_PIN"])
async def test_an_id_is_consumed_at_most_once_whatever_is_lost(
    with_backends: D1Face, scope: str, late: bool
) -> None:
    async with losing(with_backends, late=late) as (pincontrol_face, store):
        _, plastic_id = await pincontrol_face.plastic()
        consume = pincontrol_face.view if scope == "VIEW_PIN" else pincontrol_face.open
        lost = 0
        for turn in TURNS:
            store.turn = 0
            control_id = await pincontrol_face.control_id(plastic_id, scope)
            store.turn = turn
            first = await consume(control_id)
            lost += first.status_code == 503
            assert first.status_code == 200 or outcomes.failure(first) == LATER
            store.turn = 0
            second = await consume(control_id)
            statuses = first.status_code, second.status_code
            assert statuses[1] == 410 or statuses == (503, 200)
        assert lost >= 2


async def test_a_pin_is_stored_at_most_once_and_its_session_is_over(
    with_backends: D1Face, late: bool
) -> None:
    async with losing(with_backends, late=late) as (pincontrol_face, store):
        card_id, plastic_id = await pincontrol_face.plastic()
        lost = 0
        for turn in range(1, 5):
            store.turn = 0
            page = await pincontrol_face.session(plastic_id)
            before = pincontrol_face.d1_face.counter(card_id)
            store.turn = turn
            sent = await pincontrol_face.submit(page, "5938")
            lost += sent.status_code == 503
            assert sent.status_code == 204 or outcomes.failure(sent) == LATER
            store.turn = 0
            again = await pincontrol_face.submit(page, "5938")
            # Only when not even the session could be read was the PIN not taken up at all.
            assert again.status_code == 410 or (turn, sent.status_code) == (1, 503)
            assert pincontrol_face.d1_face.counter(card_id) - before <= 1
        assert lost >= 3


async def test_without_a_database_a_page_is_503_and_consumes_nothing(
    with_backends: D1Face, late: bool
) -> None:
    async with losing(with_backends, late=late) as (pincontrol_face, store):
        _, plastic_id = await pincontrol_face.plastic()
        control_id = await pincontrol_face.control_id(plastic_id)
        store.turn = 1
        page = await pincontrol_face.webview(control_id)
        assert outcomes.tells_app(page, 503)
        assert page.headers["retry-after"] == "1"
        assert control_id not in page.text
        assert (await pincontrol_face.webview(control_id)).status_code == 200
    async with losing(with_backends, late=late) as (pincontrol_face, store):
        store.turn = 1
        assert outcomes.is_ended(await pincontrol_face.frame(backends.FRAME_KEY), 503)
        assert (await pincontrol_face.frame(backends.FRAME_KEY)).status_code == 200


async def test_a_defect_is_told_as_500_and_nothing_of_it(
    pincontrol_face: PinControlFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def defect(*_: object) -> str:
        raise RuntimeError(f"something about {PAN}")

    monkeypatch.setattr(ControlIds, "issue", defect)
    _, plastic_id = await pincontrol_face.plastic()
    answer = await pincontrol_face.ask(plastic_id)
    assert outcomes.failure(answer) == (500, "INTERNAL", "UNEXPECTED_ERROR")
    assert PAN not in answer.text
    monkeypatch.setattr(ControlTokens, "read", defect)
    page = await pincontrol_face.webview("x")
    assert outcomes.tells_app(page, 500)
    assert PAN not in page.text


async def test_a_stored_pin_that_was_tampered_with_is_not_shown(
    pincontrol_face: PinControlFace, caplog: pytest.LogCaptureFixture
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    control_id = await pincontrol_face.control_id(plastic_id)
    pincontrol_face.sql(
        "UPDATE cards SET sealed_pin = set_byte(sealed_pin, 20, 255 - get_byte(sealed_pin, 20))"
        " WHERE card_id = %s",
        card_id,
    )
    answer = await pincontrol_face.view(control_id)
    assert outcomes.failure(answer) == (500, "INTERNAL", "UNEXPECTED_ERROR")
    assert "alarm.seal_broken" in [record.message for record in caplog.records]
    failed = [row[:4] for row in pincontrol_face.audit(answer) if row[0] == "pin.get.failed"]
    assert failed == [("pin.get.failed", card_id, backends.USER, "SEAL_BROKEN")]


async def test_no_id_session_or_password_is_logged_and_a_refusals_id_is(
    pincontrol_face: PinControlFace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    _, plastic_id = await pincontrol_face.plastic()
    caplog.clear()
    view, set_ = await pincontrol_face.control_ids(plastic_id)
    await pincontrol_face.webview(view)
    await pincontrol_face.frame(backends.FRAME_KEY)
    await pincontrol_face.view(view)
    page = (await pincontrol_face.open(set_)).json() | {"controlToken": set_}
    jwe = page_jwe(page, "5938")
    await pincontrol_face.post("submit", **submission(page, jwe))
    answers = [
        await pincontrol_face.view(view),
        await pincontrol_face.ask(plastic_id, password="not the password"),
        await pincontrol_face.ask(plastic_id, "NONE"),
        await pincontrol_face.ask("1"),
    ]
    ours = [record for record in caplog.records if record.name.startswith("cms")]
    lines = "\n".join(JsonLines().format(record) + str(record.__dict__) for record in ours)
    for answer in answers:
        assert answer.json()["id"] in lines
    for secret in (view, set_, page["session"], jwe, SECRET, "not the password", "clerk 7"):
        assert secret not in lines


async def test_the_cardholder_listener_has_both_faces(
    database_url: str, tmp_path: Path, vault: Vault
) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    given: dict[str, Any] = {
        "cardholder_url": "https://cards.test",
        "control_token_key_file": key,
    }
    async with running(database_url, tmp_path, vault, **given) as application:
        cardholder, d1 = (application.listeners[name] for name in ("cardholder", "d1"))
        assert isinstance(cardholder, RequestLog)
        transport = httpx.ASGITransport(cardholder, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://cards.test") as http:
            path = "/pincontrol/v2/plastic/1?auditUser=x"
            assert (
                outcomes.failure(await http.post(path, headers=basic("nobody0001-x", "x")))[0]
                == 401
            )
            assert outcomes.is_ended(await http.get("/pincontrol/pin"))
            for other in ("/v1/card/status", "/pincontrolx", "/pincontrol", "/PINCONTROL/pin"):
                assert (await http.get(other)).json().keys() == {"message"}
            assert (await http.post(TOKEN_PATH)).status_code == 404
        transport = httpx.ASGITransport(d1, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://d1.test") as http:
            assert (await http.post(path)).status_code in (401, 404)
            assert "pinURL" not in (await http.get("/pincontrol/pin")).text
    assert run_sql(database_url, "SELECT * FROM control_tokens") == []
