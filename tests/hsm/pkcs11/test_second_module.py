"""What another PKCS#11 module has or lacks; that the vault works on it, the contract shows."""

import os
import subprocess
import sys

import pytest
from pkcs11 import Attribute

from cms.sandbox import HANG_SECONDS
from crypto import kcv
from crypto.secret import Secret
from hsm.pkcs11 import own_keys
from hsm.pkcs11.keys import OWN_ROLES, KeyKind, KeyLabel, KeyRole, Usage
from hsm.pkcs11.token import Pkcs11Token
from tests.crypto.ciphers import tdes_ecb
from tests.hsm.own_process import FIRST, ROOT

SECRET_ROLES = [role for role in OWN_ROLES if role.usage in (Usage.ENCRYPT, Usage.MAC)]


def hsm_list(hsm_token: Pkcs11Token, **changed: str) -> subprocess.CompletedProcess[str]:
    settings = hsm_token._settings
    named = {
        "HSM_MODULE": str(settings.module),
        "HSM_MODULE_PARAMETERS": str(settings.module_parameters),
        "HSM_TOKEN_LABEL": settings.token_label,
        "HSM_PIN_FILE": str(settings.pin_file),
    }
    return subprocess.run(
        [sys.executable, "-m", "hsm", "list"],
        cwd=ROOT,
        env={**os.environ, **named, **changed},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


def test_two_modules_work_in_one_process(
    hsm_token: Pkcs11Token, second_hsm_token: Pkcs11Token
) -> None:
    label = KeyLabel(KeyRole.PIN, 1)
    sealed = [
        one.encrypt_block(label, bytes(16)) for one in (hsm_token, second_hsm_token, hsm_token)
    ]
    assert sealed[0] == sealed[2] != sealed[1]


def test_nothing_is_left_of_asking_what_the_device_knows(second_hsm_token: Pkcs11Token) -> None:
    session = second_hsm_token._session
    assert list(session.get_objects({Attribute.TOKEN: False, Attribute.PRIVATE: True})) == []


@pytest.mark.parametrize("label", FIRST, ids=str)
def test_the_report_names_what_the_device_does_not_know(
    second_hsm_token: Pkcs11Token, label: KeyLabel
) -> None:
    assert own_keys.report(second_hsm_token, label).unknown == ("COPYABLE",)


@pytest.mark.parametrize("label", FIRST, ids=str)
def test_a_key_that_the_device_does_not_call_its_own_is_reported(
    second_hsm_token: Pkcs11Token, label: KeyLabel
) -> None:
    expected = second_hsm_token.expected_attributes(label)
    assert expected.items() - second_hsm_token.attributes(label).items() == {
        ("LOCAL", True),
        ("COPYABLE", False),
    }
    assert not own_keys.report(second_hsm_token, label).as_expected


@pytest.mark.parametrize("role", SECRET_ROLES)
def test_a_check_value_that_the_device_does_not_keep_is_computed_by_a_key_that_can(
    second_hsm_token: Pkcs11Token, role: KeyRole
) -> None:
    label = KeyLabel(role, 1)
    fingerprint = own_keys.report(second_hsm_token, label).fingerprint
    if role.usage is Usage.ENCRYPT:
        assert fingerprint == second_hsm_token.encrypt_block(label, bytes(16))[:3].hex().upper()
    else:
        assert fingerprint == "-"


@pytest.mark.parametrize("role", [KeyRole.ZPK, KeyRole.PVK])
def test_so_is_the_kcv_of_a_tdes_key(second_hsm_token: Pkcs11Token, role: KeyRole) -> None:
    label = KeyLabel(role, 1, "testbank01")
    key = bytes.fromhex("1F2F3D4C5B6B79890123456789ABCDEF")
    second_hsm_token.import_key(label, KeyKind.TDES_2KEY, Secret(key))
    try:
        fingerprint = own_keys.report(second_hsm_token, label).fingerprint
        assert fingerprint == kcv.tdes(tdes_ecb(key)).hex().upper()
    finally:
        second_hsm_token.destroy(label)


def test_the_command_line_takes_the_parameters_of_the_module_and_says_what_is_unknown(
    second_hsm_token: Pkcs11Token,
) -> None:
    done = hsm_list(second_hsm_token)
    assert (done.returncode, done.stderr) == (2, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(FIRST)
    for line in lines:
        assert line.endswith("   COPYABLE IS NOT KNOWN TO THE DEVICE")


def test_a_module_that_misses_its_parameters_is_an_unavailable_vault(
    second_hsm_token: Pkcs11Token,
) -> None:
    done = hsm_list(second_hsm_token, HSM_MODULE_PARAMETERS="configdir='sql:/none'")
    assert (done.returncode, done.stdout) == (2, "")
    # An error of NSS's own.
    assert done.stderr == "the PKCS#11 module did not initialise: 0xCE534351\n"
