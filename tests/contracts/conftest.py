"""Issuers that share keys with D1, on a token of each kind."""

from collections.abc import Iterator, Mapping

import pytest

from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import KeyLabel
from hsm.pkcs11.token import Pkcs11Token
from hsm.vault import Vault
from tests.contracts.partner import (
    ISSUER_ID,
    MAC_ONLY_ID,
    Partner,
    open_partner,
    share_keys,
    vault_with,
)
from tests.contracts.software_token import SoftwareToken


@pytest.fixture(params=["software token", "SoftHSM2", "NSS softoken"], scope="module")
def device(request: pytest.FixtureRequest) -> Iterator[HsmToken]:
    """Each token, without shared keys; what a module imports is gone after it."""
    if request.param == "software token":
        yield SoftwareToken()
        return
    name = "hsm_token" if request.param == "SoftHSM2" else "second_hsm_token"
    hsm_token: Pkcs11Token = request.getfixturevalue(name)
    before = {*hsm_token.labels()}
    yield hsm_token
    for label in {*hsm_token.labels()} - before:
        hsm_token._keys.pop(label).destroy()


Shared = tuple[Vault, Mapping[KeyLabel, bytes]]


@pytest.fixture(scope="module")
def shared(device: HsmToken) -> Shared:
    """A vault, and the keys that were brought to its token before it was made."""
    keys = share_keys(device)
    return vault_with(device), keys


@pytest.fixture(scope="module")
def partner(shared: Shared) -> Partner:
    """An issuer with every key that can be shared."""
    return open_partner(*shared, ISSUER_ID)


@pytest.fixture(scope="module")
def mac_only(shared: Shared) -> Partner:
    """An issuer that has no key but that of the MAC."""
    return open_partner(*shared, MAC_ONLY_ID)
