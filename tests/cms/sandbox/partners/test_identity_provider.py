"""The demo's identity provider: the service takes its access tokens, its secrets are kept."""

import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from cms.domain.errors import StepUpRequired, Unauthorized
from cms.sandbox.partners import identity_provider
from cms.sandbox.partners.identity_provider import ISSUER
from cms.services.cardholder.identity import IdentityProvider

pytestmark = pytest.mark.anyio
NOW = 1_700_000_000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "var" / "identity"


@pytest.fixture
def provider(directory: Path) -> Iterator[identity_provider.IdentityProvider]:
    with identity_provider.IdentityProvider(directory, "pins", now=lambda: NOW) as provider:
        yield provider


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as http:
        yield http


def service(jwks_url: str, http: httpx.AsyncClient, now: int = NOW) -> IdentityProvider:
    return IdentityProvider(ISSUER, "pins", jwks_url, "strong", 300, http, lambda: now)


async def test_its_access_tokens_name_their_cardholder(
    provider: identity_provider.IdentityProvider, http: httpx.AsyncClient
) -> None:
    known = service(provider.jwks_url, http)
    found = await known.subject(provider.issue("holder-1", acr="strong"))
    known.require_step_up(found)
    assert (found.value, found.acr, found.auth_time) == ("holder-1", "strong", NOW)
    with pytest.raises(StepUpRequired):
        known.require_step_up(await known.subject(provider.issue("holder-1")))


async def test_its_access_tokens_expire(
    provider: identity_provider.IdentityProvider, http: httpx.AsyncClient
) -> None:
    bearer = provider.issue("holder-1", seconds=60)
    assert (await service(provider.jwks_url, http, NOW + 89).subject(bearer)).value == "holder-1"
    with pytest.raises(Unauthorized):
        await service(provider.jwks_url, http, NOW + 90).subject(bearer)


async def test_an_access_token_outlives_a_restart(
    provider: identity_provider.IdentityProvider, directory: Path, http: httpx.AsyncClient
) -> None:
    bearer = provider.issue("holder-1")
    with identity_provider.IdentityProvider(directory, "pins") as again:
        assert again.jwks_url != provider.jwks_url
        assert (await service(again.jwks_url, http).subject(bearer)).value == "holder-1"


async def test_it_publishes_the_public_half_and_nothing_else(
    provider: identity_provider.IdentityProvider, http: httpx.AsyncClient
) -> None:
    (key,) = (await http.get(provider.jwks_url)).json()["keys"]
    assert key.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (await http.get(provider.jwks_url + "/private.jwk")).status_code == 404


async def test_it_listens_on_this_machine_while_its_block_runs(
    directory: Path, http: httpx.AsyncClient
) -> None:
    with identity_provider.IdentityProvider(directory, "pins") as provider:
        url = httpx.URL(provider.jwks_url)
        assert url.host == "127.0.0.1"
        assert (await http.get(url)).status_code == 200
    with socket.socket() as caller:
        assert caller.connect_ex((url.host, url.port)) != 0


async def test_it_listens_where_it_is_told(directory: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with identity_provider.IdentityProvider(directory, "pins", port) as provider:
        assert httpx.URL(provider.jwks_url).port == port


def test_only_the_owner_reads(
    provider: identity_provider.IdentityProvider, directory: Path, tmp_path: Path
) -> None:
    file = tmp_path / "access-token"
    old = os.umask(0)
    try:
        provider.write_access_token(file, "holder-1")
        provider.write_access_token(file, "holder-2")
    finally:
        os.umask(old)
    assert file.read_text().count(".") == 2
    assert [path.stat().st_mode & 0o777 for path in (file, directory)] == [0o600, 0o700]
    assert {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()} == {
        "private.jwk": 0o600
    }
