"""What the audit says of a refusal or a failure: one vocabulary for every face, one class.

What was done is audited by the statement that does it. A refusal has a statement of its own, so
that its row survives whatever else fails.

A hand-out, ``pin.get``, is recorded when the vault gave it, and committed before the answer leaves.
Its row has the vault's receipt, which names the line that the vault wrote of it before: so each of
the two tells what is missing in the other. ``pin.get.failed`` is a card whose PIN may be handed
out, and the vault gave nothing.
"""

import logging
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from cms import metrics
from cms.domain.errors import (
    BadRequest,
    CardForbids,
    CardNotFound,
    ControlEnded,
    CounterExhausted,
    DomainError,
    EvidenceRefused,
    Invalid,
    IssuerNotFound,
    LimitReached,
    PinForbidden,
    PinRefused,
    PinUnavailable,
    ServiceUnavailable,
    StepUpRequired,
    StoredValueBroken,
    TooManyFailures,
    TypeNotOffered,
    ValueNotPossible,
)
from cms.domain.records import Actor
from cms.persistence.hand_outs import HandOutRow, HandOuts
from cms.persistence.store import Store
from hsm.port import CardRef

log = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why something was refused; for the issuer's audit, never for the caller."""

    CANCELLED = "CANCELLED"
    CARD_NOT_FOUND = "CARD_NOT_FOUND"
    CARD_STATE_FORBIDDEN = "CARD_STATE_FORBIDDEN"
    CONTROL_ENDED = "CONTROL_ENDED"
    COUNTER_EXHAUSTED = "COUNTER_EXHAUSTED"
    EVIDENCE_REFUSED = "EVIDENCE_REFUSED"
    ISSUER_NOT_FOUND = "ISSUER_NOT_FOUND"
    LIMIT_REACHED = "LIMIT_REACHED"
    PIN_CHANGE_FORBIDDEN = "PIN_CHANGE_FORBIDDEN"
    PIN_NOT_AVAILABLE = "PIN_NOT_AVAILABLE"
    PIN_REFUSED = "PIN_REFUSED"
    REQUEST_INVALID = "REQUEST_INVALID"
    SEAL_BROKEN = "SEAL_BROKEN"
    STEP_UP_REQUIRED = "STEP_UP_REQUIRED"
    TOO_MANY_FAILURES = "TOO_MANY_FAILURES"
    TYPE_NOT_OFFERED = "TYPE_NOT_OFFERED"
    VALUE_NOT_POSSIBLE = "VALUE_NOT_POSSIBLE"
    VAULT_UNAVAILABLE = "VAULT_UNAVAILABLE"


REASONS: Final[Mapping[type[DomainError], Reason]] = {
    BadRequest: Reason.REQUEST_INVALID,
    CardForbids: Reason.CARD_STATE_FORBIDDEN,
    CardNotFound: Reason.CARD_NOT_FOUND,
    ControlEnded: Reason.CONTROL_ENDED,
    CounterExhausted: Reason.COUNTER_EXHAUSTED,
    EvidenceRefused: Reason.EVIDENCE_REFUSED,
    Invalid: Reason.REQUEST_INVALID,
    IssuerNotFound: Reason.ISSUER_NOT_FOUND,
    LimitReached: Reason.LIMIT_REACHED,
    PinForbidden: Reason.PIN_CHANGE_FORBIDDEN,
    PinRefused: Reason.PIN_REFUSED,
    PinUnavailable: Reason.PIN_NOT_AVAILABLE,
    ServiceUnavailable: Reason.VAULT_UNAVAILABLE,
    StepUpRequired: Reason.STEP_UP_REQUIRED,
    StoredValueBroken: Reason.SEAL_BROKEN,
    TooManyFailures: Reason.TOO_MANY_FAILURES,
    TypeNotOffered: Reason.TYPE_NOT_OFFERED,
    ValueNotPossible: Reason.VALUE_NOT_POSSIBLE,
}


class Audit:
    """Records hand-outs, refusals, and failures of what was allowed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hand_outs = HandOuts(store)

    async def handed_out(
        self, card: CardRef, counter: int, receipt: str, actor: Actor, reason: str | None = None
    ) -> None:
        """Record that the vault handed out a PIN.

        Args:
            card: the card.
            counter: its change counter.
            receipt: the vault's.
            actor: who asked.
            reason: where it is shown.

        Raises:
            ServiceUnavailable: the database is unavailable.
        """
        row = HandOutRow(
            *(card.card_id, actor.client_id, actor.correlation_id, counter),
            *(reason, actor.audit_user, receipt),
        )
        await self._hand_outs.record(card.issuer_id, row)

    async def refused(
        self,
        issuer_id: str,
        card_id: str | None,
        event: str,
        why: DomainError | Reason,
        actor: Actor,
    ) -> None:
        """Record that *event* was refused.

        Args:
            issuer_id: the caller's issuer.
            card_id: the card as the caller named it; one that the issuer has not is left out.
            event: a :class:`cms.domain.cards.Verb`, or what else was asked for.
            why: the refusal. A :class:`PinRefused` that knows more says it here.
            actor: who asked.

        Raises:
            ServiceUnavailable: the database is unavailable.
        """
        receipt = why.receipt if isinstance(why, DomainError) else None
        reason = reason_of(why)
        metrics.call_refused(reason)
        await self._store.refuse(issuer_id, card_id, event, reason, actor, receipt=receipt)

    async def failed(self, card: CardRef, event: str, why: DomainError, actor: Actor) -> None:
        """Record that *event* was allowed and failed; a broken seal is an alarm in the log too.

        Args:
            card: the card.
            event: a :class:`cms.domain.cards.Verb`.
            why: StoredValueBroken, ServiceUnavailable where the vault is, or ControlEnded where the
                vault refused the grant.
            actor: who asked.

        Raises:
            ServiceUnavailable: the database is unavailable.
        """
        if isinstance(why, StoredValueBroken):
            where = {"issuer_id": card.issuer_id, "card_id": card.card_id, "reason": event}
            log.error("alarm.seal_broken", extra=where)
        metrics.call_refused(REASONS[type(why)])
        await self._store.refuse(
            *(card.issuer_id, card.card_id, event, REASONS[type(why)], actor),
            outcome="failed",
            receipt=why.receipt,
        )


def reason_of(why: DomainError | Reason) -> str:
    """Name a refusal, which may know more than the caller is told."""
    if isinstance(why, Reason):
        return why
    if isinstance(why, PinRefused) and why.refusal is not None:
        return why.refusal
    if isinstance(why, BadRequest) and why.fault is not None:
        return why.fault
    return REASONS[type(why)]
