"""What a module must have, is found to have, and is refused for."""

from collections.abc import Set

import pytest
from pkcs11 import Mechanism

from crypto.secret import Secret
from hsm.errors import MechanismMissing, VaultUnavailable
from hsm.pkcs11 import mechanisms, probe
from hsm.pkcs11.keys import OWN_ROLES, SHARED_ROLES, KeyKind, KeyLabel, KeyRole
from hsm.pkcs11.token import Pkcs11Token
from tests.hsm.pkcs11.documented import column
from tests.modules import MODULES

KINDS = [(role, kind) for role in (*OWN_ROLES, *SHARED_ROLES) for kind in role.kinds]
ISSUER = "testbank01"


def lacks(
    monkeypatch: pytest.MonkeyPatch, hsm_token: Pkcs11Token, *missing: Mechanism, works: bool
) -> None:
    """Have the module leave mechanisms out of its list, and perhaps not have them."""
    listed: Set[Mechanism] = hsm_token.mechanisms() - {*missing}
    monkeypatch.setattr(hsm_token, "mechanisms", lambda: listed)
    if not works:
        needed = mechanisms.needed

        def fault(_: Pkcs11Token, role: KeyRole, kind: KeyKind) -> str | None:
            return "MechanismInvalid" if {*needed(role, kind)} & {*missing} else None

        monkeypatch.setattr(mechanisms, "fault", fault)


@pytest.mark.parametrize(("role", "kind"), KINDS)
def test_each_key_needs_mechanisms_that_pkcs11_names(role: KeyRole, kind: KeyKind) -> None:
    assert all(isinstance(mechanism, Mechanism) for mechanism in mechanisms.needed(role, kind))
    assert mechanisms.needed(role, kind)


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> tuple[str, Pkcs11Token]:
    """Each module that runs here, by its name."""
    return request.param, request.getfixturevalue(MODULES[request.param])


def test_a_module_that_can_do_it_is_taken(module: tuple[str, Pkcs11Token]) -> None:
    mechanisms.require(module[1])


@pytest.mark.parametrize(
    ("mechanism", "name", "role"),
    [
        (Mechanism.AES_CMAC, "CKM_AES_CMAC", "grant-mac"),
        (Mechanism.AES_GCM, "CKM_AES_GCM", "record"),
        (Mechanism.ECDH1_DERIVE, "CKM_ECDH1_DERIVE", "d1"),
        (Mechanism.SHA256, "CKM_SHA256", "d1"),
        (Mechanism.ECDSA, "CKM_ECDSA", "token-sign"),
    ],
)
def test_a_module_without_what_the_service_needs_is_refused_by_its_name(
    hsm_token: Pkcs11Token,
    monkeypatch: pytest.MonkeyPatch,
    mechanism: Mechanism,
    name: str,
    role: str,
) -> None:
    lacks(monkeypatch, hsm_token, mechanism, works=False)
    with pytest.raises(MechanismMissing) as refusal:
        mechanisms.require(hsm_token)
    assert str(refusal.value) == (
        f"the PKCS#11 module has no {name}, which keys of role {role} need: MechanismInvalid"
    )


def test_what_no_list_tells_is_tried(
    hsm_token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> bytes:
        raise VaultUnavailable("KeyIndigestible")

    monkeypatch.setattr(hsm_token, "agree", refused)
    with pytest.raises(MechanismMissing) as refusal:
        mechanisms.require(hsm_token)
    assert str(refusal.value) == (
        "the PKCS#11 module has no C_DigestKey of a secret made by ECDH, which keys of role d1 "
        "need: KeyIndigestible"
    )


@pytest.mark.parametrize("error", ["DeviceError", "DeviceRemoved", "SessionHandleInvalid"])
def test_a_device_that_fails_for_a_moment_lacks_no_mechanism(
    hsm_token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    lacks(monkeypatch, hsm_token, Mechanism.AES_CMAC, works=True)
    monkeypatch.setattr(mechanisms, "fault", lambda *_: error)
    with pytest.raises(VaultUnavailable, match=f"^{error}$") as failure:
        mechanisms.require(hsm_token)
    assert not isinstance(failure.value, MechanismMissing)


def test_what_a_module_does_and_does_not_list_is_no_reason(
    hsm_token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks(monkeypatch, hsm_token, Mechanism.AES_CMAC, Mechanism.SHA256, works=True)
    before = {*hsm_token.labels()}
    mechanisms.require(hsm_token)
    assert {*hsm_token.labels()} == before


def test_tdes_is_needed_once_a_key_of_it_is_there(
    emptied: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks(monkeypatch, emptied, Mechanism.DES3_CMAC, works=False)
    mechanisms.require(emptied)
    key = Secret(bytes.fromhex("1F2F3D4C5B6B79890123456789ABCDEF"))
    emptied.import_key(KeyLabel(KeyRole.SECCOS_PRW, 1, ISSUER), KeyKind.TDES_2KEY, key)
    with pytest.raises(MechanismMissing, match="CKM_DES3_CMAC, which keys of role seccos-prw"):
        mechanisms.require(emptied)


def test_nothing_stays_of_what_is_tried(module: tuple[str, Pkcs11Token]) -> None:
    _, one = module
    before = {*one.labels()}
    objects = len(list(one._session.get_objects({})))
    probe.probe(one)
    assert {*one.labels()} == before
    assert len(list(one._session.get_objects({}))) == objects


def test_a_key_that_does_not_decipher_what_it_enciphered_is_a_fault(
    hsm_token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hsm_token, "decrypt_block", lambda *_: bytes(16))
    assert mechanisms.fault(hsm_token, KeyRole.PIN, KeyKind.AES_256)
    assert mechanisms.fault(hsm_token, KeyRole.PIN_MAC, KeyKind.AES_256) is None


def test_a_device_that_does_not_answer_is_a_fault_by_name(
    hsm_token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> bytes:
        raise VaultUnavailable("DeviceError")

    monkeypatch.setattr(hsm_token, "mac", away)
    assert mechanisms.fault(hsm_token, KeyRole.PIN_MAC, KeyKind.AES_256) == "DeviceError"


def test_the_documentation_says_of_a_module_what_was_found(
    module: tuple[str, Pkcs11Token],
) -> None:
    name, hsm_token = module
    found = probe.probe(hsm_token)
    profiles = {each: "no" if found.why_not(each) else "yes" for each in probe.PROFILES}
    assert column("", name) == {
        **profiles,
        "the module does not list": ", ".join(found.unlisted) or "none",
        "the module does not know": ", ".join(found.unknown_attributes) or "none",
    }
