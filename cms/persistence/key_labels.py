"""Under which key each stored value is sealed: its label stands in clear at its beginning.

A sealed value begins with a byte of version, the length of the label in a byte, and the label
(:mod:`hsm.sealed`). Whoever writes the database can write another label there; then the value does
not open.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    String,
    Text,
    case,
    column,
    false,
    func,
    literal,
    not_,
    select,
    true,
    values,
)

from cms.persistence.admin import Database
from cms.persistence.tables import VALUE_COLUMNS, card_scripts, cards, control_tokens

LABEL_PATTERN: Final = r"^[a-z0-9-]{1,24}\.g[1-9][0-9]{0,5}$"
NO_LABEL: Final = "unreadable"
"""What is counted in place of the label of a value that has none."""


def rows_by_generation(database: Database) -> Mapping[str, int]:
    """Count what is sealed under each key, by its label, as in ``{"record.g1": 2, "pin.g1": 1}``.

    Records, PINs and each PIN verification value of all issuers count, grants and TZPKs of control
    tokens that can still be used, and the earlier PINs that wait for a chip. A key whose label is
    not there has nothing stored under it.
    """
    sealed_columns = (cards.c.sealed_record, cards.c.sealed_pin, *VALUE_COLUMNS.values())
    of_card = (
        values(column("sealed", LargeBinary), name="of_card")
        .data([(one,) for one in sealed_columns])
        .lateral()
    )
    in_cards = select(of_card.c.sealed).select_from(cards.join(of_card, true()))
    ends_at = func.coalesce(control_tokens.c.session_expires_at, control_tokens.c.expires_at)
    is_usable = control_tokens.c.ended_at.is_(None), ends_at > func.now()
    grants = select(control_tokens.c.sealed_grant).where(*is_usable)
    tzpks = select(control_tokens.c.sealed_tzpk).where(
        *is_usable, control_tokens.c.sealed_tzpk.is_not(None)
    )
    earlier = select(card_scripts.c.sealed_earlier_pin).where(
        card_scripts.c.sealed_earlier_pin.is_not(None)
    )
    sealed = in_cards.where(of_card.c.sealed.is_not(None))
    every = sealed.union_all(grants, tzpks, earlier).subquery()
    label = _label_of(every.c.sealed).label("label")
    counted = select(label, func.count()).group_by(label).order_by(label)
    return dict(database.execute(counted).all())


def is_under(sealed: ColumnElement[bytes], beginning: bytes) -> ColumnElement[bool]:
    """Compare the beginning of a sealed value; of none, it is NULL."""
    return func.substring(sealed, 1, len(beginning), type_=LargeBinary) == literal(beginning)


def is_under_another(sealed: ColumnElement[bytes], beginning: bytes) -> ColumnElement[bool]:
    """Tell whether there is a sealed value that begins otherwise."""
    return func.coalesce(not_(is_under(sealed, beginning)), false())


def _label_of(sealed: ColumnElement[bytes]) -> ColumnElement[str]:
    # Escaped, since what is no text must not end the statement.
    size = case((func.length(sealed) > 1, func.get_byte(sealed, 1)), else_=0)
    label = func.encode(func.substring(sealed, 3, size), "escape", type_=Text)
    return case((label.regexp_match(LABEL_PATTERN), label), else_=literal(NO_LABEL, String))
