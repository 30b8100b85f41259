"""Whose card a client may call on, and which refusals the audit hears of."""

from unittest.mock import create_autospec

import pytest

from cms.domain.cards import Verb
from cms.domain.errors import (
    BadRequest,
    CardForbids,
    DomainError,
    IssuerNotFound,
    ServiceUnavailable,
)
from cms.services.audit import Audit
from cms.services.d1.access import Caller
from cms.services.d1.calls import CardCalls
from hsm.manifest.model import parse
from hsm.port import CardRef
from tests.cms.services.d1.pin_service import ACTOR
from tests.operators import manifest

pytestmark = pytest.mark.anyio
CALLER = Caller(parse(manifest("testbank01")), "testbank01-d1")


async def call(
    issuer_id: str, card_id: str, outcome: DomainError | None = None
) -> tuple[list[tuple[object, ...]], DomainError | None]:
    """Call on a card, which is answered with *outcome*; return audit rows and the refusal."""
    audit = create_autospec(Audit, instance=True)
    refused: DomainError | None = None

    async def answer(card: CardRef) -> CardRef:
        if outcome is not None:
            raise outcome
        return card

    try:
        called = await CardCalls(audit).audited(
            Verb.GET_PIN, CALLER, issuer_id, card_id, ACTOR, answer
        )
        assert called == CardRef("testbank01", card_id)
    except DomainError as error:
        refused = error
    return [row.args for row in audit.refused.await_args_list], refused


async def test_a_call_that_is_answered_leaves_nothing_for_the_audit_of_refusals() -> None:
    assert await call("testbank01", "card-1") == ([], None)


async def test_a_refusal_is_audited_with_the_card_and_goes_on_to_the_caller() -> None:
    forbidden = CardForbids()
    audited, refused = await call("testbank01", "card-1", forbidden)
    assert refused is forbidden
    assert audited == [("testbank01", "card-1", Verb.GET_PIN, forbidden, ACTOR)]


@pytest.mark.parametrize(
    ("issuer_id", "card_id", "kind"),
    [
        ("otherbank1", "card-1", IssuerNotFound),
        ("otherbank1", "card.1", IssuerNotFound),
        ("testbank01", "card.1", BadRequest),
    ],
)
async def test_what_names_no_card_of_the_caller_is_audited_without_one(
    issuer_id: str, card_id: str, kind: type[DomainError]
) -> None:
    audited, refused = await call(issuer_id, card_id)
    assert type(refused) is kind
    assert audited == [("testbank01", None, Verb.GET_PIN, refused, ACTOR)]


async def test_that_the_service_is_unavailable_is_no_refusal() -> None:
    unavailable = ServiceUnavailable()
    assert await call("testbank01", "card-1", unavailable) == ([], unavailable)
