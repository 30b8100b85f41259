"""What becomes of a control token until it is consumed, or opened as a page session.

Each statement decides by itself, by the database's clock: what is read and then acted upon may have
changed in between. Where two rows are locked, the card's is the first: none waits for another in a
ring.
"""

from typing import Any, Final

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    FromClause,
    Integer,
    LargeBinary,
    Select,
    String,
    Text,
    and_,
    bindparam,
    cast,
    exists,
    func,
    literal,
    not_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB

from cms.domain.control import KEPT_SECONDS, LIVE_MAX, EndReason
from cms.persistence.statements import Statement, compiled
from cms.persistence.statements.parts import (
    CARD_TO_READ,
    THIS_CARD,
    audit,
    insert_from,
    matches,
    of_issuer,
    seconds,
)
from cms.persistence.tables import cards, control_tokens
from hsm.port import SESSION_SECONDS_MAX

FORGOTTEN_MAX: Final = 1000
"""Old rows of a card that go when it gets a new one."""
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
    .where(of_issuer(cards), cards.c.card_id == control_tokens.c.card_id)
    .scalar_subquery()
)
"""The card's PIN was not changed since the token was granted."""

# A lock shows the row as it is, whatever the rest of the statement sees.
LOCKED_CARD: Final = (
    select(cards.c.issuer_id, cards.c.card_id, cards.c.personalised)
    .where(THIS_CARD)
    .with_for_update(key_share=True)
    .cte("card")
)
IS_OF_LOCKED_CARD: Final = and_(
    matches(control_tokens.c.card_id, "card_id"),
    exists(select(LOCKED_CARD.c.card_id)),
)
IS_NOT_PERSONALISED: Final = exists(
    select(LOCKED_CARD.c.card_id).where(not_(LOCKED_CARD.c.personalised))
)
"""The card that is locked."""


SESSION_LIFE: Final = bindparam("session_seconds", type_=Integer) * seconds(1)
"""From now, or from when it is extended."""


def seconds_left(sessions: CTE) -> ColumnElement[int]:
    """Return the whole seconds that each session has."""
    left = sessions.c.session_expires_at - func.now()
    return cast(func.floor(func.extract("epoch", left)), Integer).label("seconds_left")


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
        of_issuer(_newer),
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

THIS_CONTROL_TOKEN: Final = and_(
    of_issuer(control_tokens),
    control_tokens.c.token_hash == bindparam("token_hash", type_=LargeBinary),
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
        of_issuer(control_tokens),
        IS_OF_LOCKED_CARD,
        matches(control_tokens.c.client_id, "client_id"),
        matches(control_tokens.c.purpose, "purpose"),
        is_usable(control_tokens),
        _newer_count >= literal(LIVE_MAX - 1, Integer),
    )
    .values(ended_at=func.now(), end_reason=EndReason.REVOKED.value)
    .cte("revoked")
)
_old: Final = (
    select(control_tokens.c.token_hash)
    .where(
        of_issuer(control_tokens),
        matches(control_tokens.c.card_id, "card_id"),
        control_tokens.c.expires_at < func.now() - seconds(KEPT_SECONDS),
    )
    # More would take longer than a statement may.
    .limit(literal(FORGOTTEN_MAX, Integer))
    .cte("old")
)
_forgotten = (
    control_tokens.delete()
    .where(
        of_issuer(control_tokens),
        IS_OF_LOCKED_CARD,
        control_tokens.c.token_hash.in_(select(_old.c.token_hash)),
    )
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
            "expires_at": func.now() + bindparam("life_seconds", type_=Integer) * seconds(1),
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
    select(_issued.c.expires_at).add_cte(_old, _revoked, _forgotten, _issue_audit)
)
"""One row, the time when the token expires; none where there is no such card.

Of the client's live tokens for this card and purpose the newest stay. Old rows go, some at a time.
"""

READ_LIVE_CONTROL_TOKEN: Final = compiled(select(*GRANT).where(THIS_CONTROL_TOKEN, _IS_LIVE))
"""One row, a grant, if the token is live."""

READ_ISSUED_CONTROL_TOKEN: Final = compiled(select(*GRANT).where(THIS_CONTROL_TOKEN))
"""One row, a grant, if the token was ever issued and its row is not deleted yet."""


def with_cards(tokens: CTE, *columns: ColumnElement[Any]) -> Select[Any]:
    """Select *columns* of tokens, which have the columns of a grant, and of their cards."""
    is_its_card = and_(of_issuer(cards), cards.c.card_id == tokens.c.card_id)
    return select(*columns).select_from(tokens.join(cards, is_its_card))


def show(consumed: CTE) -> Statement:
    """Read the cards of the tokens that are *consumed*, which has the columns of a grant.

    Returns:
        For each token one row, grant and card: state, form of the PIN, counter, newest counter of
        the history, sealed record, sealed PIN, last four digits.
    """
    return compiled(with_cards(consumed, *consumed.c, *CARD_TO_READ, cards.c.last_four))


_consuming: Final = control_tokens.update().where(_THIS_LIVE_ONE_FOR_THIS)
_opening: Final = _consuming.values(
    consumed_at=func.now(),
    session_hash=bindparam("session_hash", type_=LargeBinary),
    session_expires_at=func.now() + SESSION_LIFE,
    session_ends_at=func.now() + seconds(SESSION_SECONDS_MAX),
)
CONSUME_CONTROL_TOKEN: Final = show(
    _consuming.values(consumed_at=func.now(), ended_at=func.now(), end_reason=EndReason.SHOWN.value)
    .returning(*GRANT)
    .cte("consumed")
)
"""One row, as :func:`show` returns it, if the token was live until now. It is over."""

CONSUME_FOR_SESSION: Final = show(_opening.returning(*GRANT).cte("consumed"))
"""One row, as :func:`show` returns it, if the token was live until now. A session begins."""

_opened: Final = _opening.returning(control_tokens.c.session_expires_at, *GRANT).cte("opened")
OPEN_CONTROL_TOKEN: Final = compiled(
    with_cards(
        _opened,
        seconds_left(_opened),
        cards.c.last_four,
        *(_opened.c[column.name] for column in GRANT),
    )
)
"""One row, the seconds that the session has, the last four digits of the card's number and the
grant, if the token was live until now.
"""
