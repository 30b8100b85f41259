"""``python -m hsm … --json``: standard output is one value, whatever is said beside it."""

import json
from pathlib import Path
from typing import Any

import pytest

from cms.sandbox.machine.softhsm import SoftHsm
from tests.hsm.ceremonies.test_key_ceremonies import COMPONENTS, ISSUER, PASSPHRASE, TYPED, Room
from tests.hsm.ceremonies.test_key_life import sign
from tests.hsm.commanding import ROLES, Done, Operator, fingerprints, lines
from tests.hsm.vault_commands import load
from tests.operators import prepare_host


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    softhsm = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    softhsm.ensure()
    room = Room(Operator(softhsm), tmp_path_factory.mktemp("room"))
    made = result_of(room.operator.run("ceremony", ROLES, "--json"))
    assert {key["label"]: key["fingerprint"] for key in made["keys"]} == room.listed()
    room.begin()
    return room


def result_of(done: Done) -> Any:  # noqa: ANN401
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(room: Room, *words: object, typed: str = "") -> Any:  # noqa: ANN401
    return result_of(room.operator.run(*map(str, words), "--json", typed=typed, **room.settings))


def test_of_keys_and_of_the_log(room: Room) -> None:
    assert {key["label"]: key["fingerprint"] for key in run(room, "list")} == room.listed()
    checked = run(room, "check", "--sandbox")
    assert (checked["missing"], checked["all_answer"]) == ([], True)
    assert [key["as_expected"] for key in checked["keys"]] == [True] * len(room.listed())
    assert run(room, "uses") == []
    assert "hsm_token" in run(room, "probe")
    verified = run(room, "log", "verify")
    assert (verified["faults"], verified["receipts_that_are_missing"]) == ([], [])
    assert all(chain["lines"] > 0 for chain in verified["chains"])


def test_of_manifests_and_of_who_signed(room: Room, tmp_path: Path) -> None:
    key, draft, after = (str(tmp_path / name) for name in ("ann.pem", "draft.json", "next.json"))
    trust = prepare_host(tmp_path)
    made = room.operator.run("manifest", "key", key, "--name", "Ann", "--no-passphrase")
    trust.write_text(json.dumps({"threshold": 2, "operators": [json.loads(made.stdout)]}))
    Path(draft).write_text(room.operator.run("manifest", "new", ISSUER).stdout)
    changed = run(
        *(room, "manifest", "change", draft, "policy.length_max=6", "--out", after, "--key", key),
        typed="y\n",
    )
    assert (changed["version"], changed["file"], changed["signatures"]) == (2, after, 1)
    assert any("length_max" in text for text in changed["differences"])
    differences = run(room, "manifest", "diff", draft, after)["differences"]
    assert differences == changed["differences"]
    signed = run(room, "manifest", "sign", draft, "--key", key)
    assert (signed["issuer_id"], signed["signatures"]) == (ISSUER, 1)


def test_of_what_is_refused_what_was_found_is_printed_too(room: Room, tmp_path: Path) -> None:
    trust, draft = prepare_host(tmp_path), tmp_path / "draft.json"
    draft.write_text(room.operator.run("manifest", "new", ISSUER).stdout)
    done = room.operator.run("manifest", "verify", str(draft), "--trust", str(trust), "--json")
    verified = json.loads(done.stdout)
    assert (done.returncode, verified["signed_by"], verified["threshold"]) == (2, [], 2)
    assert "too few signatures" in done.stderr


def test_of_a_ceremony_what_custodians_are_told_is_not_in_it(room: Room) -> None:
    held = room.words("import-components", "block-protection", ISSUER)
    done = room.operator.run(*held, "--json", typed=lines(*TYPED), **room.settings)
    result = result_of(done)
    assert "Cleo" in done.stderr
    assert not any(component in done.stdout + done.stderr for component in COMPONENTS)
    assert result["record"] == str(room.record)
    assert [key["issuer_id"] for key in result["keys"]] == [ISSUER]
    run(room, "log", "verify", "--receipt", result["receipt"])
    shown = run(room, "record", "show", room.record, "--trust", room.trust)
    assert (shown["signed_by"], shown["record"]["issuer_id"]) == (["Cleo", "Dan"], ISSUER)
    assert run(room, "record", "log", room.record)["receipt"]


def test_of_the_life_of_a_key(room: Room, tmp_path: Path) -> None:
    drafts = [tmp_path / f"{number}.json" for number in range(4)]
    new = run(room, "generations", "new", "--out", drafts[0])
    assert (new["version"], new["draft"]) == (1, str(drafts[0]))
    assert {"key": "pin.g1", "from": None, "to": "active"} in new["changes"]
    load(room.operator, room.settings, sign(drafts[0]))
    rotated = run(room, "rotate", "pin", drafts[0], "--out", drafts[1])
    assert {key["label"] for key in rotated["keys"]} == {"pin.g2", "pin-mac.g2"}
    assert {"key": "pin.g1", "from": "active", "to": "decrypt-only"} in rotated["changes"]
    load(room.operator, room.settings, sign(drafts[1]))
    for number, state in ((2, "retired"), (3, "destroyed")):
        changed = run(
            *(room, "generations", "change", drafts[number - 1], f"pin.g1={state}"),
            *("--out", drafts[number]),
        )
        assert changed["version"] == number + 1
        load(room.operator, room.settings, sign(drafts[number]))
    held = room.words("destroy-key", "pin.g1")
    done = room.operator.run(*held, "--json", typed=lines(*[PASSPHRASE] * 4), **room.settings)
    assert result_of(done)["destroyed"] == "pin.g1"
    assert "pin.g1" not in fingerprints(room.operator.run("list").stdout)
