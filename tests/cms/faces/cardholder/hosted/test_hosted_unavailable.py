"""Database or vault unavailable at each step: nothing shown, stored, or shown twice."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from hsm.errors import HsmError, MessageRefused, VaultUnavailable
from tests.cms.faces.cardholder.hosted.hosted_face import HostedFace, opened
from tests.cms.faces.cardholder.hosted.jwes import page_jwe, submission
from tests.cms.faces.d1_face import D1Face
from tests.cms.faces.losing import Losing
from tests.cms.persistence.opened_store import opened_store
from tests.in_process_vault import NoVault

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def losing(d1_face: D1Face) -> AsyncIterator[tuple[HostedFace, Losing]]:
    async with (
        opened_store(Losing.connect(d1_face.url)) as store,
        opened(d1_face, store=store) as hosted_face,
    ):
        yield hosted_face, store


def is_later(answer: httpx.Response) -> bool:
    """Tell whether an answer is the one of a service that lacks something, and right."""
    if answer.status_code != 503:
        return False
    assert int(answer.headers["retry-after"]) > 0
    if "x-pin-result" in answer.headers:
        assert answer.headers["x-pin-result"] == "failed"
    else:
        assert answer.json() == {"message": "Internal server error"}
    return True


@pytest.mark.parametrize("purpose", ["pin", "set-pin"])
async def test_a_control_token_is_issued_or_it_is_503(
    with_apps: D1Face, purpose: str, late: bool
) -> None:
    async with losing(with_apps) as (hosted_face, store):
        _, holder = await hosted_face.holder()
        await hosted_face.control_token(purpose, holder)
        for turn in (1, 2):
            store.lose(turn, late=late)
            assert is_later(await hosted_face.ask(purpose, holder))
        store.lose(3, late=late)
        assert (await hosted_face.ask(purpose, holder)).status_code == 200


async def test_an_image_is_shown_at_most_once_whatever_is_lost(
    with_apps: D1Face, late: bool
) -> None:
    async with losing(with_apps) as (hosted_face, store):
        card_id, holder = await hosted_face.holder()
        await hosted_face.image(await hosted_face.control_token("pin", holder))
        for turn in (1, 2, 3):
            control_token = await hosted_face.control_token("pin", holder)
            store.lose(turn, late=late)
            assert is_later(await hosted_face.image(control_token))
            # The third is the audit row, without which nothing is shown.
            consumed = (late and turn == 2) or turn == 3
            assert hosted_face.controls(card_id)[-1] == (consumed, "shown" if consumed else None)
            again = await hosted_face.image(control_token)
            assert again.headers["x-pin-result"] == ("ended" if consumed else "shown")
        control_token = await hosted_face.control_token("pin", holder)
        store.lose(4, late=late)
        shown = await hosted_face.image(control_token)
        assert shown.headers["x-pin-result"] == "shown"


async def test_a_session_is_opened_at_most_once_whatever_is_lost(
    with_apps: D1Face, late: bool
) -> None:
    async with losing(with_apps) as (hosted_face, store):
        _, holder = await hosted_face.holder()
        await hosted_face.session(holder)
        for turn in (1, 2):
            control_token = await hosted_face.control_token("set-pin", holder)
            store.lose(turn, late=late)
            assert is_later(await hosted_face.post("session", token=control_token))
            again = await hosted_face.post("session", token=control_token)
            assert again.status_code == (410 if late and turn == 2 else 200)


def good(opened: dict[str, Any]) -> str:
    return page_jwe(opened, "5938")


def weak(opened: dict[str, Any]) -> str:
    return page_jwe(opened, "1111")


def wrong(opened: dict[str, Any]) -> str:
    return page_jwe(opened, "5938", grantId="of another grant")


@pytest.mark.parametrize(
    ("make", "steps", "status"), [(good, 3, 204), (weak, 4, 422), (wrong, 3, 410)]
)
async def test_a_submit_that_loses_the_database_is_the_last_and_stores_at_most_once(
    with_apps: D1Face,
    make: Callable[[dict[str, Any]], str],
    steps: int,
    status: int,
    late: bool,
) -> None:
    async with losing(with_apps) as (hosted_face, store):
        card_id, holder = await hosted_face.holder()
        for turn in range(1, steps + 2):
            session = await hosted_face.session(holder)
            members = submission(session, make(session))
            before = hosted_face.d1_face.stored(card_id)
            store.lose(turn, late=late)
            sent = await hosted_face.post("submit", **members)
            if turn > steps:
                assert sent.status_code == status
                return
            assert is_later(sent)
            changed = late and make is good and turn == 3
            assert (hosted_face.d1_face.stored(card_id) != before) is changed
            if turn > 1:
                again = await hosted_face.post("submit", **submission(session, good(session)))
                assert again.status_code == 410
            assert (hosted_face.d1_face.stored(card_id) != before) is changed


@pytest.mark.parametrize("verb", ["extend", "cancel"])
async def test_a_session_is_extended_and_cancelled_or_it_is_503(
    with_apps: D1Face, verb: str
) -> None:
    async with losing(with_apps) as (hosted_face, store):
        card_id, holder = await hosted_face.holder()
        session = (await hosted_face.session(holder))["session"]
        for turn in (1, 2):
            store.lose(turn, late=False)
            assert is_later(await hosted_face.post(verb, session=session))
            assert hosted_face.controls(card_id) == [(True, None)]
        assert (await hosted_face.post(verb, session=session)).is_success


def broken(*_: object) -> None:
    raise KeyError("a defect")


async def test_a_defect_ends_the_session_as_a_failure_does(
    hosted_face: HostedFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    card_id, holder = await hosted_face.holder()
    session, before = await hosted_face.session(holder), hosted_face.d1_face.stored(card_id)
    members = submission(session, good(session))
    with monkeypatch.context() as patch:
        patch.setattr("cms.services.cardholder.set_page.require_cardholder_may", broken)
        sent = await hosted_face.post("submit", **members)
    assert (sent.status_code, sent.json()) == (500, {"message": "Internal server error"})
    assert (await hosted_face.post("submit", **members)).status_code == 410
    assert hosted_face.d1_face.stored(card_id) == before


# A vault that is unavailable, or hangs.


@pytest.mark.parametrize(
    "error", [VaultUnavailable("a test has no vault"), MessageRefused("of another release")]
)
async def test_without_a_vault_nothing_is_shown_and_nothing_is_stored(
    with_apps: D1Face, hosted_face: HostedFace, error: HsmError
) -> None:
    card_id, holder = await hosted_face.holder()
    session, before = await hosted_face.session(holder), hosted_face.d1_face.stored(card_id)
    members = submission(session, good(session))
    view, set_ = await hosted_face.control_tokens(holder)
    async with opened(with_apps, vault=NoVault(error)) as without:
        assert is_later(await without.ask("set-pin", holder))
        assert is_later(await without.post("session", token=set_))
        assert (await without.page(set_)).status_code == 200
        assert is_later(await without.image(view))
        assert is_later(await without.post("submit", **members))
    assert hosted_face.controls(card_id) == [(True, "failed"), (True, "shown"), (False, None)]
    assert (await hosted_face.image(view)).status_code == 410
    assert (await hosted_face.post("submit", **members)).status_code == 410
    assert (await hosted_face.post("session", token=set_)).status_code == 200
    assert hosted_face.d1_face.stored(card_id) == before
