"""A host over an HSM token of each kind, and issuers that share keys with D1."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import KeyLabel
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import SealedPin, SealedRecord
from hsm.verbs import PinVault
from tests.contracts.issuer import PIN, Host, Issuer, open_host, open_issuer
from tests.contracts.partner import (
    ISSUER_ID,
    MAC_ONLY_ID,
    Partner,
    leave_out_without,
    open_partner,
    share_keys,
)
from tests.contracts.served import Servers, environment_of, exported, open_served
from tests.contracts.software_token import SoftwareToken
from tests.modules import MODULES


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where hosts have their state directories."""
    return tmp_path_factory.mktemp("hosts")


HSM_TOKENS = {**MODULES, "software token": "software_token"}
"""The fixture of each implementation."""
BEHIND_SOCKETS = " behind sockets"


@pytest.fixture(scope="session")
def software_token() -> SoftwareToken:
    return SoftwareToken()


@pytest.fixture(scope="session")
def all_servers() -> list[Servers]:
    """What was started by :func:`start_servers`."""
    return []


@pytest.fixture(autouse=True)
def _own_vaults_end(all_servers: list[Servers]) -> Iterator[None]:
    """End the vaults that a test starts: there would be thousands, of 12 MB each."""
    before = [(servers, servers.started) for servers in all_servers]
    yield
    for servers, started in before:
        servers.end_from(started)


@pytest.fixture(scope="session")
def start_servers(
    request: pytest.FixtureRequest, all_servers: list[Servers]
) -> Iterator[Callable[[str], Servers]]:
    """Start what starts vaults in processes of their own, over the HSM token of a name."""
    with ExitStack() as stack:

        def start(name: str) -> Servers:
            hsm_token: HsmToken = request.getfixturevalue(HSM_TOKENS[name])
            if isinstance(hsm_token, SoftwareToken):
                servers = Servers(hsm_token, {}, exported(hsm_token))
            else:
                assert isinstance(hsm_token, Pkcs11Token)
                servers = Servers(hsm_token, environment_of(hsm_token._settings))
            stack.callback(servers.close)
            all_servers.append(servers)
            return servers

        yield start


@pytest.fixture(
    params=[*HSM_TOKENS, *(f"{name}{BEHIND_SOCKETS}" for name in HSM_TOKENS)], scope="session"
)
def host(request: pytest.FixtureRequest, hosts: Path) -> Host:
    """Each implementation, with a key of every role of our own: here, and behind sockets."""
    name = request.param.removesuffix(BEHIND_SOCKETS)
    if name != request.param:
        return open_served(request.getfixturevalue("start_servers")(name), hosts)
    return open_host(request.getfixturevalue(HSM_TOKENS[name]), hosts)


@pytest.fixture(scope="session")
def issuer(host: Host) -> Issuer:
    return open_issuer(host)


@pytest.fixture(scope="session")
def vault(issuer: Issuer) -> PinVault:
    return issuer.vault


@pytest.fixture(scope="session")
def sealed_record(issuer: Issuer) -> SealedRecord:
    return issuer.seal_record()


@pytest.fixture(scope="session")
def sealed_pin(issuer: Issuer, sealed_record: SealedRecord) -> SealedPin:
    """The PIN of change 5 of the card."""
    return issuer.set_pin(PIN, sealed_record, counter=5)


@pytest.fixture(params=["software token", *MODULES], scope="module")
def device(request: pytest.FixtureRequest) -> Iterator[HsmToken]:
    """Each HSM token without shared keys; the keys that a module imports are removed after it."""
    if request.param == "software token":
        yield SoftwareToken()
        return
    hsm_token: Pkcs11Token = request.getfixturevalue(MODULES[request.param])
    before = {*hsm_token.labels()}
    yield hsm_token
    for label in {*hsm_token.labels()} - before:
        hsm_token._keys.pop(label).destroy()


Shared = tuple[Host, Mapping[KeyLabel, bytes]]


@pytest.fixture(scope="module")
def shared(device: HsmToken, hosts: Path) -> Shared:
    """A host, and the shared keys that its HSM token got before the vault was made."""
    keys = share_keys(device)
    return open_host(device, hosts), keys


@pytest.fixture(autouse=True)
def _has_the_keys(request: pytest.FixtureRequest) -> None:
    """Leave out what needs keys of a role that the module could not use."""
    marker = request.node.get_closest_marker("needs")
    if marker is not None and "device" in request.fixturenames:
        leave_out_without(request.getfixturevalue("shared")[1], *marker.args)


@pytest.fixture(scope="module")
def partner(shared: Shared) -> Partner:
    """An issuer with every key that can be shared."""
    return open_partner(*shared, ISSUER_ID)


@pytest.fixture(scope="module")
def mac_only(shared: Shared) -> Partner:
    """An issuer that has no key but that of the MAC."""
    return open_partner(*shared, MAC_ONLY_ID)
