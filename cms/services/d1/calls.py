"""A client's call on a card: it may name cards of its own issuer, and its refusal is audited."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from cms.domain.cards import Verb
from cms.domain.errors import DomainError, ServiceUnavailable, StoredValueBroken
from cms.domain.records import Actor
from cms.services.audit import Audit
from cms.services.d1.access import Caller
from hsm.port import CardRef

T = TypeVar("T")


class CardCalls:
    """Begins calls on cards."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def audited(
        self,
        verb: Verb,
        caller: Caller,
        issuer_id: str,
        card_id: str,
        actor: Actor,
        call: Callable[[CardRef], Awaitable[T]],
    ) -> T:
        """Name the card to *call*, and audit the refusal of it or of what is called.

        The audit names the card only where it is of the caller's issuer: another may have one of
        the same id. That the service is unavailable is no refusal.

        Raises:
            IssuerNotFound: *issuer_id* is another issuer's, or nobody's.
            BadRequest: *card_id* is not as published.
            ServiceUnavailable: there is a refusal, and the database is unavailable.
        """
        card: CardRef | None = None
        try:
            card = caller.card(issuer_id, card_id)
            return await call(card)
        except ServiceUnavailable:
            raise
        except StoredValueBroken as error:
            await self._audit.failed(CardRef(issuer_id, card_id), verb, error, actor)
            raise
        except DomainError as error:
            own_card_id = None if card is None else card.card_id
            await self._audit.refused(caller.manifest.issuer_id, own_card_id, verb, error, actor)
            raise
