"""What becomes of a PIN and of every failure, without HTTP."""

import logging
from collections.abc import Mapping
from unittest.mock import create_autospec

import pytest

import hsm.errors
from cms.domain.errors import (
    BadRequest,
    CardForbids,
    CardNotFound,
    CounterExhausted,
    DomainError,
    Field,
    PinForbidden,
    PinRefused,
    PinUnavailable,
    ServiceUnavailable,
    StoredValueBroken,
    TooManyFailures,
    TypeNotOffered,
    ValueNotPossible,
)
from cms.services.audit import Audit
from cms.services.d1 import pins
from cms.services.d1.pins import Pins
from hsm.vault import Vault
from tests.cms.services.d1.pin_service import ACTOR, PinService, envelope
from tests.in_process_vault import InProcessVault
from tests.issuer_records import PAN, add_card, run_sql

pytestmark = pytest.mark.anyio

MEANINGS: Mapping[type[hsm.errors.HsmError], type[Exception]] = {
    hsm.errors.PinRejected: PinRefused,
    hsm.errors.NotGenuine: PinRefused,
    hsm.errors.WrongPinData: PinRefused,
    hsm.errors.CardRefusesForm: PinRefused,
    hsm.errors.ClientLimited: TooManyFailures,
    hsm.errors.WeakPinRefused: PinForbidden,
    hsm.errors.TypeNotOffered: TypeNotOffered,
    hsm.errors.ValueNotPossible: ValueNotPossible,
    hsm.errors.CounterExhausted: CounterExhausted,
    hsm.errors.SealBroken: StoredValueBroken,
    hsm.errors.ManifestRefused: ServiceUnavailable,
    hsm.errors.VaultBusy: ServiceUnavailable,
    hsm.errors.VaultUnavailable: ServiceUnavailable,
    hsm.errors.LoginRefused: ServiceUnavailable,
    hsm.errors.LogUnavailable: ServiceUnavailable,
    hsm.errors.KeyMissing: ServiceUnavailable,
    hsm.errors.KeyNotInUse: ServiceUnavailable,
    hsm.errors.MechanismMissing: ServiceUnavailable,
    hsm.errors.CountsUnavailable: ServiceUnavailable,
    hsm.errors.KeyUsedUp: ServiceUnavailable,
    hsm.errors.MessageRefused: ServiceUnavailable,
}
#: Errors of verbs that handle no PIN; and of a defect, which stays what it is.
ELSEWHERE = {
    hsm.errors.CallerRefused,
    hsm.errors.LimitReached,
    hsm.errors.TextNotOffered,
    hsm.errors.PageKeyRejected,
    hsm.errors.FeedRefused,
    hsm.errors.CardRefused,
    hsm.errors.BearerRefused,
    hsm.errors.StepUpMissing,
    hsm.errors.EvidenceRefused,
    hsm.errors.GrantRefused,
    hsm.errors.CeremonyError,
    hsm.errors.LogBroken,
    hsm.errors.NotForProduction,
    hsm.errors.VaultFailed,
}


def with_vault(pin_service: PinService, error: Exception) -> Pins:
    """Return the use cases over a vault that fails in one way."""
    failing = create_autospec(Vault, instance=True)
    failing.set_pin_from_jwe.side_effect = failing.export_jwe.side_effect = error
    return Pins(pin_service.store, InProcessVault(failing), Audit(pin_service.store))


async def test_a_pin_is_read_back_and_the_newest_one_counts(pin_service: PinService) -> None:
    for pin in ("4071", "9382", "4071"):
        await pin_service.put(pin_service.sample_issuer.pin_jwe(pin))
    assert await pin_service.pin() == "4071"
    assert await pin_service.counter() == 3


async def test_an_envelope_that_was_accepted_before_a_newer_one_changes_nothing(
    pin_service: PinService,
) -> None:
    old, new = pin_service.sample_issuer.pin_jwe("4071"), pin_service.sample_issuer.pin_jwe("9382")
    await pin_service.put(old)
    await pin_service.put(new)
    before = pin_service.rows()
    await pin_service.put(old)
    assert pin_service.rows() == before
    assert await pin_service.faults({old: "4071", new: "9382"}) == []


async def test_one_envelope_is_a_change_of_each_card_it_fits(
    pin_service: PinService, vault: Vault
) -> None:
    add_card(pin_service.url, vault, pin_service.sample_issuer, "same-pan", PAN)
    jwe = pin_service.sample_issuer.pin_jwe("4071")
    for card_id in ("card-1", "same-pan"):
        await pin_service.put(jwe, card_id)
        assert await pin_service.faults({jwe: "4071"}, card_id) == []
    with pytest.raises(PinRefused):
        await pin_service.put(jwe, "card-2")
    assert await pin_service.counter("card-2") == 0


async def test_every_error_of_the_vault_has_a_meaning_here() -> None:
    tree = {
        error
        for error in vars(hsm.errors).values()
        if isinstance(error, type)
        and issubclass(error, hsm.errors.HsmError)
        and error is not hsm.errors.HsmError
    }
    assert set(MEANINGS) == tree - ELSEWHERE


@pytest.mark.parametrize("error", MEANINGS, ids=lambda error: error.__name__)
async def test_a_failing_vault_stores_nothing_and_its_error_becomes_ours(
    pin_service: PinService, error: type[hsm.errors.HsmError]
) -> None:
    await pin_service.put(pin_service.sample_issuer.pin_jwe("4071"))
    before = pin_service.rows()
    card, new = (
        pin_service.sample_issuer.card(),
        envelope(pin_service.sample_issuer.pin_jwe("9382")),
    )
    with pytest.raises(MEANINGS[error]) as setting:
        await with_vault(pin_service, error()).set_pin(card, new, ACTOR)
    assert pin_service.rows() == before
    with pytest.raises(MEANINGS[error]) as getting:
        await with_vault(pin_service, error()).get_pin(card, ACTOR)
    for raised in (setting.value, getting.value):
        assert type(raised) is MEANINGS[error]
        assert raised.__suppress_context__  # what the vault said stays there
    assert await pin_service.pin() == "4071"


async def test_why_the_vault_could_not_work_is_logged(
    pin_service: PinService, caplog: pytest.LogCaptureFixture
) -> None:
    card, new = (
        pin_service.sample_issuer.card(),
        envelope(pin_service.sample_issuer.pin_jwe("9382")),
    )
    for error in (
        hsm.errors.ManifestRefused("the manifest is not in force now"),
        hsm.errors.MessageRefused("the vault is of another version"),
        hsm.errors.VaultUnavailable("away"),
    ):
        with caplog.at_level(logging.WARNING, pins.__name__), pytest.raises(ServiceUnavailable):
            await with_vault(pin_service, error).set_pin(card, new, ACTOR)
    assert [(r.getMessage(), r.__dict__["reason"]) for r in caplog.records] == [
        ("manifest.refused", "the manifest is not in force now"),
        ("vault.message_refused", "the vault is of another version"),
        ("vault.unavailable", "away"),
    ]


async def test_a_defect_of_the_vault_is_a_defect_here(pin_service: PinService) -> None:
    before = pin_service.rows()
    with pytest.raises(hsm.errors.VaultFailed):
        await with_vault(pin_service, RuntimeError("nobody foresaw it")).set_pin(
            pin_service.sample_issuer.card(),
            envelope(pin_service.sample_issuer.pin_jwe("9382")),
            ACTOR,
        )
    assert pin_service.rows() == before


async def test_a_card_is_checked_before_what_was_sent_to_it(pin_service: PinService) -> None:
    unreadable = BadRequest(Field.BODY)
    run_sql(pin_service.url, "UPDATE cards SET state = 'blocked' WHERE card_id = 'card-2'")
    expected: dict[str, type[DomainError]] = {
        "unknown": CardNotFound,
        "card-2": CardForbids,
        "card-1": BadRequest,
    }
    for card_id, error in expected.items():
        with pytest.raises(error):
            await pin_service.pins.set_pin(
                pin_service.sample_issuer.card(card_id), unreadable, ACTOR
            )


async def test_a_card_that_is_not_there_is_not_found_by_any_verb(pin_service: PinService) -> None:
    unknown = pin_service.sample_issuer.card("unknown")
    new = envelope(pin_service.sample_issuer.pin_jwe("9382"))
    for call in (
        pin_service.pins.set_pin(unknown, new, ACTOR),
        pin_service.pins.get_pin(unknown, ACTOR),
        pin_service.pins.change_counter(unknown),
        pin_service.pins.activate(unknown, ACTOR),
    ):
        with pytest.raises(CardNotFound):
            await call


async def test_a_pin_that_never_came_or_came_as_seccos_cannot_be_handed_out(
    pin_service: PinService,
) -> None:
    with pytest.raises(PinUnavailable):
        await pin_service.pin()
    await pin_service.put(pin_service.sample_issuer.pin_jwe("4071"))
    run_sql(pin_service.url, "UPDATE cards SET pin_type = 'SECCOS' WHERE card_id = 'card-1'")
    with pytest.raises(PinUnavailable):
        await pin_service.pin()


async def replaced_pin(pin_service: PinService) -> bytes:
    """Set a PIN, then another; return the first as it was stored."""
    await pin_service.put(pin_service.sample_issuer.pin_jwe("4071"))
    ((old,),) = run_sql(pin_service.url, "SELECT sealed_pin FROM cards WHERE card_id = 'card-1'")
    await pin_service.put(pin_service.sample_issuer.pin_jwe("9382"))
    return bytes(old)


async def test_an_old_pin_that_was_put_back_with_its_counter_is_an_alarm(
    pin_service: PinService,
) -> None:
    old = await replaced_pin(pin_service)
    run_sql(pin_service.url, "UPDATE cards SET sealed_pin = %s, counter = 1", old)
    with pytest.raises(StoredValueBroken):
        await pin_service.pin()


async def test_an_old_pin_under_the_newest_counter_is_an_alarm(pin_service: PinService) -> None:
    old = await replaced_pin(pin_service)
    run_sql(pin_service.url, "UPDATE cards SET sealed_pin = %s WHERE card_id = 'card-1'", old)
    with pytest.raises(StoredValueBroken):
        await pin_service.pin()


@pytest.mark.parametrize("columns", ["sealed_pin", "sealed_record", "sealed_pin, sealed_record"])
async def test_what_was_sealed_for_one_card_is_an_alarm_on_another(
    pin_service: PinService, columns: str
) -> None:
    await pin_service.put(pin_service.sample_issuer.pin_jwe("4071"))
    await pin_service.put(pin_service.sample_issuer.pin_jwe("9382", "card-2"), "card-2")
    row = f"({columns})" if "," in columns else columns
    run_sql(
        pin_service.url,
        f"UPDATE cards SET {row} = (SELECT {columns} FROM cards WHERE card_id = 'card-1')"
        " WHERE card_id = 'card-2'",
    )
    with pytest.raises(StoredValueBroken):
        await pin_service.pin("card-2")


@pytest.mark.parametrize("column", ["sealed_pin", "sealed_record"])
async def test_a_bit_that_changed_in_the_database_is_an_alarm(
    pin_service: PinService, column: str
) -> None:
    await pin_service.put(pin_service.sample_issuer.pin_jwe("4071"))
    ((sealed,),) = run_sql(
        pin_service.url,
        f"SELECT {column} FROM cards WHERE card_id = 'card-1'",
    )
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        run_sql(
            pin_service.url,
            f"UPDATE cards SET {column} = %s WHERE card_id = 'card-1'",
            bytes(changed),
        )
        # A flipped digit of the key's generation names a key that the HSM token lacks.
        with pytest.raises((StoredValueBroken, ServiceUnavailable)):
            await pin_service.pin()


async def test_activation_is_recorded_once(pin_service: PinService) -> None:
    run_sql(pin_service.url, "UPDATE cards SET state = 'inactive' WHERE card_id = 'card-1'")
    for _ in range(2):
        await pin_service.pins.activate(pin_service.sample_issuer.card(), ACTOR)
    assert run_sql(
        pin_service.url, "SELECT actor FROM audit_events WHERE event = 'card.activate'"
    ) == [(ACTOR.client_id,)]
    assert run_sql(pin_service.url, "SELECT state FROM cards WHERE card_id = 'card-1'") == [
        ("active",)
    ]
