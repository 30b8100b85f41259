"""``python -m hsm``: what an operator types, in processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jwcrypto.jwk import JWK

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.counts import Counts
from hsm.manifest.signed import MINIMUM_VERSIONS_TYPE
from hsm.pkcs11.keys import OWN_ROLES, KeyKind, KeyLabel, Usage
from hsm.pkcs11.probe import PROFILES
from hsm.pkcs11.token import Pkcs11Token
from hsm.setting_faults import PAGE
from tests.hsm.commanding import ROLES, Done, Operator, fingerprints
from tests.hsm.own_process import FIRST, ROOT, environment
from tests.operators import OPERATORS, manifest, minimum_versions, now, prepare_host, signed
from tests.processes import loaded_by

NO_PIN_IN_A_URI = (
    "a PIN does not stand in a URI: name its file as pin-source; see docs/settings.md\n"
)
NO_TOKEN = "no token has it; name one that is there, and connect its device; see docs/settings.md\n"
LABELS = sorted(map(str, FIRST))
ISSUER = "testbank01"


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


def test_uses_of_keys_are_shown_as_this_host_counted_them(nobody: Operator, tmp_path: Path) -> None:
    host = {"HSM_STATE_DIRECTORY": str(tmp_path), "HSM_TRUST_FILE": "trust.json"}
    assert nobody.run("uses", **host).stdout == ""
    values, pvk = "values.g1", f"pvk@{ISSUER}.g1"
    Counts(tmp_path, now).add_key_uses(
        {
            (values, "gcm-invocations"): 1 << 30,
            (pvk, "tdes-blocks"): 1 << 19,
        }
    )
    shown = nobody.run("uses", **host)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [line.split() for line in shown.stdout.splitlines()] == [
        [pvk, "524,288", "of", "1,048,576", "tdes-blocks", "50.00%"],
        [values, "1,073,741,824", "of", "4,294,967,296", "gcm-invocations", "25.00%"],
    ]
    assert json.loads(nobody.run("uses", "--json", **host).stdout)[0] == {
        "label": pvk,
        "unit": "tdes-blocks",
        "uses": 1 << 19,
        "uses_max": 1 << 20,
    }


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


#: Two custodians, and their record.
HELD = ("--custodian", "a.pem", "--custodian", "b.pem", "--record", "record")


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
        ("import-block", "block-protection", ISSUER, "file", *HELD),
        ("import-block", "seccos-mac-left", ISSUER, "file", *HELD),
        ("import-block", "seccos-prw-retail-left", ISSUER, "file", *HELD),
        ("import-block", "pin", ISSUER, "file", *HELD),
        ("import-block", "pvk", "testbank0", "file", *HELD),
        ("import-block", "pvk", "testbank@1", "file", *HELD),
        ("import-components", "pvk", ISSUER, *HELD),
        ("import-components", "seccos-mac-left", ISSUER, *HELD),
        ("import-components", "block-protection", "testbank012", *HELD),
        ("import-components", "block-protection", ISSUER, "--kind", "des", *HELD),
        ("import-components", "block-protection", ISSUER, *HELD[:4]),
        ("import-components", "block-protection", ISSUER, *HELD[4:]),
    ],
    ids=str,
)
def test_an_import_of_what_is_never_imported_is_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_usage(arguments, capsys)


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


# Minimum versions: the one command of manifests that opens the vault


@pytest.fixture
def host(tmp_path: Path) -> dict[str, str]:
    """The settings of a host for trials that has not begun."""
    directory = tmp_path / "state"
    directory.mkdir()
    return {
        "HSM_STATE_DIRECTORY": str(directory),
        "HSM_TRUST_FILE": str(prepare_host(tmp_path)),
    }


def test_a_host_begins_with_the_minimum_versions_that_operators_signed(
    operator: Operator, host: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "minimum-versions.json"
    for text, message in (
        (minimum_versions({}).decode(), "not a signed text in canonical form\n"),
        (
            signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE, OPERATORS[:1]),
            "too few signatures of operators who",
        ),
    ):
        file.write_text(text)
        done = operator.run("manifest", "begin", str(file), **host)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(message)
    file.write_text(signed(minimum_versions({ISSUER: 7}), MINIMUM_VERSIONS_TYPE))
    done = operator.run("manifest", "begin", str(file), **host)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (Path(host["HSM_STATE_DIRECTORY"]) / "minimum-versions.json").exists()
    again = operator.run("manifest", "begin", str(file), **host)
    assert (again.returncode, again.stderr) == (2, "this host has minimum versions already\n")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"HSM_STATE_DIRECTORY": ""}, "HSM_STATE_DIRECTORY is missing; see docs/settings.md\n"),
        (
            {"HSM_STATE_DIRECTORY": "", "HSM_TRUST_FILE": ""},
            "HSM_STATE_DIRECTORY is missing; HSM_TRUST_FILE is missing; see docs/settings.md\n",
        ),
        (
            {"HSM_STATE_DIRECTORY": "/none"},
            "HSM_STATE_DIRECTORY is no directory; see docs/settings.md\n",
        ),
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
    file = tmp_path / "minimum-versions.json"
    file.write_text(signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE))
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
    file = tmp_path / "minimum-versions.json"
    file.write_text(signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE))
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


def test_probe_says_which_faces_and_profiles_can_be_had(nobody: Operator) -> None:
    done = nobody.run("probe")
    assert (done.returncode, done.stderr) == (0, "")
    assert "'pin-vault', 'SoftHSM project'" in done.stdout
    assert "not listed by the module: none\n" in done.stdout
    assert done.stdout.count("  yes\n") == len(PROFILES)
    members = json.loads(nobody.run("probe", "--json").stdout)
    assert members["profiles"] == {profile: [] for profile in PROFILES}
    assert members["hsm_token"]["label"] == "pin-vault"
    assert nobody.run("list").stdout == ""


def by_uri(operator: Operator, names: str) -> Done:
    """List the keys of the HSM token that a URI names, with no variable beside it."""
    given = environment(operator.softhsm)
    uri = f"{names}?module-path={given['HSM_MODULE']}&pin-source=file:{given['HSM_PIN_FILE']}"
    unset = dict.fromkeys(("HSM_MODULE", "HSM_TOKEN_LABEL", "HSM_PIN_FILE"), "")
    return operator.run("list", **unset, HSM_URI=uri)


def test_the_hsm_token_can_be_named_by_a_uri(ceremony: tuple[Operator, Done]) -> None:
    operator, first = ceremony
    for names in (
        "pkcs11:token=pin-vault",
        "pkcs11:token=pin-vault;manufacturer=SoftHSM%20project;model=SoftHSM%20v2",
    ):
        done = by_uri(operator, names)
        assert (done.returncode, fingerprints(done.stdout)) == (0, fingerprints(first.stdout))
    for names, message in (
        ("pkcs11:token=another", f"HSM_URI: {NO_TOKEN}"),
        ("pkcs11:token=pin-vault;serial=0", f"HSM_URI: {NO_TOKEN}"),
        (
            "pkcs11:manufacturer=SoftHSM%20project",
            "HSM_URI: several tokens have it; HSM_URI can name more of one; see docs/settings.md\n",
        ),
        (
            "pkcs11:object=pin.g1",
            "the path names what no HSM token is found by; see docs/settings.md\n",
        ),
        ("pkcs11:", "HSM_TOKEN_LABEL is missing; see docs/settings.md\n"),
    ):
        done = by_uri(operator, names)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def refused_settings() -> Iterator[tuple[dict[str, str], str]]:
    yield {"HSM_PIN_FILE": ""}, "HSM_PIN_FILE is missing; see docs/settings.md\n"
    yield (
        {"HSM_PIN_FILE": "", "HSM_TOKEN_LABEL": ""},
        "HSM_PIN_FILE is missing; HSM_TOKEN_LABEL is missing; see docs/settings.md\n",
    )
    yield {"HSM_URI": "pkcs11:token=a?pin-value=1"}, NO_PIN_IN_A_URI
    yield (
        {"HSM_URI": "pkcs11:token=a"},
        "HSM_URI names what a variable names, too; see docs/settings.md\n",
    )
    yield {"HSM_PIN_FILE": "/none"}, f"HSM_PIN_FILE: No such file or directory; see {PAGE}\n"
    yield {"HSM_TOKEN_LABEL": "another"}, f"HSM_TOKEN_LABEL: {NO_TOKEN}"
    for module in ("/none.so", ROLES):
        text = f"HSM_MODULE: no PKCS#11 library can be loaded from there; see {PAGE}\n"
        yield {"HSM_MODULE": module}, text


@pytest.mark.parametrize(("settings", "message"), list(refused_settings()))
def test_a_wrong_setting_is_named(nobody: Operator, settings: dict[str, str], message: str) -> None:
    done = nobody.run("list", **settings)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (b"00000000", 0o600, "the token refused the PIN\n"),
        (b"\xff", 0o600, f"HSM_PIN_FILE: the file with the token PIN cannot be read; see {PAGE}\n"),
        (
            b"00000000",
            0o644,
            "HSM_PIN_FILE: a secret, and its mode 0644 is for every user: chmod 0600 it, or 0640"
            f" for a group; see {PAGE}\n",
        ),
    ],
)
def test_a_file_with_another_pin_or_for_every_user_is_refused(
    nobody: Operator, tmp_path: Path, content: bytes, mode: int, message: str
) -> None:
    pin_file = tmp_path / "pin"
    pin_file.write_bytes(content)
    pin_file.chmod(mode)
    done = nobody.run("list", HSM_PIN_FILE=str(pin_file))
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
