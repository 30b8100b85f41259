"""What becomes of a page session, which began when a control token was opened or consumed."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Integer,
    LargeBinary,
    String,
    and_,
    bindparam,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
)

from cms.domain.control import TRIES_MAX, EndReason
from cms.persistence.statements import compiled
from cms.persistence.statements.control_token import (
    GRANT,
    HAS_CARD_UNCHANGED,
    IS_NOT_PERSONALISED,
    IS_OF_LOCKED_CARD,
    SESSION_LIFE,
    seconds_left,
    show,
)
from cms.persistence.statements.parts import change_pin, matches, of_issuer
from cms.persistence.tables import control_tokens
from hsm.port import Face, Purpose

_HAS_SESSION_HASH: Final = and_(
    of_issuer(control_tokens),
    control_tokens.c.session_hash == bindparam("session_hash", type_=LargeBinary),
)
_IS_NOT_OVER: Final = and_(
    _HAS_SESSION_HASH,
    control_tokens.c.ended_at.is_(None),
    control_tokens.c.session_expires_at > func.now(),
)
_THIS_SESSION: Final = and_(_IS_NOT_OVER, control_tokens.c.tries < literal(TRIES_MAX, Integer))
_THIS_LIVE_SESSION: Final = and_(_THIS_SESSION, HAS_CARD_UNCHANGED)

READ_SESSION: Final = compiled(
    select(*GRANT).where(_THIS_LIVE_SESSION, matches(control_tokens.c.purpose, "purpose"))
)
"""One row, a grant, if the session is live."""

READ_OVERTAKEN_SESSION: Final = compiled(
    select(control_tokens.c.card_id).where(_THIS_SESSION, not_(HAS_CARD_UNCHANGED))
)
"""One row, a card, if nothing but a change of its PIN has ended the session."""

_extended: Final = (
    control_tokens.update()
    .where(_THIS_LIVE_SESSION)
    .values(
        session_expires_at=func.least(func.now() + SESSION_LIFE, control_tokens.c.session_ends_at)
    )
    .returning(control_tokens.c.session_expires_at)
    .cte("extended")
)
EXTEND_SESSION: Final = compiled(select(seconds_left(_extended)))
"""One row, the seconds that the session has left, if it is live."""

COUNT_SESSION_TRY: Final = compiled(
    control_tokens.update()
    .where(_THIS_LIVE_SESSION)
    .values(tries=control_tokens.c.tries + 1)
    .returning((literal(TRIES_MAX, Integer) - control_tokens.c.tries).label("tries_left"))
)
"""One row, the tries that are left, if the session was live; with none left it is no more."""

END_SESSION: Final = compiled(
    control_tokens.update()
    .where(_IS_NOT_OVER)
    .values(ended_at=func.now(), end_reason=bindparam("end_reason", type_=String))
)
"""No row. One that is over stays as it is."""

END_SESSION_WITH_TEXT: Final = show(
    control_tokens.update()
    .where(
        _THIS_LIVE_SESSION,
        control_tokens.c.purpose == Purpose.VIEW.value,
        matches(control_tokens.c.face, "face"),
    )
    .values(ended_at=func.now(), end_reason=EndReason.SHOWN.value)
    .returning(*GRANT)
    .cte("consumed")
)
"""One row, as :func:`show` returns it, if the session for seeing a PIN was live until now."""

_session = (
    select(control_tokens.c.token_hash, control_tokens.c.face, control_tokens.c.audit_user)
    .where(
        IS_OF_LOCKED_CARD,
        _THIS_SESSION,
        control_tokens.c.counter == bindparam("counter_read", type_=BigInteger),
        control_tokens.c.purpose == Purpose.SET.value,
        or_(control_tokens.c.face != Face.PINCONTROL.value, IS_NOT_PERSONALISED),
    )
    .with_for_update()
    .cte("session")
)
_changed, _with_it = change_pin(
    exists(select(_session.c.token_hash)),
    reason=select(_session.c.face).scalar_subquery(),
    audit_user=select(_session.c.audit_user).scalar_subquery(),
)
_ended = (
    control_tokens.update()
    .where(_HAS_SESSION_HASH, exists(select(_changed.c.counter)))
    .values(ended_at=func.now(), end_reason=EndReason.SET.value)
    .cte("ended")
)
CHANGE_PIN_IN_SESSION: Final = compiled(select(_changed.c.counter).add_cte(*_with_it, _ended))
"""One row, the new counter, if the session is live, and the card still as it was read.

Else none, and no change. The session is over; the new counter ends all others of the card, and its
live tokens.
"""
