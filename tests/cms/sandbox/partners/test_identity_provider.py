"""The demo's identity provider: the vault takes its access tokens, its secrets are kept."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cms.sandbox.partners.identity_provider import ISSUER, IdentityProvider
from crypto.secret import Secret
from hsm.bearers import Bearers, Subject
from hsm.errors import BearerRefused
from hsm.manifest.model import parse
from tests.operators import manifest

NOW = 1_700_000_000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "var" / "identity"


@pytest.fixture
def provider(directory: Path) -> IdentityProvider:
    return IdentityProvider(directory, "pins", now=lambda: NOW)


def subject(provider: IdentityProvider, access_token: str, now: int = NOW) -> Subject:
    """Name whom the vault finds in an access token, where the manifest names this provider."""
    known = {"issuer": ISSUER, "audience": "pins", "jwks": {"keys": [provider.public_jwk]}}
    bearers = Bearers(lambda: datetime.fromtimestamp(now, UTC))
    return bearers.subject(
        Secret(access_token), parse(manifest("testbank01", identity_provider=known))
    )


def test_its_access_tokens_name_their_cardholder(provider: IdentityProvider) -> None:
    found = subject(provider, provider.issue("holder-1", acr="strong"))
    assert found == Subject("holder-1", "strong", NOW)
    assert subject(provider, provider.issue("holder-1")).acr is None


def test_its_access_tokens_expire(provider: IdentityProvider) -> None:
    bearer = provider.issue("holder-1", seconds=60)
    assert subject(provider, bearer, NOW + 89).cardholder_id == "holder-1"
    with pytest.raises(BearerRefused):
        subject(provider, bearer, NOW + 90)


def test_an_access_token_outlives_a_restart(provider: IdentityProvider, directory: Path) -> None:
    bearer = provider.issue("holder-1")
    again = IdentityProvider(directory, "pins")
    assert subject(again, bearer).cardholder_id == "holder-1"


def test_it_publishes_the_public_half_and_nothing_else(provider: IdentityProvider) -> None:
    assert provider.public_jwk.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}


def test_only_the_owner_reads(provider: IdentityProvider, directory: Path, tmp_path: Path) -> None:
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
