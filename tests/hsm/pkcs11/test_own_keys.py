"""The ceremony: role files, and what is said of each key."""

from pathlib import Path

import pytest
from jwcrypto.jwk import JWK

from crypto.jose import base64url
from hsm.errors import CeremonyError
from hsm.pkcs11 import own_keys
from hsm.pkcs11.calls import Calls
from hsm.pkcs11.keys import OWN_ROLES, KeyKind, KeyLabel, Usage
from hsm.pkcs11.structures import FunctionList
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import HsmTokenSettings
from tests.hsm.own_process import FIRST, ROOT


def role_file(directory: Path, text: str | bytes) -> Path:
    path = directory / "roles.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_the_role_file_of_the_project_names_every_role_once() -> None:
    assert sorted(own_keys.read_roles(ROOT / "hsm" / "roles.toml"), key=str) == sorted(
        FIRST, key=str
    )


def test_a_role_file_is_read_in_its_order(tmp_path: Path) -> None:
    path = role_file(
        tmp_path, "\N{BYTE ORDER MARK}[keys]\npin = 2\nd1 = 10 # rotated\npin-mac = 2\n"
    )
    assert list(map(str, own_keys.read_roles(path))) == ["pin.g2", "d1.g10", "pin-mac.g2"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "keys",
        "[keys",
        "[roles]\npin = 1",
        "keys = 1",
        'keys = ["pin"]',
        "[keys]\npin = 1\npin = 2",
        "[keys]\nzpk = 1",
        "[keys]\npin = 0",
        "[keys]\npin = -1",
        "[keys]\npin = 1.0",
        "[keys]\npin = true",
        "[keys]\npin = 1000000",
        '[keys]\npin = ""',
        "[keys]\npin = [1]",
        "[keys.pin]\ng = 1",
        '[keys]\n"pin.g1" = 1',
        "[keys]\npvk = 1",
        '[keys]\n"pvk@testbank01" = 1',
        b"\xff\xfe",
        b"[keys]\npin = 1 # \xff",
    ],
    ids=repr,
)
def test_a_role_file_that_is_not_one_is_refused(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(CeremonyError, match="not a"):
        own_keys.read_roles(role_file(tmp_path, text))


def test_a_role_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(CeremonyError, match="not a role file"):
            own_keys.read_roles(path)


@pytest.mark.parametrize("label", FIRST, ids=str)
def test_a_key_is_named_by_what_others_compute_too(hsm_token: Pkcs11Token, label: KeyLabel) -> None:
    report = own_keys.report(hsm_token, label)
    assert (report.label, report.as_expected) == (label, True)
    if label.role.usage is Usage.ENCRYPT:
        # A check value is the first 3 bytes of an enciphered zero block (ANSI X9.24-1, annex A).
        assert report.fingerprint == hsm_token.encrypt_block(label, bytes(16))[:3].hex().upper()
    elif label.role.kind is KeyKind.AES_256:
        assert bytes.fromhex(report.fingerprint) == hsm_token.check_value(label)
    else:
        point = hsm_token.public_point(label)
        x, y = base64url.encode(point.x), base64url.encode(point.y)
        assert report.fingerprint == JWK(kty="EC", crv="P-256", x=x, y=y).thumbprint()


def test_no_two_keys_have_one_fingerprint(hsm_token: Pkcs11Token) -> None:
    assert len({own_keys.report(hsm_token, label).fingerprint for label in FIRST}) == len(FIRST)


def test_a_ceremony_leaves_keys_that_are_there_alone(hsm_token: Pkcs11Token) -> None:
    before = [own_keys.report(hsm_token, label) for label in FIRST]
    assert list(own_keys.create(hsm_token, FIRST)) == before
    assert set(hsm_token.labels()) == set(FIRST)


@pytest.mark.parametrize("name", ["EXTRACTABLE", "WRAP", "LOCAL", "SENSITIVE"])
def test_a_key_whose_attributes_are_not_those_of_its_role_is_reported(
    hsm_token: Pkcs11Token, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = FIRST[0]
    read = dict(hsm_token.attributes(label))
    monkeypatch.setattr(hsm_token, "attributes", lambda _: {**read, name: not read[name]})
    assert not own_keys.report(hsm_token, label).as_expected


@pytest.mark.parametrize("name", ["COPYABLE", "SENSITIVE", "NEVER_EXTRACTABLE"])
def test_a_device_that_does_not_know_an_attribute_does_not_pass(
    hsm_token: Pkcs11Token, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = {key: value for key, value in hsm_token.attributes(FIRST[0]).items() if key != name}
    monkeypatch.setattr(hsm_token, "attributes", lambda _: read)
    report = own_keys.report(hsm_token, FIRST[0])
    assert (report.unknown, report.as_expected) == ((name,), False)


def test_missing_roles_are_listed() -> None:
    class Empty:
        """A session without a key."""

        def get_objects(self, _: object) -> tuple[()]:
            return ()

    settings = HsmTokenSettings(module=Path("m.so"), token_label="t", pin_file=Path("p"))
    hsm_token = Pkcs11Token(None, Empty(), Calls(FunctionList(), 0), settings)
    assert own_keys.missing(hsm_token) == list(OWN_ROLES)
