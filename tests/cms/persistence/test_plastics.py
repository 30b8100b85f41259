"""Plastics, ids of 30 seconds and who asked, in the database."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from psycopg.errors import UniqueViolation

from cms.domain.cards import CardState, Verb
from cms.domain.control import Plastic
from cms.domain.errors import CardNotFound, ControlEnded
from cms.domain.records import Actor
from cms.services.cardholder.control_tokens import new_session
from hsm.port import CardRef, Face, Purpose, SealedRecord
from tests.cms.persistence.stored_tokens import (
    CARD,
    CHANGE,
    ISSUER_ID,
    OTHER_CARD,
    OpenSession,
    StoredTokens,
    add_card,
    grant,
    opened,
)
from tests.issuer_records import run_sql

pytestmark = pytest.mark.anyio
VIEW, SET = Purpose.VIEW, Purpose.SET
HERE = Face.PINCONTROL
ASKED = Actor("testbank01-server", "call-7", "clerk 7", "0000-error")


@pytest.fixture
async def stored(database_url: str) -> AsyncIterator[StoredTokens]:
    async with opened(database_url) as stored:
        yield stored


async def issue(stored: StoredTokens, purpose: Purpose) -> str:
    asked = replace(grant(purpose, HERE), audit_user="clerk 7")
    return (await stored.issue(asked, ASKED)).control_token


async def session(stored: StoredTokens) -> OpenSession:
    return await stored.open(await issue(stored, SET), SET, HERE)


def audit(stored: StoredTokens, event: str) -> list[tuple[object, ...]]:
    return run_sql(
        stored.url,
        "SELECT card_id, actor, reason, audit_user, error_id FROM audit_events WHERE event = %s"
        " ORDER BY event_id",
        event,
    )


def with_pin(stored: StoredTokens) -> None:
    run_sql(stored.url, "UPDATE cards SET counter = 1, pin_type = 'ISO0', sealed_pin = 'a PIN'")
    run_sql(
        stored.url,
        "INSERT INTO pin_changes (issuer_id, card_id, counter, actor, request_key)"
        " SELECT issuer_id, card_id, 1, 'd1', 'key' FROM cards",
    )


def produce(stored: StoredTokens, value: str = "true") -> None:
    run_sql(
        stored.url,
        "UPDATE cards SET personalised = %s::boolean WHERE card_id = 'card-1'",
        value,
    )


async def test_a_plastic_is_found_by_its_number_and_issuer(
    stored: StoredTokens,
) -> None:
    run_sql(stored.url, "UPDATE cards SET plastic_id = '12' WHERE card_id = 'card-1'")
    found = await stored.control_store.plastic(ISSUER_ID, "12")
    record = SealedRecord(b"sealed record")
    assert found == Plastic(ISSUER_ID, "card-1", CardState.ACTIVE, False, None, 0, record)
    with_pin(stored)
    produce(stored)
    found = await stored.control_store.plastic(ISSUER_ID, "12")
    assert (found.personalised, found.pin_type) == (True, "ISO0")
    for issuer_id, plastic_id in (("testbank02", "12"), (ISSUER_ID, "1"), (ISSUER_ID, "012")):
        with pytest.raises(CardNotFound):
            await stored.control_store.plastic(issuer_id, plastic_id)


async def test_a_number_names_one_plastic_of_an_issuer(stored: StoredTokens) -> None:
    numbered = "UPDATE cards SET plastic_id = '12' WHERE card_id = %s"
    run_sql(stored.url, numbered, "card-1")
    with pytest.raises(UniqueViolation):
        run_sql(stored.url, numbered, "card-2")
    run_sql(stored.url, "INSERT INTO issuers (issuer_id, name) VALUES ('testbank02', 'B bank')")
    run_sql(
        stored.url,
        "INSERT INTO cards (issuer_id, card_id, state, sealed_record, last_four, expiry,"
        " psn, plastic_id)"
        " VALUES ('testbank02', 'card-1', 'active', '', '1111', '1230', 0, '12')",
    )


async def test_who_asked_is_recorded_at_issue_and_when_set(
    stored: StoredTokens,
) -> None:
    with_pin(stored)
    view = await issue(stored, VIEW)
    await stored.control_store.consume(view, VIEW, HERE)
    page = await session(stored)
    # The page knows nobody: what counts is who asked for its id.
    assert await stored.control_store.change_pin(
        *(CARD, await stored.read(), CHANGE, b"a request", page.session),
        Actor("testbank01-server", "call-8"),
    )
    actor = ("card-1", "testbank01-server")
    assert audit(stored, "control.issued") == [
        (*actor, "pincontrol view", "clerk 7", None),
        (*actor, "pincontrol set", "clerk 7", None),
    ]
    assert audit(stored, "pin.set") == [(*actor, "pincontrol", "clerk 7", None)]


async def test_a_refusal_is_recorded_with_who_asked_and_what_it_was_called(
    stored: StoredTokens,
) -> None:
    await stored.store.refuse(ISSUER_ID, "card-1", Verb.SET_PIN, "A_REASON", ASKED)
    await stored.store.refuse(ISSUER_ID, None, "control", "A_REASON", ASKED)
    who = ("testbank01-server", "A_REASON", "clerk 7", "0000-error")
    assert audit(stored, "pin.set.refused") == [("card-1", *who)]
    assert audit(stored, "control.refused") == [(None, *who)]


async def test_an_image_may_begin_a_session_that_ends_with_the_text(
    stored: StoredTokens,
) -> None:
    with_pin(stored)
    control_token = await issue(stored, VIEW)
    secret = new_session(control_token)
    consumed = await stored.control_store.consume(control_token, VIEW, HERE, secret)
    assert consumed.card.sealed_pin == b"a PIN"
    assert stored.ends() == [(None,)]
    assert await stored.control_store.read_session(secret, VIEW) == consumed.grant
    with pytest.raises(ControlEnded):
        await stored.control_store.read_session(secret, SET)
    with pytest.raises(ControlEnded):
        await stored.control_store.end_with_text(secret, Face.HOSTED)
    text = await stored.control_store.end_with_text(secret, HERE)
    assert text == consumed
    assert stored.ends() == [("shown",)]
    with pytest.raises(ControlEnded):
        await stored.control_store.end_with_text(secret, HERE)


async def test_without_a_session_an_image_is_all(stored: StoredTokens) -> None:
    with_pin(stored)
    await stored.control_store.consume(await issue(stored, VIEW), VIEW, HERE)
    assert stored.ends() == [("shown",)]
    assert stored.rows("SELECT session_hash, session_expires_at FROM control_tokens") == [
        (None, None)
    ]


async def test_of_50_that_ask_for_the_text_at_once_one_gets_it(
    stored: StoredTokens,
) -> None:
    with_pin(stored)
    control_token = await issue(stored, VIEW)
    secret = new_session(control_token)
    await stored.control_store.consume(control_token, VIEW, HERE, secret)
    asked = (stored.control_store.end_with_text(secret, HERE) for _ in range(50))
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(not isinstance(outcome, ControlEnded) for outcome in outcomes) == 1


async def test_a_session_that_sets_hands_out_no_text(stored: StoredTokens) -> None:
    with_pin(stored)
    page = await session(stored)
    with pytest.raises(ControlEnded):
        await stored.control_store.end_with_text(page.session, HERE)
    assert stored.ends() == [(None,)]


async def test_text_is_over_with_its_time_and_with_a_change(
    stored: StoredTokens,
) -> None:
    with_pin(stored)
    for end in ("time", "change"):
        control_token = await issue(stored, VIEW)
        secret = new_session(control_token)
        await stored.control_store.consume(control_token, VIEW, HERE, secret)
        if end == "time":
            stored.age(300)
        else:
            await stored.change_by_d1()
        with pytest.raises(ControlEnded):
            await stored.control_store.end_with_text(secret, HERE)


async def test_no_pin_is_stored_once_a_card_is_personalised(
    stored: StoredTokens,
) -> None:
    page, read = await session(stored), await stored.read()
    assert read.personalised is False
    produce(stored)
    before = stored.dump()
    finish = (CARD, read, CHANGE, b"a request", page.session, ASKED)
    assert not await stored.control_store.change_pin(*finish)
    assert stored.dump() == before
    produce(stored, "false")
    assert await stored.control_store.change_pin(*finish)


async def test_a_hosted_page_and_d1_set_pins_of_personalised_cards(
    stored: StoredTokens,
) -> None:
    page = await stored.session(Face.HOSTED)
    produce(stored)
    assert (await stored.read()).personalised is True
    assert await stored.finish(page.session)
    await stored.change_by_d1()


async def test_a_card_that_is_activated_was_personalised(
    stored: StoredTokens,
) -> None:
    card = CardRef(ISSUER_ID, "card-3")
    add_card(stored.url, card, state="inactive")
    personalised = "SELECT card_id FROM cards WHERE personalised"
    assert run_sql(stored.url, personalised) == []
    await stored.store.activate(card, ASKED)
    await stored.store.activate(CARD, ASKED)  # it was active
    assert run_sql(stored.url, personalised) == [("card-3",)]


async def test_another_cards_production_is_nothing_to_this_one(
    stored: StoredTokens,
) -> None:
    page, read = await session(stored), await stored.read()
    run_sql(
        stored.url,
        "UPDATE cards SET personalised = true WHERE card_id = %s",
        OTHER_CARD.card_id,
    )
    assert await stored.control_store.change_pin(
        CARD, read, CHANGE, b"a request", page.session, ASKED
    )
