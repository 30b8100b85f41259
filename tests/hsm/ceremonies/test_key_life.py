"""A key's life as operators and custodians type it: rotated, retired, destroyed."""

from pathlib import Path

import pytest

from cms.sandbox.machine.softhsm import SoftHsm
from hsm.ceremonies import ceremony_record
from hsm.manifest import documents
from hsm.manifest.generation_table import GenerationTable
from hsm.manifest.signed import GENERATIONS_TYPE
from tests.hsm.ceremonies.test_key_ceremonies import (
    ISSUER,
    PASSPHRASE,
    PVK_KCV,
    SIGN,
    TYPED,
    Room,
    import_block,
    is_free,
    sit_down,
    written,
)
from tests.hsm.commanding import ROLES, Operator, Terminal
from tests.hsm.vault_commands import load
from tests.operators import OPERATORS, signed


@pytest.fixture
def room(own_softhsm: SoftHsm, tmp_path: Path) -> Room:
    room = Room(Operator(own_softhsm), tmp_path)
    assert room.operator.run("ceremony", ROLES).returncode == 0
    room.begin()
    return room


def table_of(file: Path) -> GenerationTable:
    body = documents.content(documents.read(file))
    assert isinstance(body, GenerationTable)
    return body


def sign(draft: Path) -> str:
    return signed(documents.read(draft).payload, GENERATIONS_TYPE, OPERATORS)


def must(room: Room, *words: object) -> str:
    done = room.operator.run(*map(str, words), **room.settings)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_role_is_rotated_by_custodians_into_a_draft(room: Room, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    said = must(room, "generations", "new", "--out", first)
    assert "draft of version 1" in said
    typed = [PASSPHRASE] * 4
    done = room.hold("rotate", "pin", str(first), "--out", str(second), typed=typed)
    assert (done.returncode, done.stderr) == (0, "")
    assert "pin.g2: not named -> active" in done.stdout
    assert "pin-mac.g1: active -> decrypt-only" in done.stdout
    table = table_of(second)
    states = {str(label): state for label, state in table.states.items()}
    assert table.version == 2
    assert (states["pin.g2"], states["pin-mac.g2"]) == ("active", "active")
    assert (states["pin.g1"], states["pin-mac.g1"]) == ("decrypt-only", "decrypt-only")
    record, _ = ceremony_record.read(room.record)
    assert [key.label for key in record.keys] == ["pin.g2", "pin-mac.g2"]
    assert {"pin.g2", "pin-mac.g2"} <= room.listed().keys()
    again = room.operator.run("rotate", "d1", str(second), "--out", str(second), **room.settings)
    assert (again.returncode, "there already" in again.stderr) == (2, True)
    assert "d1.g2" not in room.listed()


def test_a_key_is_destroyed_only_when_the_table_of_the_host_lets_it(
    room: Room, tmp_path: Path
) -> None:
    drafts = [tmp_path / f"{number}.json" for number in range(4)]
    must(room, "generations", "new", "--out", drafts[0])
    load(room.operator, room.settings, sign(drafts[0]))
    must(room, "rotate", "pin", drafts[0], "--out", drafts[1])
    load(room.operator, room.settings, sign(drafts[1]))
    typed = [PASSPHRASE] * 4
    done = room.hold("destroy-key", "pin.g1", typed=typed)
    assert (done.returncode, "does not say" in done.stderr) == (2, True)
    must(room, "generations", "change", drafts[1], "pin.g1=retired", "--out", drafts[2])
    done = room.hold("destroy-key", "pin.g1", typed=typed)
    assert done.returncode == 2  # a draft is no table
    load(room.operator, room.settings, sign(drafts[2]))
    done = room.hold("destroy-key", "pin.g1", typed=typed)
    assert done.returncode == 2  # retired, it may come back
    must(room, "generations", "change", drafts[2], "pin.g1=destroyed", "--out", drafts[3])
    load(room.operator, room.settings, sign(drafts[3]))
    done = room.hold("destroy-key", "pin.g1", typed=typed, custodians=room.keys[:1])
    assert (done.returncode, done.stderr) == (2, "name two custodians or more\n")
    done = room.hold("destroy-key", "pin.g1", typed=[*typed[:3], "wrong"])
    assert done.returncode == 2
    assert "pin.g1" in room.listed()
    assert not room.record.exists()
    done = room.hold("destroy-key", "pin.g1", typed=typed)
    assert (done.returncode, done.stderr) == (0, "")
    assert not {"pin.g1", "pin-mac.g1"} & room.listed().keys()
    assert {"pin.g2", "pin-mac.g2"} <= room.listed().keys()
    record, _ = ceremony_record.read(room.record)
    assert (record.action, [key.label for key in record.keys]) == (
        "destroy-key",
        ["pin.g1", "pin-mac.g1"],
    )
    assert room.logged()[-1].event.record == record.sha256
    for word in ("log-mac.g1", "pin-mac.g1", "d1.g1"):
        assert room.hold("destroy-key", word, typed=typed).returncode == 2
    back = room.operator.run(
        *("generations", "change", str(drafts[3]), "pin.g1=decrypt-only"),
        *("--out", str(tmp_path / "back.json")),
    )
    assert (back.returncode, "cannot become" in back.stderr) == (2, True)


def test_nobody_waits_for_the_hsm_token_while_a_custodian_signs_that_a_key_ends(
    room: Room, tmp_path: Path
) -> None:
    drafts = [tmp_path / f"{number}.json" for number in range(3)]
    must(room, "generations", "new", "--out", drafts[0])
    load(room.operator, room.settings, sign(drafts[0]))
    must(room, "rotate", "grant-mac", drafts[0], "--out", drafts[1])
    must(room, "generations", "change", drafts[1], "grant-mac.g1=compromised", "--out", drafts[2])
    load(room.operator, room.settings, sign(drafts[2]))
    words = room.words("destroy-key", "grant-mac.g1")
    with Terminal(room.operator.softhsm, room.settings, *words) as terminal:
        sit_down(terminal)
        sit_down(terminal)
        terminal.wait_for("passphrase of cleo.pem (not shown): ")
        assert is_free(room)
        # Somebody else destroys the key meanwhile: what is signed for is not there any more.
        done = room.hold("destroy-key", "grant-mac.g1", typed=[PASSPHRASE] * 4)
        assert (done.returncode, done.stderr) == (0, "")
        terminal.type(PASSPHRASE, after="passphrase of cleo.pem (not shown): ")
        terminal.type(PASSPHRASE, after="passphrase of dan.pem (not shown): ")
        assert "the keys are others than were signed for" in terminal.all_shown()
    assert not Path(words[-1]).exists()


def test_lines_of_a_compromised_log_key_are_told_apart_and_new_ones_are_under_the_next(
    room: Room, tmp_path: Path
) -> None:
    drafts = [tmp_path / f"{number}.json" for number in range(3)]
    must(room, "generations", "new", "--out", drafts[0])
    load(room.operator, room.settings, sign(drafts[0]))
    must(room, "rotate", "log-mac", drafts[0], "--out", drafts[1])
    must(room, "generations", "change", drafts[1], "log-mac.g1=compromised", "--out", drafts[2])
    assert "is compromised" not in must(room, "log", "verify")
    load(room.operator, room.settings, sign(drafts[2]))
    assert room.hold("destroy-key", "log-mac.g1", typed=[PASSPHRASE] * 4).returncode == 2
    said = must(room, "log", "verify")
    assert "log-mac.g1 is compromised since " in said
    assert said.count("lines have no other MAC") == 1


def test_a_compromised_user_pin_opens_nothing_any_more(room: Room, tmp_path: Path) -> None:
    old = Path(room.operator.softhsm.environment["HSM_PIN_FILE"])
    new = tmp_path / "new-pin"
    new.touch(0o600)
    new.write_text("another PIN, of 24 bytes\n")
    assert room.operator.run("list").returncode == 0
    said = must(room, "change-pin", new)
    assert "another PIN" not in said
    refused = room.operator.run("list", HSM_PIN_FILE=str(old))
    assert (refused.returncode, refused.stderr) == (2, "the token refused the PIN\n")
    assert room.operator.run("list", HSM_PIN_FILE=str(new)).returncode == 0


def test_no_key_comes_in_under_a_block_protection_key_that_is_compromised(
    room: Room, tmp_path: Path
) -> None:
    drafts = [tmp_path / f"{number}.json" for number in range(2)]
    assert room.import_kbpk(*TYPED).returncode == 0
    must(room, "generations", "new", "--out", drafts[0])
    load(room.operator, room.settings, sign(drafts[0]))
    block = written(tmp_path, "V2")
    assert import_block(room, block).returncode == 0
    compromised = f"block-protection@{ISSUER}.g1=compromised"
    must(room, "generations", "change", drafts[0], compromised, "--out", drafts[1])
    load(room.operator, room.settings, sign(drafts[1]))
    done = import_block(room, block)
    assert (done.returncode, "not in use any more" in done.stderr) == (2, True)
    assert f"pvk@{ISSUER}.g2" not in room.listed()


def test_a_key_that_was_compromised_does_not_come_in_again_in_any_role(
    room: Room, tmp_path: Path
) -> None:
    drafts = [tmp_path / f"{number}.json" for number in range(3)]
    assert room.import_kbpk(*TYPED).returncode == 0
    block = written(tmp_path, "V2")
    assert import_block(room, block).returncode == 0
    must(room, "generations", "new", "--out", drafts[0])
    load(room.operator, room.settings, sign(drafts[0]))
    # The control: a key that is not compromised comes in as often as somebody brings it.
    assert import_block(room, block).returncode == 0
    first, second = (f"pvk@{ISSUER}.g{number}" for number in (1, 2))
    must(room, "generations", "change", drafts[0], f"{first}=compromised", "--out", drafts[1])
    assert table_of(drafts[1]).generations[first].kcv == PVK_KCV
    load(room.operator, room.settings, sign(drafts[1]))
    refused = "a key of this KCV was compromised: no key was stored, ask for another\n"
    before = room.stored()
    done = import_block(room, block)
    assert (done.returncode, done.stderr) == (2, refused)
    as_offset = [PASSPHRASE, PASSPHRASE, PVK_KCV, *SIGN]
    other = room.hold(
        "import-block", "pvk-3624", ISSUER, str(written(tmp_path, "V1")), typed=as_offset
    )
    assert (other.returncode, other.stderr) == (2, refused)
    assert (room.stored(), room.record.exists()) == (before, False)
    # Destroyed, it is known by the table.
    must(room, "generations", "change", drafts[1], f"{first}=destroyed", "--out", drafts[2])
    load(room.operator, room.settings, sign(drafts[2]))
    for label in (first, second):
        done = room.hold("destroy-key", label, typed=[PASSPHRASE] * 4)
        assert done.returncode == (0 if label == first else 2)
    assert import_block(room, written(tmp_path, "V2")).stderr == refused


def test_a_compromised_key_is_known_by_itself_where_its_kcv_is_not(
    room: Room, tmp_path: Path
) -> None:
    drafts = [tmp_path / f"{number}.json" for number in range(2)]
    assert room.import_kbpk(*TYPED).returncode == 0
    block = written(tmp_path, "V2")
    assert import_block(room, block).returncode == 0
    must(room, "generations", "new", "--out", drafts[0])
    load(room.operator, room.settings, sign(drafts[0]))
    compromised = f"pvk@{ISSUER}.g1"
    words = ("generations", "change", drafts[0], f"{compromised}=compromised", "--out", drafts[1])
    room.operator.run(*map(str, words), **room.settings, HSM_MODULE="none")
    assert table_of(drafts[1]).generations[compromised].kcv is None
    load(room.operator, room.settings, sign(drafts[1]))
    assert "a key of this KCV was compromised" in import_block(room, block).stderr


def test_the_kcv_of_a_compromised_key_is_found_while_the_token_for_imports_is_away(
    room: Room, tmp_path: Path
) -> None:
    drafts = [tmp_path / f"{number}.json" for number in range(2)]
    assert room.import_kbpk(*TYPED).returncode == 0
    assert import_block(room, written(tmp_path, "V2")).returncode == 0
    must(room, "generations", "new", "--out", drafts[0])
    compromised = f"pvk@{ISSUER}.g1"
    words = ("generations", "change", drafts[0], f"{compromised}=compromised", "--out", drafts[1])
    away = {
        "HSM_IMPORT_TOKEN_LABEL": "none",
        "HSM_IMPORT_PIN_FILE": room.operator.softhsm.environment["HSM_PIN_FILE"],
    }
    done = room.operator.run(*map(str, words), **room.settings, **away)
    assert (done.returncode, done.stderr) == (0, "")
    assert table_of(drafts[1]).generations[compromised].kcv == PVK_KCV


def test_a_key_is_compromised_without_its_hsm_token(room: Room, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert room.import_kbpk(*TYPED).returncode == 0
    must(room, "generations", "new", "--out", first)
    compromised = f"block-protection@{ISSUER}.g1"
    words = (
        "generations",
        "change",
        str(first),
        f"{compromised}=compromised",
        "--out",
        str(second),
    )
    done = room.operator.run(*words, **room.settings, HSM_MODULE="none")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{compromised}: its KCV is not known here" in done.stdout
    assert table_of(second).generations[compromised].kcv is None
