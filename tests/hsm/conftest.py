"""Tokens of a test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cms.sandbox.machine.softhsm import SoftHsm
from hsm.pkcs11 import Pkcs11Token
from hsm.token import Token
from tests.contracts.software_token import SoftwareToken


@pytest.fixture
def own_softhsm(tmp_path: Path) -> SoftHsm:
    """A new token without keys, for other processes: this one has its token already."""
    softhsm = SoftHsm(tmp_path / "softhsm")
    softhsm.ensure()
    return softhsm


@pytest.fixture
def emptied(token: Pkcs11Token) -> Iterator[Pkcs11Token]:
    """The token of this process; what a test imports is gone after it."""
    before = {*token.labels()}
    yield token
    for label in {*token.labels()} - before:
        token._keys.pop(label).destroy()


@pytest.fixture(params=["SoftHSM", "software"])
def any_token(request: pytest.FixtureRequest) -> Token:
    """A token of each kind, without shared keys."""
    if request.param == "software":
        return SoftwareToken()
    token: Pkcs11Token = request.getfixturevalue("emptied")
    return token
