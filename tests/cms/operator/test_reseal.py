"""``python -m cms reseal``: cards that were stored before the keys got a second generation."""

import asyncio
import json
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest

from cms.operator import card_reseal
from cms.operator.pace import Pace
from cms.persistence import admin
from cms.persistence.key_labels import rows_by_generation
from cms.sandbox.partners.jwe import decrypt
from hsm.errors import VaultUnavailable
from hsm.messages import Reseal, Verb
from hsm.pkcs11.keys import MAC_ROLES, KeyLabel
from hsm.port import PinBlockType, SealedPin, SealedRecord
from hsm.vault import Vault
from tests.cms.operator.operator_at_work import Answer, Operator, use_vault
from tests.cms.services.d1.pin_service import PinService, envelope
from tests.contracts.software_token import SoftwareToken
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.in_process_admin import InProcessAdmin
from tests.issuer_records import open_issuer, run_sql
from tests.key_tables import make_newest_active
from tests.operators import reopen_vault
from tests.seccos_issuer import PVV_AND_OFFSET, SeccosIssuer, Watched, open_girobank, watched_vault

pytestmark = [pytest.mark.anyio, takes_tdes_the_old_way]

T = TypeVar("T")
SECOND = [KeyLabel(role, 2) for pair in MAC_ROLES.items() for role in pair]
PINS: Mapping[str, str] = {"card-1": "407193", "card-2": "938261", "card-3": "615042"}
OWN_PRW = {"prw_source": "issuer"}
ASKED = {**PVV_AND_OFFSET, "prw": True}
BY_FIRST = {"pin.g1": 2, "record.g1": 4, "values.g1": 10}
BY_SECOND = {"pin.g2": 2, "record.g2": 4, "values.g2": 10}
DONE = "resealed=4  skipped=0  refused=0  left=0\n"


@pytest.fixture
def vault(tmp_path: Path) -> Watched:
    """One that has keys of the first generation, and shared keys."""
    directory = tmp_path / "vault"
    directory.mkdir(mode=0o700)
    return watched_vault(directory)


@dataclass
class Rotated:
    """An issuer whose PINs are stored under keys that are the old ones now.

    ``card-1`` and ``card-3`` have PINs that came as ISO-0, ``card-2`` one that came as SECCOS, so
    that its values alone are stored; ``card-4`` has none.
    """

    giro: SeccosIssuer
    vault: Vault
    url: str
    monkeypatch: pytest.MonkeyPatch
    calls: list[int] = field(default_factory=list)
    """How many cards each call of ``reseal`` had."""

    def before_call(self, run: Callable[[int], object]) -> None:
        """Run something before each call that has cards, given the number of calls before it."""
        use_vault(self.monkeypatch, self.vault)
        rotated = self

        class Admin(InProcessAdmin):
            def call(self, message: Verb[T]) -> T:
                if isinstance(message, Reseal) and message.cards:
                    rotated.calls.append(len(message.cards))
                    run(len(rotated.calls) - 1)
                return super().call(message)

        @contextmanager
        def opened(*_: object):  # type: ignore[no-untyped-def] # noqa: ANN202
            yield Admin(self.vault)

        self.monkeypatch.setattr("cms.operator.vault.AdminClient", opened)

    def counted(self) -> dict[str, int]:
        with admin.transaction(self.url) as database:
            return dict(rows_by_generation(database))

    def stored(self) -> list[tuple[object, ...]]:
        """What a reseal leaves as it is."""
        return [
            *run_sql(
                self.url,
                "SELECT to_jsonb(cards) - 'sealed_record' - 'sealed_pin' - 'sealed_pvv'"
                " - 'sealed_offset_3624' - 'sealed_prw' - 'sealed_script' FROM cards"
                " ORDER BY card_id",
            ),
            *run_sql(self.url, "SELECT * FROM pin_changes ORDER BY card_id, counter"),
        ]

    async def pins(self) -> dict[str, str]:
        async with PinService.over(self.giro.sample_issuer, self.url, self.vault) as service:
            return {card_id: await service.pin(card_id) for card_id in ("card-1", "card-3")}

    def values(self, operator: Operator) -> dict[str, object]:
        """What the authorisation host is told of each card."""
        out = operator.must("verification", "export", self.giro.sample_issuer.issuer_id)
        lines = [json.loads(line) for line in out.splitlines()]
        return {line["cardId"]: decrypt(line["jwe"], self.giro.host_key) for line in lines}

    def audited(self) -> list[tuple[object, ...]]:
        return run_sql(
            self.url,
            "SELECT issuer_id, card_id, actor, counter, reason FROM audit_events"
            " WHERE event = 'cards.resealed' ORDER BY event_id",
        )


async def set_pins(giro: SeccosIssuer, url: str, vault: Vault) -> None:
    async with PinService.over(giro.sample_issuer, url, vault) as service:
        for card_id in ("card-1", "card-3"):
            await service.put(giro.sample_issuer.pin_jwe(PINS[card_id], card_id), card_id)
        sent = envelope(giro.seccos(PINS["card-2"], 0, "card-2"), PinBlockType.SECCOS)
        await service.pins.set_pin(giro.sample_issuer.card("card-2"), sent, service.actor)


@pytest.fixture
async def rotated(
    operator: Operator, vault: Watched, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Rotated:
    giro = open_girobank(database_url, vault, profile=OWN_PRW, verification=ASKED)
    await set_pins(giro, database_url, vault)
    hsm_token = vault._hsm_token
    assert isinstance(hsm_token, SoftwareToken)
    for label in SECOND:
        hsm_token.generate(label)
    make_newest_active(vault, vault._log.directory.parent, hsm_token)
    after = reopen_vault(hsm_token, vault._log.directory.parent)
    made = Rotated(giro, after, database_url, monkeypatch)
    made.before_call(lambda _: None)
    return made


async def test_everything_goes_under_the_active_keys_and_nothing_else_changes(
    operator: Operator, rotated: Rotated
) -> None:
    pins, values, stored = await rotated.pins(), rotated.values(operator), rotated.stored()
    assert rotated.counted() == BY_FIRST
    assert operator.must("reseal") == f"issuer_id=girobank00  {DONE}"
    assert rotated.counted() == BY_SECOND
    assert await rotated.pins() == pins == {name: PINS[name] for name in ("card-1", "card-3")}
    assert rotated.values(operator) == values
    assert rotated.stored() == stored
    assert rotated.audited() == [("girobank00", None, "operator", None, "4 cards")]


async def test_what_is_resealed_already_is_left_out(operator: Operator, rotated: Rotated) -> None:
    operator.must("reseal")
    rows = run_sql(rotated.url, "SELECT * FROM cards")
    rotated.calls.clear()
    (line,) = json.loads(operator.must("reseal", "girobank00", "--json"))
    assert line == {"issuer_id": "girobank00", "resealed": 0, "skipped": 4, "refused": 0, "left": 0}
    assert run_sql(rotated.url, "SELECT * FROM cards") == rows
    assert (rotated.calls, len(rotated.audited())) == ([], 1)


async def test_cards_of_the_issuer_that_is_named_are_resealed_or_of_all(
    operator: Operator, rotated: Rotated, vault: Watched
) -> None:
    open_issuer(rotated.url, vault, "testbank02")
    operator.must("reseal", "girobank00")
    assert rotated.counted()["record.g1"] == 4
    assert operator.must("reseal").splitlines() == [
        "issuer_id=girobank00  resealed=0  skipped=4  refused=0  left=0",
        "issuer_id=testbank02  resealed=4  skipped=0  refused=0  left=0",
    ]
    assert "record.g1" not in rotated.counted()


async def test_a_pin_that_is_changed_meanwhile_is_neither_lost_nor_overwritten(
    operator: Operator, rotated: Rotated
) -> None:
    loop = asyncio.get_running_loop()
    issuer = rotated.giro.sample_issuer

    async def change(service: PinService) -> None:
        await service.put(issuer.pin_jwe("271828", "card-3"), "card-3")

    async with PinService.over(issuer, rotated.url, rotated.vault) as service:

        def change_once(calls: int) -> None:
            if calls == 0:
                asyncio.run_coroutine_threadsafe(change(service), loop).result()

        rotated.before_call(change_once)
        out = await asyncio.to_thread(operator.must, "reseal")
        # The record of that card is resealed in the second pass.
        assert out == f"issuer_id=girobank00  {DONE}"
        assert await service.counter("card-3") == 2
    assert await rotated.pins() == {"card-1": PINS["card-1"], "card-3": "271828"}
    assert rotated.counted() == BY_SECOND
    assert [reason for *_, reason in rotated.audited()] == ["3 cards", "1 cards"]


async def earlier_pin(rotated: Rotated, vault: Vault) -> None:
    """Have a chip wait for a second PIN of ``card-1``, which the old keys sealed, too."""
    (before,) = run_sql(rotated.url, "SELECT sealed_pin FROM cards WHERE card_id = 'card-1'")
    issuer = rotated.giro.sample_issuer
    async with PinService.over(issuer, rotated.url, vault) as service:
        await service.put(issuer.pin_jwe("829301"))
    run_sql(
        rotated.url,
        "INSERT INTO card_scripts (issuer_id, card_id, counter, sealed_earlier_pin)"
        " VALUES (%s, 'card-1', 2, %s)",
        *(issuer.issuer_id, *before),
    )


async def test_an_earlier_pin_that_waits_for_a_chip_goes_too(
    operator: Operator, rotated: Rotated, vault: Watched
) -> None:
    await earlier_pin(rotated, vault)
    assert rotated.counted()["pin.g1"] == 3
    out = operator.must("reseal")
    assert out == "issuer_id=girobank00  resealed=5  skipped=0  refused=0  left=0\n"
    assert rotated.counted() == {**BY_SECOND, "pin.g2": 3}
    (earlier, record) = run_sql(
        rotated.url,
        "SELECT sealed_earlier_pin, sealed_record FROM card_scripts JOIN cards USING (card_id)",
    )[0]
    card = rotated.giro.sample_issuer.card("card-1")
    jwe = rotated.vault.export_jwe(SealedPin(earlier), SealedRecord(record), card, 1).value
    async with PinService.over(rotated.giro.sample_issuer, rotated.url, rotated.vault) as service:
        assert service.decrypt(jwe) == PINS["card-1"]
        assert await service.pin("card-1") == "829301"
    assert [reason for *_, reason in rotated.audited()] == ["4 cards", "1 earlier PINs"]


async def test_an_earlier_pin_that_its_chip_needs_no_more_does_not_come_back(
    operator: Operator, rotated: Rotated, vault: Watched
) -> None:
    await earlier_pin(rotated, vault)

    def confirm_at_last(calls: int) -> None:
        run_sql(
            rotated.url,
            "UPDATE card_scripts SET sealed_earlier_pin = NULL WHERE 3 <= %s",
            calls,
        )

    rotated.before_call(confirm_at_last)
    assert "resealed=4  skipped=0  refused=0  left=0" in operator.must("reseal")
    assert run_sql(rotated.url, "SELECT sealed_earlier_pin FROM card_scripts") == [(None,)]


async def test_an_earlier_pin_of_another_counter_is_refused(
    operator: Operator, rotated: Rotated, vault: Watched
) -> None:
    await earlier_pin(rotated, vault)
    run_sql(
        rotated.url,
        "UPDATE card_scripts SET sealed_earlier_pin ="
        " (SELECT sealed_pin FROM cards WHERE card_id = 'card-1')",
    )
    answer = operator("reseal")
    assert (answer.code, answer.out) == (
        *(1, "issuer_id=girobank00  resealed=4  skipped=0  refused=1  left=1\n"),
    )
    assert "card card-1: pin: The sealed value was not sealed for this card" in answer.err


async def test_two_at_once_do_no_harm(operator: Operator, rotated: Rotated) -> None:
    others = list[Answer]()

    def run_another(calls: int) -> None:
        if calls == 0:
            others.append(operator("reseal"))

    rotated.before_call(run_another)
    ours = operator("reseal")
    assert others == [Answer(0, f"issuer_id=girobank00  {DONE}", "")]
    assert (ours.code, ours.err) == (0, "")
    assert ours.out == "issuer_id=girobank00  resealed=0  skipped=0  refused=0  left=0\n"
    assert rotated.counted() == BY_SECOND
    assert await rotated.pins() == {name: PINS[name] for name in ("card-1", "card-3")}


async def test_a_card_that_somebody_holds_is_left_for_the_next_run(
    operator: Operator, rotated: Rotated
) -> None:
    with psycopg.connect(rotated.url) as other:
        other.execute("SELECT 1 FROM cards WHERE card_id = 'card-2' FOR UPDATE")
        answer = operator("reseal")
    assert (answer.code, answer.err) == (1, "")
    assert answer.out == "issuer_id=girobank00  resealed=3  skipped=0  refused=0  left=1\n"
    assert "resealed=1  skipped=3  refused=0  left=0" in operator.must("reseal")


async def test_whoever_is_interrupted_goes_on_where_it_was(
    operator: Operator, rotated: Rotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_reseal, "CARDS_AT_ONCE", 1)

    def end_at_third(calls: int) -> None:
        if calls == 2:
            raise VaultUnavailable("the vault went away during the call")

    rotated.before_call(end_at_third)
    assert operator.refused("reseal").startswith("the vault: the vault went away")
    assert (rotated.counted()["record.g1"], rotated.counted()["record.g2"]) == (2, 2)
    # One is stored under both: each opens.
    assert await rotated.pins() == {name: PINS[name] for name in ("card-1", "card-3")}
    rotated.calls.clear()
    assert "resealed=2  skipped=2  refused=0  left=0" in operator.must("reseal")
    assert rotated.calls == [1, 1]
    assert rotated.counted() == BY_SECOND


async def test_an_interruption_at_the_keyboard_is_said_in_a_line(
    operator: Operator, rotated: Rotated
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    rotated.before_call(interrupt)
    assert operator.refused("reseal").startswith("interrupted: what was resealed is stored")


@pytest.mark.parametrize(
    ("edit", "card_id", "reason", "by_first"),
    [
        (
            "UPDATE cards SET sealed_pin = set_byte(sealed_pin, 20, 0) WHERE card_id = 'card-1'",
            *("card-1", "pin: The sealed value was not sealed for this card"),
            {"pin.g1": 1},
        ),
        (
            "UPDATE cards SET sealed_pin = (SELECT sealed_pin FROM cards WHERE card_id = 'card-1')"
            " WHERE card_id = 'card-3'",
            *("card-3", "pin: The sealed value was not sealed for this card"),
            {"pin.g1": 1},
        ),
        (
            "UPDATE cards SET counter = 0 WHERE card_id = 'card-3'",
            *("card-3", "its counter is not the newest of its history"),
            {"pin.g1": 1, "record.g1": 1, "values.g1": 3},
        ),
        (
            "UPDATE cards SET sealed_pvv = sealed_prw WHERE card_id = 'card-2'",
            *("card-2", "pvv: The sealed value was not sealed for this card"),
            {"values.g1": 1},
        ),
        (
            "UPDATE cards SET sealed_record = '\\x0109'::bytea || 'record.g7'::bytea"
            " || substring(sealed_record from 12) WHERE card_id = 'card-4'",
            *("card-4", "record: The table of key generations lets nothing be done with a key"),
            {"record.g7": 1},
        ),
        (
            "UPDATE cards SET sealed_record = 'a text' WHERE card_id = 'card-4'",
            *("card-4", "record: The sealed value was not sealed for this card"),
            {"unreadable": 1},
        ),
    ],
)
async def test_what_does_not_open_is_named_and_left_and_the_rest_goes_on(
    operator: Operator,
    rotated: Rotated,
    edit: str,
    card_id: str,
    reason: str,
    by_first: Mapping[str, int],
) -> None:
    run_sql(rotated.url, edit)
    answer = operator("reseal")
    assert answer.code == 1
    assert answer.err.startswith(f"issuer girobank00, card {card_id}: {reason}")
    assert answer.err.count("\n") == 1
    assert answer.out.endswith("skipped=0  refused=1  left=1\n")
    left = {key: count for key, count in rotated.counted().items() if not key.endswith("g2")}
    assert left == by_first
    assert not re.search("[0-9a-f]{16}", answer.err + answer.out)


async def test_how_much_is_stored_under_each_key_is_printed(
    operator: Operator, rotated: Rotated
) -> None:
    assert operator.must("reseal", "--count").splitlines() == [
        f"key={key}  rows={count}" for key, count in BY_FIRST.items()
    ]
    operator.must("reseal")
    counted = json.loads(operator.must("reseal", "--count", "--json"))
    assert counted == [{"key": key, "rows": count} for key, count in BY_SECOND.items()]


async def test_on_a_terminal_a_bar_shows_how_far_it_is(
    operator: Operator, rotated: Rotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    answer = operator("reseal")
    assert (answer.code, answer.out) == (0, f"issuer_id=girobank00  {DONE}")
    assert "0/4" in answer.err
    assert "4/4" in answer.err.splitlines()[-1]


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "fast"])
def test_a_rate_is_a_number_above_0(operator: Operator, rate: str) -> None:
    answer = operator("reseal", "--cards-per-second", rate)
    assert (answer.code, answer.out) == (2, "")


async def test_a_rate_is_kept_to(
    operator: Operator, rotated: Rotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests = list[float]()
    monkeypatch.setattr("cms.operator.pace.Pace", partial(Pace, sleep=rests.append))
    operator.must("reseal", "--cards-per-second", "0.25")
    assert 15 < sum(rests) <= 16


def test_an_unknown_issuer_has_nothing_to_reseal(operator: Operator) -> None:
    assert operator.refused("reseal", "girobank99") == "no such issuer"
