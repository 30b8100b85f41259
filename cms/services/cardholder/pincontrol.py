"""The pincontrol face's use case: a control id for a plastic."""

from cms.domain.control import VERBS, Face, Grant, Purpose
from cms.domain.errors import CardForbids, CardNotFound, PinUnavailable, ValueNotPossible
from cms.domain.records import Actor
from cms.persistence.store import Store
from cms.services.cardholder.apps import App
from cms.services.cardholder.control_tokens import ControlTokens
from cms.services.cardholder.permission import REASONS, permit_token

CONTROL = "control"
"""What was asked, in the audit of a refusal that knows no verb yet."""


class ControlIds:
    """What an issuer's server may ask for."""

    def __init__(self, tokens: ControlTokens, store: Store) -> None:
        self._tokens = tokens
        self._store = store

    async def issue(self, app: App, plastic_id: str, purpose: Purpose, actor: Actor) -> str:
        """Issue a control id for a plastic; a refusal is audited.

        Raises:
            CardNotFound: the issuer has no such plastic.
            CardForbids: its state does not allow this, or it is personalised and takes no PIN.
            PinUnavailable: it has no PIN that may be shown.
            ValueNotPossible: the issuer takes PINs from D1 only.
            ServiceUnavailable: the database is unavailable.
        """
        issuer_id = app.issuer.issuer_id
        card_id = None
        try:
            plastic = await self._tokens.plastic(issuer_id, plastic_id)
            card_id = plastic.card_id
            permit_token(
                *(Face.PINCONTROL, purpose, plastic.state, plastic.pin_type, app.issuer.config),
                personalised=plastic.personalised,
            )
        except (CardNotFound, CardForbids, PinUnavailable, ValueNotPossible) as error:
            reason = REASONS[type(error)]
            await self._store.refuse(issuer_id, card_id, VERBS[purpose], reason, actor)
            raise
        grant = Grant(
            *(issuer_id, plastic.card_id, actor.client_id, Face.PINCONTROL, purpose),
            style={},
            audit_user=actor.audit_user,
        )
        return (await self._tokens.issue(grant, actor)).token

    async def refuse_request(self, app: App, reason: str, actor: Actor) -> None:
        """Audit a request that is not as published.

        Raises:
            ServiceUnavailable: the database is unavailable.
        """
        await self._store.refuse(app.issuer.issuer_id, None, CONTROL, reason, actor)

    async def refuse(self, grant: Grant, reason: str, actor: Actor) -> None:
        """Audit an id that cannot be used.

        Raises:
            ServiceUnavailable: the database is unavailable.
        """
        verb = VERBS[grant.purpose]
        await self._store.refuse(grant.issuer_id, grant.card_id, verb, reason, actor)
