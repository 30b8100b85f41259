"""Plastics, ids of 30 seconds and who asked, in the database."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from psycopg.errors import CheckViolation, UniqueViolation

from cms.domain.cards import CardState, Verb
from cms.domain.control import Face, Plastic, Purpose
from cms.domain.errors import CardNotFound, ControlEnded
from cms.persistence.store import Actor
from cms.services.control_tokens import OpenSession, new_session
from hsm.port import CardRef
from tests.bank import run_sql
from tests.cms.services import till as tills
from tests.cms.services.till import CARD, CHANGE, ISSUER_ID, OTHER_CARD, Till, grant

pytestmark = pytest.mark.anyio
VIEW, SET = Purpose.VIEW, Purpose.SET
HERE = Face.PINCONTROL
ASKED = Actor("testbank01-server", "call-7", "clerk 7", "0000-error")


@pytest.fixture
async def till(database_url: str) -> AsyncIterator[Till]:
    async with tills.opened(database_url) as till:
        yield till


async def issue(till: Till, purpose: Purpose) -> str:
    asked = replace(grant(purpose, HERE), audit_user="clerk 7")
    return (await till.tokens.issue(asked, ASKED)).token


async def session(till: Till) -> OpenSession:
    return await till.tokens.open(await issue(till, SET), SET, HERE)


def audit(till: Till, event: str) -> list[tuple[object, ...]]:
    return run_sql(
        till.url,
        "SELECT card_id, actor, reason, audit_user, error_id FROM audit_events WHERE event = %s"
        " ORDER BY event_id",
        event,
    )


def with_pin(till: Till) -> None:
    run_sql(till.url, "UPDATE cards SET counter = 1, pin_type = 'ISO0', sealed_pin = 'a PIN'")
    run_sql(
        till.url,
        "INSERT INTO pin_changes (issuer_id, card_id, counter, actor, request_key)"
        " SELECT issuer_id, card_id, 1, 'd1', 'key' FROM cards",
    )


def produce(till: Till, value: str = "true") -> None:
    run_sql(till.url, "UPDATE cards SET produced = %s::boolean WHERE card_id = 'card-1'", value)


async def test_a_plastic_is_found_by_its_number_and_issuer(till: Till) -> None:
    run_sql(till.url, "UPDATE cards SET plastic_id = '12' WHERE card_id = 'card-1'")
    found = await till.tokens.plastic(ISSUER_ID, "12")
    assert found == Plastic(ISSUER_ID, "card-1", CardState.ACTIVE, False, None)
    with_pin(till)
    produce(till)
    found = await till.tokens.plastic(ISSUER_ID, "12")
    assert (found.produced, found.pin_type) == (True, "ISO0")
    for issuer_id, plastic_id in (("testbank02", "12"), (ISSUER_ID, "1"), (ISSUER_ID, "012")):
        with pytest.raises(CardNotFound):
            await till.tokens.plastic(issuer_id, plastic_id)


async def test_a_number_names_one_plastic_of_an_issuer(till: Till) -> None:
    numbered = "UPDATE cards SET plastic_id = '12' WHERE card_id = %s"
    run_sql(till.url, numbered, "card-1")
    with pytest.raises(UniqueViolation):
        run_sql(till.url, numbered, "card-2")
    run_sql(till.url, "INSERT INTO issuers (issuer_id, name) VALUES ('testbank02', 'B bank')")
    run_sql(
        till.url,
        "INSERT INTO cards (issuer_id, card_id, state, sealed_pan, last_four, expiry,"
        " sequence_number, plastic_id)"
        " VALUES ('testbank02', 'card-1', 'active', '', '1111', '1230', 0, '12')",
    )


async def test_a_frame_key_names_one_client_and_hiding_has_bounds(till: Till) -> None:
    keyed = "UPDATE clients SET frame_key = 'testbank01-f' WHERE client_id = %s"
    run_sql(till.url, keyed, tills.APP)
    with pytest.raises(UniqueViolation):
        run_sql(till.url, keyed, tills.OTHER_APP)
    for seconds in (4, 121):
        with pytest.raises(CheckViolation):
            run_sql(till.url, "UPDATE clients SET hide_seconds = %s", seconds)


async def test_who_asked_is_recorded_at_issue_when_seen_and_when_set(till: Till) -> None:
    with_pin(till)
    view = await issue(till, VIEW)
    await till.tokens.burn(view, VIEW, HERE, ASKED)
    opened = await session(till)
    # The page knows nobody: what counts is who asked for its id.
    assert await till.tokens.finish(
        *(opened.session, CARD, await till.read(), CHANGE, b"a request"),
        Actor("testbank01-server", "call-8"),
    )
    actor = ("card-1", "testbank01-server")
    assert audit(till, "control.issued") == [
        (*actor, "pincontrol view", "clerk 7", None),
        (*actor, "pincontrol set", "clerk 7", None),
    ]
    assert audit(till, "pin.get") == [(*actor, "pincontrol", "clerk 7", None)]
    assert audit(till, "pin.set") == [(*actor, "pincontrol", "clerk 7", None)]


async def test_a_refusal_is_recorded_with_who_asked_and_what_it_was_called(till: Till) -> None:
    await till.store.refuse(ISSUER_ID, "card-1", Verb.SET_PIN, "A_REASON", ASKED)
    await till.store.refuse(ISSUER_ID, None, "control", "A_REASON", ASKED)
    who = ("testbank01-server", "A_REASON", "clerk 7", "0000-error")
    assert audit(till, "pin.set.refused") == [("card-1", *who)]
    assert audit(till, "control.refused") == [(None, *who)]


async def test_an_image_may_begin_a_session_that_ends_with_the_text(till: Till) -> None:
    with_pin(till)
    secret = new_session()
    burned = await till.tokens.burn(await issue(till, VIEW), VIEW, HERE, ASKED, secret)
    assert burned.card.sealed_pin == b"a PIN"
    assert till.ends() == [(None,)]
    assert await till.tokens.session(secret, VIEW) == burned.grant
    with pytest.raises(ControlEnded):
        await till.tokens.session(secret, SET)
    with pytest.raises(ControlEnded):
        await till.tokens.end_with_text(secret, Face.HOSTED, ASKED)
    text = await till.tokens.end_with_text(secret, HERE, ASKED)
    assert text == burned
    assert till.ends() == [("shown",)]
    with pytest.raises(ControlEnded):
        await till.tokens.end_with_text(secret, HERE, ASKED)
    assert [row[2] for row in audit(till, "pin.get")] == ["pincontrol", "pincontrol text"]


async def test_without_a_session_an_image_is_all(till: Till) -> None:
    with_pin(till)
    await till.tokens.burn(await issue(till, VIEW), VIEW, HERE, ASKED)
    assert till.ends() == [("shown",)]
    assert till.rows("SELECT session_hash, session_expires_at FROM control_tokens") == [
        (None, None)
    ]


async def test_of_50_that_ask_for_the_text_at_once_one_gets_it(till: Till) -> None:
    with_pin(till)
    secret = new_session()
    await till.tokens.burn(await issue(till, VIEW), VIEW, HERE, ASKED, secret)
    asked = (till.tokens.end_with_text(secret, HERE, ASKED) for _ in range(50))
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(not isinstance(outcome, ControlEnded) for outcome in outcomes) == 1
    assert len(audit(till, "pin.get")) == 2


async def test_a_session_that_sets_hands_out_no_text(till: Till) -> None:
    with_pin(till)
    opened = await session(till)
    with pytest.raises(ControlEnded):
        await till.tokens.end_with_text(opened.session, HERE, ASKED)
    assert till.ends() == [(None,)]


async def test_text_is_over_with_its_time_and_with_a_change(till: Till) -> None:
    with_pin(till)
    for end in ("time", "change"):
        secret = new_session()
        await till.tokens.burn(await issue(till, VIEW), VIEW, HERE, ASKED, secret)
        if end == "time":
            till.age(300)
        else:
            await till.change_by_d1()
        with pytest.raises(ControlEnded):
            await till.tokens.end_with_text(secret, HERE, ASKED)


@pytest.mark.parametrize(
    ("state", "shown"), [("inactive", 1), ("active", 1), ("blocked", 0), ("closed", 0)]
)
async def test_what_is_recorded_as_seen_is_what_the_table_allows(
    till: Till, state: str, shown: int
) -> None:
    with_pin(till)
    run_sql(till.url, "UPDATE cards SET state = %s", state)
    await till.tokens.burn(await issue(till, VIEW), VIEW, HERE, ASKED)
    assert len(audit(till, "pin.get")) == shown


async def test_no_pin_is_stored_once_a_card_is_produced(till: Till) -> None:
    opened, read = await session(till), await till.read()
    assert read.produced is False
    produce(till)
    before = till.dump()
    finish = (opened.session, CARD, read, CHANGE, b"a request", ASKED)
    assert not await till.tokens.finish(*finish)
    assert till.dump() == before
    produce(till, "false")
    assert await till.tokens.finish(*finish)


async def test_a_hosted_page_and_d1_set_pins_of_produced_cards(till: Till) -> None:
    opened = await till.session(Face.HOSTED)
    produce(till)
    assert (await till.read()).produced is True
    assert await till.finish(opened.session)
    await till.change_by_d1()


async def test_a_card_that_is_activated_was_produced(till: Till) -> None:
    card = CardRef(ISSUER_ID, "card-3")
    tills.add_card(till.url, card, state="inactive")
    produced = "SELECT card_id FROM cards WHERE produced"
    assert run_sql(till.url, produced) == []
    await till.store.activate(card, ASKED)
    await till.store.activate(CARD, ASKED)  # it was active
    assert run_sql(till.url, produced) == [("card-3",)]


async def test_another_cards_production_is_nothing_to_this_one(till: Till) -> None:
    opened, read = await session(till), await till.read()
    run_sql(till.url, "UPDATE cards SET produced = true WHERE card_id = %s", OTHER_CARD.card_id)
    assert await till.tokens.finish(opened.session, CARD, read, CHANGE, b"a request", ASKED)
