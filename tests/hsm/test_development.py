"""HSM tokens in software and PINs of the sandbox are refused where an HSM is asked for."""

from dataclasses import dataclass

import pytest

from cms.sandbox.machine.softhsm import SoftHsm
from crypto.secret import Secret
from hsm import development
from hsm.errors import NotForProduction
from hsm.pkcs11.token import Pkcs11Token


@dataclass
class Info:
    manufacturer_id: str


def test_softhsm_is_refused(hsm_token: Pkcs11Token) -> None:
    with pytest.raises(NotForProduction, match=r"^HSM_MODULE "):
        development.refuse_token(hsm_token._session.token)


def test_nss_softoken_is_refused(second_hsm_token: Pkcs11Token) -> None:
    with pytest.raises(NotForProduction, match=r"^HSM_MODULE "):
        development.refuse_token(second_hsm_token._session.token)


def test_a_padded_name_is_the_same() -> None:
    with pytest.raises(NotForProduction):
        development.refuse_token(Info("SoftHSM project".ljust(32)))


def test_an_hsm_is_accepted() -> None:
    development.refuse_token(Info("Example HSM Corp."))
    development.refuse_secret(Secret("4711-0815"))


def test_the_pin_that_the_sandbox_made_is_refused_and_not_shown(softhsm: SoftHsm) -> None:
    pin = (softhsm.directory / "user-pin").read_text().strip()
    with pytest.raises(NotForProduction, match=r"^HSM_PIN_FILE ") as refusal:
        development.refuse_secret(Secret(pin))
    assert pin not in str(refusal.value)
