"""What becomes of a page session, which began when a control token was opened or consumed."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Integer,
    LargeBinary,
    String,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    not_,
    null,
    or_,
    select,
)

from cms.domain.control import TRIES_MAX, EndReason
from cms.persistence.statements import compiled
from cms.persistence.statements.control_token import (
    GRANT,
    HAS_CARD_UNCHANGED,
    IS_OF_LOCKED_CARD,
    LOCKED_CARD,
    SECONDS_LEFT,
    SESSION_LIFE,
    show,
)
from cms.persistence.statements.parts import change_pin, matches
from cms.persistence.tables import control_tokens
from hsm.port import Face, Purpose

_HAS_SESSION_HASH: Final = control_tokens.c.session_hash == bindparam(
    "session_hash", type_=LargeBinary
)
_THIS_SESSION: Final = and_(
    _HAS_SESSION_HASH,
    control_tokens.c.ended_at.is_(None),
    control_tokens.c.session_expires_at > func.now(),
)
_THIS_LIVE_SESSION: Final = and_(_THIS_SESSION, HAS_CARD_UNCHANGED)

READ_SESSION: Final = compiled(
    select(*GRANT).where(_THIS_LIVE_SESSION, matches(control_tokens.c.purpose, "purpose"))
)
"""One row, a grant, if the session is live."""

EXTEND_SESSION: Final = compiled(
    control_tokens.update()
    .where(_THIS_LIVE_SESSION)
    .values(
        session_expires_at=func.least(func.now() + SESSION_LIFE, control_tokens.c.session_ends_at)
    )
    .returning(SECONDS_LEFT)
)
"""One row, the seconds that the session has left, if it is live."""

_is_last_try = control_tokens.c.tries + 1 >= literal(TRIES_MAX, Integer)
COUNT_SESSION_TRY: Final = compiled(
    control_tokens.update()
    .where(_THIS_LIVE_SESSION)
    .values(
        tries=control_tokens.c.tries + 1,
        ended_at=case((_is_last_try, func.now()), else_=null()),
        end_reason=case((_is_last_try, literal(EndReason.TRIES.value, String)), else_=null()),
    )
    .returning((literal(TRIES_MAX, Integer) - control_tokens.c.tries).label("tries_left"))
)
"""One row, the tries that are left, if the session was live; with none left it is over."""

END_SESSION: Final = compiled(
    control_tokens.update()
    .where(_THIS_SESSION)
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
    .join(LOCKED_CARD, IS_OF_LOCKED_CARD)
    .where(
        _THIS_SESSION,
        control_tokens.c.counter == bindparam("counter_read", type_=BigInteger),
        control_tokens.c.purpose == Purpose.SET.value,
        or_(control_tokens.c.face != Face.PINCONTROL.value, not_(LOCKED_CARD.c.personalised)),
    )
    .with_for_update(of=control_tokens)
    .cte("session")
)
_changed, _with_it = change_pin(
    exists(select(_session.c.token_hash)),
    reason=select(_session.c.face).scalar_subquery(),
    audit_user=select(_session.c.audit_user).scalar_subquery(),
)
_ended = (
    control_tokens.update()
    .where(
        control_tokens.c.issuer_id == _changed.c.issuer_id,
        control_tokens.c.card_id == _changed.c.card_id,
        _HAS_SESSION_HASH,
    )
    .values(ended_at=func.now(), end_reason=EndReason.SET.value)
    .cte("ended")
)
CHANGE_PIN_IN_SESSION: Final = compiled(select(_changed.c.counter).add_cte(*_with_it, _ended))
"""One row, the new counter, if the session is live, and the card still as it was read.

Else none, and no change. The session is over; the new counter ends all others of the card, and its
live tokens.
"""
