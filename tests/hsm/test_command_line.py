"""``python -m hsm``: what an operator types, in processes of their own."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psec
import pytest
from jwcrypto.jwk import JWK

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.softhsm import SoftHsm
from crypto import kcv
from hsm.manifest.signed import FLOORS_TYPE
from hsm.pkcs11.keys import OWN_ROLES, KeyKind, KeyLabel, Usage
from hsm.pkcs11.token import Pkcs11Token
from tests.crypto.ciphers import aes_cmac, tdes_ecb
from tests.hsm.own_process import FIRST, ROOT, environment
from tests.operators import OPERATORS, floors, manifest, prepare_host, signed
from tests.processes import loaded_by

ROLES = str(ROOT / "hsm" / "roles.toml")
LABELS = sorted(map(str, FIRST))
STATE = ("HSM_STATE_DIRECTORY", "HSM_TRUST_FILE")
Done = subprocess.CompletedProcess[str]


class Operator:
    """Somebody at a terminal. Nothing they see holds a secret of the token."""

    def __init__(self, softhsm: SoftHsm) -> None:
        self.softhsm = softhsm
        directory = softhsm.directory
        self.secrets = [
            (directory / f"{who}-pin").read_text().strip() for who in ("user", "officer")
        ]

    def run(self, *arguments: str, typed: str = "", **settings: str) -> Done:
        """Run a command; a setting that is empty is left out."""
        # Keys need no state of a host.
        given = {**environment(self.softhsm), **dict.fromkeys(STATE, ""), **settings}
        done = subprocess.run(
            [sys.executable, "-m", "hsm", *arguments],
            cwd=ROOT,
            env={name: value for name, value in given.items() if value},
            input=typed,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        for secret in self.secrets:
            assert secret not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture(scope="module")
def ceremony(tmp_path_factory: pytest.TempPathFactory) -> tuple[Operator, Done]:
    """An operator who held a ceremony, and what it printed."""
    softhsm = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    softhsm.ensure()
    operator = Operator(softhsm)
    return operator, operator.run("ceremony", ROLES)


@pytest.fixture
def operator(ceremony: tuple[Operator, Done]) -> Operator:
    return ceremony[0]


@pytest.fixture
def nobody(own_softhsm: SoftHsm) -> Operator:
    """An operator of a token without keys."""
    return Operator(own_softhsm)


def fingerprints(output: str) -> dict[str, str]:
    """The last word of each line, by its first."""
    return {words[0]: words[-1] for words in map(str.split, output.splitlines())}


def test_a_ceremony_makes_and_prints_a_key_of_each_role(ceremony: tuple[Operator, Done]) -> None:
    _, done = ceremony
    assert (done.returncode, done.stderr) == (0, "")
    for line in done.stdout.splitlines():
        label = KeyLabel.parse(line.split()[0])
        aes = label.role.kind is KeyKind.AES_256
        assert ("check value" if aes else "thumbprint") in line
        assert len(line.split()[-1]) == (6 if aes else 43)
    assert sorted(fingerprints(done.stdout)) == LABELS


def test_a_second_ceremony_changes_nothing(ceremony: tuple[Operator, Done]) -> None:
    operator, first = ceremony
    again = operator.run("ceremony", ROLES)
    assert (again.returncode, again.stdout) == (0, first.stdout)


def test_ceremonies_at_the_same_moment_make_one_key_of_each_role(nobody: Operator) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "hsm", "ceremony", ROLES],
            cwd=ROOT,
            env=environment(nobody.softhsm),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=HANG_SECONDS)[0] for process in started]
    assert [process.returncode for process in started] == [0] * 4
    assert len(set(outputs)) == 1
    assert sorted(fingerprints(outputs[0])) == LABELS
    assert nobody.run("list").returncode == 0


def test_a_rotation_adds_a_key_and_keeps_the_old_one(nobody: Operator, tmp_path: Path) -> None:
    roles = tmp_path / "roles.toml"
    roles.write_text("[keys]\nd1 = 1\n")
    first = fingerprints(nobody.run("ceremony", str(roles)).stdout)
    roles.write_text("[keys]\nd1 = 2\n")
    second = fingerprints(nobody.run("ceremony", str(roles)).stdout)
    assert fingerprints(nobody.run("list").stdout) == {**first, **second}
    assert first.keys() != second.keys()


def test_list_and_check_print_what_the_ceremony_printed(ceremony: tuple[Operator, Done]) -> None:
    operator, first = ceremony
    listed = operator.run("list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert fingerprints(listed.stdout) == fingerprints(first.stdout)
    checked = operator.run("check", "--sandbox")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == listed.stdout + "all keys answer\n"


def test_check_names_the_roles_without_a_key(nobody: Operator) -> None:
    done = nobody.run("check", "--sandbox")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [f"missing: {role}" for role in OWN_ROLES]


def test_check_values_are_those_that_the_cipher_gives(
    softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> None:
    printed = fingerprints(Operator(softhsm).run("list").stdout)
    for label in FIRST:
        if label.role.usage is Usage.ENCRYPT:
            enciphered = hsm_token.encrypt_block(label, bytes(16))
            assert printed[str(label)] == enciphered[:3].hex().upper()


# Keys that are shared with a partner

COMPONENTS = [
    "1D8465C29E0B3FA74C0D92E6B1785AF3C61F0E9A5B27D4833F6A90C2E87B14D5",
    "A7C03E5519F28B6D04E7715C8A2F93B6580DE1C47F3A9625B0DC4E8817F562A9",
    "5E19F7A30C6BD284917E3DC5A0F846B20E93D87615CB4AFD6208B47F9CE531A0",
]
KBPK = bytes(a ^ b ^ c for a, b, c in zip(*map(bytes.fromhex, COMPONENTS), strict=True))
KBPK_KCV = kcv.aes(aes_cmac(KBPK)).hex().upper()
KCVS = [kcv.aes(aes_cmac(bytes.fromhex(component))).hex().upper() for component in COMPONENTS]
#: Each component, and its KCV as its form has it.
TYPED = [line for pair in zip(COMPONENTS, KCVS, strict=True) for line in pair]
PVK = bytes.fromhex("1F2F3D4C5B6B79890123456789ABCDEF")
PVK_KCV = kcv.tdes(tdes_ecb(PVK)).hex().upper()
ISSUER = "testbank01"


def lines(*typed: str) -> str:
    return "".join(f"{line}\n" for line in typed)


def import_kbpk(operator: Operator, *typed: str) -> Done:
    done = operator.run(
        "import-components",
        "block-protection",
        ISSUER,
        typed=lines(*(typed or (*TYPED, KBPK_KCV))),
    )
    shows_no_component(done.stdout + done.stderr)
    return done


def shows_no_component(output: str) -> None:
    for component in (*COMPONENTS, KBPK.hex().upper()):
        assert component not in output


@pytest.fixture(scope="module")
def banker(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """An operator of a token with keys of its own and a block-protection key."""
    softhsm = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    softhsm.ensure()
    operator = Operator(softhsm)
    assert operator.run("ceremony", ROLES).returncode == 0
    assert import_kbpk(operator).returncode == 0
    return operator


@pytest.fixture
def block(tmp_path: Path) -> Path:
    """A file with a key block that holds PVK."""
    return written(tmp_path, "V2")


def written(directory: Path, usage: str) -> Path:
    header = psec.tr31.Header("D", usage, "T", "G", "00", "N")
    path = directory / "block"
    path.write_text(psec.tr31.wrap(KBPK, header, PVK) + "\n", "utf-8-sig")
    return path


def test_keys_are_imported_listed_and_checked(banker: Operator, block: Path) -> None:
    done = banker.run("import-block", "pvk", ISSUER, str(block), typed=lines(PVK_KCV.lower()))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"KCV {PVK_KCV}" in done.stdout
    assert PVK.hex() not in done.stdout.lower()
    listed = fingerprints(banker.run("list").stdout)
    assert listed["block-protection@testbank01.g1"] == KBPK_KCV
    assert listed["pvk@testbank01.g1"] == PVK_KCV
    checked = banker.run("check", "--sandbox")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.endswith("all keys answer\n")


@pytest.mark.parametrize("typed", ["", "\n", "000000\n", "no\n", PVK_KCV[:4] + "\n"])
def test_without_the_right_kcv_nothing_is_imported(
    banker: Operator, block: Path, typed: str
) -> None:
    before = banker.run("list").stdout
    done = banker.run("import-block", "pvk", ISSUER, str(block), typed=typed)
    assert done.returncode == 2
    assert done.stderr == "that is not the KCV that was shown: nothing was imported\n"
    assert banker.run("list").stdout == before


def test_a_block_that_cannot_be_used_is_refused_in_one_line(
    banker: Operator, tmp_path: Path
) -> None:
    before = banker.run("list").stdout
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
        done = banker.run("import-block", "pvk", ISSUER, str(path), typed=lines(PVK_KCV))
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    done = banker.run("import-block", "pvk", ISSUER, str(tmp_path / "none"))
    assert (done.returncode, done.stderr) == (2, "the file cannot be read\n")
    assert banker.run("list").stdout == before


def test_another_issuer_cannot_open_the_block(banker: Operator, block: Path) -> None:
    done = banker.run("import-block", "pvk", "testbank02", str(block), typed=lines(PVK_KCV))
    assert (done.returncode, done.stdout) == (2, "")
    assert "no block-protection key" in done.stderr


NOT_THE_KCV = "that is not the KCV that was shown"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ((*TYPED, "000000"), NOT_THE_KCV),
        ((*TYPED[:4], "", KBPK_KCV), NOT_THE_KCV),
        ((*TYPED[:3], KCVS[0], *TYPED[4:], KBPK_KCV), NOT_THE_KCV),
        ((COMPONENTS[0], "", *TYPED[2:], KBPK_KCV), NOT_THE_KCV),
        ((*TYPED[:5], "", KBPK_KCV), NOT_THE_KCV),
        ((*TYPED[:2], "", "", KBPK_KCV), "not a component of 32 or 64 hexadecimal digits"),
        ((*TYPED[:2], COMPONENTS[1][:-1], KCVS[1], "", KBPK_KCV), "not a component of 32 or 64"),
        ((*TYPED[:2], *TYPED[:2], "", KBPK_KCV), "two components are equal"),
        ((*TYPED[:4], *TYPED[:2], KBPK_KCV), "two components are equal"),
        ((*TYPED[:2], "00" * 32, "000000", "", KBPK_KCV), "a component is zero"),
        ((*TYPED[:2], PVK.hex(), PVK_KCV, "", KBPK_KCV), "different lengths"),
    ],
    ids=[
        "KCV of the key",
        "one left out",
        "KCV of another component",
        "KCV of a component left out",
        "KCV of the third left out",
        "one alone",
        "one cut",
        "one twice",
        "the first again as the third",
        "zero",
        "one too short",
    ],
)
def test_components_that_are_not_the_key_are_refused(
    nobody: Operator, typed: tuple[str, ...], message: str
) -> None:
    done = import_kbpk(nobody, *typed)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert nobody.run("list").stdout == ""


def assert_usage(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Find that these words are no command: the usage is printed."""
    from hsm.__main__ import main

    with pytest.raises(SystemExit) as refusal:
        main(arguments)
    assert refusal.value.code == 2
    assert "usage: python -m hsm" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("import-block", "block-protection", ISSUER, "file"),
        ("import-block", "seccos-mac-left", ISSUER, "file"),
        ("import-block", "seccos-prw-retail-left", ISSUER, "file"),
        ("import-block", "pin", ISSUER, "file"),
        ("import-block", "pvk", "testbank0", "file"),
        ("import-block", "pvk", "testbank@1", "file"),
        ("import-components", "pvk", ISSUER),
        ("import-components", "seccos-mac-left", ISSUER),
        ("import-components", "block-protection", "testbank012"),
    ],
    ids=str,
)
def test_an_import_of_what_is_never_imported_is_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_usage(arguments, capsys)


class Terminal:
    """The controlling terminal of one command."""

    def __init__(self, softhsm: SoftHsm, *arguments: str, piped: bool) -> None:
        self.screen, keyboard = os.openpty()
        # Whoever leads a session and opens a terminal has it for its own.
        command = ["sh", "-c", ': <"$0"; exec "$@"', os.ttyname(keyboard)]
        self.process = subprocess.Popen(
            [*command, sys.executable, "-m", "hsm", *arguments],
            cwd=ROOT,
            env={**environment(softhsm), "PYTHONUNBUFFERED": ""},
            stdin=subprocess.PIPE if piped else keyboard,
            stdout=subprocess.PIPE if piped else keyboard,
            stderr=keyboard,
            start_new_session=True,
            text=True,
        )
        os.close(keyboard)
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self.screen)

    def type(self, line: str, *, after: str) -> None:
        """Wait for a prompt and answer it."""
        while not self.shown.endswith(after):
            assert something_comes(self.screen), self.shown
            self.shown += os.read(self.screen, 1024).decode()
        os.write(self.screen, f"{line}\n".encode())

    def all_shown(self) -> str:
        """Read the screen until the command has ended."""
        while something_comes(self.screen):
            try:
                self.shown += os.read(self.screen, 1024).decode()
            except OSError:  # nobody holds the other side any more
                break
        self.process.wait(timeout=HANG_SECONDS)
        return self.shown


def something_comes(file: int) -> bool:
    return bool(select.select([file], [], [], HANG_SECONDS)[0])


IMPORT = ("import-components", "block-protection", ISSUER)


def test_what_is_typed_at_a_terminal_is_not_shown(nobody: Operator) -> None:
    with Terminal(nobody.softhsm, *IMPORT, piped=False) as terminal:
        prompts = ["1 (not shown): ", "2 (not shown): ", "if there is none): "]
        for number, prompt in enumerate(prompts):
            terminal.type(COMPONENTS[number], after=prompt)
            terminal.type(KCVS[number].lower(), after="with its form and type it: ")
        terminal.type(KBPK_KCV, after="to import the key: ")
        shows_no_component(terminal.all_shown())
    assert terminal.process.returncode == 0
    assert fingerprints(nobody.run("list").stdout)["block-protection@testbank01.g1"] == KBPK_KCV


def test_what_is_piped_in_is_taken_though_there_is_a_terminal(nobody: Operator) -> None:
    with Terminal(nobody.softhsm, *IMPORT, piped=True) as terminal:
        process = terminal.process
        assert process.stdin
        assert process.stdout
        # Who pipes it in compares each KCV before going on.
        for number, component in enumerate(COMPONENTS):
            process.stdin.write(lines(component))
            process.stdin.flush()
            assert something_comes(process.stdout.fileno())
            assert process.stdout.readline() == f"KCV of component {number + 1} {KCVS[number]}\n"
            process.stdin.write(lines(KCVS[number]))
        process.stdin.flush()
        assert something_comes(process.stdout.fileno())
        assert process.stdout.readline() == f"KCV {KBPK_KCV}\n"
        printed, _ = process.communicate(lines(KBPK_KCV), timeout=HANG_SECONDS)
        assert (process.returncode, terminal.all_shown()) == (0, "")
    assert fingerprints(printed) == {"block-protection@testbank01.g1": KBPK_KCV}


def test_a_component_that_is_not_text_is_refused_and_not_shown(nobody: Operator) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hsm", *IMPORT],
        cwd=ROOT,
        env={**environment(nobody.softhsm), "PYTHONIOENCODING": "utf-8"},
        input=b"\xff" * 32 + b"\n" + COMPONENTS[1].encode(),
        capture_output=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"what was typed is not text: nothing was done\n"


def test_nothing_is_published_while_a_role_has_no_key(nobody: Operator) -> None:
    done = nobody.run("jwks", "d1")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "a key is not on the token\n")


def test_jwks_prints_the_key_that_the_ceremony_named(ceremony: tuple[Operator, Done]) -> None:
    operator, first = ceremony
    done = operator.run("jwks", "d1")
    assert done.returncode == 0
    (key,) = json.loads(done.stdout)["keys"]
    assert JWK(**key).thumbprint() == key["kid"] == fingerprints(first.stdout)["d1.g1"]
    assert "d" not in key


def test_jwks_prints_the_kid_that_a_manifest_gives_our_key(
    operator: Operator, tmp_path: Path
) -> None:
    wire = {"jwe": {"our_kids": [{"kid": "bank-2026", "generation": 1}]}}
    draft, signed_file = tmp_path / "draft.json", tmp_path / "signed.json"
    draft.write_bytes(manifest(ISSUER, wire=wire))
    signed_file.write_text(signed(manifest(ISSUER, wire=wire)))
    for file in (draft, signed_file):
        done = operator.run("jwks", "d1", "--manifest", str(file))
        assert [key["kid"] for key in json.loads(done.stdout)["keys"]] == ["bank-2026"]
    draft.write_text("{}")
    done = operator.run("jwks", "d1", "--manifest", str(draft))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("refused members: issuer_id")
    for role in ("intake", "page", "token-sign"):
        done = operator.run("jwks", role, "--manifest", str(signed_file))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "--manifest names keys of role d1 only\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("jwks",),
        ("jwks", "pin"),
        ("jwks", "zpk"),
        ("manifest",),
        ("ceremony",),
        ("erase",),
    ],
    ids=str,
)
def test_a_command_that_does_not_exist_is_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_usage(arguments, capsys)


@pytest.mark.parametrize(
    "words", ["--help", "import-block --help", "manifest sign --help", "jwks pin", "erase"]
)
def test_help_and_a_refused_word_load_no_library(words: str) -> None:
    loaded = {module.partition(".")[0] for module in loaded_by("hsm", *words.split())}
    assert {"argparse", "hsm"} <= loaded
    assert loaded & {"asyncio", "cryptography", "pkcs11", "pydantic"} == set()


# Floors: the one command of manifests that opens the vault


@pytest.fixture
def host(tmp_path: Path) -> dict[str, str]:
    """The settings of a host for trials that has not begun."""
    directory = tmp_path / "state"
    directory.mkdir()
    return {
        "HSM_STATE_DIRECTORY": str(directory),
        "HSM_TRUST_FILE": str(prepare_host(tmp_path)),
    }


def test_a_host_begins_with_the_floors_that_operators_signed(
    operator: Operator, host: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "floors.json"
    for text, message in (
        (floors({}).decode(), "not a signed text in canonical form\n"),
        (signed(floors({}), FLOORS_TYPE, OPERATORS[:1]), "too few signatures of operators who"),
    ):
        file.write_text(text)
        done = operator.run("manifest", "begin", str(file), **host)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(message)
    file.write_text(signed(floors({ISSUER: 7}), FLOORS_TYPE))
    done = operator.run("manifest", "begin", str(file), **host)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (Path(host["HSM_STATE_DIRECTORY"]) / "floors.json").exists()
    again = operator.run("manifest", "begin", str(file), **host)
    assert (again.returncode, again.stderr) == (2, "this host has floors already\n")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"HSM_STATE_DIRECTORY": ""}, "set HSM_STATE_DIRECTORY\n"),
        (
            {"HSM_STATE_DIRECTORY": "", "HSM_TRUST_FILE": ""},
            "set HSM_STATE_DIRECTORY, HSM_TRUST_FILE\n",
        ),
        ({"HSM_STATE_DIRECTORY": "/none"}, "HSM_STATE_DIRECTORY is no directory\n"),
        ({"HSM_TRUST_FILE": "/none"}, "the trust file cannot be read\n"),
    ],
    ids=str,
)
def test_a_host_without_a_place_of_its_own_does_not_begin(
    operator: Operator,
    host: dict[str, str],
    tmp_path: Path,
    settings: dict[str, str],
    message: str,
) -> None:
    file = tmp_path / "floors.json"
    file.write_text(signed(floors({}), FLOORS_TYPE))
    done = operator.run("manifest", "begin", str(file), **{**host, **settings})
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_root_does_not_begin_for_another_user_who_could_not_read_it(
    monkeypatch: pytest.MonkeyPatch,
    host: dict[str, str],
    softhsm: SoftHsm,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    from hsm.__main__ import main

    for name, value in host.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "floors.json"
    file.write_text(signed(floors({}), FLOORS_TYPE))
    owner = Path(host["HSM_STATE_DIRECTORY"]).stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    if owner == 0:
        os.chown(host["HSM_STATE_DIRECTORY"], 1, -1)
    assert main(["manifest", "begin", str(file)]) == 2
    message = "run this as the user to whom HSM_STATE_DIRECTORY belongs\n"
    assert capsys.readouterr().err == message


def test_files_that_cannot_be_read_are_refused(operator: Operator, tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path in (binary, tmp_path, tmp_path / "none"):
        listed = operator.run("jwks", "d1", "--manifest", str(path))
        assert (listed.returncode, listed.stderr) == (2, "the file cannot be read\n")
    made = operator.run("ceremony", str(binary))
    assert (made.returncode, made.stderr) == (2, "not a role file\n")


def refused_settings() -> Iterator[tuple[dict[str, str], str]]:
    yield {"HSM_PIN_FILE": ""}, "set HSM_PIN_FILE\n"
    yield (
        {"HSM_PIN_FILE": "", "HSM_TOKEN_LABEL": ""},
        "set HSM_PIN_FILE, HSM_TOKEN_LABEL\n",
    )
    yield {"HSM_PIN_FILE": "/none"}, "the file with the token PIN cannot be read\n"
    yield {"HSM_PIN_FILE": ROLES}, "the token refused the PIN\n"
    yield {"HSM_TOKEN_LABEL": "another"}, "NoSuchToken\n"
    yield {"HSM_MODULE": "/none.so"}, "PKCS11Error\n"


@pytest.mark.parametrize(("settings", "message"), list(refused_settings()))
def test_a_wrong_setting_is_named(nobody: Operator, settings: dict[str, str], message: str) -> None:
    done = nobody.run("list", **settings)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
