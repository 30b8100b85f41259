"""PKCS#11 URIs of HSM tokens (RFC 7512)."""

import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from hsm.settings import HsmTokenSettings
from hsm.token_uri import TokenUri, TokenUriError

WHOLE = (
    "pkcs11:token=My%20HSM%3b1;serial=00A7;slot-id=3;library-version=2.6"
    "?module-path=/opt/vendor/libpkcs11.so&pin-source=file:///run/secrets/hsm%20pin"
)


def test_a_uri_names_token_slot_module_and_login() -> None:
    uri = TokenUri.parse(WHOLE)
    assert uri.names == (
        ("token", "My HSM;1"),
        ("serial", "00A7"),
        ("slot-id", "3"),
        ("library-version", "2.6"),
    )
    assert uri.module == Path("/opt/vendor/libpkcs11.so")
    assert uri.pin_file == Path("/run/secrets/hsm pin")
    assert uri.label == "My HSM;1"


@pytest.mark.parametrize(
    ("source", "path"),
    [("/run/pin", "/run/pin"), ("file:/run/pin", "/run/pin"), ("file://localhost/a", "/a")],
)
def test_a_source_of_the_pin_is_a_file(source: str, path: str) -> None:
    assert TokenUri.parse(f"pkcs11:token=a?pin-source={source}").pin_file == Path(path)


def test_a_uri_may_say_little() -> None:
    for text in ("pkcs11:", "pkcs11:?module-path=/a"):
        assert TokenUri.parse(text).names == ()
        assert TokenUri.parse(text).label is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with pkcs11:"),
        ("token=a", "begins with pkcs11:"),
        ("PKCS11:token=a", "begins with pkcs11:"),
        ("pkcs11:token", "malformed"),
        ("pkcs11:token=a;", "malformed"),
        ("pkcs11:token=a;token=b", "there twice"),
        ("pkcs11:token=a b", "malformed"),
        ("pkcs11:token=a%2", "malformed"),
        ("pkcs11:token=%ff", "not UTF-8"),
        ("pkcs11:token=a?module-path=/a&module-path=/b", "there twice"),
        ("pkcs11:object=pin.g1", "what no HSM token is found by"),
        ("pkcs11:token=a;type=private", "what no HSM token is found by"),
        ("pkcs11:token=a;x-vendor=b", "what no HSM token is found by"),
        ("pkcs11:slot-id=one", "no number"),
        ("pkcs11:token=a?pin-value=739182", "a PIN does not stand in a URI"),
        ("pkcs11:token=a?module-name=p11", "more than module-path and pin-source"),
        ("pkcs11:token=a?pin-source=|/bin/cat%20/run/pin", "absolute paths of files"),
        ("pkcs11:token=a?pin-source=pin", "absolute paths of files"),
        ("pkcs11:token=a?pin-source=file://host/pin", "absolute paths of files"),
        ("pkcs11:token=a?module-path=lib.so", "absolute paths of files"),
    ],
)
def test_what_names_no_token_is_refused_and_not_shown(text: str, message: str) -> None:
    with pytest.raises(TokenUriError, match=message) as refusal:
        TokenUri.parse(text)
    assert "739182" not in str(refusal.value)


NAMED = ("HSM_URI", "HSM_MODULE", "HSM_TOKEN_LABEL", "HSM_PIN_FILE")


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> HsmTokenSettings:
    for name in NAMED:
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(f"HSM_{name}", value)
    return HsmTokenSettings()


def test_what_a_uri_names_needs_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = settings(monkeypatch, URI=WHOLE)
    assert (whole.module, whole.token_label) == (Path("/opt/vendor/libpkcs11.so"), "My HSM;1")
    assert whole.token_names == TokenUri.parse(WHOLE).names
    part = settings(monkeypatch, URI="pkcs11:serial=7", MODULE="/m.so", PIN_FILE="/pin")
    assert (part.module, part.token_label, part.token_names) == (
        Path("/m.so"),
        "",
        (("serial", "7"),),
    )
    both = settings(
        monkeypatch, URI="pkcs11:serial=7", MODULE="/m.so", TOKEN_LABEL="pins", PIN_FILE="/pin"
    )
    assert both.token_names == (("serial", "7"), ("token", "pins"))
    any_label = settings(
        monkeypatch, URI="pkcs11:serial=7", MODULE="/m.so", TOKEN_LABEL="", PIN_FILE="/pin"
    )
    assert any_label.token_names == (("serial", "7"),)
    without = settings(monkeypatch, MODULE="/m.so", TOKEN_LABEL="pins", PIN_FILE="/pin")
    assert without.token_names == (("token", "pins"),)


@pytest.mark.parametrize(
    "values",
    [
        {"URI": WHOLE, "TOKEN_LABEL": "another"},
        {"URI": WHOLE, "MODULE": "/m.so"},
        {"URI": "pkcs11:?module-path=/m.so&pin-source=/pin"},
        {"URI": "pkcs11:token=a"},
        {"URI": "token=a", "MODULE": "/m.so", "TOKEN_LABEL": "a", "PIN_FILE": "/pin"},
    ],
    ids=str,
)
def test_what_is_named_twice_or_not_at_all_is_refused(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str]
) -> None:
    with pytest.raises(ValidationError):
        settings(monkeypatch, **values)


@pytest.mark.parametrize(
    "values",
    [
        {"URI": "pkcs11:token=a?pin-value=739182"},
        {"URI": "pkcs11:token=a?module-path=/m.so&pin-source=739182"},
        {"URI": "pkcs11:token=a?pin-value=739182", "MODULE": "/m.so", "PIN_FILE": "/pin"},
        {"URI": "pkcs11:token=a", "MODULE_LOCKS": "739182"},
    ],
    ids=str,
)
def test_a_setting_that_is_refused_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str]
) -> None:
    with pytest.raises(ValidationError) as refusal:
        settings(monkeypatch, **values)
    shown = "".join(traceback.format_exception(refusal.value))
    assert "739182" not in shown + repr(refusal.value)
