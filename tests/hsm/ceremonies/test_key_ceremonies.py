"""Key ceremonies of custodians, as they type them: what is refused, kept, shown and never shown."""

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psec
import pytest

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.softhsm import SoftHsm
from crypto import kcv
from crypto.secret import Secret
from hsm import directories
from hsm.ceremonies import ceremony_record, own_key_ceremony
from hsm.errors import CeremonyError, LogUnavailable, VaultUnavailable
from hsm.log.lines import Action, Line
from hsm.manifest.operator_key import OperatorKey
from hsm.manifest.signed import MINIMUM_VERSIONS_TYPE
from hsm.pkcs11 import own_keys
from hsm.pkcs11.keys import KeyLabel
from tests.crypto import x9143_reader
from tests.crypto.ciphers import aes_cmac, tdes_ecb
from tests.hsm import own_process
from tests.hsm.commanding import ROLES, Done, Operator, Terminal, fingerprints, lines
from tests.hsm.own_process import ROOT, environment
from tests.operators import OPERATORS, minimum_versions, signed
from tests.processes import status_of
from tests.vault_process import wait_until

ISSUER = "testbank01"
PASSPHRASE = "of a custodian, 7 words"
COMPONENTS = [
    "1D8465C29E0B3FA74C0D92E6B1785AF3C61F0E9A5B27D4833F6A90C2E87B14D5",
    "A7C03E5519F28B6D04E7715C8A2F93B6580DE1C47F3A9625B0DC4E8817F562A9",
    "5E19F7A30C6BD284917E3DC5A0F846B20E93D87615CB4AFD6208B47F9CE531A0",
]
PVK = bytes.fromhex("1F2F3D4C5B6B79890123456789ABCDEF")


def aes_kcv(key: bytes) -> str:
    return kcv.aes(aes_cmac(key)).hex().upper()


def tdes_kcv(key: bytes) -> str:
    return kcv.tdes(tdes_ecb(key)).hex().upper()


def joined(components: list[str]) -> bytes:
    total = 0
    for component in components:
        total ^= int(component, 16)
    return total.to_bytes(len(components[0]) // 2)


KCVS = [aes_kcv(bytes.fromhex(component)) for component in COMPONENTS]
KBPK = joined(COMPONENTS[:2])
KBPK_KCV = aes_kcv(KBPK)
PVK_KCV = tdes_kcv(PVK)


@dataclass
class Room:
    """An import machine: its HSM token with keys of our own, its state, and three custodians."""

    operator: Operator
    directory: Path
    sandbox: bool = False

    def __post_init__(self) -> None:
        names = ("Cleo", "Dan", "Eve")
        self.keys = [self.directory / f"{name.lower()}.pem" for name in names]
        made = [OperatorKey.create(file, Secret(PASSPHRASE)) for file in self.keys]
        self.stranger = self.directory / "stranger.pem"
        OperatorKey.create(self.stranger, Secret(PASSPHRASE))
        self.open_file = self.directory / "open.pem"
        unprotected = OperatorKey.create(self.open_file, None)
        self.of_another_issuer = self.directory / "other.pem"
        other = OperatorKey.create(self.of_another_issuer, Secret(PASSPHRASE))
        self.trust = self.directory / "trust.json"
        self.trust.write_text(
            json.dumps(
                {
                    "threshold": 2,
                    "operators": [
                        one.entry(name) for one, name in zip(OPERATORS, "AB", strict=True)
                    ],
                    "custodians": [
                        *(key.entry(name) for key, name in zip(made, names, strict=True)),
                        unprotected.entry("Open"),
                        other.entry("Other", ["testbank02"]),
                    ],
                }
            )
        )
        state = self.directory / "state"
        state.mkdir()
        self.settings = {"HSM_STATE_DIRECTORY": str(state), "HSM_TRUST_FILE": str(self.trust)}
        self.records = self.directory / "records"
        self.records.mkdir()
        self.number = 0

    def begin(self) -> None:
        file = self.directory / "minimum-versions.json"
        file.write_text(signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE))
        begun = self.operator.run("manifest", "begin", str(file), **self.settings)
        assert begun.returncode == 0, begun.stderr

    def words(self, command: str, *words: str, custodians: list[Path] | None = None) -> list[str]:
        """A command with its custodians, and a record of its own."""
        self.number += 1
        self.record = self.records / str(self.number)
        held = [
            word
            for key in (self.keys[:2] if custodians is None else custodians)
            for word in ("--custodian", str(key))
        ]
        return [command, *words, *held, "--record", str(self.record)]

    def hold(
        self, command: str, *words: str, typed: list[str], custodians: list[Path] | None = None
    ) -> Done:
        """Hold a ceremony by pipes; nothing of what is typed and secret is printed."""
        held = self.words(command, *words, custodians=custodians)
        done = self.operator.run(*held, typed=lines(*typed), **self.settings)
        self.shows_nothing(done.stdout + done.stderr)
        return done

    def import_kbpk(
        self, *typed: str, kind: str = "aes-256", custodians: list[Path] | None = None
    ) -> Done:
        words = ("block-protection", ISSUER, "--kind", kind)
        return self.hold("import-components", *words, typed=[*typed], custodians=custodians)

    def shows_nothing(self, output: str) -> None:
        for secret in (*COMPONENTS, KBPK.hex(), PVK.hex(), PASSPHRASE):
            assert secret.lower() not in output.lower()

    def listed(self) -> dict[str, str]:
        return fingerprints(self.operator.run("list").stdout)

    def stored(self) -> set[str]:
        """The objects of the HSM token; SoftHSM2 keeps each in a file."""
        return {path.name for path in self.operator.softhsm.directory.rglob("*.object")}

    def logged(self) -> list[Line]:
        """The lines of the log that name a key ceremony."""
        texts = [
            text
            for path in Path(self.settings["HSM_STATE_DIRECTORY"]).glob("log/**/*.jsonl")
            for text in path.read_bytes().splitlines()
        ]
        parsed = [Line.parse(text) for text in texts if b'"key.ceremony"' in text]
        return [line for line in parsed if line.event.what is Action.CEREMONY]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    softhsm = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    softhsm.ensure()
    operator = Operator(softhsm)
    assert operator.run("ceremony", ROLES).returncode == 0
    room = Room(operator, tmp_path_factory.mktemp("room"))
    room.begin()
    return room


#: What two custodians type: a passphrase, a component and its KCV each, the KCV of the key, and
#: passphrases for the record.
SESSIONS = [PASSPHRASE, COMPONENTS[0], KCVS[0], PASSPHRASE, COMPONENTS[1], KCVS[1]]
SIGN = [PASSPHRASE, PASSPHRASE]
TYPED = [*SESSIONS, KBPK_KCV, *SIGN]


def assert_nothing_is_left(room: Room, before: set[str]) -> None:
    """No key and no record."""
    assert room.stored() == before
    assert not room.record.exists()


def test_two_custodians_bring_a_key_and_sign_what_they_did(room: Room) -> None:
    before = len(room.logged())
    done = room.import_kbpk(*TYPED)
    assert (done.returncode, done.stderr) == (0, "")
    (label,) = [label for label in room.listed() if label in done.stdout.split()]
    assert label.startswith("block-protection@testbank01.g")
    assert room.listed()[label] == KBPK_KCV

    record, document = ceremony_record.read(room.record)
    assert [one.name for one in record.custodians] == ["Cleo", "Dan"]
    assert [(one.number, one.custodian, one.kcv) for one in record.components] == [
        (1, "Cleo", KCVS[0]),
        (2, "Dan", KCVS[1]),
    ]
    assert [(key.label, key.kind, key.fingerprint) for key in record.keys] == [
        (label, "AES-256", f"KCV {KBPK_KCV}")
    ]
    assert (record.action, record.issuer_id) == ("import-components", ISSUER)
    assert record.hsm_token.label == "pin-vault"
    assert record.began_at <= record.components[0].typed_at <= record.ended_at
    assert len(document.signatures) == 2
    (line,) = room.logged()[before:]
    assert (line.event.issuer_id, line.event.record) == (ISSUER, record.sha256)
    assert line.receipt in done.stdout
    verified = room.operator.run("log", "verify", "--receipt", line.receipt, **room.settings)
    assert verified.returncode == 0, verified.stdout


def test_a_record_is_printed_with_those_who_signed_it(room: Room, tmp_path: Path) -> None:
    assert room.import_kbpk(*TYPED).returncode == 0
    shown = room.operator.run("record", "show", str(room.record), "--trust", str(room.trust))
    assert (shown.returncode, shown.stderr) == (0, "")
    for text in ("import-components", "'Cleo'", "'Dan'", KBPK_KCV, *KCVS[:2], "pin-vault"):
        assert text in shown.stdout
    assert shown.stdout.count("signed by") == 2

    members = json.loads(room.record.read_text())
    alone = tmp_path / "alone"
    alone.write_text(json.dumps({**members, "signatures": members["signatures"][:1]}))
    shown = room.operator.run("record", "show", str(alone), "--trust", str(room.trust))
    assert (shown.returncode, shown.stdout.count("signed by")) == (2, 1)
    assert shown.stderr == "not signed by every custodian whom it names\n"


TDES_3KEY = ["23456789ABCDEF01DCBA98765432100F0102030405060708", "A1" * 8 + "B3" * 8 + "C5" * 8]


@pytest.mark.parametrize(
    ("kind", "components", "check"),
    [
        ("aes-128", [COMPONENTS[0][:32], COMPONENTS[1][:32]], aes_kcv),
        ("aes-192", [COMPONENTS[0][:48], COMPONENTS[1][:48], COMPONENTS[2][:48]], aes_kcv),
        ("aes-256", COMPONENTS, aes_kcv),
        ("tdes-2-key", [COMPONENTS[0][:32], COMPONENTS[1][:32]], tdes_kcv),
        ("tdes-3-key", TDES_3KEY, tdes_kcv),
    ],
)
def test_a_key_of_each_kind_comes_from_two_components_or_more(
    room: Room, kind: str, components: list[str], check: type[str]
) -> None:
    typed = [
        word
        for component in components
        for word in (PASSPHRASE, component, check(bytes.fromhex(component)))
    ]
    key = joined(components)
    typed += [check(key), *[PASSPHRASE] * len(components)]
    done = room.import_kbpk(*typed, kind=kind, custodians=room.keys[: len(components)])
    assert (done.returncode, done.stderr) == (0, "")
    (stored,) = ceremony_record.read(room.record)[0].keys
    assert stored.fingerprint == f"KCV {check(key)}"
    assert room.listed()[stored.label] == check(key)
    assert room.operator.run("check", "--sandbox").returncode == 0


NOT_THE_KCV = "that is not the KCV of what was typed or opened"
SHORT = "not a component of as many hexadecimal digits as the key has"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ((*SESSIONS, "000000", *SIGN), NOT_THE_KCV),
        ((*SESSIONS, KBPK_KCV[:5], *SIGN), NOT_THE_KCV),
        ((*SESSIONS[:2], KCVS[1], *SESSIONS[3:], KBPK_KCV, *SIGN), NOT_THE_KCV),
        ((*SESSIONS[:5], KCVS[0], KBPK_KCV, *SIGN), NOT_THE_KCV),
        ((*SESSIONS[:2], "", *SESSIONS[3:], KBPK_KCV, *SIGN), NOT_THE_KCV),
        ((*SESSIONS[:4], COMPONENTS[1][:-1], KCVS[1], KBPK_KCV, *SIGN), SHORT),
        ((*SESSIONS[:4], COMPONENTS[1][:32], KCVS[1], KBPK_KCV, *SIGN), SHORT),
        ((*SESSIONS[:4], "g" * 64, KCVS[1], KBPK_KCV, *SIGN), SHORT),
        ((*SESSIONS[:4], "00" * 32, "763CBC", KBPK_KCV, *SIGN), "a component is zero"),
        ((*SESSIONS[:4], *SESSIONS[1:3], KBPK_KCV, *SIGN), "two components are equal"),
        (("wrong", *SESSIONS[1:], KBPK_KCV, *SIGN), "or a wrong passphrase"),
        ((*SESSIONS[:3], "wrong", *SESSIONS[4:], KBPK_KCV, *SIGN), "or a wrong passphrase"),
        ((*SESSIONS, KBPK_KCV, PASSPHRASE, "wrong"), "or a wrong passphrase"),
        (SESSIONS[:3], "or a wrong passphrase"),
        (SESSIONS, NOT_THE_KCV),
        ((*SESSIONS, KBPK_KCV), "or a wrong passphrase"),
        ((), "or a wrong passphrase"),
    ],
    ids=[
        "KCV of the key",
        "KCV of the key, cut",
        "KCV of the first component",
        "KCV of the second component",
        "KCV left out",
        "one digit missing",
        "too short",
        "no digits",
        "zero",
        "equal",
        "wrong passphrase",
        "wrong passphrase of the second",
        "one does not sign",
        "ends after the first",
        "ends before the KCV of the key",
        "ends before it is signed",
        "nothing",
    ],
)
def test_what_is_not_right_leaves_no_key_and_no_record(
    room: Room, typed: tuple[str, ...], message: str
) -> None:
    before, logged = room.stored(), len(room.logged())
    done = room.import_kbpk(*typed)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert_nothing_is_left(room, before)
    assert len(room.logged()) == logged


@pytest.mark.parametrize(
    ("who", "message"),
    [
        (lambda room: [room.keys[0], room.keys[0]], "this custodian took part already"),
        (lambda room: [*room.keys[:2], room.keys[0]], "this custodian took part already"),
        (lambda room: [room.keys[0]], "name two custodians or more"),
        (lambda room: [room.keys[0], room.stranger], "not the key of a custodian of the issuer"),
        (lambda room: [room.keys[0], room.of_another_issuer], "not the key of a custodian"),
        (lambda room: [room.open_file, room.keys[0]], "must have a passphrase"),
        (lambda room: [room.keys[0], room.directory / "none"], "the file of the key cannot be"),
    ],
    ids=["twice", "twice of three", "one", "stranger", "other issuer", "no passphrase", "no file"],
)
def test_somebody_who_may_not_take_part_ends_it(room: Room, who: object, message: str) -> None:
    before = room.stored()
    sessions = [*SESSIONS, PASSPHRASE, COMPONENTS[2], KCVS[2]]
    done = room.import_kbpk(*sessions, custodians=who(room))  # type: ignore[operator]
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert_nothing_is_left(room, before)


EVEN = "0E1E2C3D4A5A68788796A5B4C3D2E1F0"
ODD = "0123456789ABCDEFFEDCBA9876543210"


def test_tdes_components_may_be_held_to_odd_parity(room: Room) -> None:
    before = room.stored()
    words = ("import-components", "block-protection", ISSUER, "--kind")
    for components, kind, message in (
        ((ODD, EVEN), "tdes-2-key", "a component does not have odd parity"),
        (COMPONENTS, "aes-256", "an AES key has no parity"),
    ):
        typed = [PASSPHRASE, components[0], tdes_kcv(bytes.fromhex(components[0]))]
        typed += [PASSPHRASE, components[1], tdes_kcv(bytes.fromhex(components[1]))]
        done = room.hold(*words, kind, "--parity", "odd", typed=typed)
        assert (done.returncode, message in done.stderr) == (2, True)
        assert_nothing_is_left(room, before)
    # Without it, parity counts for nothing.
    typed = [PASSPHRASE, ODD, tdes_kcv(bytes.fromhex(ODD))]
    typed += [PASSPHRASE, EVEN, tdes_kcv(bytes.fromhex(EVEN)), tdes_kcv(joined([ODD, EVEN]))]
    assert room.import_kbpk(*typed, *SIGN, kind="tdes-2-key").returncode == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"HSM_STATE_DIRECTORY": ""}, "HSM_STATE_DIRECTORY is missing"),
        ({"HSM_TRUST_FILE": "/none"}, "the trust file cannot be read"),
        ({"HSM_STATE_DIRECTORY": "/none"}, "this host has no log"),
    ],
    ids=str,
)
def test_a_machine_without_trust_or_log_asks_for_no_component(
    room: Room, settings: dict[str, str], message: str
) -> None:
    words = room.words("import-components", "block-protection", ISSUER)
    done = room.operator.run(*words, typed=lines(*TYPED), **{**room.settings, **settings})
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_host_that_has_not_begun_has_no_log_and_holds_no_ceremony(
    room: Room, tmp_path: Path
) -> None:
    before = room.stored()
    words = room.words("import-components", "block-protection", ISSUER)
    settings = {**room.settings, "HSM_STATE_DIRECTORY": str(tmp_path)}
    done = room.operator.run(*words, typed=lines(*TYPED), **settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "this host has no log: it begins with a list of minimum versions, see docs/operating.md\n"
    )
    assert_nothing_is_left(room, before)


def test_a_record_is_never_written_over(room: Room) -> None:
    words = room.words("import-components", "block-protection", ISSUER)
    room.record.write_text("of somebody else")
    before = room.stored()
    done = room.operator.run(*words, typed=lines(*TYPED), **room.settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "the file that is to be written is there already\n"
    assert (room.stored(), room.record.read_text()) == (before, "of somebody else")


# At a terminal


@pytest.fixture
def terminal(room: Room) -> Iterator[Terminal]:
    words = room.words("import-components", "block-protection", ISSUER)
    with Terminal(room.operator.softhsm, room.settings, *words) as terminal:
        yield terminal


ENTER = "sits here: "


def sit_down(terminal: Terminal) -> None:
    terminal.type("", after=ENTER)
    terminal.type(PASSPHRASE, after="(not shown): ")


def type_component(terminal: Terminal, number: int, kcv_typed: str | None = None) -> None:
    terminal.type(COMPONENTS[number], after="digits (not shown): ")
    terminal.type(kcv_typed or KCVS[number].lower(), after="given to you: ")


def test_nothing_that_is_typed_at_a_terminal_is_shown_but_kcvs(
    room: Room, terminal: Terminal
) -> None:
    for number in (0, 1):
        sit_down(terminal)
        type_component(terminal, number)
    terminal.type(KBPK_KCV, after="KCV of the key, as it was given to you: ")
    for name in ("cleo", "dan"):
        terminal.type(PASSPHRASE, after=f"passphrase of {name}.pem (not shown): ")
    shown = terminal.all_shown()
    assert terminal.process.returncode == 0, shown
    room.shows_nothing(shown)
    assert KCVS[0].lower() in shown
    # The screen is emptied for each custodian.
    assert shown.count("\x1b[2J") == 2
    assert KBPK_KCV in room.listed().values()


def test_the_process_that_holds_components_cannot_be_looked_into_nor_swapped(
    terminal: Terminal,
) -> None:
    sit_down(terminal)
    terminal.type(COMPONENTS[0], after="digits (not shown): ")
    status = status_of(terminal.process.pid)
    assert status["NoNewPrivs"] == "1"
    assert Path(f"/proc/{terminal.process.pid}/mem").stat().st_uid == 0
    # Where locking is not allowed, the screen says so.
    assert status["VmLck"] != "0 kB" or "memory_not_locked" in terminal.shown


def test_what_is_typed_too_early_is_not_shown_either(room: Room, terminal: Terminal) -> None:
    terminal.type(COMPONENTS[0], after=ENTER)
    terminal.type("wrong", after="(not shown): ")
    shown = terminal.all_shown()
    assert terminal.process.returncode == 2
    room.shows_nothing(shown)


def test_who_mistypes_at_a_terminal_may_try_again_and_not_for_ever(
    room: Room, terminal: Terminal
) -> None:
    before = room.stored()
    sit_down(terminal)
    type_component(terminal, 0, "000000")
    type_component(terminal, 0)
    sit_down(terminal)
    for _ in range(3):
        type_component(terminal, 1, "000000")
    shown = terminal.all_shown()
    assert (terminal.process.returncode, shown.count("try again")) == (2, 3)
    assert_nothing_is_left(room, before)


@pytest.mark.parametrize("how", ["interrupt", "terminate", "hang up", "kill"])
def test_a_ceremony_that_is_interrupted_leaves_nothing(
    room: Room, terminal: Terminal, how: str
) -> None:
    before, logged = room.stored(), len(room.logged())
    for number in (0, 1):
        sit_down(terminal)
        type_component(terminal, number)
    terminal.type(KBPK_KCV, after="KCV of the key, as it was given to you: ")
    terminal.type(PASSPHRASE, after="passphrase of cleo.pem (not shown): ")
    if how == "interrupt":
        os.write(terminal.screen, b"\x03")
        assert "interrupted: no key was stored" in terminal.all_shown()
        assert terminal.process.returncode == 2
    else:
        names = {"terminate": signal.SIGTERM, "hang up": signal.SIGHUP, "kill": signal.SIGKILL}
        terminal.process.send_signal(names[how])
        assert terminal.process.wait(timeout=HANG_SECONDS) == -names[how]
    room.shows_nothing(terminal.shown)
    assert_nothing_is_left(room, before)
    assert len(room.logged()) == logged


def test_nothing_is_on_the_disk_while_the_next_custodian_is_awaited(
    room: Room, terminal: Terminal
) -> None:
    sit_down(terminal)
    type_component(terminal, 0)
    terminal.type("", after=ENTER)
    wanted = [form for text in COMPONENTS[:1] for form in (text.encode(), bytes.fromhex(text))]
    tokens = room.operator.softhsm.directory
    for path in (*tokens.rglob("*"), *room.directory.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            assert not any(form in content for form in wanted)


def test_what_is_piped_in_is_taken_though_there_is_a_terminal(room: Room) -> None:
    words = room.words("import-components", "block-protection", ISSUER)
    with Terminal(room.operator.softhsm, room.settings, *words, piped=True) as terminal:
        printed, _ = terminal.process.communicate(lines(*TYPED), timeout=HANG_SECONDS)
        assert (terminal.process.returncode, terminal.all_shown()) == (0, "")
    room.shows_nothing(printed)
    assert KBPK_KCV in printed


def test_a_component_that_is_not_text_is_refused_and_not_shown(room: Room) -> None:
    before = room.stored()
    words = room.words("import-components", "block-protection", ISSUER)
    done = subprocess.run(
        [sys.executable, "-m", "hsm", *words],
        cwd=ROOT,
        env={**environment(room.operator.softhsm), **room.settings, "PYTHONIOENCODING": "utf-8"},
        input=PASSPHRASE.encode() + b"\n" + b"\xff" * 32 + b"\n",
        capture_output=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == b"what was typed is not text: nothing was done\n"
    assert_nothing_is_left(room, before)


# Key blocks


@pytest.fixture
def block(tmp_path: Path) -> Path:
    """A file with a key block that holds PVK."""
    return written(tmp_path, "V2")


def written(directory: Path, usage: str) -> Path:
    header = psec.tr31.Header("D", usage, "T", "G", "00", "N")
    path = directory / "block"
    path.write_text(psec.tr31.wrap(KBPK, header, PVK) + "\n", "utf-8-sig")
    return path


@pytest.fixture(scope="module")
def banker(tmp_path_factory: pytest.TempPathFactory) -> Room:
    """A room whose HSM token has one block-protection key."""
    softhsm = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    softhsm.ensure()
    operator = Operator(softhsm)
    assert operator.run("ceremony", ROLES).returncode == 0
    room = Room(operator, tmp_path_factory.mktemp("banker"))
    room.begin()
    assert room.import_kbpk(*TYPED).returncode == 0
    return room


def import_block(room: Room, file: Path, kcv_typed: str = PVK_KCV, issuer: str = ISSUER) -> Done:
    typed = [PASSPHRASE, PASSPHRASE, kcv_typed, *SIGN]
    return room.hold("import-block", "pvk", issuer, str(file), typed=typed)


def test_a_key_block_is_imported_by_two_and_recorded(banker: Room, block: Path) -> None:
    done = import_block(banker, block, PVK_KCV.lower())
    assert (done.returncode, done.stderr) == (0, "")
    assert PVK.hex() not in done.stdout.lower()
    assert banker.listed()["block-protection@testbank01.g1"] == KBPK_KCV
    assert banker.listed()["pvk@testbank01.g1"] == PVK_KCV
    record, _ = ceremony_record.read(banker.record)
    assert record.action == "import-block"
    assert record.block is not None
    assert record.block.header == block.read_text("utf-8-sig")[:16]
    assert record.block.protected_by == "block-protection@testbank01.g1"
    assert record.components == ()
    checked = banker.operator.run("check", "--sandbox")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.endswith("all keys answer\n")


@pytest.mark.parametrize("kcv_typed", ["", "000000", "no", PVK_KCV[:4]])
def test_without_the_right_kcv_no_block_is_imported(
    banker: Room, block: Path, kcv_typed: str
) -> None:
    before = banker.stored()
    done = import_block(banker, block, kcv_typed)
    assert done.returncode == 2
    assert done.stderr.startswith(NOT_THE_KCV)
    assert_nothing_is_left(banker, before)


def test_a_block_that_cannot_be_used_is_refused_in_one_line(banker: Room, tmp_path: Path) -> None:
    before = banker.stored()
    text = written(tmp_path, "V2").read_text("utf-8-sig")
    files = {
        "wrong usage": (written(tmp_path, "V1").read_text("utf-8-sig"), "not for this role"),
        "changed": (text.replace("V2TG", "V2TC"), "not a genuine key block"),
        "cut": (text[:-3], "not a genuine key block"),
        "version A": ("A" + text[1:], "versions A and C"),
        "empty": ("", "not a genuine key block"),
        "not ASCII": (text.replace("V2", "V\u0662"), "the file cannot be read"),
    }
    for name, (content, message) in files.items():
        path = tmp_path / name
        path.write_text(content, "utf-8")
        done = import_block(banker, path)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    done = import_block(banker, tmp_path / "none")
    assert (done.returncode, done.stderr) == (2, "the file cannot be read\n")
    assert_nothing_is_left(banker, before)


def test_another_issuer_cannot_open_the_block(banker: Room, block: Path) -> None:
    done = import_block(banker, block, issuer="testbank02")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no block-protection key" in done.stderr


# Keys that are made for a partner


def make_key(room: Room, role: str, out: Path, *words: str) -> Done:
    typed = [PASSPHRASE, PASSPHRASE, *SIGN]
    return room.hold("make-key", role, ISSUER, "--out", str(out), *words, typed=typed)


OPTIONAL = ("KC", "KP", "TS", "KS=00604B120F9292800000", "HM=21")


def test_a_key_is_made_for_a_partner_stored_and_recorded(banker: Room, tmp_path: Path) -> None:
    out = tmp_path / "zpk.tr31"
    done = make_key(banker, "zpk", out, "--mode", "E", "--optional", *OPTIONAL)
    assert (done.returncode, done.stderr) == (0, "")
    text = out.read_text().rstrip("\n")
    header, key = psec.tr31.unwrap(KBPK, text)
    assert x9143_reader.read(KBPK, text)[2] == key
    assert (header.version_id, header.key_usage, header.mode_of_use) == ("D", "P0", "E")
    assert header.exportability == "N"
    (label,) = [label for label in banker.listed() if label.startswith("zpk@")]
    assert banker.listed()[label] == tdes_kcv(key)
    assert f"KCV {tdes_kcv(key)}" in done.stdout
    assert key.hex() not in (done.stdout + banker.record.read_text()).lower()

    blocks = dict(header.blocks)
    assert blocks["KC"] == "00" + tdes_kcv(key)
    assert blocks["KP"] == "01" + aes_cmac(KBPK)(bytes(16))[:5].hex().upper()
    assert blocks["TS"].endswith("Z")
    assert (blocks["KS"], blocks["HM"]) == ("00604B120F9292800000", "21")

    record, _ = ceremony_record.read(banker.record)
    assert record.action == "make-key"
    assert record.block is not None
    assert record.block.header == text[:16]
    assert [one.split()[0] for one in record.block.optional_blocks] == [*blocks]
    assert record.block.sha256 == hashlib.sha256(text.encode()).hexdigest()
    checked = banker.operator.run("check", "--sandbox")
    assert checked.stdout.endswith("all keys answer\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("zpk", "--mode", "X"), "no such mode of use"),
        (("zpk", "--usage", "K0"), "no key of this usage"),
        (("zpk", "--kind", "aes-256"), "no key of this kind"),
        (("zpk", "--version", "B"), "no block-protection key for this version"),
        (("zpk", "--optional", "HM"), "needs data"),
        (("zpk", "--optional", "KS=1", "KS=2"), "malformed, or there twice"),
    ],
    ids=str,
)
def test_a_key_that_cannot_be_made_leaves_nothing(
    banker: Room, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    before, out = banker.stored(), tmp_path / "out"
    done = make_key(banker, words[0], out, *words[1:])
    assert done.returncode == 2
    assert message in done.stderr
    assert_nothing_is_left(banker, before)
    assert not out.exists()


def test_without_everybody_no_key_is_made_and_no_file_is_written_over(
    banker: Room, tmp_path: Path
) -> None:
    before, out = banker.stored(), tmp_path / "out"
    words = ("make-key", "zpk", ISSUER, "--out", str(out))
    done = banker.hold(*words, typed=[PASSPHRASE, PASSPHRASE, PASSPHRASE, "wrong"])
    assert (done.returncode, out.exists()) == (2, False)
    assert_nothing_is_left(banker, before)
    out.write_text("of somebody else")
    done = make_key(banker, "zpk", out)
    assert (done.returncode, out.read_text()) == (2, "of somebody else")
    assert done.stderr == "the file that is to be written is there already\n"
    assert_nothing_is_left(banker, before)


@pytest.mark.parametrize("out", ["{record}", "{directory}/./records/{number}", "/none/out"])
def test_files_that_cannot_be_written_are_refused_before_anybody_types(
    banker: Room, out: str
) -> None:
    before, number = banker.stored(), banker.number + 1
    record = banker.records / str(number)
    named = out.format(record=record, directory=banker.directory, number=number)
    done = make_key(banker, "zpk", Path(named))
    assert (done.returncode, done.stdout) == (2, "")
    assert ("are the same" in done.stderr) == (named != "/none/out")
    assert_nothing_is_left(banker, before)


def test_a_record_does_not_stay_when_the_key_block_cannot_be_written(
    banker: Room, tmp_path: Path
) -> None:
    before, logged, out = banker.stored(), len(banker.logged()), tmp_path / "out"
    words = banker.words("make-key", "zpk", ISSUER, "--out", str(out))
    with Terminal(banker.operator.softhsm, banker.settings, *words) as terminal:
        sit_down(terminal)
        sit_down(terminal)
        terminal.type(PASSPHRASE, after="passphrase of cleo.pem (not shown): ")
        out.write_text("of somebody else")
        terminal.type(PASSPHRASE, after="passphrase of dan.pem (not shown): ")
        shown = terminal.all_shown()
        assert terminal.process.returncode == 2
    assert "a new file cannot be written: no key was stored" in shown
    assert_nothing_is_left(banker, before)
    assert (out.read_text(), len(banker.logged())) == ("of somebody else", logged)


def test_what_is_written_does_not_stay_when_what_follows_fails(tmp_path: Path) -> None:
    files = [tmp_path / "record", tmp_path / "block"]
    texts = dict.fromkeys(files, "text\n")
    seen: list[str] = []

    def fail_within() -> None:
        with ceremony_record.written(texts):
            seen.extend(path.read_text() for path in files)
            raise LogUnavailable

    with pytest.raises(LogUnavailable):
        fail_within()
    assert seen == ["text\n"] * 2
    assert list(tmp_path.iterdir()) == []
    with ceremony_record.written(texts):
        pass
    assert sorted(tmp_path.iterdir()) == sorted(files)


@pytest.mark.parametrize("failing", [1, 2], ids=["file", "directory"])
def test_a_file_that_does_not_reach_the_disk_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    synced: list[int] = []

    def fsync(file: int) -> None:
        synced.append(file)
        if len(synced) == failing:
            raise OSError

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(CeremonyError, match="cannot be written"):
        ceremony_record.write_new(tmp_path / "record", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_may_not_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ceremony_record.require_new(tmp_path / "record")
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CeremonyError, match="its directory cannot be"):
        ceremony_record.require_new(tmp_path / "record")


# Keys of our own


@pytest.fixture
def empty_room(own_softhsm: SoftHsm, tmp_path: Path) -> Room:
    """An import machine whose HSM token has no key, and which has not begun."""
    directory = tmp_path / "room"
    directory.mkdir()
    return Room(Operator(own_softhsm), directory)


def test_custodians_have_the_hsm_token_make_our_own_keys(empty_room: Room) -> None:
    room = empty_room
    done = room.hold("ceremony", ROLES, typed=[PASSPHRASE] * 4)
    assert (done.returncode, done.stderr) == (0, "")
    assert "not yet in a log" in done.stdout
    record, _ = ceremony_record.read(room.record)
    assert (record.action, record.issuer_id) == ("ceremony", None)
    assert {key.label: key.fingerprint for key in record.keys} == room.listed()

    # The host begins with these keys; then its log can name their record.
    room.begin()
    logged = room.operator.run("record", "log", str(room.record), **room.settings)
    assert (logged.returncode, logged.stderr) == (0, "")
    (line,) = room.logged()
    assert (line.event.record, line.receipt in logged.stdout) == (record.sha256, True)

    again = room.hold("ceremony", ROLES, typed=[PASSPHRASE] * 4)
    assert again.stderr == "every key of the role file is there already\n"
    roles = room.directory / "roles.toml"
    roles.write_text("[keys]\nd1 = 2\n")
    rotated = room.hold("ceremony", str(roles), typed=[PASSPHRASE] * 4)
    assert (rotated.returncode, len(room.logged())) == (0, 2)


@pytest.mark.parametrize(
    ("typed", "custodians"),
    [
        ([PASSPHRASE] * 3, 2),
        ([*[PASSPHRASE] * 3, "wrong"], 2),
        ([PASSPHRASE, "wrong"], 2),
        ([PASSPHRASE], 1),
    ],
    ids=["one does not sign", "one does not sign rightly", "one does not come", "one alone"],
)
def test_our_own_keys_do_not_stay_without_the_record_of_two(
    empty_room: Room, typed: list[str], custodians: int
) -> None:
    room = empty_room
    before = room.stored()
    done = room.hold("ceremony", ROLES, typed=typed, custodians=room.keys[:custodians])
    assert done.returncode == 2
    assert_nothing_is_left(room, before)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_our_own_keys_do_not_stay_when_their_ceremony_is_interrupted(
    empty_room: Room, how: signal.Signals
) -> None:
    room = empty_room
    before = room.stored()
    words = room.words("ceremony", ROLES)
    with Terminal(room.operator.softhsm, room.settings, *words) as terminal:
        sit_down(terminal)
        sit_down(terminal)
        terminal.type(PASSPHRASE, after="passphrase of cleo.pem (not shown): ")
        terminal.wait_for("passphrase of dan.pem (not shown): ")
        assert room.stored() > before
        terminal.process.send_signal(how)
        assert "interrupted: no key was stored" in terminal.all_shown()
        assert terminal.process.returncode == 2
    assert_nothing_is_left(room, before)


def test_nobody_waits_for_the_hsm_token_while_a_custodian_is_asked_to_sign(
    room: Room, tmp_path: Path
) -> None:
    before = room.stored()
    roles = tmp_path / "roles.toml"
    roles.write_text("[keys]\ngrant-mac = 7\n")
    words = room.words("ceremony", str(roles))
    with Terminal(room.operator.softhsm, room.settings, *words) as terminal:
        sit_down(terminal)
        sit_down(terminal)
        terminal.wait_for("passphrase of cleo.pem (not shown): ")
        assert is_free(room)
        assert room.stored() > before
        # Another ceremony leaves these keys to this one.
        other = room.hold("ceremony", str(roles), typed=[PASSPHRASE] * 4)
        assert "every key of the role file is there already" in other.stderr
        terminal.process.send_signal(signal.SIGINT)
        assert "interrupted: no key was stored" in terminal.all_shown()
    assert room.stored() == before


def test_a_key_that_was_changed_before_it_was_signed_for_has_no_record(
    room: Room, tmp_path: Path
) -> None:
    before = room.listed()
    roles = tmp_path / "roles.toml"
    roles.write_text("[keys]\ngrant-mac = 3\n")
    words = room.words("ceremony", str(roles))
    with Terminal(room.operator.softhsm, room.settings, *words) as terminal:
        sit_down(terminal)
        sit_down(terminal)
        terminal.wait_for("passphrase of cleo.pem (not shown): ")
        changed = own_process.run("another_key", room.operator.softhsm)
        terminal.type(PASSPHRASE, after="passphrase of cleo.pem (not shown): ")
        terminal.type(PASSPHRASE, after="passphrase of dan.pem (not shown): ")
        assert "the keys are others than were signed for" in terminal.all_shown()
    assert not room.record.exists()
    # Whoever made it may have a record of it: what this ceremony made is gone.
    assert room.listed().keys() - before.keys() == {changed}


def test_nobody_opens_the_hsm_token_before_the_first_keys_of_a_role_are_signed_for(
    empty_room: Room,
) -> None:
    room = empty_room
    with Terminal(room.operator.softhsm, room.settings, *room.words("ceremony", ROLES)) as terminal:
        sit_down(terminal)
        sit_down(terminal)
        terminal.wait_for("passphrase of cleo.pem (not shown): ")
        assert not is_free(room)


def is_free(room: Room) -> bool:
    """Tell whether another command can open the HSM token now."""
    with Path(room.operator.softhsm.environment["HSM_PIN_FILE"]).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_every_key_of_a_ceremony_that_failed_is_tried_to_be_destroyed() -> None:
    tried: list[KeyLabel] = []

    class Device:
        def destroy(self, label: KeyLabel) -> None:
            tried.append(label)
            if len(tried) == 1:
                raise VaultUnavailable("DeviceError")

    labels = own_keys.read_roles(Path(ROLES))
    with pytest.raises(CeremonyError, match="could not be destroyed: see hsm list"):
        own_key_ceremony._destroy(Device(), labels)  # type: ignore[arg-type]
    assert tried == [*labels]


def test_a_ceremony_of_some_of_our_keys_is_none_that_failed(empty_room: Room) -> None:
    room = empty_room
    roles = room.directory / "roles.toml"
    roles.write_text("[keys]\nd1 = 1\n")
    done = room.hold("ceremony", str(roles), typed=[PASSPHRASE] * 4)
    assert (done.returncode, done.stderr) == (0, "")
    assert "not yet in a log" in done.stdout
    assert [*room.listed()] == ["d1.g1"]
    assert room.record.exists()


def test_what_all_have_signed_is_not_interrupted_any_more(empty_room: Room, tmp_path: Path) -> None:
    room = empty_room
    assert room.operator.run("ceremony", ROLES).returncode == 0
    room.begin()
    roles = tmp_path / "roles.toml"
    roles.write_text("[keys]\nd1 = 2\n")
    log = Path(room.settings["HSM_STATE_DIRECTORY"], "log")
    words = room.words("ceremony", str(roles))
    with Terminal(room.operator.softhsm, room.settings, *words) as terminal:
        sit_down(terminal)
        sit_down(terminal)
        terminal.type(PASSPHRASE, after="passphrase of cleo.pem (not shown): ")
        # The log is taken by another meanwhile: the ceremony waits for it.
        with directories.locked(log):
            terminal.type(PASSPHRASE, after="passphrase of dan.pem (not shown): ")
            wait_until(room.record.exists)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                terminal.process.send_signal(number)
        shown = terminal.all_shown()
        assert (terminal.process.returncode, "interrupted" in shown) == (0, False), shown
    assert "d1.g2" in room.listed()
    assert len(room.logged()) == 1


def test_a_device_makes_no_key_without_custodians(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hsm import __main__
    from hsm.ceremonies import commands
    from hsm.pkcs11.device_info import DeviceInfo

    class Device:
        device = DeviceInfo("pins", "1", "Vendor", "Model")

    monkeypatch.setattr(commands, "open_hsm_token", lambda **_: Device())
    assert __main__.main(["ceremony", ROLES]) == 2
    assert capsys.readouterr().err == (
        "name two custodians, and the record that they sign: see docs/key-ceremonies.md\n"
    )
