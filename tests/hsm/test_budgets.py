"""What counts as a failure, against whom, and how many are too many."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import hsm.errors
from hsm.budgets import FailureBudgets, Kind
from hsm.counts import Counts
from hsm.errors import (
    CardRefusesForm,
    ClientLimited,
    HsmError,
    NotGenuine,
    WeakPinRefused,
    WrongPinData,
)
from hsm.manifest.policy import PolicyBody
from hsm.port import CardRef, PinBlockType

ISO0, SECCOS = PinBlockType.ISO0, PinBlockType.SECCOS
CARD, OTHER_CARD = CardRef("testbank01", "card-1"), CardRef("testbank01", "card-2")
CLIENT, OTHER_CLIENT = "testbank01", "testbank01-b"
STRICT = PolicyBody(failures_card_max=2, refusals_card_max=3, failures_client_max=4)
COUNTED = {
    (ISO0, WrongPinData): {Kind.CARD_ISO0, Kind.CLIENT_ISO0},
    (ISO0, WeakPinRefused): {Kind.CARD_POLICY},
    (SECCOS, WrongPinData): {Kind.CARD_SECCOS},
    (SECCOS, NotGenuine): {Kind.CLIENT_SECCOS},
}
ERRORS = [
    error
    for error in vars(hsm.errors).values()
    if isinstance(error, type) and issubclass(error, HsmError)
]


class Host:
    """Budgets of a host, whose clock a test sets."""

    def __init__(self, directory: Path) -> None:
        self.time = datetime(2026, 5, 4, 12, tzinfo=UTC)
        self.counts = Counts(directory, lambda: self.time)
        self.budgets = FailureBudgets(self.counts)

    def send(
        self,
        error: type[HsmError] | None = None,
        form: PinBlockType = ISO0,
        *,
        card: CardRef = CARD,
        client_id: str | None = CLIENT,
        policy: PolicyBody = STRICT,
    ) -> type[HsmError] | None:
        """Send a PIN with which the vault fails so; return how it ended."""
        try:
            with self.budgets.one_try(policy, card, client_id, form):
                if error is not None:
                    raise error
        except HsmError as raised:
            return type(raised)
        return None

    def counted(self) -> set[str]:
        with self.counts._transaction(0) as connection:
            return {kind for (kind,) in connection.execute("SELECT kind FROM failures")}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
@pytest.mark.parametrize("form", PinBlockType)
def test_what_is_counted_of_each_way_to_fail(
    host: Host, form: PinBlockType, error: type[HsmError]
) -> None:
    assert host.send(error, form) is error
    assert host.counted() == COUNTED.get((form, error), set())


def test_what_is_no_error_of_ours_is_not_counted(host: Host) -> None:
    with suppress(ZeroDivisionError), host.budgets.one_try(STRICT, CARD, CLIENT, ISO0):
        raise ZeroDivisionError
    assert host.counted() == set()


def test_good_pins_do_not_count_however_many(host: Host) -> None:
    for form in PinBlockType:
        assert {host.send(None, form) for _ in range(20)} == {None}
    assert host.counted() == set()


@pytest.mark.parametrize(
    ("form", "error", "count_max", "refusal"),
    [
        (ISO0, WrongPinData, 2, CardRefusesForm),
        (ISO0, WeakPinRefused, 3, CardRefusesForm),
        (SECCOS, WrongPinData, 2, CardRefusesForm),
        (SECCOS, NotGenuine, 4, ClientLimited),
    ],
)
def test_from_that_many_on_no_pin_is_tried_in_that_form(
    host: Host,
    form: PinBlockType,
    error: type[HsmError],
    count_max: int,
    refusal: type[HsmError],
) -> None:
    assert [host.send(error, form) for _ in range(count_max)] == [error] * count_max
    assert [host.send(failure, form) for failure in (error, None)] == [refusal] * 2
    (other_form,) = set(PinBlockType) - {form}
    assert host.send(None, other_form) is None


def test_a_client_is_limited_for_all_its_cards_before_a_card_is_refused(host: Host) -> None:
    for number in range(4):
        host.send(WrongPinData, card=CardRef("testbank01", f"card-{number // 2}"))
    assert host.send(card=OTHER_CARD) is ClientLimited
    assert host.send(card=CardRef("testbank01", "card-0")) is ClientLimited
    assert host.send(card=OTHER_CARD, client_id=OTHER_CLIENT) is None
    assert host.send(card=OTHER_CARD, client_id=None) is None
    host.time += timedelta(seconds=60)
    assert host.send(card=OTHER_CARD) is None
    assert host.send(card=CardRef("testbank01", "card-0")) is CardRefusesForm


def test_what_an_operator_brings_is_counted_by_card_alone(host: Host) -> None:
    host.send(WrongPinData, client_id=None)
    assert host.counted() == {Kind.CARD_ISO0}


def test_a_policy_says_how_many_are_too_many_of_what_was_counted_before_too(host: Host) -> None:
    lenient = PolicyBody(failures_card_max=9)
    for _ in range(3):
        host.send(WrongPinData, policy=lenient)
    assert host.send(policy=lenient) is None
    assert host.send(policy=STRICT) is CardRefusesForm


def test_failures_that_are_spread_over_days_never_have_a_card_refused(host: Host) -> None:
    for _ in range(12):
        assert host.send(WrongPinData) is WrongPinData
        host.time += timedelta(hours=12)


def test_forgetting_is_of_one_card_in_every_form(host: Host) -> None:
    for card in (CARD, OTHER_CARD):
        for form, error in COUNTED:
            host.send(error, form, card=card, client_id=None)
            host.send(error, form, card=card, client_id=None)
    host.budgets.forget(CARD)
    assert [host.send(None, form) for form in PinBlockType] == [None, None]
    assert [host.send(None, form, card=OTHER_CARD) for form in PinBlockType] == [
        CardRefusesForm,
        CardRefusesForm,
    ]


def test_what_is_said_of_the_last_failure_is_said_once(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (WrongPinData, WrongPinData, None, WrongPinData):
        host.send(error)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "iso0.card_refused")
    assert {name: record.__dict__[name] for name in ("issuer_id", "card_id", "count")} == {
        "issuer_id": "testbank01",
        "card_id": "card-1",
        "count": 2,
    }
