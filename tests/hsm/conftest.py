"""HSM tokens of a test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cms.sandbox.machine.softhsm import SoftHsm
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.token import Pkcs11Token
from tests.contracts.software_token import SoftwareToken


@pytest.fixture
def own_softhsm(tmp_path: Path) -> SoftHsm:
    """A new HSM token without keys, for other processes: this one has its HSM token already."""
    softhsm = SoftHsm(tmp_path / "softhsm")
    softhsm.ensure()
    return softhsm


@pytest.fixture
def emptied(hsm_token: Pkcs11Token) -> Iterator[Pkcs11Token]:
    """The HSM token of this process; what a test imports is gone after it."""
    before = {*hsm_token.labels()}
    yield hsm_token
    for label in {*hsm_token.labels()} - before:
        hsm_token._keys.pop(label).destroy()


@pytest.fixture(params=["SoftHSM", "software"])
def any_hsm_token(request: pytest.FixtureRequest) -> HsmToken:
    """An HSM token of each kind, without shared keys."""
    if request.param == "software":
        return SoftwareToken()
    hsm_token: Pkcs11Token = request.getfixturevalue("emptied")
    return hsm_token
