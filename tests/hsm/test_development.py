"""HSM tokens in software and PINs of the sandbox are refused where an HSM is asked for."""

from types import SimpleNamespace

import pytest

from cms.sandbox.machine.softhsm import SoftHsm
from crypto.secret import Secret
from hsm import development
from hsm.errors import NotForProduction
from hsm.pkcs11.device_info import DeviceInfo
from hsm.pkcs11.token import Pkcs11Token


def device(manufacturer: str, model: str = "Model 1") -> DeviceInfo:
    """As the binding gives it: padded with spaces."""
    padded = {"manufacturer_id": manufacturer.ljust(32), "model": model.ljust(16)}
    return DeviceInfo.of(SimpleNamespace(label="pins", serial="1", **padded))


def test_softhsm_is_refused(hsm_token: Pkcs11Token) -> None:
    with pytest.raises(NotForProduction, match=r"^HSM_MODULE "):
        development.refuse_token(hsm_token.device)


def test_nss_softoken_is_refused(second_hsm_token: Pkcs11Token) -> None:
    with pytest.raises(NotForProduction, match=r"^HSM_MODULE "):
        development.refuse_token(second_hsm_token.device)


def test_of_one_manufacturer_the_model_tells_software_from_devices() -> None:
    with pytest.raises(NotForProduction):
        development.refuse_token(device("IBM", "Soft"))
    for model in ("CCA", "EP11"):
        development.refuse_token(device("IBM", model))


def test_an_hsm_is_accepted() -> None:
    development.refuse_token(device("Example HSM Corp."))
    development.refuse_secret(Secret("4711-0815"))


def test_the_pin_that_the_sandbox_made_is_refused_and_not_shown(softhsm: SoftHsm) -> None:
    pin = (softhsm.directory / "user-pin").read_text().strip()
    with pytest.raises(NotForProduction, match=r"^HSM_PIN_FILE ") as refusal:
        development.refuse_secret(Secret(pin))
    assert pin not in str(refusal.value)
