"""Verification values go out: sealed in the database, encrypted to the authorisation host.

A line of JSON for each card, where *jwe* is what :meth:`hsm.verbs.PinVault.export_values` makes::

    {"issuerId": "…", "cardId": "…", "counter": 7, "jwe": "<JWE>"}
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cms.persistence import admin
from cms.persistence.admin import CardWithValues, Database
from cms.services.audit import Reason
from hsm.admin_client import AdminCalls
from hsm.errors import KeyNotInUse, SealBroken
from hsm.messages import ExportValues

CARDS_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class CardResult:
    """What became of one card: a line for the host, or why there is none."""

    card_id: str
    line: str | None = None
    refused: str | None = None


def export(
    database: Database, vault: AdminCalls, issuer_id: str, since: datetime | None
) -> Iterator[CardResult]:
    """Hand out the values of an issuer's cards; commits on the way.

    Args:
        database: an open transaction.
        vault: which encrypts them.
        issuer_id: whose cards.
        since: only cards whose PIN changed then or later.

    Raises:
        ManifestRefused: the issuer's manifest names no authorisation host, or is not in force.
        VaultUnavailable: the HSM token is unavailable.
    """
    after: str | None = ""
    while after is not None:
        cards = admin.cards_with_values(
            database, issuer_id, after=after, since=since, count_max=CARDS_AT_ONCE
        )
        results = [_result(database, vault, found) for found in cards]
        # First the audit, for good: nothing is handed out of which there is no record.
        database.commit()
        yield from results
        after = cards[-1].card.card_id if cards else None


def _result(database: Database, vault: AdminCalls, found: CardWithValues) -> CardResult:
    card_id = found.card.card_id
    if found.counter != found.newest:
        reason = "its counter is not the newest of its history"
        return _left_out(database, found, Reason.SEAL_BROKEN, reason)
    try:
        handed_out = vault.call(
            ExportValues(found.values, found.sealed_record, found.card, found.counter)
        )
    except SealBroken as error:
        reason = str(error) or str(error.__doc__)
        return _left_out(database, found, Reason.SEAL_BROKEN, reason)
    except KeyNotInUse as error:
        # The values of other cards are under other keys.
        return _left_out(database, found, Reason.VAULT_UNAVAILABLE, str(error))
    admin.audit_export(database, found.card, found.counter, handed_out.receipt)
    line = {
        "issuerId": found.card.issuer_id,
        "cardId": card_id,
        "counter": found.counter,
        "jwe": handed_out.value,
    }
    return CardResult(card_id, json.dumps(line))


def _left_out(
    database: Database, found: CardWithValues, audited: Reason, reason: str
) -> CardResult:
    admin.audit_failed(database, found.card, admin.EXPORT, audited)
    return CardResult(found.card.card_id, refused=reason)
