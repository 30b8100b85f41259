"""Plastics, ids of 30 seconds and who asked, in the database."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from psycopg.errors import CheckViolation, UniqueViolation

from cms.domain.cards import CardState, Verb
from cms.domain.control import Face, Plastic, Purpose
from cms.domain.errors import CardNotFound, ControlEnded
from cms.domain.records import Actor
from cms.services.cardholder.control_tokens import OpenSession, new_session
from hsm.port import CardRef
from tests.cms.services.cardholder import control_token_service
from tests.cms.services.cardholder.control_token_service import (
    CARD,
    CHANGE,
    ISSUER_ID,
    OTHER_CARD,
    ControlTokenService,
    grant,
)
from tests.issuer_records import run_sql

pytestmark = pytest.mark.anyio
VIEW, SET = Purpose.VIEW, Purpose.SET
HERE = Face.PINCONTROL
ASKED = Actor("testbank01-server", "call-7", "clerk 7", "0000-error")


@pytest.fixture
async def token_service(database_url: str) -> AsyncIterator[ControlTokenService]:
    async with control_token_service.opened(database_url) as token_service:
        yield token_service


async def issue(token_service: ControlTokenService, purpose: Purpose) -> str:
    asked = replace(grant(purpose, HERE), audit_user="clerk 7")
    return (await token_service.tokens.issue(asked, ASKED)).token


async def session(token_service: ControlTokenService) -> OpenSession:
    return await token_service.tokens.open(await issue(token_service, SET), SET, HERE)


def audit(token_service: ControlTokenService, event: str) -> list[tuple[object, ...]]:
    return run_sql(
        token_service.url,
        "SELECT card_id, actor, reason, audit_user, error_id FROM audit_events WHERE event = %s"
        " ORDER BY event_id",
        event,
    )


def with_pin(token_service: ControlTokenService) -> None:
    run_sql(
        token_service.url, "UPDATE cards SET counter = 1, pin_type = 'ISO0', sealed_pin = 'a PIN'"
    )
    run_sql(
        token_service.url,
        "INSERT INTO pin_changes (issuer_id, card_id, counter, actor, request_key)"
        " SELECT issuer_id, card_id, 1, 'd1', 'key' FROM cards",
    )


def produce(token_service: ControlTokenService, value: str = "true") -> None:
    run_sql(
        token_service.url,
        "UPDATE cards SET personalised = %s::boolean WHERE card_id = 'card-1'",
        value,
    )


async def test_a_plastic_is_found_by_its_number_and_issuer(
    token_service: ControlTokenService,
) -> None:
    run_sql(token_service.url, "UPDATE cards SET plastic_id = '12' WHERE card_id = 'card-1'")
    found = await token_service.tokens.plastic(ISSUER_ID, "12")
    assert found == Plastic(ISSUER_ID, "card-1", CardState.ACTIVE, False, None)
    with_pin(token_service)
    produce(token_service)
    found = await token_service.tokens.plastic(ISSUER_ID, "12")
    assert (found.personalised, found.pin_type) == (True, "ISO0")
    for issuer_id, plastic_id in (("testbank02", "12"), (ISSUER_ID, "1"), (ISSUER_ID, "012")):
        with pytest.raises(CardNotFound):
            await token_service.tokens.plastic(issuer_id, plastic_id)


async def test_a_number_names_one_plastic_of_an_issuer(token_service: ControlTokenService) -> None:
    numbered = "UPDATE cards SET plastic_id = '12' WHERE card_id = %s"
    run_sql(token_service.url, numbered, "card-1")
    with pytest.raises(UniqueViolation):
        run_sql(token_service.url, numbered, "card-2")
    run_sql(
        token_service.url, "INSERT INTO issuers (issuer_id, name) VALUES ('testbank02', 'B bank')"
    )
    run_sql(
        token_service.url,
        "INSERT INTO cards (issuer_id, card_id, state, sealed_pan, last_four, expiry,"
        " psn, plastic_id)"
        " VALUES ('testbank02', 'card-1', 'active', '', '1111', '1230', 0, '12')",
    )


async def test_a_frame_key_names_one_client_and_hiding_has_bounds(
    token_service: ControlTokenService,
) -> None:
    keyed = "UPDATE clients SET frame_key = 'testbank01-f' WHERE client_id = %s"
    run_sql(token_service.url, keyed, control_token_service.APP)
    with pytest.raises(UniqueViolation):
        run_sql(token_service.url, keyed, control_token_service.OTHER_APP)
    for seconds in (4, 121):
        with pytest.raises(CheckViolation):
            run_sql(token_service.url, "UPDATE clients SET hide_seconds = %s", seconds)


async def test_who_asked_is_recorded_at_issue_when_seen_and_when_set(
    token_service: ControlTokenService,
) -> None:
    with_pin(token_service)
    view = await issue(token_service, VIEW)
    await token_service.tokens.consume(view, VIEW, HERE, ASKED)
    opened = await session(token_service)
    # The page knows nobody: what counts is who asked for its id.
    assert await token_service.tokens.finish(
        *(opened.session, CARD, await token_service.read(), CHANGE, b"a request"),
        Actor("testbank01-server", "call-8"),
    )
    actor = ("card-1", "testbank01-server")
    assert audit(token_service, "control.issued") == [
        (*actor, "pincontrol view", "clerk 7", None),
        (*actor, "pincontrol set", "clerk 7", None),
    ]
    assert audit(token_service, "pin.get") == [(*actor, "pincontrol", "clerk 7", None)]
    assert audit(token_service, "pin.set") == [(*actor, "pincontrol", "clerk 7", None)]


async def test_a_refusal_is_recorded_with_who_asked_and_what_it_was_called(
    token_service: ControlTokenService,
) -> None:
    await token_service.store.refuse(ISSUER_ID, "card-1", Verb.SET_PIN, "A_REASON", ASKED)
    await token_service.store.refuse(ISSUER_ID, None, "control", "A_REASON", ASKED)
    who = ("testbank01-server", "A_REASON", "clerk 7", "0000-error")
    assert audit(token_service, "pin.set.refused") == [("card-1", *who)]
    assert audit(token_service, "control.refused") == [(None, *who)]


async def test_an_image_may_begin_a_session_that_ends_with_the_text(
    token_service: ControlTokenService,
) -> None:
    with_pin(token_service)
    secret = new_session()
    consumed = await token_service.tokens.consume(
        await issue(token_service, VIEW), VIEW, HERE, ASKED, secret
    )
    assert consumed.card.sealed_pin == b"a PIN"
    assert token_service.ends() == [(None,)]
    assert await token_service.tokens.session(secret, VIEW) == consumed.grant
    with pytest.raises(ControlEnded):
        await token_service.tokens.session(secret, SET)
    with pytest.raises(ControlEnded):
        await token_service.tokens.end_with_text(secret, Face.HOSTED, ASKED)
    text = await token_service.tokens.end_with_text(secret, HERE, ASKED)
    assert text == consumed
    assert token_service.ends() == [("shown",)]
    with pytest.raises(ControlEnded):
        await token_service.tokens.end_with_text(secret, HERE, ASKED)
    assert [row[2] for row in audit(token_service, "pin.get")] == ["pincontrol", "pincontrol text"]


async def test_without_a_session_an_image_is_all(token_service: ControlTokenService) -> None:
    with_pin(token_service)
    await token_service.tokens.consume(await issue(token_service, VIEW), VIEW, HERE, ASKED)
    assert token_service.ends() == [("shown",)]
    assert token_service.rows("SELECT session_hash, session_expires_at FROM control_tokens") == [
        (None, None)
    ]


async def test_of_50_that_ask_for_the_text_at_once_one_gets_it(
    token_service: ControlTokenService,
) -> None:
    with_pin(token_service)
    secret = new_session()
    await token_service.tokens.consume(await issue(token_service, VIEW), VIEW, HERE, ASKED, secret)
    asked = (token_service.tokens.end_with_text(secret, HERE, ASKED) for _ in range(50))
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(not isinstance(outcome, ControlEnded) for outcome in outcomes) == 1
    assert len(audit(token_service, "pin.get")) == 2


async def test_a_session_that_sets_hands_out_no_text(token_service: ControlTokenService) -> None:
    with_pin(token_service)
    opened = await session(token_service)
    with pytest.raises(ControlEnded):
        await token_service.tokens.end_with_text(opened.session, HERE, ASKED)
    assert token_service.ends() == [(None,)]


async def test_text_is_over_with_its_time_and_with_a_change(
    token_service: ControlTokenService,
) -> None:
    with_pin(token_service)
    for end in ("time", "change"):
        secret = new_session()
        await token_service.tokens.consume(
            await issue(token_service, VIEW), VIEW, HERE, ASKED, secret
        )
        if end == "time":
            token_service.age(300)
        else:
            await token_service.change_by_d1()
        with pytest.raises(ControlEnded):
            await token_service.tokens.end_with_text(secret, HERE, ASKED)


@pytest.mark.parametrize(
    ("state", "shown"), [("inactive", 1), ("active", 1), ("blocked", 0), ("closed", 0)]
)
async def test_what_is_recorded_as_seen_is_what_the_table_allows(
    token_service: ControlTokenService, state: str, shown: int
) -> None:
    with_pin(token_service)
    run_sql(token_service.url, "UPDATE cards SET state = %s", state)
    await token_service.tokens.consume(await issue(token_service, VIEW), VIEW, HERE, ASKED)
    assert len(audit(token_service, "pin.get")) == shown


async def test_no_pin_is_stored_once_a_card_is_personalised(
    token_service: ControlTokenService,
) -> None:
    opened, read = await session(token_service), await token_service.read()
    assert read.personalised is False
    produce(token_service)
    before = token_service.dump()
    finish = (opened.session, CARD, read, CHANGE, b"a request", ASKED)
    assert not await token_service.tokens.finish(*finish)
    assert token_service.dump() == before
    produce(token_service, "false")
    assert await token_service.tokens.finish(*finish)


async def test_a_hosted_page_and_d1_set_pins_of_personalised_cards(
    token_service: ControlTokenService,
) -> None:
    opened = await token_service.session(Face.HOSTED)
    produce(token_service)
    assert (await token_service.read()).personalised is True
    assert await token_service.finish(opened.session)
    await token_service.change_by_d1()


async def test_a_card_that_is_activated_was_personalised(
    token_service: ControlTokenService,
) -> None:
    card = CardRef(ISSUER_ID, "card-3")
    control_token_service.add_card(token_service.url, card, state="inactive")
    personalised = "SELECT card_id FROM cards WHERE personalised"
    assert run_sql(token_service.url, personalised) == []
    await token_service.store.activate(card, ASKED)
    await token_service.store.activate(CARD, ASKED)  # it was active
    assert run_sql(token_service.url, personalised) == [("card-3",)]


async def test_another_cards_production_is_nothing_to_this_one(
    token_service: ControlTokenService,
) -> None:
    opened, read = await session(token_service), await token_service.read()
    run_sql(
        token_service.url,
        "UPDATE cards SET personalised = true WHERE card_id = %s",
        OTHER_CARD.card_id,
    )
    assert await token_service.tokens.finish(
        opened.session, CARD, read, CHANGE, b"a request", ASKED
    )
