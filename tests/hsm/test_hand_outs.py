"""How many PINs may be shown or taken, and what is said when there are that many."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hsm import exposition
from hsm.counts import Counts
from hsm.errors import LimitReached
from hsm.grants import Grant
from hsm.hand_outs import GRANT_MAX, HandOuts
from hsm.log.lines import Action
from hsm.manifest.limits import LimitsBody
from hsm.port import CardRef, Face, Purpose

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LIMITS = LimitsBody(handouts_card_day_max=3, handouts_client_day_max=5, handouts_issuer_day_max=7)
GRANT = Grant(
    *("grant-0", CardRef("testbank01", "card-1"), "testbank01-app", Face.HOSTED, Purpose.VIEW),
    *(1, "ann", int((NOON + HOUR).timestamp())),
)


class Host:
    """Hand-outs of a host, whose clock a test sets."""

    def __init__(self, directory: Path) -> None:
        self.time = NOON
        self.hand_outs = HandOuts(Counts(directory, lambda: self.time))
        self.grants = 0

    def new_grant(self, **members: object) -> Grant:
        self.grants += 1
        return replace(GRANT, grant_id=f"grant-{self.grants}", **members)  # type: ignore[arg-type]

    def hands_out(self, grant: Grant, what: Action = Action.IMAGE) -> bool:
        try:
            self.hand_outs.count(LIMITS, grant, what)
        except LimitReached:
            return False
        return True

    def times(self, count: int, **members: object) -> int:
        """Count how many hand-outs are let through, each for a new grant."""
        return sum(self.hands_out(self.new_grant(**members)) for _ in range(count))


def card(number: int) -> dict[str, object]:
    return {"card": CardRef("testbank01", f"card-{number}")}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("what", GRANT_MAX)
def test_a_grant_is_good_for_so_many_of_each(host: Host, what: Action) -> None:
    many = LimitsBody(handouts_card_day_max=100)
    for _ in range(GRANT_MAX[what]):
        host.hand_outs.count(many, GRANT, what)
    for moment in (NOON, NOON + 12 * HOUR):  # the next day is no other
        host.time = moment
        with pytest.raises(LimitReached):
            host.hand_outs.count(many, GRANT, what)
    for other in set(GRANT_MAX) - {what}:
        host.hand_outs.count(many, GRANT, other)


def test_a_card_has_so_many_on_a_day_of_whatever_kind(host: Host) -> None:
    assert host.hands_out(GRANT, Action.IMAGE)
    assert host.hands_out(GRANT, Action.TEXT)
    assert host.hands_out(GRANT, Action.SET)
    assert host.times(2) == 0
    assert host.times(2, **card(2)) == 2
    assert host.times(2, card=CardRef("testbank02", "card-1")) == 2
    host.time += 12 * HOUR
    assert host.times(4) == 3


def test_a_client_has_so_many_over_all_cards(host: Host) -> None:
    assert [host.times(2, **card(number)) for number in range(4)] == [2, 2, 1, 0]
    assert host.times(1, client_id="testbank01-other") == 1


def test_an_issuer_has_so_many_over_all_clients(host: Host) -> None:
    for number in range(4):
        host.times(2, **card(number), client_id=f"testbank01-{number}")
    assert host.times(1, **card(9), client_id="testbank01-9") == 0
    assert host.times(1, card=CardRef("testbank02", "card-9"), client_id="testbank02-9") == 1


def test_the_last_one_of_a_day_is_said_once(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(9):
        host.times(2, **card(number // 2), client_id=f"testbank01-{number // 3}")
    seen = [
        (record.levelname, record.getMessage(), named(record.__dict__)) for record in caplog.records
    ]
    half = "WARNING", "handouts.client_half"
    assert seen == [
        ("WARNING", "handouts.card_limit", {"card_id": "card-0", "count": 3}),
        (*half, {"client_id": "testbank01-0", "count": 3}),
        ("ERROR", "alarm.handouts_client", {"client_id": "testbank01-0", "count": 5}),
        ("WARNING", "handouts.card_limit", {"card_id": "card-1", "count": 3}),
        ("ERROR", "alarm.handouts_issuer", {"count": 7}),
    ]


def test_a_client_that_had_a_half_of_its_day_is_counted_and_said_once(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    before = halves()
    assert host.times(2, **card(0)) == 2
    assert (halves() - before, caplog.records) == (0, [])
    assert host.times(2, **card(1)) == 2
    host.time += 24 * HOUR
    assert host.times(3, **card(2)) == 3
    assert halves() - before == 2


def test_a_client_that_may_have_one_is_said_to_have_had_all(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.hand_outs.count(LimitsBody(handouts_client_day_max=1), GRANT, Action.IMAGE)
    assert [record.getMessage() for record in caplog.records] == ["alarm.handouts_client"]


def halves() -> float:
    shown = exposition.registry.get_sample_value("hsm_half_handed_out_total", {"who": "client"})
    return shown or 0.0


def named(members: Mapping[str, object]) -> dict[str, object]:
    return {name: members[name] for name in ("card_id", "client_id", "count") if name in members}
