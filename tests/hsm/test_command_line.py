"""``python -m hsm``: what an operator types, in processes of their own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jwcrypto.jwk import JWK

from cms.sandbox.softhsm import SoftHsm
from hsm.keys import OWN_ROLES, KeyKind, KeyLabel, Usage
from hsm.pkcs11 import Pkcs11Token
from tests.hsm.scenes import FIRST, ROOT, environment

ROLES = str(ROOT / "hsm" / "roles.toml")
LABELS = sorted(map(str, FIRST))
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
        given = {**environment(self.softhsm), **settings}
        done = subprocess.run(
            [sys.executable, "-m", "hsm", *arguments],
            cwd=ROOT,
            env={name: value for name, value in given.items() if value},
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
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
    outputs = [process.communicate(timeout=60)[0] for process in started]
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
    checked = operator.run("check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == listed.stdout + "all keys answer\n"


def test_check_names_the_roles_without_a_key(nobody: Operator) -> None:
    done = nobody.run("check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [f"missing: {role}" for role in OWN_ROLES]


def test_check_values_are_those_that_the_cipher_gives(softhsm: SoftHsm, token: Pkcs11Token) -> None:
    printed = fingerprints(Operator(softhsm).run("list").stdout)
    for label in FIRST:
        if label.role.usage is Usage.ENCRYPT:
            enciphered = token.encrypt_block(label, bytes(16))
            assert printed[str(label)] == enciphered[:3].hex().upper()


def test_nothing_is_published_or_sealed_while_a_role_has_no_key(nobody: Operator) -> None:
    for arguments in (("jwks", "d1"), ("config", "seal", "-")):
        done = nobody.run(*arguments, typed=json.dumps(CONFIG))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "a key is not on the token\n"


def test_jwks_prints_the_key_that_the_ceremony_named(ceremony: tuple[Operator, Done]) -> None:
    operator, first = ceremony
    done = operator.run("jwks", "d1")
    assert done.returncode == 0
    (key,) = json.loads(done.stdout)["keys"]
    assert JWK(**key).thumbprint() == key["kid"] == fingerprints(first.stdout)["d1.g1"]
    assert "d" not in key


@pytest.mark.parametrize(
    "arguments",
    [(), ("jwks",), ("jwks", "pin"), ("jwks", "zpk"), ("config",), ("ceremony",), ("erase",)],
    ids=str,
)
def test_a_command_that_does_not_exist_is_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    from hsm.__main__ import main

    with pytest.raises(SystemExit) as refusal:
        main(arguments)
    assert refusal.value.code == 2
    assert "usage: python -m hsm" in capsys.readouterr().err


CONFIG = {
    "issuer_id": "testbank01",
    "kind": "policy",
    "version": 3,
    "valid_from": "2026-01-01T00:00:00Z",
    "valid_until": "2027-01-01T00:00:00Z",
    "body": {"length_max": 6},
}


def test_a_sealed_configuration_is_printed_and_can_be_sealed_again(
    operator: Operator, tmp_path: Path
) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(CONFIG))
    done = operator.run("config", "seal", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    sealed = json.loads(done.stdout)
    assert sealed["key_label"] == "config-mac.g1"
    assert len(bytes.fromhex(sealed["cmac"])) == 16
    assert sealed["body"] == {
        "length_min": 4,
        "length_max": 6,
        "refuse_repeated": True,
        "refuse_runs": True,
    }
    again = operator.run("config", "seal", "-", typed=done.stdout)
    assert (again.returncode, again.stdout) == (0, done.stdout)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4111111111111111", "not a configuration"),
        (json.dumps({**CONFIG, "kind": "4111111111111111"}), "not a configuration"),
        (json.dumps({**CONFIG, "body": {"length_max": "4111111111111111"}}), "length_max"),
        (json.dumps({**CONFIG, "valid_until": CONFIG["valid_from"]}), "valid_until"),
    ],
)
def test_a_configuration_is_refused_without_a_value(
    operator: Operator, text: str, message: str
) -> None:
    done = operator.run("config", "seal", "-", typed=text)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "4111" not in done.stderr


def test_files_that_cannot_be_read_are_refused(operator: Operator, tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path in (binary, tmp_path, tmp_path / "none"):
        sealed = operator.run("config", "seal", str(path))
        assert (sealed.returncode, sealed.stderr) == (2, "the file cannot be read\n")
    made = operator.run("ceremony", str(binary))
    assert (made.returncode, made.stderr) == (2, "not a role file\n")


def refused_settings() -> Iterator[tuple[dict[str, str], str]]:
    yield {"HSM_PIN_FILE": ""}, "set HSM_PIN_FILE, or run the demo first\n"
    yield (
        {"HSM_PIN_FILE": "", "HSM_TOKEN_LABEL": ""},
        "set HSM_PIN_FILE, HSM_TOKEN_LABEL, or run the demo first\n",
    )
    yield {"HSM_PIN_FILE": "/none"}, "the file with the token PIN cannot be read\n"
    yield {"HSM_PIN_FILE": ROLES}, "the token refused the PIN\n"
    yield {"HSM_TOKEN_LABEL": "another"}, "NoSuchToken\n"
    yield {"HSM_MODULE": "/none.so"}, "PKCS11Error\n"


@pytest.mark.parametrize(("settings", "message"), list(refused_settings()))
def test_a_wrong_setting_is_named(nobody: Operator, settings: dict[str, str], message: str) -> None:
    done = nobody.run("list", **settings)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
