"""``python -m cms cards update``: a holder, a plastic id, an expiry, a PSN."""

import pytest

from hsm.vault import Vault
from tests.cms.operator.operator_at_work import PIN, Operator
from tests.cms.services.d1.pin_service import PinService
from tests.issuer_records import PAN, SampleIssuer, run_sql

CARD = ("testbank01", "card-1")
READ = (
    "SELECT cardholder_id, plastic_id, expiry, psn, sealed_pin IS NOT NULL, pin_type, counter"
    " FROM cards WHERE card_id = 'card-1'"
)


def test_each_value_is_set_and_the_others_stay(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str
) -> None:
    expected: list[object] = [None, None, "1230", 0]
    for place, option, given, stored in (
        (0, "--cardholder", "auth0|5f7c", "auth0|5f7c"),
        (1, "--plastic-id", "0077", "77"),
        (2, "--expiry", "0131", "0131"),
        (3, "--psn", "2", 2),
        (1, "--plastic-id", "", None),
        (0, "--cardholder", "", None),
    ):
        operator.must("cards", "update", *CARD, option, given)
        expected[place] = stored
        assert run_sql(database_url, READ) == [(*expected, False, None, 0)]
    operator.must("cards", "update", *CARD, "--psn", "3", "--expiry", "0232", "--plastic-id", "5")
    events = operator.must("audit", "list", *CARD[:1], "--card", CARD[1]).splitlines()
    assert events[-1].split("  ")[3:] == [
        *("event=card.updated", "card_id=card-1", "actor=operator", "correlation_id=-"),
        *("counter=-", "reason=expiry,plastic_id,psn", "audit_user=-", "error_id=-"),
    ]


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ((), "nothing to change: see --help"),
        (("--expiry", "1330"), "refused: expiry (MMYY)"),
        (("--psn", "100"), "refused: psn (a number from 0 to 99)"),
        (("--cardholder", "a\nb"), "refused: cardholder (1 to 255 characters that print)"),
        (("--cardholder", "x" * 256), "refused: cardholder (1 to 255 characters that print)"),
        (("--plastic-id", "x"), "refused: plasticId (a number of up to 38 digits)"),
        (("--plastic-id", PAN), "the cardholder or the plastic id may contain the PAN"),
        (("--plastic-id", f"77{PAN}5"), "the cardholder or the plastic id may contain the PAN"),
        (("--cardholder", f"of-{PAN}"), "the cardholder or the plastic id may contain the PAN"),
        (
            ("--cardholder", "4111 1111-1111.1111"),
            "the cardholder or the plastic id may contain the PAN",
        ),
        (("--plastic-id", "2"), "another card has this plastic id"),
    ],
)
def test_what_is_refused_changes_nothing(
    operator: Operator,
    sample_issuer: SampleIssuer,
    database_url: str,
    words: tuple[str, ...],
    refusal: str,
) -> None:
    run_sql(database_url, "UPDATE cards SET plastic_id = '2' WHERE card_id = 'card-2'")
    before = run_sql(database_url, READ)
    assert operator.refused("cards", "update", *CARD, *words) == refusal
    assert run_sql(database_url, READ) == before


def test_a_card_that_is_not_there_cannot_be_updated(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    for unknown in ((CARD[0], "none"), ("testbank02", "card-1"), ("x", "")):
        assert operator.refused("cards", "update", *unknown, "--psn", "1") == "no such card"


@pytest.mark.parametrize(
    ("before", "after", "has_pin"),
    [
        (None, "somebody", True),
        ("somebody", "somebody", True),
        ("somebody", "somebody else", False),
        ("somebody", "", False),
    ],
)
@pytest.mark.anyio
async def test_another_holder_needs_another_pin(
    operator: Operator,
    sample_issuer: SampleIssuer,
    database_url: str,
    vault: Vault,
    before: str | None,
    after: str,
    has_pin: bool,
) -> None:
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        await pin_service.put(sample_issuer.pin_jwe(PIN, "card-1"), "card-1")
    run_sql(database_url, "UPDATE cards SET cardholder_id = %s WHERE card_id = 'card-1'", before)
    begin_on_a_page(database_url)
    operator.must("cards", "update", *CARD, "--cardholder", after)
    ended = run_sql(database_url, "SELECT end_reason FROM control_tokens ORDER BY token_hash")
    assert ended == ([(None,)] if has_pin else [("revoked",)])
    pin_type = "ISO0" if has_pin else None
    assert run_sql(database_url, READ) == [(after or None, None, "1230", 0, has_pin, pin_type, 1)]
    events = operator.must("audit", "list", CARD[0], "--event", "pin.forgotten")
    assert events.count("counter=1") == (0 if has_pin else 1)


def begin_on_a_page(url: str) -> None:
    """Store a control token of the card, as if a page had opened it."""
    run_sql(
        url,
        "INSERT INTO control_tokens (token_hash, issuer_id, card_id, client_id, face, purpose,"
        " style, embedded, counter, expires_at) VALUES (sha256('x'), 'testbank01', 'card-1',"
        " 'testbank01-app', 'hosted', 'set', '{}', false, 1, now() + interval '1 minute')",
    )
