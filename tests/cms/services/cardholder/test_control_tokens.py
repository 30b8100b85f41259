"""A control token is consumed once, by the database's clock, for what it was issued for."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID

import psycopg
import pytest

from cms.domain.cards import CardState
from cms.domain.control import (
    LIFE_SECONDS,
    LIVE_MAX,
    SESSION_SECONDS,
    SESSION_SECONDS_MAX,
    TRIES_MAX,
    EndReason,
    Face,
    Purpose,
)
from cms.domain.errors import CardNotFound, ControlEnded
from cms.domain.records import CardToRead, ConsumedToken
from cms.persistence.control_store import ControlStore
from cms.services.cardholder.control_tokens import ControlTokens, sid
from crypto.jose import base64url
from crypto.secret import Secret
from hsm.port import CardRef, PinBlockType, SealedPan
from tests.cms.services.cardholder import control_token_service
from tests.cms.services.cardholder.control_token_service import (
    ACTOR,
    APP,
    CARD,
    CHANGE,
    ISSUER_ID,
    KEY,
    OTHER_APP,
    OTHER_CARD,
    SEALED,
    ControlTokenService,
    grant,
)
from tests.issuer_records import run_sql

pytestmark = pytest.mark.anyio
AT_ONCE = 50
ROUNDS = 4
VIEW, SET = Purpose.VIEW, Purpose.SET
HOSTED, PINCONTROL = Face.HOSTED, Face.PINCONTROL


@pytest.fixture
async def token_service(database_url: str) -> AsyncIterator[ControlTokenService]:
    async with control_token_service.opened(database_url) as token_service:
        yield token_service


async def won(calls: list[Coroutine[Any, Any, object]]) -> int:
    """Run calls at once and count those that did not end in ``ControlEnded``."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, ControlEnded):
            raise result
    return sum(not isinstance(result, BaseException) for result in results)


# Issue


async def test_a_token_is_a_random_uuid_that_lives_as_long_as_its_face_says(
    token_service: ControlTokenService,
) -> None:
    for face, life in LIFE_SECONDS.items():
        issued = await token_service.tokens.issue(grant(face=face), ACTOR)
        assert str(UUID(issued.token, version=4)) == issued.token
        assert token_service.rows(
            "SELECT expires_at, issued_at FROM control_tokens ORDER BY issued_at"
        )[-1] == (issued.expires_at, issued.expires_at - timedelta(seconds=life))
        assert issued.token not in repr(issued)
    assert token_service.audit("control.issued") == [
        (CARD.card_id, APP, ACTOR.correlation_id, 0, "hosted view"),
        (CARD.card_id, APP, ACTOR.correlation_id, 0, "pincontrol view"),
    ]


async def test_looking_at_a_token_changes_nothing(token_service: ControlTokenService) -> None:
    token = await token_service.token(SET)
    before = token_service.dump()
    assert await token_service.tokens.peek(token) == grant(SET)
    assert token_service.dump() == before


async def test_a_card_that_does_not_exist_gets_no_token(token_service: ControlTokenService) -> None:
    with pytest.raises(CardNotFound):
        await token_service.token(card=CardRef(ISSUER_ID, "card-9"))
    assert token_service.rows("SELECT FROM control_tokens") == []
    assert token_service.audit("control.issued") == []


async def test_three_tokens_are_live_and_a_fourth_revokes_the_oldest(
    token_service: ControlTokenService,
) -> None:
    first, *others = [await token_service.token() for _ in range(LIVE_MAX + 1)]
    assert not await token_service.is_live(first)
    assert all([await token_service.is_live(token) for token in others])
    assert token_service.ends() == [("revoked",), *[(None,)] * LIVE_MAX]


async def test_each_card_purpose_and_client_has_tokens_of_its_own(
    token_service: ControlTokenService,
) -> None:
    token = await token_service.token()
    for _ in range(LIVE_MAX):
        await token_service.token(SET)
        await token_service.token(card=OTHER_CARD)
        await token_service.token(client_id=OTHER_APP)
    assert await token_service.is_live(token)


async def test_a_token_that_is_consumed_or_expired_takes_no_place(
    token_service: ControlTokenService,
) -> None:
    for _ in range(LIVE_MAX):
        await token_service.token(face=PINCONTROL)
    token_service.age(LIFE_SECONDS[PINCONTROL])
    cached = await token_service.token()
    for _ in range(2 * LIVE_MAX):
        await token_service.tokens.consume(await token_service.token(), VIEW, HOSTED, ACTOR)
    assert await token_service.is_live(cached)


async def test_of_tokens_that_are_issued_at_once_the_newest_three_are_live(
    token_service: ControlTokenService,
) -> None:
    with psycopg.connect(token_service.url) as other:
        other.execute("SELECT FROM cards FOR UPDATE")
        issues = [asyncio.create_task(token_service.token()) for _ in range(2 * LIVE_MAX)]
        await waiting(token_service, len(issues))
        # Each has begun: none sees what another issues.
    tokens = await asyncio.gather(*issues)
    assert token_service.ends() == [(None,)] * len(issues)
    assert sum([await token_service.is_live(token) for token in tokens]) == LIVE_MAX


async def waiting(token_service: ControlTokenService, count: int) -> None:
    """Wait until so many statements wait for a lock."""
    async with asyncio.timeout(30):
        while token_service.rows(  # noqa: ASYNC110 - nobody tells
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ) != [(count,)]:
            await asyncio.sleep(0.01)


async def test_rows_of_a_card_go_a_day_after_they_expired(
    token_service: ControlTokenService,
) -> None:
    await token_service.token()
    token_service.age(24 * 60 * 60)
    await token_service.token()
    assert len(token_service.ends()) == 2
    token_service.age(LIFE_SECONDS[HOSTED] + 60)
    await token_service.token()
    assert len(token_service.ends()) == 2


# Burn and open


async def test_consuming_hands_over_the_card_and_is_audited_in_the_same_commit(
    token_service: ControlTokenService,
) -> None:
    await token_service.change_by_d1()
    token = await token_service.token()
    assert await token_service.tokens.consume(token, VIEW, HOSTED, ACTOR) == ConsumedToken(
        grant(),
        CardToRead(CardState.ACTIVE, PinBlockType.ISO0, 1, 1, SealedPan(b"sealed PAN"), SEALED),
    )
    assert token_service.audit("pin.get") == [
        (CARD.card_id, APP, ACTOR.correlation_id, 1, "hosted")
    ]
    assert token_service.ends() == [("shown",)]
    with pytest.raises(ControlEnded):
        await token_service.tokens.consume(token, VIEW, HOSTED, ACTOR)


@pytest.mark.parametrize("what", ["state = 'blocked'", "pin_type = 'SECCOS'", "pin_type = NULL"])
async def test_a_pin_that_may_not_be_shown_is_not_audited_as_shown(
    token_service: ControlTokenService, what: str
) -> None:
    await token_service.change_by_d1()
    token = await token_service.token()
    run_sql(token_service.url, f"UPDATE cards SET {what}")
    assert await token_service.tokens.consume(token, VIEW, HOSTED, ACTOR)
    assert token_service.audit("pin.get") == []
    assert token_service.ends() == [("shown",)]


async def test_opening_makes_a_session_that_the_vault_knows_by_its_hash(
    token_service: ControlTokenService,
) -> None:
    opened = await token_service.session()
    assert opened.expires_in_seconds == SESSION_SECONDS[HOSTED]
    assert opened.grant == await token_service.tokens.session(opened.session, SET) == grant(SET)
    assert len(base64url.decode(opened.session)) == 32
    digest = hashlib.sha256(opened.session.encode()).digest()
    assert opened.sid == sid(opened.session) == base64url.encode(digest)
    assert opened.session not in repr(opened)
    assert opened.session != (await token_service.session()).session


Use = Callable[[ControlTokenService, str], Coroutine[Any, Any, object]]
USES: dict[str, tuple[Purpose, Use]] = {
    "burn": (
        VIEW,
        lambda token_service, token: token_service.tokens.consume(token, VIEW, HOSTED, ACTOR),
    ),
    "open": (SET, lambda token_service, token: token_service.tokens.open(token, SET, HOSTED)),
}


@pytest.mark.parametrize("name", USES)
async def test_of_50_redemptions_at_once_exactly_one_succeeds(
    token_service: ControlTokenService, name: str
) -> None:
    purpose, use = USES[name]
    await token_service.change_by_d1()
    for number in range(1, ROUNDS + 1):
        token = await token_service.token(purpose)
        assert await won([use(token_service, token) for _ in range(AT_ONCE)]) == 1
        assert len(token_service.audit("pin.get")) == (number if name == "burn" else 0)


async def test_a_token_is_consumed_or_opened_and_never_both(
    token_service: ControlTokenService,
) -> None:
    for _ in range(ROUNDS):
        token = await token_service.token()
        consume = [
            token_service.tokens.consume(token, VIEW, HOSTED, ACTOR) for _ in range(AT_ONCE // 2)
        ]
        view = [token_service.tokens.open(token, VIEW, HOSTED) for _ in range(AT_ONCE // 2)]
        both: list[Coroutine[Any, Any, object]] = [*consume, *view]
        assert await won(both) == 1


@pytest.mark.parametrize("face", Face)
async def test_a_token_expires_by_the_databases_clock(
    token_service: ControlTokenService, face: Face
) -> None:
    token = await token_service.token(face=face)
    token_service.age(LIFE_SECONDS[face] - 10)
    assert await token_service.is_live(token)
    token_service.age(10)
    assert not await token_service.is_live(token)
    with pytest.raises(ControlEnded):
        await token_service.tokens.consume(token, VIEW, face, ACTOR)


async def test_what_is_no_live_token_for_this_all_looks_alike(
    token_service: ControlTokenService,
) -> None:
    consumed, ended = await token_service.token(), await token_service.token()
    await token_service.tokens.consume(consumed, VIEW, HOSTED, ACTOR)
    await token_service.change_by_d1()
    expired = await token_service.token()
    token_service.age(LIFE_SECONDS[HOSTED])
    live = await token_service.token()
    before = token_service.dump()
    dead = (consumed, ended, expired, "", "\0", "\ud800", "x" * 10_000, live[:-1])
    others = [(purpose, face) for purpose, face in product(Purpose, Face)]
    cases = [*product(dead, others), *((live, other) for other in others[1:])]
    for token, (purpose, face) in cases:
        sent = token_service.store.statements
        for call in (
            token_service.tokens.consume(token, purpose, face, ACTOR),
            token_service.tokens.open(token, purpose, face),
        ):
            with pytest.raises(ControlEnded) as refused:
                await call
            assert refused.value.args == ()
        assert token_service.store.statements == sent + 2
    assert token_service.dump() == before
    assert await token_service.tokens.consume(live, VIEW, HOSTED, ACTOR)


async def test_a_token_may_be_written_in_capitals_as_some_platforms_do(
    token_service: ControlTokenService,
) -> None:
    for written in (str.upper, "{}\r\n".format):
        token = await token_service.token()
        assert await token_service.tokens.consume(written(token), VIEW, HOSTED, ACTOR)


async def test_a_token_for_viewing_sets_nothing(token_service: ControlTokenService) -> None:
    token = await token_service.token(VIEW)
    with pytest.raises(ControlEnded):
        await token_service.tokens.open(token, SET, HOSTED)
    opened = await token_service.tokens.open(token, VIEW, HOSTED)
    with pytest.raises(ControlEnded):
        await token_service.tokens.session(opened.session, SET)
    before = token_service.dump()
    assert not await token_service.finish(opened.session)
    assert token_service.dump() == before


# A change revokes


async def test_a_change_by_d1_ends_the_cards_tokens_and_sessions_and_no_others(
    token_service: ControlTokenService,
) -> None:
    tokens = [
        await token_service.token(purpose, face) for purpose, face in product(Purpose, Face)
    ] + [await token_service.token(client_id=OTHER_APP)]
    opened, elsewhere = await token_service.session(), await token_service.token(card=OTHER_CARD)
    assert all([await token_service.is_live(token) for token in tokens])
    await token_service.change_by_d1()
    assert not any([await token_service.is_live(token) for token in tokens])
    await no_session(token_service, opened.session)
    assert await token_service.is_live(elsewhere)
    assert await token_service.is_live(await token_service.token())


async def test_a_change_from_a_page_ends_the_cards_tokens_and_sessions(
    token_service: ControlTokenService,
) -> None:
    token, first, second = (
        await token_service.token(),
        await token_service.session(),
        await token_service.session(),
    )
    assert await token_service.finish(first.session)
    assert not await token_service.is_live(token)
    await no_session(token_service, second.session)


async def test_a_change_that_waited_for_an_issue_revokes_what_was_issued(
    token_service: ControlTokenService,
) -> None:
    with psycopg.connect(token_service.url) as other:
        other.execute("SELECT FROM cards FOR UPDATE")
        issue = asyncio.create_task(token_service.token())
        await waiting(token_service, 1)
        change = asyncio.create_task(token_service.change_by_d1())
        await waiting(token_service, 2)
    token = await issue
    await change
    assert not await token_service.is_live(token)


async def test_a_token_that_waited_for_a_change_is_live(token_service: ControlTokenService) -> None:
    with psycopg.connect(token_service.url) as other:
        other.execute("SELECT FROM cards FOR UPDATE")
        change = asyncio.create_task(token_service.change_by_d1())
        await waiting(token_service, 1)
        issue = asyncio.create_task(token_service.token())
        await waiting(token_service, 2)
    await change
    assert await token_service.is_live(await issue)


# Sessions


async def no_session(token_service: ControlTokenService, session: str) -> None:
    """Find that nothing can be done with a session, and that trying changes nothing."""
    before = token_service.dump()
    for call in (
        token_service.tokens.session(session, SET),
        token_service.tokens.extend(session),
        token_service.tokens.count_try(session),
    ):
        with pytest.raises(ControlEnded):
            await call
    assert not await token_service.finish(session, b"another request")
    assert token_service.dump() == before


@pytest.mark.parametrize("face", Face)
async def test_a_session_expires_unless_it_is_extended(
    token_service: ControlTokenService, face: Face
) -> None:
    session = (await token_service.session(face)).session
    token_service.age(SESSION_SECONDS[face] - 10)
    assert await token_service.tokens.extend(session) == SESSION_SECONDS[face]
    token_service.age(SESSION_SECONDS[face] - 10)
    assert await token_service.tokens.session(session, SET)
    token_service.age(10)
    await no_session(token_service, session)


async def test_a_session_ends_20_minutes_after_its_opening_however_often_extended(
    token_service: ControlTokenService,
) -> None:
    session = (await token_service.session()).session
    for _ in range(SESSION_SECONDS_MAX // 300 - 1):
        token_service.age(300)
        left = await token_service.tokens.extend(session)
    assert 200 < left <= 300
    token_service.age(280)
    assert 0 < await token_service.tokens.extend(session) <= 20
    token_service.age(20)
    await no_session(token_service, session)


async def test_a_session_outlives_its_token(token_service: ControlTokenService) -> None:
    token = await token_service.token(SET)
    token_service.age(LIFE_SECONDS[HOSTED] - 10)
    opened = await token_service.tokens.open(token, SET, HOSTED)
    token_service.age(10)
    assert await token_service.tokens.session(opened.session, SET)


async def test_the_fifth_pin_that_is_refused_ends_a_session(
    token_service: ControlTokenService,
) -> None:
    session = (await token_service.session()).session
    assert [await token_service.tokens.count_try(session) for _ in range(TRIES_MAX)] == [
        4,
        3,
        2,
        1,
        0,
    ]
    assert token_service.ends() == [("tries",)]
    await no_session(token_service, session)


async def test_of_tries_at_once_five_are_counted(token_service: ControlTokenService) -> None:
    session = (await token_service.session()).session
    assert await won([token_service.tokens.count_try(session) for _ in range(AT_ONCE)]) == TRIES_MAX
    assert token_service.rows("SELECT tries FROM control_tokens") == [(TRIES_MAX,)]


@pytest.mark.parametrize("reason", [EndReason.CANCELLED, EndReason.FAILED])
async def test_a_session_that_was_ended_stays_as_it_is(
    token_service: ControlTokenService, reason: EndReason
) -> None:
    session = (await token_service.session()).session
    await token_service.tokens.end(session, reason)
    assert token_service.ends() == [(reason,)]
    await no_session(token_service, session)
    before = token_service.dump()
    await token_service.tokens.end(session, EndReason.REVOKED)
    await token_service.tokens.end("no session", EndReason.REVOKED)
    assert token_service.dump() == before


async def test_a_pin_from_a_page_is_stored_recorded_and_ends_the_session(
    token_service: ControlTokenService,
) -> None:
    session = (await token_service.session()).session
    sent = token_service.store.statements
    found = await token_service.read()
    assert await token_service.tokens.finish(session, CARD, found, CHANGE, b"the JWE", ACTOR)
    assert token_service.store.statements == sent + 2
    assert token_service.rows(
        "SELECT counter, sealed_pin, pin_type FROM cards WHERE card_id = 'card-1'"
    ) == [(1, SEALED, "ISO0")]
    assert token_service.rows("SELECT card_id, counter, actor, request_key FROM pin_changes") == [
        (CARD.card_id, 1, APP, b"the JWE")
    ]
    assert token_service.audit("pin.set") == [
        (CARD.card_id, APP, ACTOR.correlation_id, 1, "hosted")
    ]
    assert token_service.rows(
        "SELECT end_reason, ended_at = (SELECT changed_at FROM pin_changes) FROM control_tokens"
    ) == [("set", True)]
    await no_session(token_service, session)


async def test_of_50_submits_at_once_exactly_one_is_stored(
    token_service: ControlTokenService,
) -> None:
    for number in range(1, ROUNDS + 1):
        session = (await token_service.session()).session
        keys = [f"{number} {submit}".encode() for submit in range(AT_ONCE)]
        stored = await asyncio.gather(*(token_service.finish(session, key) for key in keys))
        assert sum(stored) == 1
        assert token_service.rows("SELECT max(counter), count(*) FROM pin_changes") == [
            (number, number)
        ]


async def test_of_a_submit_and_a_cancel_at_once_the_first_decides(
    token_service: ControlTokenService,
) -> None:
    session = (await token_service.session()).session
    with psycopg.connect(token_service.url) as other:
        other.execute("SELECT FROM cards FOR UPDATE")
        submit = asyncio.create_task(token_service.finish(session))
        await waiting(token_service, 1)
        await token_service.tokens.end(session, EndReason.CANCELLED)
    assert not await submit
    assert token_service.rows("SELECT FROM pin_changes") == []
    assert token_service.ends() == [("cancelled",)]


async def a_change_by_d1(token_service: ControlTokenService) -> None:
    await token_service.change_by_d1()


async def a_cancel(token_service: ControlTokenService) -> None:
    run_sql(
        token_service.url, "UPDATE control_tokens SET ended_at = now(), end_reason = 'cancelled'"
    )


async def the_end_of_the_session(token_service: ControlTokenService) -> None:
    token_service.age(SESSION_SECONDS[HOSTED])


async def a_block(token_service: ControlTokenService) -> None:
    run_sql(token_service.url, "UPDATE cards SET state = 'blocked'")


async def the_same_request(token_service: ControlTokenService) -> None:
    run_sql(
        token_service.url,
        "INSERT INTO pin_changes VALUES ('testbank01', 'card-1', 9, now(), 'x', 'a request')",
    )


@pytest.mark.parametrize(
    "meanwhile", [a_change_by_d1, a_cancel, the_end_of_the_session, a_block, the_same_request]
)
async def test_a_submit_that_lost_a_race_changes_nothing(
    token_service: ControlTokenService, meanwhile: Callable[[ControlTokenService], Awaitable[None]]
) -> None:
    session = (await token_service.session()).session
    found = await token_service.read()
    await meanwhile(token_service)
    before = token_service.dump()
    assert not await token_service.tokens.finish(session, CARD, found, CHANGE, b"a request", ACTOR)
    assert token_service.dump() == before


async def test_a_session_stores_no_pin_for_another_card(token_service: ControlTokenService) -> None:
    session = (await token_service.session(card=OTHER_CARD)).session
    before = token_service.dump()
    assert not await token_service.finish(session, card=CARD)
    assert token_service.dump() == before
    assert await token_service.finish(session, card=OTHER_CARD)


# What the database knows


async def test_the_database_holds_neither_token_nor_session(
    token_service: ControlTokenService,
) -> None:
    token, opened = await token_service.token(), await token_service.session()
    dump = token_service.dump().lower()
    for text in (token, opened.session, opened.sid):
        digests = (hashlib.sha256(text.encode()).hexdigest(), text.encode().hex())
        assert not any(form in dump for form in (text.lower(), *digests))
    assert UUID(token).hex not in dump
    assert base64url.decode(opened.session).hex() not in dump
    assert CARD.card_id in dump


async def test_another_key_opens_nothing(token_service: ControlTokenService) -> None:
    token, session = await token_service.token(SET), (await token_service.session()).session
    other = ControlTokens(ControlStore(token_service.store), Secret(b"o" * 32))
    assert await other.peek(token) is None
    with pytest.raises(ControlEnded):
        await other.session(session, SET)
    with pytest.raises(ControlEnded):
        await token_service.tokens.session(token, SET)  # nor is a token a session


async def test_a_key_that_is_too_short_is_found_at_start(
    token_service: ControlTokenService,
) -> None:
    with pytest.raises(ValueError, match="too short"):
        ControlTokens(ControlStore(token_service.store), Secret(b"k" * 31))
    assert ControlTokens(ControlStore(token_service.store), KEY)


# The card of a cardholder


async def test_a_cardholders_card_is_an_active_one_then_the_newest_and_a_closed_one_last(
    token_service: ControlTokenService,
) -> None:
    with pytest.raises(CardNotFound):
        await token_service.tokens.card_of(ISSUER_ID, "somebody")
    for card_id, state in (
        ("closed", "closed"),
        ("old", "inactive"),
        ("new", "blocked"),
        ("newest-but-closed", "closed"),
        ("active", "active"),
        ("newer-active", "active"),
        ("newest", "inactive"),
    ):
        control_token_service.add_card(
            token_service.url, CardRef(ISSUER_ID, card_id), "somebody", state=state
        )
    chosen = []
    for _ in range(7):
        found = await token_service.tokens.card_of(ISSUER_ID, "somebody")
        chosen.append(found.card_id)
        run_sql(
            token_service.url,
            "UPDATE cards SET cardholder_id = NULL WHERE card_id = %s",
            chosen[-1],
        )
    assert chosen == [
        *("newer-active", "active", "newest", "new", "old", "newest-but-closed", "closed")
    ]


async def test_a_cardholders_card_tells_its_type_and_whether_it_has_a_pin(
    token_service: ControlTokenService,
) -> None:
    control_token_service.add_card(
        token_service.url, CardRef(ISSUER_ID, "card-3"), "somebody", card_type="METAL"
    )
    found = await token_service.tokens.card_of(ISSUER_ID, "somebody")
    assert (found.last_four, found.expiry, found.card_type) == ("1111", "1230", "METAL")
    assert (found.state, found.pin_is_set, found.pin_changed_at) == ("active", False, None)
    await token_service.change_by_d1(card=CardRef(ISSUER_ID, "card-3"))
    found = await token_service.tokens.card_of(ISSUER_ID, "somebody")
    assert (found.pin_is_set, found.pin_type) == (True, "ISO0")
    assert [(found.pin_changed_at,)] == token_service.rows("SELECT changed_at FROM pin_changes")


async def test_another_issuers_cardholder_of_the_same_name_is_somebody_else(
    token_service: ControlTokenService,
) -> None:
    control_token_service.add_card(token_service.url, CardRef(ISSUER_ID, "card-3"), "somebody")
    with pytest.raises(CardNotFound):
        await token_service.tokens.card_of("testbank02", "somebody")
