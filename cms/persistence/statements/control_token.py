"""What becomes of a control token until it is consumed, or opened as a page session.

Each statement decides by itself, by the database's clock: what is read and then acted upon may have
changed in between. Where two rows are locked, the card's is the first: none waits for another in a
ring.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    FromClause,
    Integer,
    LargeBinary,
    String,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    null,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB

from cms.domain.control import KEPT_SECONDS, LIVE_MAX, SESSION_SECONDS, EndReason
from cms.persistence.statements import Statement, compiled
from cms.persistence.statements.parts import (
    CARD_TO_READ,
    THIS_CARD,
    audit,
    insert_from,
    matches,
    seconds,
)
from cms.persistence.tables import cards, control_tokens
from hsm.port import LIFE_SECONDS, SESSION_SECONDS_MAX, Face

ISSUED: Final = "control.issued"
"""The audit event; its reason is face and purpose."""

GRANT: Final = (
    control_tokens.c.issuer_id,
    control_tokens.c.card_id,
    control_tokens.c.client_id,
    control_tokens.c.face,
    control_tokens.c.purpose,
    control_tokens.c.grant_id,
    control_tokens.c.sealed_grant,
    control_tokens.c.style,
    control_tokens.c.redirect_url,
    control_tokens.c.embedded,
    control_tokens.c.audit_user,
)
"""In the order of :class:`cms.domain.control.Grant`."""

HAS_CARD_UNCHANGED: Final = (
    control_tokens.c.counter
    == select(cards.c.counter)
    .where(
        cards.c.issuer_id == control_tokens.c.issuer_id,
        cards.c.card_id == control_tokens.c.card_id,
    )
    .scalar_subquery()
)
"""The card's PIN was not changed since the token was granted."""

# A lock shows the row as it is, whatever the rest of the statement sees.
LOCKED_CARD: Final = (
    select(cards.c.issuer_id, cards.c.card_id, cards.c.counter, cards.c.personalised)
    .where(THIS_CARD)
    .with_for_update(key_share=True)
    .cte("card")
)
IS_OF_LOCKED_CARD: Final = and_(
    control_tokens.c.issuer_id == LOCKED_CARD.c.issuer_id,
    control_tokens.c.card_id == LOCKED_CARD.c.card_id,
)


def _by_face(face: ColumnElement[str], seconds_of: Mapping[Face, int]) -> ColumnElement[timedelta]:
    return case(
        *((face == one.value, seconds(count)) for one, count in seconds_of.items()),
        else_=seconds(0),
    )


SESSION_LIFE: Final = _by_face(control_tokens.c.face, SESSION_SECONDS)
SECONDS_LEFT: Final = cast(
    func.floor(func.extract("epoch", control_tokens.c.session_expires_at - func.now())), Integer
).label("seconds_left")
"""The whole seconds that a session has."""


def is_usable(tokens: FromClause) -> ColumnElement[bool]:
    """Tell of each row of *tokens* whether it is neither consumed nor ended nor expired."""
    return and_(
        tokens.c.consumed_at.is_(None),
        tokens.c.ended_at.is_(None),
        tokens.c.expires_at > func.now(),
    )


_newer: Final = control_tokens.alias("newer")
_newer_count = (
    select(func.count().label("newer_count"))
    .select_from(_newer)
    .where(
        _newer.c.issuer_id == control_tokens.c.issuer_id,
        _newer.c.card_id == control_tokens.c.card_id,
        _newer.c.client_id == control_tokens.c.client_id,
        _newer.c.purpose == control_tokens.c.purpose,
        tuple_(_newer.c.issued_at, _newer.c.token_hash)
        > tuple_(control_tokens.c.issued_at, control_tokens.c.token_hash),
        is_usable(_newer),
    )
    .correlate(control_tokens)
    .scalar_subquery()
)
"""How many newer tokens of the same card, purpose and client are usable."""

THIS_CONTROL_TOKEN: Final = control_tokens.c.token_hash == bindparam(
    "token_hash", type_=LargeBinary
)
_IS_LIVE: Final = and_(
    is_usable(control_tokens),
    HAS_CARD_UNCHANGED,
    # Counted again when a token is consumed: two that were issued at once did not see one another.
    _newer_count < literal(LIVE_MAX, Integer),
)
THIS_LIVE_ONE: Final = and_(THIS_CONTROL_TOKEN, _IS_LIVE)
_THIS_LIVE_ONE_FOR_THIS: Final = and_(
    THIS_LIVE_ONE,
    matches(control_tokens.c.purpose, "purpose"),
    matches(control_tokens.c.face, "face"),
)

_revoked = (
    control_tokens.update()
    .where(
        IS_OF_LOCKED_CARD,
        matches(control_tokens.c.client_id, "client_id"),
        matches(control_tokens.c.purpose, "purpose"),
        is_usable(control_tokens),
        _newer_count >= literal(LIVE_MAX - 1, Integer),
    )
    .values(ended_at=func.now(), end_reason=EndReason.REVOKED.value)
    .cte("revoked")
)
_forgotten = (
    control_tokens.delete()
    .where(IS_OF_LOCKED_CARD, control_tokens.c.expires_at < func.now() - seconds(KEPT_SECONDS))
    .cte("forgotten")
)
_FACE: Final = bindparam("face", type_=String)
_PURPOSE: Final = bindparam("purpose", type_=String)
_AUDIT_USER: Final = bindparam("audit_user", type_=Text)
_issued = (
    insert_from(
        control_tokens,
        {
            "token_hash": bindparam("token_hash", type_=LargeBinary),
            "issuer_id": LOCKED_CARD.c.issuer_id,
            "card_id": LOCKED_CARD.c.card_id,
            "counter": bindparam("counter", type_=BigInteger),
            "grant_id": bindparam("grant_id", type_=Text),
            "sealed_grant": bindparam("sealed_grant", type_=LargeBinary),
            "client_id": bindparam("client_id", type_=String),
            "face": _FACE,
            "purpose": _PURPOSE,
            "style": bindparam("style", type_=JSONB),
            "redirect_url": bindparam("redirect_url", type_=Text),
            "embedded": bindparam("embedded", type_=Boolean),
            "audit_user": _AUDIT_USER,
            "expires_at": func.now() + _by_face(_FACE, LIFE_SECONDS),
        },
    )
    .returning(
        control_tokens.c.issuer_id,
        control_tokens.c.card_id,
        control_tokens.c.counter,
        control_tokens.c.expires_at,
    )
    .cte("issued")
)
_issue_audit = audit(
    ISSUED,
    _issued,
    counter=_issued.c.counter,
    reason=_FACE + " " + _PURPOSE,
    audit_user=_AUDIT_USER,
)
ISSUE_CONTROL_TOKEN: Final = compiled(
    select(_issued.c.expires_at).add_cte(_revoked, _forgotten, _issue_audit)
)
"""One row, the time when the token expires; none where there is no such card.

Of the client's live tokens for this card and purpose the newest stay. Old rows go.
"""

READ_LIVE_CONTROL_TOKEN: Final = compiled(select(*GRANT).where(THIS_CONTROL_TOKEN, _IS_LIVE))
"""One row, a grant, if the token is live."""

READ_ISSUED_CONTROL_TOKEN: Final = compiled(select(*GRANT).where(THIS_CONTROL_TOKEN))
"""One row, a grant, if the token was ever issued and its row is not deleted yet."""


def show(consumed: CTE) -> Statement:
    """Read the cards of the tokens that are *consumed*, which has the columns of a grant.

    Returns:
        For each token one row, grant and card: state, form of the PIN, counter, newest counter of
        the history, sealed record, sealed PIN.
    """
    is_its_card = and_(
        cards.c.issuer_id == consumed.c.issuer_id, cards.c.card_id == consumed.c.card_id
    )
    return compiled(select(*consumed.c, *CARD_TO_READ).join(cards, is_its_card))


_SESSION_HASH: Final = cast(bindparam("session_hash", type_=LargeBinary), LargeBinary)
_is_over = _SESSION_HASH.is_(None)
CONSUME_CONTROL_TOKEN: Final = show(
    control_tokens.update()
    .where(_THIS_LIVE_ONE_FOR_THIS)
    .values(
        consumed_at=func.now(),
        session_hash=_SESSION_HASH,
        session_expires_at=case((_is_over, null()), else_=func.now() + SESSION_LIFE),
        session_ends_at=case((_is_over, null()), else_=func.now() + seconds(SESSION_SECONDS_MAX)),
        ended_at=case((_is_over, func.now()), else_=null()),
        end_reason=case((_is_over, literal(EndReason.SHOWN.value, String)), else_=null()),
    )
    .returning(*GRANT)
    .cte("consumed")
)
"""One row, as :func:`show` returns it, if the token was live until now.

With a session hash, a session begins; without one the token is over.
"""

OPEN_CONTROL_TOKEN: Final = compiled(
    control_tokens.update()
    .where(_THIS_LIVE_ONE_FOR_THIS)
    .values(
        consumed_at=func.now(),
        session_hash=bindparam("session_hash", type_=LargeBinary),
        session_expires_at=func.now() + SESSION_LIFE,
        session_ends_at=func.now() + seconds(SESSION_SECONDS_MAX),
    )
    .returning(SECONDS_LEFT, *GRANT)
)
"""One row, the seconds that the session has and its grant, if the token was live until now."""
