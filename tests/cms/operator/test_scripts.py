"""``python -m cms scripts``: from a PIN that D1 sets to the chip that takes it."""

import io
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from cms.persistence import card_scripts
from hsm.errors import KeyNotInUse, VaultUnavailable
from hsm.pkcs11.hsm_token import KeyUnit
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import PinBlockType
from hsm.scripts import REVERSALS_CARD_DAY_MAX
from tests.chip import Chip, ScriptFailed
from tests.cms.operator.operator_at_work import Operator, use_vault
from tests.cms.services.d1.pin_service import PinService, envelope
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.feeds import described
from tests.issuer_records import change_manifest, load_cards, open_issuer, run_sql
from tests.seccos_issuer import ISSUER_IDS, TDES_KEYS, SeccosIssuer, Watched, watched_vault

pytestmark = [pytest.mark.anyio, takes_tdes_the_old_way]

ISSUER: Final = ISSUER_IDS[0]
FIRST, SECOND, THIRD = "407193", "938261", "615284"
MANY: Final = 1000
SCRIPTS: Final = {"scheme": "mastercard", "builds_card_day_max": MANY}


@dataclass
class Stage:
    """D1, an operator, and the chips of an issuer whose manifest has scripts."""

    operator: Operator
    pin_service: PinService
    chips: dict[str, Chip] = field(default_factory=dict)

    async def put(self, pin: str, card_id: str = "card-1") -> None:
        await self.pin_service.put(self.pin_service.sample_issuer.pin_jwe(pin, card_id), card_id)

    def chip(self, card_id: str = "card-1") -> Chip:
        pan = self.pin_service.sample_issuer.pans[card_id]
        keys = (TDES_KEYS[KeyRole.SMC], TDES_KEYS[KeyRole.SMI])
        return self.chips.setdefault(card_id, Chip(*keys, pan, psn=0))

    def words(self, name: str, counter: int, card_id: str = "card-1") -> tuple[object, ...]:
        """What is typed, with a new transaction of the card where that is needed."""
        words = ("scripts", name, ISSUER, card_id, counter)
        if name != "build":
            return words
        seen = self.chip(card_id).transact()
        return (*words, "--atc", seen.atc.hex(), "--arqc", seen.arqc.hex())

    def call(self, name: str, counter: int, card_id: str = "card-1") -> dict[str, Any]:
        answer = json.loads(self.operator.must(*self.words(name, counter, card_id)))
        assert (answer.pop("issuerId"), answer.pop("cardId")) == (ISSUER, card_id)
        return dict(answer)

    def refused(self, name: str, counter: int, card_id: str = "card-1") -> str:
        return self.operator.refused(*self.words(name, counter, card_id))

    def deliver(self, counter: int, card_id: str = "card-1") -> None:
        """Build a script and have the chip take it."""
        command = self.call("build", counter, card_id)["command"]
        self.chip(card_id).execute(bytes.fromhex(command))

    def states(self, card_id: str = "card-1") -> dict[int, str]:
        rows = run_sql(
            self.pin_service.url,
            "SELECT counter, state FROM card_scripts WHERE card_id = %s ORDER BY counter",
            card_id,
        )
        return dict(rows)

    def earlier_pins(self) -> dict[int, bool]:
        """Of which counters the PIN from before is there."""
        sql = "SELECT counter, sealed_earlier_pin IS NOT NULL FROM card_scripts ORDER BY counter"
        return dict(run_sql(self.pin_service.url, sql))

    def open(self, *words: object) -> list[dict[str, Any]]:
        found = json.loads(self.operator.must("scripts", "status", ISSUER, *words, "--json"))
        return list(found)

    def events(self, card_id: str = "card-1") -> list[tuple[Any, ...]]:
        return run_sql(
            self.pin_service.url,
            "SELECT event, counter, reason, receipt IS NOT NULL FROM audit_events"
            " WHERE card_id = %s AND event NOT LIKE 'card.%%' ORDER BY event_id",
            card_id,
        )


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """One that has shared keys, in place of the session's."""
    return watched_vault(tmp_path_factory.mktemp("vault"))


@pytest.fixture
async def stage(database_url: str, vault: Watched, operator: Operator) -> AsyncIterator[Stage]:
    issuer = open_issuer(
        database_url, vault, ISSUER, auth="certificate", scripts=SCRIPTS, seccos={}
    )
    async with PinService.over(issuer, database_url, vault) as pin_service:
        yield Stage(operator, pin_service)


async def test_a_pin_goes_from_d1_onto_the_chip(stage: Stage) -> None:
    await stage.put(FIRST)
    assert stage.states() == {1: "pending"}

    built = stage.call("build", 1)
    assert (built.pop("counter"), built.pop("state"), [*built]) == (1, "built", ["command"])
    stage.chip().execute(bytes.fromhex(built["command"]))
    assert stage.chip().pin == FIRST
    assert stage.call("delivered", 1) == {"counter": 1, "state": "delivered"}
    assert stage.call("confirmed", 1) == {"counter": 1, "state": "confirmed"}

    assert stage.states() == {1: "confirmed"}
    assert stage.open() == []
    assert stage.events() == [
        ("pin.set", 1, None, True),
        ("script.build", 1, None, True),
        ("script.delivered", 1, None, False),
        ("script.confirmed", 1, None, False),
    ]


async def test_an_issuer_without_scripts_leaves_none(stage: Stage, vault: Watched) -> None:
    change_manifest(vault, ISSUER, scripts=None)
    await stage.put(FIRST)
    assert stage.states() == {}
    assert stage.refused("build", 1) == "no such card script"


async def test_a_card_without_a_chip_leaves_none(stage: Stage) -> None:
    run_sql(stage.pin_service.url, "UPDATE cards SET card_type = 'VIRTUAL'")
    await stage.put(FIRST)
    assert stage.states() == {}


async def test_a_newer_change_supersedes_what_is_not_confirmed(stage: Stage) -> None:
    await stage.put(FIRST)
    command = stage.call("build", 1)["command"]
    stage.call("delivered", 1)
    await stage.put(SECOND)
    assert stage.states() == {1: "superseded", 2: "pending"}
    for name in ("build", "delivered", "confirmed", "reverse"):
        assert "superseded" in stage.refused(name, 1)
    stage.deliver(2)
    assert stage.chip().pin == SECOND
    # The chip has gone on: what was built for another transaction does not bring back a PIN.
    with pytest.raises(ScriptFailed):
        stage.chip().execute(bytes.fromhex(command))
    stage.call("confirmed", 2)
    await stage.put(THIRD)
    assert stage.states() == {1: "superseded", 2: "confirmed", 3: "pending"}


async def test_a_seccos_change_supersedes_too_and_leaves_none(stage: Stage) -> None:
    await stage.put(FIRST)
    issuer = stage.pin_service.sample_issuer
    sent = SeccosIssuer(issuer, issuer.d1_key).seccos(SECOND, 1)
    await stage.pin_service.pins.set_pin(
        issuer.card(), envelope(sent, PinBlockType.SECCOS), stage.pin_service.actor
    )
    assert stage.states() == {1: "superseded"}
    assert stage.refused("build", 2) == "no such card script"


async def test_it_is_built_again_for_the_next_transaction(stage: Stage) -> None:
    await stage.put(FIRST)
    lost = stage.call("build", 1)["command"]
    stage.call("delivered", 1)
    assert stage.call("build", 1)["command"] != lost
    assert stage.states() == {1: "built"}
    stage.deliver(1)
    # A host need not tell that it sent what the card confirmed, and may tell it twice.
    for _ in range(2):
        assert stage.call("confirmed", 1)["state"] == "confirmed"
    assert "confirmed" in stage.refused("build", 1)
    assert [event for event, *_ in stage.events()].count("script.confirmed") == 1


async def test_a_wrong_counter_is_refused(stage: Stage) -> None:
    await stage.put(FIRST)
    await stage.put(SECOND)
    for counter in (3, 7):
        assert stage.refused("build", counter) == "no such card script"
    assert "refused members: counter" in stage.refused("build", 0)
    assert "superseded" in stage.refused("build", 1)
    assert stage.refused("delivered", 2) == "a script that is pending cannot become delivered"
    assert stage.refused("confirmed", 2) == "a script that is pending cannot become confirmed"


async def test_an_older_state_of_the_database_builds_no_older_pin(stage: Stage) -> None:
    await stage.put(FIRST)
    (before,) = run_sql(
        stage.pin_service.url, "SELECT sealed_pin FROM cards WHERE card_id = 'card-1'"
    )
    await stage.put(SECOND)
    url, back = stage.pin_service.url, "UPDATE card_scripts SET superseded_at = NULL, state = %s"
    run_sql(url, f"{back} WHERE counter = 1", "pending")
    assert "not the newest" in stage.refused("build", 1)
    # With the older PIN under the newer counter, the vault sees it.
    run_sql(url, "UPDATE cards SET sealed_pin = %s WHERE card_id = 'card-1'", before[0])
    stage.refused("build", 2)
    assert stage.events()[-1] == ("script.build.failed", 2, "SEAL_BROKEN", False)
    # With its counter too, the history tells.
    run_sql(url, "UPDATE cards SET counter = 1 WHERE card_id = 'card-1'")
    assert "not the newest" in stage.refused("build", 1)


@pytest.mark.parametrize("state", ["blocked", "closed"])
async def test_a_card_that_is_not_active_gets_no_script(stage: Stage, state: str) -> None:
    await stage.put(FIRST)
    stage.operator.must("cards", "state", ISSUER, "card-1", state)
    for name in ("build", "reverse"):
        assert stage.refused(name, 1) == f"the card is {state}"


async def test_a_reversal_puts_the_old_pin_back_as_a_new_change(stage: Stage) -> None:
    await stage.put(FIRST)
    stage.deliver(1)
    stage.call("confirmed", 1)
    await stage.put(SECOND)
    stage.deliver(2)
    stage.call("delivered", 2)

    assert stage.call("reverse", 2) == {"counter": 3, "state": "pending"}

    assert await stage.pin_service.pin() == FIRST
    assert await stage.pin_service.counter() == 3
    assert stage.states() == {1: "confirmed", 2: "superseded", 3: "pending"}
    # A host that did not get the answer sends the call again.
    assert stage.call("reverse", 2) == {"counter": 3, "state": "pending"}
    assert await stage.pin_service.counter() == 3
    stage.deliver(3)
    assert stage.chip().pin == FIRST
    assert ("pin.set", 3, "reversal", True) in stage.events()


async def test_a_reversal_of_what_does_not_open_is_audited(stage: Stage) -> None:
    await stage.put(FIRST)
    await stage.put(SECOND)
    sql = "UPDATE card_scripts SET sealed_earlier_pin = 'broken' WHERE counter = 2"
    run_sql(stage.pin_service.url, sql)
    stage.refused("reverse", 2)
    assert stage.events()[-1] == ("pin.set.failed", None, "SEAL_BROKEN", False)


async def test_a_suspended_issuer_gets_no_script(stage: Stage) -> None:
    await stage.put(FIRST)
    await stage.put(SECOND)
    stage.deliver(2)
    stage.operator.must("issuers", "suspend", ISSUER)
    for name in ("build", "reverse"):
        assert stage.refused(name, 2) == "the issuer is suspended"
    # What a chip has is told none the less.
    stage.call("confirmed", 2)


async def test_a_reversal_can_be_reversed_until_it_is_confirmed(stage: Stage) -> None:
    await stage.put(FIRST)
    await stage.put(SECOND)
    stage.call("reverse", 2)
    stage.call("reverse", 3)
    assert await stage.pin_service.pin() == SECOND
    stage.deliver(4)
    stage.call("confirmed", 4)
    assert stage.refused("reverse", 4) == "the script is confirmed"


async def test_the_first_pin_of_a_card_has_none_before_it(stage: Stage) -> None:
    await stage.put(FIRST)
    assert stage.refused("reverse", 1) == "there is no PIN from before to put back"


async def test_the_pin_from_before_is_kept_for_an_open_script_only(stage: Stage) -> None:
    await stage.put(FIRST)
    await stage.put(SECOND)
    assert stage.earlier_pins() == {1: False, 2: True}
    (shown,) = stage.open()
    assert shown["reversible"] is True
    await stage.put(THIRD)
    assert stage.earlier_pins() == {1: False, 2: False, 3: True}
    stage.deliver(3)
    assert stage.earlier_pins() == {1: False, 2: False, 3: True}
    stage.call("confirmed", 3)
    assert stage.earlier_pins() == {1: False, 2: False, 3: False}


async def test_a_pin_that_is_forgotten_goes_onto_no_chip(stage: Stage, vault: Watched) -> None:
    await stage.put(FIRST)
    await stage.put(SECOND)
    issuer = stage.pin_service.sample_issuer
    other_holder = described("card-1", issuer.pans["card-1"], cardholder="somebody-else")
    load_cards(stage.pin_service.url, vault, issuer, other_holder)
    assert stage.states() == {1: "superseded", 2: "superseded"}
    assert stage.earlier_pins() == {1: False, 2: False}


async def test_status_shows_what_has_not_reached_its_chip(stage: Stage) -> None:
    for card_id in ("card-1", "card-2", "card-3"):
        await stage.put(FIRST, card_id)
    stage.deliver(1, "card-1")
    stage.call("confirmed", 1, "card-1")
    stage.deliver(1, "card-3")
    stage.call("delivered", 1, "card-3")
    assert [(row["card_id"], row["counter"], row["state"]) for row in stage.open()] == [
        ("card-2", 1, "pending"),
        ("card-3", 1, "delivered"),
    ]
    (one,) = stage.open("--card", "card-3")
    assert one["pending_at"] < one["built_at"] < one["delivered_at"]
    assert "sealed_earlier_pin" not in one
    assert "card-2" in stage.operator.must("scripts", "status", ISSUER)
    assert stage.operator.refused("scripts", "status", "nobody0000") == "no such issuer"


async def test_the_vault_limits_how_many_are_built_for_a_card(stage: Stage, vault: Watched) -> None:
    change_manifest(vault, ISSUER, scripts={**SCRIPTS, "builds_card_day_max": 2})
    await stage.put(FIRST, "card-4")
    for _ in range(2):
        stage.call("build", 1, "card-4")
    stage.refused("build", 1, "card-4")
    assert stage.events("card-4")[-1] == ("script.build.refused", 1, "LIMIT_REACHED", True)
    change_manifest(vault, ISSUER, scripts=SCRIPTS)


async def test_the_vault_limits_how_many_reversals_are_made_of_a_card(stage: Stage) -> None:
    for pin in (FIRST, SECOND):
        await stage.put(pin, "card-3")
    made = range(2, 2 + REVERSALS_CARD_DAY_MAX)
    for counter in made:
        stage.call("reverse", counter, "card-3")
    stage.refused("reverse", made.stop, "card-3")
    # Refusals alike have one line a minute in the vault's log: this one may have no receipt.
    assert stage.events("card-3")[-1][:3] == ("pin.set.refused", made.stop, "LIMIT_REACHED")


async def test_a_change_that_comes_first_keeps_the_command_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.put(FIRST)
    url, read = stage.pin_service.url, card_scripts.read_to_build

    def changed_then(*given: Any) -> Any:  # noqa: ANN401 - passed on
        script = read(*given)
        sql = "UPDATE card_scripts SET state = 'superseded', superseded_at = now()"
        run_sql(url, sql)
        return script

    monkeypatch.setattr(card_scripts, "read_to_build", changed_then)
    assert stage.refused("build", 1) == card_scripts.CHANGED_MEANWHILE
    # The vault's log tells of it, and so does the audit.
    assert stage.events()[-1] == ("script.build", 1, None, True)
    assert stage.states() == {1: "superseded"}


async def test_a_reversal_that_a_change_precedes_changes_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.put(FIRST)
    await stage.put(SECOND)
    url, reverse = stage.pin_service.url, card_scripts.reverse

    def changed_then(*given: Any) -> Any:  # noqa: ANN401 - passed on
        run_sql(url, "UPDATE cards SET counter = 9 WHERE card_id = 'card-1'")
        return reverse(*given)

    monkeypatch.setattr(card_scripts, "reverse", changed_then)
    assert stage.refused("reverse", 2) == card_scripts.CHANGED_MEANWHILE
    assert stage.states() == {1: "superseded", 2: "pending"}


async def test_the_two_records_agree(
    database_url: str, operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = watched_vault(tmp_path)
    use_vault(monkeypatch, vault)
    issuer = open_issuer(database_url, vault, ISSUER, auth="certificate", scripts=SCRIPTS)
    # Else what is newer than a minute is not judged.
    monkeypatch.setattr("cms.operator.log_comparison.RECENT", timedelta(0))
    async with PinService.over(issuer, database_url, vault) as pin_service:
        stage = Stage(operator, pin_service)
        await stage.put(FIRST)
        await stage.put(SECOND)
        stage.deliver(2)
        stage.call("reverse", 2)
        words = ("audit", "compare", ISSUER, "--log", tmp_path / "log")
        assert "compared: 4 rows with 4 lines" in operator.must(*words)
        run_sql(database_url, "ALTER TABLE audit_events DISABLE TRIGGER append_only")
        run_sql(database_url, "DELETE FROM audit_events WHERE event = 'script.build'")
        answer = operator(*words)
        assert (answer.code, answer.out.count("pin.script of card card-1, counter 2")) == (1, 1)


def calls(*many: Mapping[str, object]) -> io.StringIO:
    return io.StringIO("".join(json.dumps(one) + "\n" for one in many))


async def test_a_host_keeps_one_process_for_many_calls(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.put(FIRST)
    seen = stage.chip().transact()
    one = {"issuerId": ISSUER, "cardId": "card-1", "counter": 1}
    build = {**one, "call": "build", "atc": seen.atc.hex(), "arqc": seen.arqc.hex()}
    many = (
        build,
        {**one, "call": "build"},
        {**one, "call": "build", "counter": 2, "atc": "0001", "arqc": "00" * 8},
        {**one, "call": "build", "atc": "0001", "arqc": "00" * 7},
        {**one, "call": "confirm"},
        {**one, "call": "delivered", "cardId": "a card"},
        {**one, "call": "delivered", "more": 1},
        {**one, "call": "delivered"},
        {**one, "call": "confirmed"},
    )
    text = (
        calls(*many).getvalue()
        + 'junk\n{"counter": 1, "counter": 1}\n'
        + json.dumps({**one, "call": "confirmed"})
        + "\n"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    answers = [json.loads(line) for line in stage.operator.must("scripts", "calls").splitlines()]
    stage.chip().execute(bytes.fromhex(answers[0]["command"]))
    assert stage.chip().pin == FIRST
    assert answers[1:] == [
        {"error": "a script is built for an ATC and an ARQC"},
        {"error": "no such card script"},
        {"error": "refused members: arqc"},
        {"error": "refused members: call"},
        {"error": "no such card"},
        {"error": "refused members: more"},
        {**one, "state": "delivered"},
        {**one, "state": "confirmed"},
        {"error": "not a JSON object"},
        {"error": "not a JSON object"},
        {**one, "state": "confirmed"},
    ]


async def test_a_key_that_is_missing_ends_no_calls(
    stage: Stage, vault: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_manifest(vault, ISSUER, scripts={**SCRIPTS, "smc_generation": 9})
    await stage.put(FIRST)
    one = {"issuerId": ISSUER, "cardId": "card-1", "counter": 1, "atc": "0001", "arqc": "00" * 8}
    monkeypatch.setattr("sys.stdin", calls({**one, "call": "build"}, {**one, "call": "build"}))
    answers = stage.operator.must("scripts", "calls").splitlines()
    assert answers == ['{"error": "a shared key is not on the token"}'] * 2
    assert stage.states() == {1: "pending"}


async def test_a_key_that_enciphered_enough_ends_no_calls(
    stage: Stage, vault: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_manifest(vault, ISSUER, limits={"tdes_blocks_max": 1})
    await stage.put(FIRST)
    vault._key_budgets.count(KeyLabel(KeyRole.SMC, 1, ISSUER), KeyUnit.TDES_BLOCKS, 1)
    one = {"issuerId": ISSUER, "cardId": "card-1", "counter": 1, "atc": "0001", "arqc": "00" * 8}
    monkeypatch.setattr("sys.stdin", calls({**one, "call": "build"}, {**one, "call": "build"}))
    answers = stage.operator.must("scripts", "calls").splitlines()
    used_up = '{"error": "a key has enciphered as much as the manifest lets it"}'
    assert answers == [used_up] * 2
    assert stage.states() == {1: "pending"}
    # The control: without the member it is built.
    change_manifest(vault, ISSUER, limits={})
    stage.deliver(1)


async def test_a_key_that_is_not_in_use_ends_no_calls(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.put(FIRST)

    class Retired:
        def build_script(self, **_: object) -> None:
            raise KeyNotInUse("a key is retired")

    use_vault(monkeypatch, Retired())
    one = {"issuerId": ISSUER, "cardId": "card-1", "counter": 1, "atc": "0001", "arqc": "00" * 8}
    monkeypatch.setattr("sys.stdin", calls({**one, "call": "build"}, {**one, "call": "build"}))
    answers = stage.operator.must("scripts", "calls").splitlines()
    assert answers == ['{"error": "a key is retired"}'] * 2


async def test_calls_end_when_the_vault_is_away(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.put(FIRST)

    class Away:
        def build_script(self, **_: object) -> None:
            raise VaultUnavailable("it is away")

    use_vault(monkeypatch, Away())
    one = {"issuerId": ISSUER, "cardId": "card-1", "counter": 1, "atc": "0001", "arqc": "00" * 8}
    monkeypatch.setattr("sys.stdin", calls({**one, "call": "build"}, {**one, "call": "build"}))
    assert "it is away" in stage.operator.refused("scripts", "calls")
    assert stage.states() == {1: "pending"}
