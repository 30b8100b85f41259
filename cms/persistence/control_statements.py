"""The statements of control tokens and page sessions, compiled once, at import.

Each decides by itself, by the database's clock: what is read and then acted upon may have changed
in between. Where two rows are locked, the card's is the first: none waits for another in a ring.
"""

from datetime import timedelta
from typing import Any, Final

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    Integer,
    Interval,
    LargeBinary,
    String,
    Text,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB

from cms.domain.cards import CardState, Verb
from cms.domain.control import (
    KEPT_SECONDS,
    LIFE_SECONDS,
    LIVE_MAX,
    SESSION_SECONDS,
    SESSION_SECONDS_MAX,
    STATES,
    TRIES_MAX,
    EndReason,
    Face,
    Purpose,
)
from cms.persistence.statements import (
    ACTOR,
    AUDIT_COLUMNS,
    CORRELATION_ID,
    HAS_PIN_TO_SHOW,
    THIS_CARD,
    Statement,
    change_pin,
    compiled,
    in_state,
    matches,
)
from cms.persistence.tables import (
    NEWEST_COUNTER,
    audit_events,
    cards,
    clients,
    control_tokens,
)

ISSUED: Final = "control.issued"
"""The audit event; its reason is face and purpose."""

_token: Final = control_tokens.c
_newer: Final = control_tokens.alias("newer")
_GRANT: Final = (
    _token.issuer_id,
    _token.card_id,
    _token.client_id,
    _token.face,
    _token.purpose,
    _token.style,
    _token.redirect_url,
    _token.embedded,
    _token.audit_user,
)
"""In the order of :class:`cms.domain.control.Grant`."""


def _seconds(count: int) -> ColumnElement[timedelta]:
    return literal(timedelta(seconds=count), Interval)


def _of_face(seconds: Any) -> ColumnElement[timedelta]:  # noqa: ANN401 - a mapping by face
    return case(
        *((_token.face == face.value, _seconds(count)) for face, count in seconds.items()),
        else_=_seconds(0),
    )


def _left() -> ColumnElement[int]:
    """Count the whole seconds that the session has left."""
    left = func.extract("epoch", _token.session_expires_at - func.now())
    return cast(func.floor(left), Integer)


def _not_consumed(token: Any) -> ColumnElement[bool]:  # noqa: ANN401 - columns, or those of an alias
    return and_(
        token.consumed_at.is_(None), token.ended_at.is_(None), token.expires_at > func.now()
    )


_newer_live = (
    select(func.count())
    .select_from(_newer)
    .where(
        _newer.c.issuer_id == _token.issuer_id,
        _newer.c.card_id == _token.card_id,
        _newer.c.client_id == _token.client_id,
        _newer.c.purpose == _token.purpose,
        tuple_(_newer.c.issued_at, _newer.c.token_hash)
        > tuple_(_token.issued_at, _token.token_hash),
        _not_consumed(_newer.c),
    )
    .correlate(control_tokens)
    .scalar_subquery()
)
"""How many newer tokens of the same card, purpose and client are live."""

# Counted again when a token is consumed: two that were issued at once did not see one another.
_OF_THE_NEWEST: Final = _newer_live < literal(LIVE_MAX, Integer)
_UNCHANGED: Final = exists().where(
    cards.c.issuer_id == _token.issuer_id,
    cards.c.card_id == _token.card_id,
    cards.c.counter == _token.counter,
)
_THIS_TOKEN: Final = _token.token_hash == bindparam("token_hash", type_=LargeBinary)
_LIVE: Final = and_(_THIS_TOKEN, _not_consumed(_token), _UNCHANGED, _OF_THE_NEWEST)
_LIVE_FOR_THIS: Final = and_(
    _LIVE, matches(_token.purpose, "purpose"), matches(_token.face, "face")
)
_THIS_SESSION: Final = and_(
    _token.session_hash == bindparam("session_hash", type_=LargeBinary),
    _token.ended_at.is_(None),
    _token.session_expires_at > func.now(),
)
_LIVE_SESSION: Final = and_(_THIS_SESSION, _UNCHANGED)


# A lock shows the row as it is, whatever the rest of the statement sees.
_card = select(cards.c.issuer_id, cards.c.card_id, cards.c.counter, cards.c.personalised).where(
    THIS_CARD
)
_locked = _card.with_for_update(key_share=True).cte("card")
_of_card = and_(_token.issuer_id == _locked.c.issuer_id, _token.card_id == _locked.c.card_id)
_revoked = (
    control_tokens.update()
    .where(
        _of_card,
        matches(_token.client_id, "client_id"),
        matches(_token.purpose, "purpose"),
        _not_consumed(_token),
        _newer_live >= literal(LIVE_MAX - 1, Integer),
    )
    .values(ended_at=func.now(), end_reason=EndReason.REVOKED.value)
    .cte("revoked")
)
_forgotten = (
    control_tokens.delete()
    .where(_of_card, _token.expires_at < func.now() - _seconds(KEPT_SECONDS))
    .cte("forgotten")
)
_AUDIT_USER = bindparam("audit_user", type_=Text)
_life = case(
    *(
        (bindparam("face", type_=String) == face.value, _seconds(count))
        for face, count in LIFE_SECONDS.items()
    ),
    else_=_seconds(0),
)
_issued = (
    control_tokens.insert()
    .from_select(
        [
            "token_hash",
            *("issuer_id", "card_id", "counter"),
            *("client_id", "face", "purpose", "style", "redirect_url", "embedded", "audit_user"),
            "expires_at",
        ],
        select(
            bindparam("token_hash", type_=LargeBinary),
            _locked.c.issuer_id,
            _locked.c.card_id,
            _locked.c.counter,
            bindparam("client_id", type_=String),
            bindparam("face", type_=String),
            bindparam("purpose", type_=String),
            bindparam("style", type_=JSONB),
            bindparam("redirect_url", type_=Text),
            bindparam("embedded", type_=Boolean),
            _AUDIT_USER,
            func.now() + _life,
        ),
    )
    .returning(_token.issuer_id, _token.card_id, _token.counter, _token.expires_at)
    .cte("issued")
)
_issue_audit = (
    audit_events.insert()
    .from_select(
        (*AUDIT_COLUMNS, "reason", "audit_user"),
        select(
            _issued.c.issuer_id,
            _issued.c.card_id,
            literal(ISSUED, String),
            ACTOR,
            CORRELATION_ID,
            _issued.c.counter,
            bindparam("face", type_=String) + " " + bindparam("purpose", type_=String),
            _AUDIT_USER,
        ),
    )
    .cte("audit")
)
ISSUE: Final = compiled(select(_issued.c.expires_at).add_cte(_revoked, _forgotten, _issue_audit))
"""One row, the time when the token expires; none where there is no such card.

Of the client's live tokens for this card and purpose the newest stay. Old rows go.
"""

PEEK: Final = compiled(select(*_GRANT).where(_LIVE))
"""One row, a grant, if the token is live."""

KNOWN: Final = compiled(select(*_GRANT).where(_THIS_TOKEN))
"""One row, a grant, if the token was ever issued and its row is not deleted yet."""

IS_ORIGIN: Final = compiled(
    select(
        exists().where(
            clients.c.auth == literal("public", String),
            clients.c.state == literal("active", String),
            or_(
                bindparam("origin", type_=Text) == func.any(clients.c.redirect_origins),
                bindparam("origin", type_=Text) == func.any(clients.c.embed_origins),
            ),
        )
    )
)
"""One row: whether an app in service registered this origin."""


def _show(consumed: CTE, reason: ColumnElement[str]) -> Statement:
    """Read the cards of the tokens that are *consumed*, and audit each PIN that is shown."""
    allowed = (
        and_(consumed.c.face == face.value, in_state(states[Verb.GET_PIN]))
        for face, states in STATES.items()
    )
    shown = (
        select(
            *consumed.c,
            cards.c.state,
            cards.c.pin_type,
            cards.c.counter.label("card_counter"),
            NEWEST_COUNTER.label("newest"),
            cards.c.sealed_pan,
            cards.c.sealed_pin,
            and_(HAS_PIN_TO_SHOW, or_(*allowed)).label("readable"),
        )
        .join(
            cards,
            and_(cards.c.issuer_id == consumed.c.issuer_id, cards.c.card_id == consumed.c.card_id),
        )
        .cte("shown")
    )
    audit = (
        audit_events.insert()
        .from_select(
            (*AUDIT_COLUMNS, "reason", "audit_user"),
            select(
                shown.c.issuer_id,
                shown.c.card_id,
                literal(Verb.GET_PIN.value, String),
                ACTOR,
                CORRELATION_ID,
                shown.c.card_counter,
                shown.c.face + reason,
                shown.c.audit_user,
            ).where(shown.c.readable),
        )
        .cte("audit")
    )
    return compiled(
        select(*(column for column in shown.c if column.name != "readable")).add_cte(audit)
    )


_WITH_SESSION: Final = cast(bindparam("session_hash", type_=LargeBinary), LargeBinary)
_over = _WITH_SESSION.is_(None)
CONSUME: Final = _show(
    control_tokens.update()
    .where(_LIVE_FOR_THIS)
    .values(
        consumed_at=func.now(),
        session_hash=_WITH_SESSION,
        session_expires_at=case((_over, null()), else_=func.now() + _of_face(SESSION_SECONDS)),
        session_ends_at=case((_over, null()), else_=func.now() + _seconds(SESSION_SECONDS_MAX)),
        ended_at=case((_over, func.now()), else_=null()),
        end_reason=case((_over, literal(EndReason.SHOWN.value, String)), else_=null()),
    )
    .returning(*_GRANT)
    .cte("consumed"),
    literal("", String),
)
"""One row, grant and card, if the token was live until now.

The audit row is written only for a PIN that may be handed out. With a session hash, a session
begins; without one the token is over.
"""

END_WITH_TEXT: Final = _show(
    control_tokens.update()
    .where(_LIVE_SESSION, _token.purpose == Purpose.VIEW.value, matches(_token.face, "face"))
    .values(ended_at=func.now(), end_reason=EndReason.SHOWN.value)
    .returning(*_GRANT)
    .cte("consumed"),
    literal(" text", String),
)
"""One row, grant and card, if the session for seeing a PIN was live until now; audited as BURN."""

OPEN: Final = compiled(
    control_tokens.update()
    .where(_LIVE_FOR_THIS)
    .values(
        consumed_at=func.now(),
        session_hash=bindparam("session_hash", type_=LargeBinary),
        session_expires_at=func.now() + _of_face(SESSION_SECONDS),
        session_ends_at=func.now() + _seconds(SESSION_SECONDS_MAX),
    )
    .returning(_left(), *_GRANT)
)
"""One row, the seconds that the session has and its grant, if the token was live until now."""

SESSION: Final = compiled(select(*_GRANT).where(_LIVE_SESSION, matches(_token.purpose, "purpose")))
"""One row, a grant, if the session is live."""

EXTEND: Final = compiled(
    control_tokens.update()
    .where(_LIVE_SESSION)
    .values(
        session_expires_at=func.least(
            func.now() + _of_face(SESSION_SECONDS), _token.session_ends_at
        )
    )
    .returning(_left())
)
"""One row, the seconds that the session has left, if it is live."""

_last_try = _token.tries + 1 >= literal(TRIES_MAX, Integer)
COUNT_TRY: Final = compiled(
    control_tokens.update()
    .where(_LIVE_SESSION)
    .values(
        tries=_token.tries + 1,
        ended_at=case((_last_try, func.now()), else_=null()),
        end_reason=case((_last_try, literal(EndReason.TRIES.value, String)), else_=null()),
    )
    .returning(literal(TRIES_MAX, Integer) - _token.tries)
)
"""One row, the tries that are left, if the session was live; with none left it is over."""

END: Final = compiled(
    control_tokens.update()
    .where(_THIS_SESSION)
    .values(ended_at=func.now(), end_reason=bindparam("end_reason", type_=String))
)

_session = (
    select(_token.token_hash, _token.face, _token.audit_user)
    .join(_locked, _of_card)
    .where(
        _THIS_SESSION,
        _token.counter == bindparam("counter_read", type_=BigInteger),
        _token.purpose == Purpose.SET.value,
        or_(_token.face != Face.PINCONTROL.value, not_(_locked.c.personalised)),
    )
    .with_for_update(of=control_tokens)
    .cte("session")
)
_changed, _history, _set_audit = change_pin(
    exists(select(_session.c.token_hash)),
    reason=select(_session.c.face).scalar_subquery(),
    audit_user=select(_session.c.audit_user).scalar_subquery(),
)
_ended = (
    control_tokens.update()
    .where(
        exists(select(_changed.c.counter)),
        _token.session_hash == bindparam("session_hash", type_=LargeBinary),
    )
    .values(ended_at=func.now(), end_reason=EndReason.SET.value)
    .cte("ended")
)
CHANGE_PIN: Final = compiled(select(_changed.c.counter).add_cte(_history, _set_audit, _ended))
"""One row, the new counter, if the session is live, and counter and state are still those read.

Else none, and no change. The session is over; the new counter ends all others of the card, and its
live tokens.
"""

PLASTIC: Final = compiled(
    select(
        cards.c.issuer_id,
        cards.c.card_id,
        cards.c.state,
        cards.c.personalised,
        cards.c.pin_type,
    ).where(matches(cards.c.issuer_id, "issuer_id"), matches(cards.c.plastic_id, "plastic_id"))
)
"""One row, a card by its plastic id."""

CARD_OF: Final = compiled(
    select(
        cards.c.issuer_id,
        cards.c.card_id,
        cards.c.state,
        cards.c.last_four,
        cards.c.expiry,
        cards.c.card_type,
        cards.c.created_at,
        cards.c.pin_type,
        cards.c.pin_changed_at,
    )
    .where(matches(cards.c.issuer_id, "issuer_id"), matches(cards.c.cardholder_id, "cardholder_id"))
    .order_by(
        cards.c.state != literal(CardState.ACTIVE.value, String),
        cards.c.state == literal(CardState.CLOSED.value, String),
        cards.c.created_at.desc(),
        cards.c.card_id,
    )
    .limit(1)
)
"""One row, the card of a cardholder: active before others, closed last, the newest first."""
