"""A control token is spent once, by the database's clock, for what it was issued for."""

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
from cms.persistence.control_store import Burned, ControlStore
from cms.persistence.store import CardToRead
from cms.services.control_tokens import ControlTokens, sid
from crypto.jose import base64url
from crypto.secret import Secret
from hsm.port import CardRef, PinBlockType, SealedPan
from tests.bank import run_sql
from tests.cms.services import till as tills
from tests.cms.services.till import (
    ACTOR,
    APP,
    CARD,
    CHANGE,
    ISSUER_ID,
    KEY,
    OTHER_APP,
    OTHER_CARD,
    SEALED,
    Till,
    grant,
)

pytestmark = pytest.mark.anyio
AT_ONCE = 50
ROUNDS = 4
VIEW, SET = Purpose.VIEW, Purpose.SET
HOSTED, PINCONTROL = Face.HOSTED, Face.PINCONTROL


@pytest.fixture
async def till(database_url: str) -> AsyncIterator[Till]:
    async with tills.opened(database_url) as till:
        yield till


async def won(calls: list[Coroutine[Any, Any, object]]) -> int:
    """Run calls at once and count those that did not end in ``ControlEnded``."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, ControlEnded):
            raise result
    return sum(not isinstance(result, BaseException) for result in results)


# Issue


async def test_a_token_is_a_random_uuid_that_lives_as_long_as_its_face_says(till: Till) -> None:
    for face, life in LIFE_SECONDS.items():
        issued = await till.tokens.issue(grant(face=face), ACTOR)
        assert str(UUID(issued.token, version=4)) == issued.token
        assert till.rows("SELECT expires_at, issued_at FROM control_tokens ORDER BY issued_at")[
            -1
        ] == (issued.expires_at, issued.expires_at - timedelta(seconds=life))
        assert issued.token not in repr(issued)
    assert till.audit("control.issued") == [
        (CARD.card_id, APP, ACTOR.correlation_id, 0, "hosted view"),
        (CARD.card_id, APP, ACTOR.correlation_id, 0, "pincontrol view"),
    ]


async def test_looking_at_a_token_changes_nothing(till: Till) -> None:
    token = await till.token(SET)
    before = till.dump()
    assert await till.tokens.peek(token) == grant(SET)
    assert till.dump() == before


async def test_a_card_that_does_not_exist_gets_no_token(till: Till) -> None:
    with pytest.raises(CardNotFound):
        await till.token(card=CardRef(ISSUER_ID, "card-9"))
    assert till.rows("SELECT FROM control_tokens") == []
    assert till.audit("control.issued") == []


async def test_three_tokens_are_live_and_a_fourth_revokes_the_oldest(till: Till) -> None:
    first, *others = [await till.token() for _ in range(LIVE_MAX + 1)]
    assert not await till.is_live(first)
    assert all([await till.is_live(token) for token in others])
    assert till.ends() == [("revoked",), *[(None,)] * LIVE_MAX]


async def test_each_card_purpose_and_client_has_tokens_of_its_own(till: Till) -> None:
    token = await till.token()
    for _ in range(LIVE_MAX):
        await till.token(SET)
        await till.token(card=OTHER_CARD)
        await till.token(client_id=OTHER_APP)
    assert await till.is_live(token)


async def test_a_token_that_is_spent_or_expired_takes_no_place(till: Till) -> None:
    for _ in range(LIVE_MAX):
        await till.token(face=PINCONTROL)
    till.age(LIFE_SECONDS[PINCONTROL])
    kept = await till.token()
    for _ in range(2 * LIVE_MAX):
        await till.tokens.burn(await till.token(), VIEW, HOSTED, ACTOR)
    assert await till.is_live(kept)


async def test_of_tokens_that_are_issued_at_once_the_newest_three_are_live(till: Till) -> None:
    with psycopg.connect(till.url) as other:
        other.execute("SELECT FROM cards FOR UPDATE")
        issues = [asyncio.create_task(till.token()) for _ in range(2 * LIVE_MAX)]
        await waiting(till, len(issues))
        # Each has begun: none sees what another issues.
    tokens = await asyncio.gather(*issues)
    assert till.ends() == [(None,)] * len(issues)
    assert sum([await till.is_live(token) for token in tokens]) == LIVE_MAX


async def waiting(till: Till, count: int) -> None:
    """Wait until so many statements wait for a lock."""
    async with asyncio.timeout(30):
        while till.rows(  # noqa: ASYNC110 - nobody tells
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ) != [(count,)]:
            await asyncio.sleep(0.01)


async def test_rows_of_a_card_go_a_day_after_they_expired(till: Till) -> None:
    await till.token()
    till.age(24 * 60 * 60)
    await till.token()
    assert len(till.ends()) == 2
    till.age(LIFE_SECONDS[HOSTED] + 60)
    await till.token()
    assert len(till.ends()) == 2


# Burn and open


async def test_burning_hands_over_the_card_and_is_audited_in_the_same_commit(till: Till) -> None:
    await till.change_by_d1()
    token = await till.token()
    assert await till.tokens.burn(token, VIEW, HOSTED, ACTOR) == Burned(
        grant(),
        CardToRead(CardState.ACTIVE, PinBlockType.ISO0, 1, 1, SealedPan(b"sealed PAN"), SEALED),
    )
    assert till.audit("pin.get") == [(CARD.card_id, APP, ACTOR.correlation_id, 1, "hosted")]
    assert till.ends() == [("shown",)]
    with pytest.raises(ControlEnded):
        await till.tokens.burn(token, VIEW, HOSTED, ACTOR)


@pytest.mark.parametrize("what", ["state = 'blocked'", "pin_type = 'SECCOS'", "pin_type = NULL"])
async def test_a_pin_that_may_not_be_shown_is_not_audited_as_shown(till: Till, what: str) -> None:
    await till.change_by_d1()
    token = await till.token()
    run_sql(till.url, f"UPDATE cards SET {what}")
    assert await till.tokens.burn(token, VIEW, HOSTED, ACTOR)
    assert till.audit("pin.get") == []
    assert till.ends() == [("shown",)]


async def test_opening_makes_a_session_that_the_vault_knows_by_its_hash(till: Till) -> None:
    opened = await till.session()
    assert opened.expires_in_seconds == SESSION_SECONDS[HOSTED]
    assert opened.grant == await till.tokens.session(opened.session, SET) == grant(SET)
    assert len(base64url.decode(opened.session)) == 32
    digest = hashlib.sha256(opened.session.encode()).digest()
    assert opened.sid == sid(opened.session) == base64url.encode(digest)
    assert opened.session not in repr(opened)
    assert opened.session != (await till.session()).session


Use = Callable[[Till, str], Coroutine[Any, Any, object]]
USES: dict[str, tuple[Purpose, Use]] = {
    "burn": (VIEW, lambda till, token: till.tokens.burn(token, VIEW, HOSTED, ACTOR)),
    "open": (SET, lambda till, token: till.tokens.open(token, SET, HOSTED)),
}


@pytest.mark.parametrize("name", USES)
async def test_of_50_redemptions_at_once_exactly_one_succeeds(till: Till, name: str) -> None:
    purpose, use = USES[name]
    await till.change_by_d1()
    for number in range(1, ROUNDS + 1):
        token = await till.token(purpose)
        assert await won([use(till, token) for _ in range(AT_ONCE)]) == 1
        assert len(till.audit("pin.get")) == (number if name == "burn" else 0)


async def test_a_token_is_burnt_or_opened_and_never_both(till: Till) -> None:
    for _ in range(ROUNDS):
        token = await till.token()
        burn = [till.tokens.burn(token, VIEW, HOSTED, ACTOR) for _ in range(AT_ONCE // 2)]
        view = [till.tokens.open(token, VIEW, HOSTED) for _ in range(AT_ONCE // 2)]
        both: list[Coroutine[Any, Any, object]] = [*burn, *view]
        assert await won(both) == 1


@pytest.mark.parametrize("face", Face)
async def test_a_token_expires_by_the_databases_clock(till: Till, face: Face) -> None:
    token = await till.token(face=face)
    till.age(LIFE_SECONDS[face] - 10)
    assert await till.is_live(token)
    till.age(10)
    assert not await till.is_live(token)
    with pytest.raises(ControlEnded):
        await till.tokens.burn(token, VIEW, face, ACTOR)


async def test_what_is_no_live_token_for_this_all_looks_alike(till: Till) -> None:
    spent, ended = await till.token(), await till.token()
    await till.tokens.burn(spent, VIEW, HOSTED, ACTOR)
    await till.change_by_d1()
    expired = await till.token()
    till.age(LIFE_SECONDS[HOSTED])
    live = await till.token()
    before = till.dump()
    dead = (spent, ended, expired, "", "\0", "\ud800", "x" * 10_000, live[:-1])
    others = [(purpose, face) for purpose, face in product(Purpose, Face)]
    cases = [*product(dead, others), *((live, other) for other in others[1:])]
    for token, (purpose, face) in cases:
        sent = till.store.statements
        for call in (
            till.tokens.burn(token, purpose, face, ACTOR),
            till.tokens.open(token, purpose, face),
        ):
            with pytest.raises(ControlEnded) as refused:
                await call
            assert refused.value.args == ()
        assert till.store.statements == sent + 2
    assert till.dump() == before
    assert await till.tokens.burn(live, VIEW, HOSTED, ACTOR)


async def test_a_token_may_be_written_in_capitals_as_some_platforms_do(till: Till) -> None:
    for written in (str.upper, "{}\r\n".format):
        token = await till.token()
        assert await till.tokens.burn(written(token), VIEW, HOSTED, ACTOR)


async def test_a_token_for_viewing_sets_nothing(till: Till) -> None:
    token = await till.token(VIEW)
    with pytest.raises(ControlEnded):
        await till.tokens.open(token, SET, HOSTED)
    opened = await till.tokens.open(token, VIEW, HOSTED)
    with pytest.raises(ControlEnded):
        await till.tokens.session(opened.session, SET)
    before = till.dump()
    assert not await till.finish(opened.session)
    assert till.dump() == before


# A change revokes


async def test_a_change_by_d1_ends_the_cards_tokens_and_sessions_and_no_others(till: Till) -> None:
    tokens = [await till.token(purpose, face) for purpose, face in product(Purpose, Face)] + [
        await till.token(client_id=OTHER_APP)
    ]
    opened, elsewhere = await till.session(), await till.token(card=OTHER_CARD)
    assert all([await till.is_live(token) for token in tokens])
    await till.change_by_d1()
    assert not any([await till.is_live(token) for token in tokens])
    await no_session(till, opened.session)
    assert await till.is_live(elsewhere)
    assert await till.is_live(await till.token())


async def test_a_change_from_a_page_ends_the_cards_tokens_and_sessions(till: Till) -> None:
    token, first, second = await till.token(), await till.session(), await till.session()
    assert await till.finish(first.session)
    assert not await till.is_live(token)
    await no_session(till, second.session)


async def test_a_change_that_waited_for_an_issue_revokes_what_was_issued(till: Till) -> None:
    with psycopg.connect(till.url) as other:
        other.execute("SELECT FROM cards FOR UPDATE")
        issue = asyncio.create_task(till.token())
        await waiting(till, 1)
        change = asyncio.create_task(till.change_by_d1())
        await waiting(till, 2)
    token = await issue
    await change
    assert not await till.is_live(token)


async def test_a_token_that_waited_for_a_change_is_live(till: Till) -> None:
    with psycopg.connect(till.url) as other:
        other.execute("SELECT FROM cards FOR UPDATE")
        change = asyncio.create_task(till.change_by_d1())
        await waiting(till, 1)
        issue = asyncio.create_task(till.token())
        await waiting(till, 2)
    await change
    assert await till.is_live(await issue)


# Sessions


async def no_session(till: Till, session: str) -> None:
    """Find that nothing can be done with a session, and that trying changes nothing."""
    before = till.dump()
    for call in (
        till.tokens.session(session, SET),
        till.tokens.extend(session),
        till.tokens.count_try(session),
    ):
        with pytest.raises(ControlEnded):
            await call
    assert not await till.finish(session, b"another request")
    assert till.dump() == before


@pytest.mark.parametrize("face", Face)
async def test_a_session_expires_unless_it_is_extended(till: Till, face: Face) -> None:
    session = (await till.session(face)).session
    till.age(SESSION_SECONDS[face] - 10)
    assert await till.tokens.extend(session) == SESSION_SECONDS[face]
    till.age(SESSION_SECONDS[face] - 10)
    assert await till.tokens.session(session, SET)
    till.age(10)
    await no_session(till, session)


async def test_a_session_ends_20_minutes_after_its_opening_however_often_extended(
    till: Till,
) -> None:
    session = (await till.session()).session
    for _ in range(SESSION_SECONDS_MAX // 300 - 1):
        till.age(300)
        left = await till.tokens.extend(session)
    assert 200 < left <= 300
    till.age(280)
    assert 0 < await till.tokens.extend(session) <= 20
    till.age(20)
    await no_session(till, session)


async def test_a_session_outlives_its_token(till: Till) -> None:
    token = await till.token(SET)
    till.age(LIFE_SECONDS[HOSTED] - 10)
    opened = await till.tokens.open(token, SET, HOSTED)
    till.age(10)
    assert await till.tokens.session(opened.session, SET)


async def test_the_fifth_pin_that_is_refused_ends_a_session(till: Till) -> None:
    session = (await till.session()).session
    assert [await till.tokens.count_try(session) for _ in range(TRIES_MAX)] == [4, 3, 2, 1, 0]
    assert till.ends() == [("tries",)]
    await no_session(till, session)


async def test_of_tries_at_once_five_are_counted(till: Till) -> None:
    session = (await till.session()).session
    assert await won([till.tokens.count_try(session) for _ in range(AT_ONCE)]) == TRIES_MAX
    assert till.rows("SELECT tries FROM control_tokens") == [(TRIES_MAX,)]


@pytest.mark.parametrize("reason", [EndReason.CANCELLED, EndReason.FAILED])
async def test_a_session_that_was_ended_stays_as_it_is(till: Till, reason: EndReason) -> None:
    session = (await till.session()).session
    await till.tokens.end(session, reason)
    assert till.ends() == [(reason,)]
    await no_session(till, session)
    before = till.dump()
    await till.tokens.end(session, EndReason.REVOKED)
    await till.tokens.end("no session", EndReason.REVOKED)
    assert till.dump() == before


async def test_a_pin_from_a_page_is_stored_recorded_and_ends_the_session(till: Till) -> None:
    session = (await till.session()).session
    sent = till.store.statements
    found = await till.read()
    assert await till.tokens.finish(session, CARD, found, CHANGE, b"the JWE", ACTOR)
    assert till.store.statements == sent + 2
    assert till.rows(
        "SELECT counter, sealed_pin, pin_type FROM cards WHERE card_id = 'card-1'"
    ) == [(1, SEALED, "ISO0")]
    assert till.rows("SELECT card_id, counter, actor, request_key FROM pin_changes") == [
        (CARD.card_id, 1, APP, b"the JWE")
    ]
    assert till.audit("pin.set") == [(CARD.card_id, APP, ACTOR.correlation_id, 1, "hosted")]
    assert till.rows(
        "SELECT end_reason, ended_at = (SELECT changed_at FROM pin_changes) FROM control_tokens"
    ) == [("set", True)]
    await no_session(till, session)


async def test_of_50_submits_at_once_exactly_one_is_stored(till: Till) -> None:
    for number in range(1, ROUNDS + 1):
        session = (await till.session()).session
        keys = [f"{number} {submit}".encode() for submit in range(AT_ONCE)]
        stored = await asyncio.gather(*(till.finish(session, key) for key in keys))
        assert sum(stored) == 1
        assert till.rows("SELECT max(counter), count(*) FROM pin_changes") == [(number, number)]


async def test_of_a_submit_and_a_cancel_at_once_the_first_decides(till: Till) -> None:
    session = (await till.session()).session
    with psycopg.connect(till.url) as other:
        other.execute("SELECT FROM cards FOR UPDATE")
        submit = asyncio.create_task(till.finish(session))
        await waiting(till, 1)
        await till.tokens.end(session, EndReason.CANCELLED)
    assert not await submit
    assert till.rows("SELECT FROM pin_changes") == []
    assert till.ends() == [("cancelled",)]


async def a_change_by_d1(till: Till) -> None:
    await till.change_by_d1()


async def a_cancel(till: Till) -> None:
    run_sql(till.url, "UPDATE control_tokens SET ended_at = now(), end_reason = 'cancelled'")


async def the_end_of_the_session(till: Till) -> None:
    till.age(SESSION_SECONDS[HOSTED])


async def a_block(till: Till) -> None:
    run_sql(till.url, "UPDATE cards SET state = 'blocked'")


async def the_same_request(till: Till) -> None:
    run_sql(
        till.url,
        "INSERT INTO pin_changes VALUES ('testbank01', 'card-1', 9, now(), 'x', 'a request')",
    )


@pytest.mark.parametrize(
    "meanwhile", [a_change_by_d1, a_cancel, the_end_of_the_session, a_block, the_same_request]
)
async def test_a_submit_that_lost_a_race_changes_nothing(
    till: Till, meanwhile: Callable[[Till], Awaitable[None]]
) -> None:
    session = (await till.session()).session
    found = await till.read()
    await meanwhile(till)
    before = till.dump()
    assert not await till.tokens.finish(session, CARD, found, CHANGE, b"a request", ACTOR)
    assert till.dump() == before


async def test_a_session_stores_no_pin_for_another_card(till: Till) -> None:
    session = (await till.session(card=OTHER_CARD)).session
    before = till.dump()
    assert not await till.finish(session, card=CARD)
    assert till.dump() == before
    assert await till.finish(session, card=OTHER_CARD)


# What the database knows


async def test_the_database_holds_neither_token_nor_session(till: Till) -> None:
    token, opened = await till.token(), await till.session()
    dump = till.dump().lower()
    for text in (token, opened.session, opened.sid):
        digests = (hashlib.sha256(text.encode()).hexdigest(), text.encode().hex())
        assert not any(form in dump for form in (text.lower(), *digests))
    assert UUID(token).hex not in dump
    assert base64url.decode(opened.session).hex() not in dump
    assert CARD.card_id in dump


async def test_another_key_opens_nothing(till: Till) -> None:
    token, session = await till.token(SET), (await till.session()).session
    other = ControlTokens(ControlStore(till.store), Secret(b"o" * 32))
    assert await other.peek(token) is None
    with pytest.raises(ControlEnded):
        await other.session(session, SET)
    with pytest.raises(ControlEnded):
        await till.tokens.session(token, SET)  # nor is a token a session


async def test_a_key_that_is_too_short_is_found_at_start(till: Till) -> None:
    with pytest.raises(ValueError, match="too short"):
        ControlTokens(ControlStore(till.store), Secret(b"k" * 31))
    assert ControlTokens(ControlStore(till.store), KEY)


# The card of a cardholder


async def test_a_cardholders_card_is_an_active_one_then_the_newest_and_a_closed_one_last(
    till: Till,
) -> None:
    with pytest.raises(CardNotFound):
        await till.tokens.card_of(ISSUER_ID, "somebody")
    for card_id, state in (
        ("closed", "closed"),
        ("old", "inactive"),
        ("new", "blocked"),
        ("newest-but-closed", "closed"),
        ("active", "active"),
        ("newer-active", "active"),
        ("newest", "inactive"),
    ):
        tills.add_card(till.url, CardRef(ISSUER_ID, card_id), "somebody", state=state)
    chosen = []
    for _ in range(7):
        found = await till.tokens.card_of(ISSUER_ID, "somebody")
        chosen.append(found.card_id)
        run_sql(till.url, "UPDATE cards SET cardholder_id = NULL WHERE card_id = %s", chosen[-1])
    assert chosen == [
        *("newer-active", "active", "newest", "new", "old", "newest-but-closed", "closed")
    ]


async def test_a_cardholders_card_tells_its_type_and_whether_it_has_a_pin(till: Till) -> None:
    tills.add_card(till.url, CardRef(ISSUER_ID, "card-3"), "somebody", card_type="METAL")
    found = await till.tokens.card_of(ISSUER_ID, "somebody")
    assert (found.last_four, found.expiry, found.card_type) == ("1111", "1230", "METAL")
    assert (found.state, found.pin_is_set, found.pin_changed_at) == ("active", False, None)
    await till.change_by_d1(card=CardRef(ISSUER_ID, "card-3"))
    found = await till.tokens.card_of(ISSUER_ID, "somebody")
    assert (found.pin_is_set, found.pin_type) == (True, "ISO0")
    assert [(found.pin_changed_at,)] == till.rows("SELECT changed_at FROM pin_changes")


async def test_another_issuers_cardholder_of_the_same_name_is_somebody_else(till: Till) -> None:
    tills.add_card(till.url, CardRef(ISSUER_ID, "card-3"), "somebody")
    with pytest.raises(CardNotFound):
        await till.tokens.card_of("testbank02", "somebody")
