"""What is remembered of a caller, and what an absent token means for it."""

from unittest.mock import create_autospec

import pytest

from cms.domain.errors import TryLater, Unauthorized
from cms.services.access import Access, ClientCertificate, read_certificate
from cms.services.directory import Directory
from hsm.errors import VaultUnavailable
from hsm.vault import Vault
from tests.bank import SECRET
from tests.cms.services.desk import Desk, lane_over

pytestmark = pytest.mark.anyio
URL = "https://pins.test"


class Clock:
    """Seconds since 1970, as the test says."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def granting(desk: Desk, clock: Clock) -> Access:
    return Access(Directory(desk.store), desk.lane, URL, clock)


def presented(desk: Desk) -> ClientCertificate:
    return read_certificate(desk.bank.certificate.der)


def without_token(desk: Desk) -> Access:
    away = create_autospec(Vault, instance=True)
    error = VaultUnavailable("the token is away")
    away.sign_token.side_effect = away.public_jwks.side_effect = error
    return Access(Directory(desk.store), lane_over(away), URL)


async def test_a_token_names_its_caller_until_it_expires(
    desk: Desk, granting: Access, clock: Clock
) -> None:
    issued = await granting.issue(desk.bank.client_id, SECRET, presented(desk))
    assert issued.expires_at == clock.now + 900
    for age in (0, 899):
        clock.now = issued.expires_at - 900 + age
        caller = await granting.caller(issued.access_token, presented(desk), "anything01")
        assert caller.client_id == desk.bank.client_id
        assert caller.issuer.issuer_id == desk.bank.issuer_id
    clock.now = issued.expires_at
    with pytest.raises(Unauthorized):
        await granting.caller(issued.access_token, presented(desk), "anything01")


async def test_a_token_is_good_in_every_process_of_the_service_and_in_no_other(
    desk: Desk, granting: Access, clock: Clock
) -> None:
    issued = await granting.issue(desk.bank.client_id, SECRET, presented(desk))
    token, certificate = issued.access_token, presented(desk)
    sister = Access(Directory(desk.store), desk.lane, URL, clock)
    assert (await sister.caller(token, certificate, "x")).client_id == desk.bank.client_id
    stranger = Access(Directory(desk.store), desk.lane, "https://other.test", clock)
    with pytest.raises(Unauthorized):
        await stranger.caller(token, certificate, "x")


async def test_without_the_token_nobody_new_is_let_in_or_turned_away(desk: Desk) -> None:
    locked = without_token(desk)
    with pytest.raises(TryLater):
        await locked.issue(desk.bank.client_id, SECRET, presented(desk))
    with pytest.raises(TryLater):
        await locked.caller("a.b.c", presented(desk), desk.bank.issuer_id)
    with pytest.raises(Unauthorized):
        await locked.issue(desk.bank.client_id, "wrong", presented(desk))


async def test_a_bearer_that_was_verified_needs_no_vault(desk: Desk, granting: Access) -> None:
    issued = await granting.issue(desk.bank.client_id, SECRET, presented(desk))
    await granting.caller(issued.access_token, presented(desk), "x")
    granting._lane = without_token(desk)._lane
    caller = await granting.caller(issued.access_token, presented(desk), "x")
    assert caller.client_id == desk.bank.client_id
