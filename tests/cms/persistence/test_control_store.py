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
from cms.domain.control import LIVE_MAX, SESSION_SECONDS, TRIES_MAX, EndReason
from cms.domain.errors import CardNotFound, ControlEnded, StoredValueBroken
from cms.domain.records import CardToRead, ConsumedToken
from cms.persistence.control_store import ControlStore
from cms.persistence.statements.control_token import FORGOTTEN_MAX, READ_LIVE_CONTROL_TOKEN
from cms.sandbox import HANG_SECONDS
from crypto.control_tokens import prefix
from crypto.jose import base64url
from crypto.secret import Secret
from hsm.port import (
    LIFE_SECONDS,
    SESSION_SECONDS_MAX,
    CardRef,
    Face,
    PinBlockType,
    Purpose,
    SealedRecord,
)
from tests.cms.audit_counts import counted_as_audited
from tests.cms.persistence.stored_tokens import (
    ACTOR,
    APP,
    CARD,
    CHANGE,
    ISSUER_ID,
    KEY,
    OTHER_APP,
    OTHER_CARD,
    SEALED,
    StoredTokens,
    add_card,
    grant,
    opened,
)
from tests.issuer_records import run_sql

pytestmark = pytest.mark.anyio
AT_ONCE = 50
ROUNDS = 4
VIEW, SET = Purpose.VIEW, Purpose.SET
HOSTED, PINCONTROL = Face.HOSTED, Face.PINCONTROL


@pytest.fixture
async def stored(database_url: str) -> AsyncIterator[StoredTokens]:
    async with opened(database_url) as stored:
        yield stored


async def won(calls: list[Coroutine[Any, Any, object]]) -> int:
    """Run calls at once and count those that did not end in ``ControlEnded``."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, ControlEnded):
            raise result
    return sum(not isinstance(result, BaseException) for result in results)


# Issue


async def test_a_control_token_lives_as_long_as_its_face_says(
    stored: StoredTokens,
) -> None:
    for face, life in LIFE_SECONDS.items():
        issued = await stored.issue(grant(face=face), ACTOR)
        assert stored.rows("SELECT expires_at, issued_at FROM control_tokens ORDER BY issued_at")[
            -1
        ] == (issued.expires_at, issued.expires_at - timedelta(seconds=life))
    assert stored.audit("control.issued") == [
        (CARD.card_id, APP, ACTOR.correlation_id, 0, "hosted view"),
        (CARD.card_id, APP, ACTOR.correlation_id, 0, "pincontrol view"),
    ]


async def test_looking_at_a_control_token_changes_nothing(stored: StoredTokens) -> None:
    control_token = await stored.control_token(SET)
    before = stored.dump()
    assert await stored.control_store.read_live(control_token) == grant(SET)
    assert stored.dump() == before


async def test_a_control_token_that_was_granted_before_a_pin_change_is_not_live(
    stored: StoredTokens,
) -> None:
    await stored.change_by_d1()
    issued = await stored.issue(grant(), ACTOR, counter=0)
    assert not await stored.is_live(issued.control_token)
    assert await stored.is_live((await stored.issue(grant(), ACTOR)).control_token)


async def test_a_card_that_does_not_exist_gets_no_control_token(stored: StoredTokens) -> None:
    with pytest.raises(CardNotFound):
        await stored.control_token(card=CardRef(ISSUER_ID, "card-9"))
    assert stored.rows("SELECT FROM control_tokens") == []
    assert stored.audit("control.issued") == []


async def test_three_control_tokens_are_live_and_a_fourth_revokes_the_oldest(
    stored: StoredTokens,
) -> None:
    first, *others = [await stored.control_token() for _ in range(LIVE_MAX + 1)]
    assert not await stored.is_live(first)
    assert all([await stored.is_live(control_token) for control_token in others])
    assert stored.ends() == [("revoked",), *[(None,)] * LIVE_MAX]


async def test_each_card_purpose_and_client_has_control_tokens_of_its_own(
    stored: StoredTokens,
) -> None:
    control_token = await stored.control_token()
    for _ in range(LIVE_MAX):
        await stored.control_token(SET)
        await stored.control_token(card=OTHER_CARD)
        await stored.control_token(client_id=OTHER_APP)
    assert await stored.is_live(control_token)


async def test_a_control_token_that_is_consumed_or_expired_takes_no_place(
    stored: StoredTokens,
) -> None:
    for _ in range(LIVE_MAX):
        await stored.control_token(face=PINCONTROL)
    stored.age(LIFE_SECONDS[PINCONTROL])
    cached = await stored.control_token()
    for _ in range(2 * LIVE_MAX):
        await stored.control_store.consume(await stored.control_token(), VIEW, HOSTED)
    assert await stored.is_live(cached)


async def test_of_control_tokens_that_are_issued_at_once_the_newest_three_are_live(
    stored: StoredTokens,
) -> None:
    with psycopg.connect(stored.url) as other:
        other.execute("SELECT FROM cards FOR UPDATE")
        issues = [asyncio.create_task(stored.control_token()) for _ in range(2 * LIVE_MAX)]
        await waiting(stored, len(issues))
        # Each has begun: none sees what another issues.
    control_tokens = await asyncio.gather(*issues)
    assert stored.ends() == [(None,)] * len(issues)
    assert (
        sum([await stored.is_live(control_token) for control_token in control_tokens]) == LIVE_MAX
    )


async def waiting(stored: StoredTokens, count: int) -> None:
    """Wait until so many statements wait for a lock."""
    async with asyncio.timeout(HANG_SECONDS):
        while stored.rows(  # noqa: ASYNC110 - nobody tells
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ) != [(count,)]:
            await asyncio.sleep(0.01)


def revoke_many(stored: StoredTokens, count: int) -> None:
    """Store so many more control tokens of the card, as one that newer ones have revoked."""
    run_sql(
        stored.url,
        "INSERT INTO control_tokens (issuer_id, token_hash, card_id, client_id, face, purpose,"
        " style, embedded, counter, grant_id, sealed_grant, issued_at, expires_at, ended_at,"
        " end_reason) SELECT issuer_id, sha256(n::text::bytea), card_id, client_id, face, purpose,"
        " style, embedded, counter, grant_id, sealed_grant, issued_at, expires_at, now(), 'revoked'"
        " FROM (SELECT * FROM control_tokens LIMIT 1) one, generate_series(1, %s) n",
        count,
    )


async def test_old_rows_of_a_card_go_some_at_a_time(stored: StoredTokens) -> None:
    await stored.control_token()
    stored.age(24 * 60 * 60 + LIFE_SECONDS[HOSTED] + 60)
    revoke_many(stored, 2 * FORGOTTEN_MAX)
    for left in (FORGOTTEN_MAX + 1, 1, 0):
        await stored.control_token()
        ((old,),) = stored.rows("SELECT count(*) FROM control_tokens WHERE expires_at < now()")
        assert old == left


async def test_usable_control_tokens_are_not_looked_for_among_all_of_a_card(
    stored: StoredTokens,
) -> None:
    """Whoever has one issued after the other makes rows that nobody uses."""
    await stored.control_token()
    revoke_many(stored, 2000)
    run_sql(stored.url, "ANALYZE")
    by_index = "control_tokens_issuer_id_card_id_ended_at_expires_at_idx"
    with psycopg.connect(stored.url) as connection:
        explain = b"EXPLAIN (GENERIC_PLAN) " + READ_LIVE_CONTROL_TOKEN.numbered
        assert by_index in str(connection.execute(explain).fetchall())
        connection.execute("DROP INDEX control_tokens_issuer_id_card_id_ended_at_expires_at_idx")
        assert by_index not in str(connection.execute(explain).fetchall())


async def test_rows_of_a_card_go_a_day_after_they_expired(
    stored: StoredTokens,
) -> None:
    await stored.control_token()
    stored.age(24 * 60 * 60)
    await stored.control_token()
    assert len(stored.ends()) == 2
    stored.age(LIFE_SECONDS[HOSTED] + 60)
    await stored.control_token()
    assert len(stored.ends()) == 2


# Consume and open


async def test_consuming_hands_over_the_card_once(
    stored: StoredTokens,
) -> None:
    await stored.change_by_d1()
    control_token = await stored.control_token()
    assert await stored.control_store.consume(control_token, VIEW, HOSTED) == ConsumedToken(
        grant(),
        CardToRead(
            CardState.ACTIVE, PinBlockType.ISO0, 1, 1, SealedRecord(b"sealed record"), SEALED
        ),
        "1111",
    )
    assert stored.ends() == [("shown",)]
    with pytest.raises(ControlEnded):
        await stored.control_store.consume(control_token, VIEW, HOSTED)


async def test_opening_makes_a_session_that_is_good_for_the_same(
    stored: StoredTokens,
) -> None:
    page = await stored.session()
    assert page.expires_in_seconds == SESSION_SECONDS[HOSTED]
    assert page.grant == await stored.control_store.read_session(page.session, SET) == grant(SET)


Use = Callable[[StoredTokens, str], Coroutine[Any, Any, object]]
USES: dict[str, tuple[Purpose, Use]] = {
    "consume": (
        VIEW,
        lambda stored, control_token: stored.control_store.consume(control_token, VIEW, HOSTED),
    ),
    "open": (SET, lambda stored, control_token: stored.open(control_token, SET, HOSTED)),
}


@pytest.mark.parametrize("name", USES)
async def test_of_50_redemptions_at_once_exactly_one_succeeds(
    stored: StoredTokens, name: str
) -> None:
    purpose, use = USES[name]
    await stored.change_by_d1()
    for _ in range(ROUNDS):
        control_token = await stored.control_token(purpose)
        assert await won([use(stored, control_token) for _ in range(AT_ONCE)]) == 1


async def test_a_control_token_is_consumed_or_opened_and_never_both(
    stored: StoredTokens,
) -> None:
    for _ in range(ROUNDS):
        control_token = await stored.control_token()
        consume = [
            stored.control_store.consume(control_token, VIEW, HOSTED) for _ in range(AT_ONCE // 2)
        ]
        view = [stored.open(control_token, VIEW, HOSTED) for _ in range(AT_ONCE // 2)]
        both: list[Coroutine[Any, Any, object]] = [*consume, *view]
        assert await won(both) == 1


@pytest.mark.parametrize("face", Face)
async def test_a_control_token_expires_by_the_databases_clock(
    stored: StoredTokens, face: Face
) -> None:
    control_token = await stored.control_token(face=face)
    stored.age(LIFE_SECONDS[face] - 10)
    assert await stored.is_live(control_token)
    stored.age(10)
    assert not await stored.is_live(control_token)
    with pytest.raises(ControlEnded):
        await stored.control_store.consume(control_token, VIEW, face)


async def test_what_is_no_live_control_token_for_this_all_looks_alike(
    stored: StoredTokens,
) -> None:
    consumed, ended = await stored.control_token(), await stored.control_token()
    await stored.control_store.consume(consumed, VIEW, HOSTED)
    await stored.change_by_d1()
    expired = await stored.control_token()
    stored.age(LIFE_SECONDS[HOSTED])
    live = await stored.control_token()
    before = stored.dump()
    dead = (consumed, ended, expired, "", "\0", "\ud800", "x" * 10_000, live[:-1])
    others = [(purpose, face) for purpose, face in product(Purpose, Face)]
    cases = [*product(dead, others), *((live, other) for other in others[1:])]
    for control_token, (purpose, face) in cases:
        sent = stored.store.statements
        for call in (
            stored.control_store.consume(control_token, purpose, face),
            stored.open(control_token, purpose, face),
        ):
            with pytest.raises(ControlEnded) as refused:
                await call
            assert refused.value.args == ()
        # What begins as no control token of an issuer does is not even looked for.
        looked_for = control_token.startswith(prefix(ISSUER_ID))
        assert stored.store.statements == sent + 2 * looked_for
    assert stored.dump() == before
    assert await stored.control_store.consume(live, VIEW, HOSTED)


async def test_a_control_token_may_be_written_in_capitals_as_some_platforms_do(
    stored: StoredTokens,
) -> None:
    for written in (str.upper, "{}\r\n".format):
        control_token = await stored.control_token()
        assert await stored.control_store.consume(written(control_token), VIEW, HOSTED)


async def test_a_control_token_for_viewing_sets_nothing(stored: StoredTokens) -> None:
    control_token = await stored.control_token(VIEW)
    with pytest.raises(ControlEnded):
        await stored.open(control_token, SET, HOSTED)
    page = await stored.open(control_token, VIEW, HOSTED)
    with pytest.raises(ControlEnded):
        await stored.control_store.read_session(page.session, SET)
    before = stored.dump()
    assert not await stored.finish(page.session)
    assert stored.dump() == before


# A change revokes


async def test_a_change_by_d1_ends_the_cards_control_tokens_and_sessions_and_no_others(
    stored: StoredTokens,
) -> None:
    control_tokens = [
        await stored.control_token(purpose, face) for purpose, face in product(Purpose, Face)
    ] + [await stored.control_token(client_id=OTHER_APP)]
    page, elsewhere = await stored.session(), await stored.control_token(card=OTHER_CARD)
    assert all([await stored.is_live(control_token) for control_token in control_tokens])
    await stored.change_by_d1()
    assert not any([await stored.is_live(control_token) for control_token in control_tokens])
    await no_session(stored, page.session)
    assert await stored.is_live(elsewhere)
    assert await stored.is_live(await stored.control_token())


async def test_a_change_from_a_page_ends_the_cards_control_tokens_and_sessions(
    stored: StoredTokens,
) -> None:
    control_token, first, second = (
        await stored.control_token(),
        await stored.session(),
        await stored.session(),
    )
    assert await stored.finish(first.session)
    assert not await stored.is_live(control_token)
    await no_session(stored, second.session)


async def in_this_order(stored: StoredTokens, *calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """Make calls that wait for the same card, the first of them first."""
    tasks = []
    with psycopg.connect(stored.url) as other:
        other.execute("SELECT FROM cards FOR UPDATE")
        for call in calls:
            tasks.append(asyncio.create_task(call))
            await waiting(stored, len(tasks))
    return await asyncio.gather(*tasks)


async def test_a_change_that_waited_for_an_issue_revokes_what_was_issued(
    stored: StoredTokens,
) -> None:
    control_token, _ = await in_this_order(stored, stored.control_token(), stored.change_by_d1())
    assert not await stored.is_live(control_token)


async def test_a_control_token_that_waited_for_a_change_is_over(stored: StoredTokens) -> None:
    """The vault granted it for the counter before."""
    _, control_token = await in_this_order(stored, stored.change_by_d1(), stored.control_token())
    assert not await stored.is_live(control_token)


# Sessions


async def no_session(stored: StoredTokens, session: str) -> None:
    """Find that nothing can be done with a session, and that trying changes nothing."""
    before = stored.dump()
    for call in (
        stored.control_store.read_session(session, SET),
        stored.control_store.extend(session, HOSTED),
        stored.control_store.count_try(session),
    ):
        with pytest.raises(ControlEnded):
            await call
    assert not await stored.finish(session, b"another request")
    assert stored.dump() == before


@pytest.mark.parametrize("face", Face)
async def test_a_session_expires_unless_it_is_extended(stored: StoredTokens, face: Face) -> None:
    session = (await stored.session(face)).session
    stored.age(SESSION_SECONDS[face] - 10)
    assert await stored.control_store.extend(session, face) == SESSION_SECONDS[face]
    stored.age(SESSION_SECONDS[face] - 10)
    assert await stored.control_store.read_session(session, SET)
    stored.age(10)
    await no_session(stored, session)


async def test_a_session_ends_20_minutes_after_its_opening_however_often_extended(
    stored: StoredTokens,
) -> None:
    session = (await stored.session()).session
    for _ in range(SESSION_SECONDS_MAX // 300 - 1):
        stored.age(300)
        left = await stored.control_store.extend(session, HOSTED)
    assert 200 < left <= 300
    stored.age(280)
    assert 0 < await stored.control_store.extend(session, HOSTED) <= 20
    stored.age(20)
    await no_session(stored, session)


async def test_a_session_outlives_its_control_token(stored: StoredTokens) -> None:
    control_token = await stored.control_token(SET)
    stored.age(LIFE_SECONDS[HOSTED] - 10)
    page = await stored.open(control_token, SET, HOSTED)
    stored.age(10)
    assert await stored.control_store.read_session(page.session, SET)


async def test_the_fifth_pin_that_is_refused_ends_a_session(
    stored: StoredTokens,
) -> None:
    session = (await stored.session()).session
    assert [await stored.control_store.count_try(session) for _ in range(TRIES_MAX)] == [
        4,
        3,
        2,
        1,
        0,
    ]
    assert stored.ends() == [("tries",)]
    await no_session(stored, session)


async def test_of_tries_at_once_five_are_counted(stored: StoredTokens) -> None:
    session = (await stored.session()).session
    assert await won([stored.control_store.count_try(session) for _ in range(AT_ONCE)]) == TRIES_MAX
    assert stored.rows("SELECT tries FROM control_tokens") == [(TRIES_MAX,)]


@pytest.mark.parametrize("reason", [EndReason.CANCELLED, EndReason.FAILED])
async def test_a_session_that_was_ended_stays_as_it_is(
    stored: StoredTokens, reason: EndReason
) -> None:
    session = (await stored.session()).session
    await stored.control_store.end(session, reason)
    assert stored.ends() == [(reason,)]
    await no_session(stored, session)
    before = stored.dump()
    await stored.control_store.end(session, EndReason.REVOKED)
    await stored.control_store.end("no session", EndReason.REVOKED)
    assert stored.dump() == before


async def test_a_pin_from_a_page_is_stored_recorded_and_ends_the_session(
    stored: StoredTokens,
) -> None:
    with counted_as_audited(stored.url) as counted:
        session = (await stored.session()).session
        sent = stored.store.statements
        found = await stored.read()
        change = CARD, found, CHANGE, b"the JWE", session, ACTOR
        assert await stored.control_store.change_pin(*change)
        assert stored.store.statements == sent + 2
        assert not await stored.control_store.change_pin(*change)
    assert counted == {"control.issued": 1, "pin.set": 1}
    assert stored.rows(
        "SELECT counter, sealed_pin, pin_type FROM cards WHERE card_id = 'card-1'"
    ) == [(1, SEALED, "ISO0")]
    assert stored.rows("SELECT card_id, counter, actor, request_key FROM pin_changes") == [
        (CARD.card_id, 1, APP, b"the JWE")
    ]
    assert stored.audit("pin.set") == [(CARD.card_id, APP, ACTOR.correlation_id, 1, "hosted")]
    assert stored.rows(
        "SELECT end_reason, ended_at = (SELECT changed_at FROM pin_changes) FROM control_tokens"
    ) == [("set", True)]
    await no_session(stored, session)


async def test_of_50_submits_at_once_exactly_one_is_stored(
    stored: StoredTokens,
) -> None:
    for number in range(1, ROUNDS + 1):
        session = (await stored.session()).session
        keys = [f"{number} {submit}".encode() for submit in range(AT_ONCE)]
        results = await asyncio.gather(*(stored.finish(session, key) for key in keys))
        assert sum(results) == 1
        assert stored.rows("SELECT max(counter), count(*) FROM pin_changes") == [(number, number)]


async def test_of_a_submit_and_a_cancel_at_once_the_first_decides(
    stored: StoredTokens,
) -> None:
    session = (await stored.session()).session
    with psycopg.connect(stored.url) as other:
        other.execute("SELECT FROM cards FOR UPDATE")
        submit = asyncio.create_task(stored.finish(session))
        await waiting(stored, 1)
        await stored.control_store.end(session, EndReason.CANCELLED)
    assert not await submit
    assert stored.rows("SELECT FROM pin_changes") == []
    assert stored.ends() == [("cancelled",)]


async def a_change_by_d1(stored: StoredTokens) -> None:
    await stored.change_by_d1()


async def a_cancel(stored: StoredTokens) -> None:
    run_sql(stored.url, "UPDATE control_tokens SET ended_at = now(), end_reason = 'cancelled'")


async def the_end_of_the_session(stored: StoredTokens) -> None:
    stored.age(SESSION_SECONDS[HOSTED])


async def a_block(stored: StoredTokens) -> None:
    run_sql(stored.url, "UPDATE cards SET state = 'blocked'")


async def the_same_request(stored: StoredTokens) -> None:
    run_sql(
        stored.url,
        "INSERT INTO pin_changes VALUES ('testbank01', 'card-1', 9, now(), 'x', 'a request')",
    )


@pytest.mark.parametrize(
    "meanwhile", [a_change_by_d1, a_cancel, the_end_of_the_session, a_block, the_same_request]
)
async def test_a_submit_that_lost_a_race_changes_nothing(
    stored: StoredTokens, meanwhile: Callable[[StoredTokens], Awaitable[None]]
) -> None:
    session = (await stored.session()).session
    found = await stored.read()
    await meanwhile(stored)
    before = stored.dump()
    assert not await stored.control_store.change_pin(
        CARD, found, CHANGE, b"a request", session, ACTOR
    )
    assert stored.dump() == before


async def test_a_submit_over_a_counter_that_was_put_back_changes_nothing_and_says_so(
    stored: StoredTokens,
) -> None:
    await stored.change_by_d1()
    run_sql(stored.url, "UPDATE cards SET counter = 0")
    session = (await stored.session()).session
    before = stored.dump()
    with pytest.raises(StoredValueBroken):
        await stored.finish(session)
    assert stored.dump() == before


async def test_a_session_stores_no_pin_for_another_card(stored: StoredTokens) -> None:
    session = (await stored.session(card=OTHER_CARD)).session
    before = stored.dump()
    assert not await stored.finish(session, card=CARD)
    assert stored.dump() == before
    assert await stored.finish(session, card=OTHER_CARD)


# What the database knows


async def test_the_database_holds_neither_control_token_nor_session(
    stored: StoredTokens,
) -> None:
    control_token, page = await stored.control_token(), await stored.session()
    dump = stored.dump().lower()
    for text in (control_token, page.session):
        digests = (hashlib.sha256(text.encode()).hexdigest(), text.encode().hex())
        assert not any(form in dump for form in (text.lower(), *digests))
    assert UUID(control_token).hex not in dump
    assert base64url.decode(page.session).hex() not in dump
    assert CARD.card_id in dump


async def test_another_key_opens_nothing(stored: StoredTokens) -> None:
    control_token, session = await stored.control_token(SET), (await stored.session()).session
    other = ControlStore(stored.store, Secret(b"o" * 32))
    assert await other.read_live(control_token) is None
    with pytest.raises(ControlEnded):
        await other.read_session(session, SET)
    with pytest.raises(ControlEnded):
        await stored.control_store.read_session(
            control_token, SET
        )  # nor is a control token a session


async def test_a_key_that_is_too_short_is_found_at_start(
    stored: StoredTokens,
) -> None:
    with pytest.raises(ValueError, match="too short"):
        ControlStore(stored.store, Secret(b"k" * 31))
    assert ControlStore(stored.store, KEY)


# The card of a cardholder


async def test_a_cardholders_card_is_an_active_one_then_the_newest_and_a_closed_one_last(
    stored: StoredTokens,
) -> None:
    with pytest.raises(CardNotFound):
        await stored.control_store.card_of(ISSUER_ID, "somebody")
    for card_id, state in (
        ("closed", "closed"),
        ("old", "inactive"),
        ("new", "blocked"),
        ("newest-but-closed", "closed"),
        ("active", "active"),
        ("newer-active", "active"),
        ("newest", "inactive"),
    ):
        add_card(stored.url, CardRef(ISSUER_ID, card_id), "somebody", state=state)
    chosen = []
    for _ in range(7):
        found = await stored.control_store.card_of(ISSUER_ID, "somebody")
        chosen.append(found.card_id)
        run_sql(
            stored.url,
            "UPDATE cards SET cardholder_id = NULL WHERE card_id = %s",
            chosen[-1],
        )
    assert chosen == [
        *("newer-active", "active", "newest", "new", "old", "newest-but-closed", "closed")
    ]


async def test_a_cardholders_card_tells_its_type_and_whether_it_has_a_pin(
    stored: StoredTokens,
) -> None:
    add_card(stored.url, CardRef(ISSUER_ID, "card-3"), "somebody", card_type="METAL")
    found = await stored.control_store.card_of(ISSUER_ID, "somebody")
    assert (found.last_four, found.expiry, found.card_type) == ("1111", "1230", "METAL")
    assert (found.state, found.pin_is_set, found.pin_changed_at) == ("active", False, None)
    await stored.change_by_d1(card=CardRef(ISSUER_ID, "card-3"))
    found = await stored.control_store.card_of(ISSUER_ID, "somebody")
    assert (found.pin_is_set, found.pin_type) == (True, "ISO0")
    assert [(found.pin_changed_at,)] == stored.rows("SELECT changed_at FROM pin_changes")


async def test_another_issuers_cardholder_of_the_same_name_is_somebody_else(
    stored: StoredTokens,
) -> None:
    add_card(stored.url, CardRef(ISSUER_ID, "card-3"), "somebody")
    with pytest.raises(CardNotFound):
        await stored.control_store.card_of("testbank02", "somebody")
