"""Scripts in the database: how far each came on its way to the chip, and their reversal.

Not a request path: transactions of the commands, as :mod:`cms.persistence.admin` has them. What
becomes of a script leaves an audit row in the same transaction.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, func, insert, null, select, update

from cms.domain.cards import CardState, Verb
from cms.domain.scripts import NEXT_STATES, ScriptState
from cms.persistence.admin import (
    OPERATOR,
    ROWS_AT_ONCE,
    AdminError,
    Database,
    locked_row,
    require_active,
    row,
    rules,
)
from cms.persistence.statements.reversal import REVERSAL, REVERSE_PIN
from cms.persistence.tables import (
    IS_OPEN,
    NEWEST_COUNTER,
    audit_events,
    card_scripts,
    cards,
    issuers,
    pin_changes,
    sealed_columns,
)
from hsm.port import CardRef, PinBlockType, SealedChange, SealedPin, SealedRecord

BUILD: Final = "script.build"
CHANGED_MEANWHILE: Final = "the card changed meanwhile; try again"


@dataclass(frozen=True, slots=True)
class ScriptToBuild:
    """An open script of an active card whose PIN has not changed since."""

    card: CardRef
    counter: int
    sealed_record: SealedRecord
    sealed_pin: SealedPin
    sealed_earlier_pin: SealedPin | None


def read_to_build(database: Database, card: CardRef, counter: int) -> ScriptToBuild:
    """Read a script, and what the vault needs for it.

    Raises:
        AdminError: there is none, it is closed, the issuer or the card is not active, or its
            counter is not this one or not the newest of its history.
    """
    require_active(database, card.issuer_id)
    key = {"issuer_id": card.issuer_id, "card_id": card.card_id}
    state = ScriptState(row(database, card_scripts, **key, counter=counter)["state"])
    if ScriptState.BUILT not in NEXT_STATES[state]:
        raise AdminError(f"the script is {state}")
    is_of = and_(
        cards.c.issuer_id == card_scripts.c.issuer_id, cards.c.card_id == card_scripts.c.card_id
    )
    statement = (
        select(
            *(cards.c.state, cards.c.counter, NEWEST_COUNTER.label("newest")),
            *(cards.c.sealed_record, cards.c.sealed_pin, card_scripts.c.sealed_earlier_pin),
        )
        .select_from(cards.join(card_scripts, is_of))
        .where(card_scripts.c.issuer_id == card.issuer_id)
        .where(card_scripts.c.card_id == card.card_id, card_scripts.c.counter == counter)
    )
    found = database.execute(statement).mappings().one()
    if found["state"] != CardState.ACTIVE:
        raise AdminError(f"the card is {found['state']}")
    if not found["counter"] == found["newest"] == counter or found["sealed_pin"] is None:
        raise AdminError("its counter is not the newest of its history, or the PIN is gone")
    sealed = (found[name] for name in ("sealed_record", "sealed_pin", "sealed_earlier_pin"))
    return ScriptToBuild(card, counter, *sealed)


def note_built(database: Database, script: ScriptToBuild, receipt: str) -> None:
    """Record that a script was built, for good; *receipt* is the vault's.

    Raises:
        AdminError: the PIN was changed meanwhile, or the script confirmed. That it was built is
            recorded none the less: the vault's log tells it too.
    """
    card, counter = script.card, script.counter
    built = (
        update(card_scripts)
        .filter_by(issuer_id=card.issuer_id, card_id=card.card_id, counter=counter)
        .where(IS_OPEN)
        .values(state=ScriptState.BUILT.value, built_at=func.now())
    )
    is_open = database.execute(built).rowcount == 1
    _audit(database, card, BUILD, counter, receipt=receipt)
    database.commit()
    if not is_open:
        raise AdminError(CHANGED_MEANWHILE)


def note_not_built(
    database: Database,
    script: ScriptToBuild,
    outcome: str,
    reason: str,
    receipt: str | None = None,
) -> None:
    """Record, for good, why the vault built no script: it ``refused``, or ``failed``."""
    event = f"{BUILD}.{outcome}"
    _audit(database, script.card, event, script.counter, reason=reason, receipt=receipt)
    database.commit()


def note_not_reversed(
    database: Database, script: ScriptToBuild, reason: str, receipt: str | None
) -> None:
    """Record, for good, that the vault made no reversal: the card had as many as it may."""
    event = f"{Verb.SET_PIN.value}.refused"
    _audit(database, script.card, event, script.counter, reason=reason, receipt=receipt)
    database.commit()


def move(database: Database, card: CardRef, counter: int, then: ScriptState) -> None:
    """Record that a script was delivered or confirmed; told twice, it is recorded once.

    Raises:
        AdminError: there is no such script, or it cannot go there from where it is.
    """
    key = {"issuer_id": card.issuer_id, "card_id": card.card_id, "counter": counter}
    now = ScriptState(locked_row(database, card_scripts, **key)["state"])
    if then not in NEXT_STATES[now]:
        raise AdminError(f"a script that is {now} cannot become {then}")
    if now is then:
        return
    values: dict[str, Any] = {"state": then.value, f"{then}_at": func.now()}
    if then is ScriptState.CONFIRMED:
        values["sealed_earlier_pin"] = null()
    database.execute(update(card_scripts).filter_by(**key).values(values))
    _audit(database, card, f"script.{then}", counter)


def reverse(database: Database, script: ScriptToBuild, change: SealedChange) -> int:
    """Store the PIN from before *script* as a new change, whose counter is returned.

    Raises:
        AdminError: the card changed meanwhile.
    """
    parameters = {
        "issuer_id": script.card.issuer_id,
        "card_id": script.card.card_id,
        "counter_read": script.counter,
        "state_read": CardState.ACTIVE.value,
        "sealed_record_read": script.sealed_record,
        "pin_type": PinBlockType.ISO0.value,
        "request_key": _reversal_key(script.counter),
        "receipt": change.receipt,
        "script_due": change.script_due,
        "actor": OPERATOR,
        "correlation_id": None,
        **sealed_columns(change),
    }
    with rules(database, pin_changes):
        counter = database.exec_driver_sql(REVERSE_PIN.sql, parameters).scalar()
    if counter is None:
        raise AdminError(CHANGED_MEANWHILE)
    return int(counter)


def reversal_of(database: Database, card: CardRef, counter: int) -> int | None:
    """Find the counter of the change that reversed that of *counter*; None: it is not reversed."""
    key = {"issuer_id": card.issuer_id, "card_id": card.card_id}
    found = select(pin_changes.c.counter).filter_by(**key, request_key=_reversal_key(counter))
    return database.scalar(found)


def _reversal_key(counter: int) -> bytes:
    """Make the request key of a reversal: SHA-256 as of every change, of what no JWE is."""
    return hashlib.sha256(f"{REVERSAL} of {counter}".encode()).digest()


def open_scripts(database: Database, issuer_id: str, card_id: str | None) -> Iterator[Any]:
    """List what has not reached its chip, as far as is known, the oldest first.

    Raises:
        AdminError: there is no such issuer.
    """
    row(database, issuers, issuer_id=issuer_id)
    statement = (
        select(
            *(card_scripts.c.issuer_id, card_scripts.c.card_id, card_scripts.c.counter),
            *(card_scripts.c.state, card_scripts.c.pending_at, card_scripts.c.built_at),
            card_scripts.c.delivered_at,
            card_scripts.c.sealed_earlier_pin.is_not(None).label("reversible"),
        )
        .where(card_scripts.c.issuer_id == issuer_id, IS_OPEN)
        .order_by(card_scripts.c.pending_at, card_scripts.c.card_id)
    )
    if card_id is not None:
        statement = statement.where(card_scripts.c.card_id == card_id)
    found = database.execute(statement, execution_options={"yield_per": ROWS_AT_ONCE})
    return iter(found.mappings())


def _audit(
    database: Database,
    card: CardRef,
    event: str,
    counter: int | None,
    *,
    reason: str | None = None,
    receipt: str | None = None,
) -> None:
    database.execute(
        insert(audit_events).values(
            issuer_id=card.issuer_id,
            card_id=card.card_id,
            event=event,
            actor=OPERATOR,
            counter=counter,
            reason=reason,
            receipt=receipt,
        )
    )
