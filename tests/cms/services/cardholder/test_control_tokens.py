"""Control tokens of one face, looked at without consuming any."""

from unittest.mock import AsyncMock

import pytest

from cms.domain.control import FAILURES_BY_ADDRESS, Grant
from cms.domain.errors import ControlEnded, TooManyFailures
from cms.services.cardholder.control_tokens import ControlTokens, new_session
from cms.services.cardholder.rate_limit import RateLimiter
from crypto.jose import base64url
from hsm.manifest.clients import AppClient, ServerClient
from hsm.port import Face, Purpose, SealedGrant

pytestmark = pytest.mark.anyio
ADDRESS = "192.0.2.1"
GRANT = Grant(
    *("testbank01", "card-1", "testbank01-app", Face.HOSTED, Purpose.VIEW),
    *("grant-1", SealedGrant(b"sealed grant"), {}),
)


@pytest.fixture
def store() -> AsyncMock:
    return AsyncMock()


@pytest.fixture
def control_tokens(store: AsyncMock) -> ControlTokens[AppClient]:
    return ControlTokens(Face.HOSTED, store, AsyncMock(), RateLimiter())


def test_a_page_session_is_256_random_bits_behind_the_prefix_of_its_control_token() -> None:
    session = new_session(" 3B7D0203-0405-8607-8809-0A0B0C0D0E0F")
    assert session.startswith("3b7d")
    assert len(base64url.decode(session[4:])) == 32
    assert session != new_session("3b7d0203-0405-8607-8809-0a0b0c0d0e0f")


async def test_one_that_never_was_is_counted_against_the_address_and_live_ones_pass(
    control_tokens: ControlTokens[AppClient], store: AsyncMock
) -> None:
    store.read_live.return_value = store.read_issued.return_value = None
    for _ in range(FAILURES_BY_ADDRESS.failures_max):
        with pytest.raises(ControlEnded):
            await control_tokens.read_live("a guess", ADDRESS)
    for read in (control_tokens.read_live, control_tokens.read_issued):
        with pytest.raises(TooManyFailures):
            await read("a guess", ADDRESS)
    store.read_live.return_value = GRANT
    assert (await control_tokens.read_live("a live one", ADDRESS))[0] == GRANT


async def test_one_that_is_over_is_counted_for_its_client_alone(
    control_tokens: ControlTokens[AppClient], store: AsyncMock
) -> None:
    store.read_live.return_value, store.read_issued.return_value = None, GRANT
    for _ in range(FAILURES_BY_ADDRESS.failures_max):
        with pytest.raises(ControlEnded):
            await control_tokens.read_live("one that is over", ADDRESS)
    with pytest.raises(TooManyFailures):
        await control_tokens.read_live("one that is over", ADDRESS)
    assert (await control_tokens.read_issued("one that is over", ADDRESS))[0] == GRANT
    store.read_issued.return_value = None
    with pytest.raises(ControlEnded):
        await control_tokens.read_live("a guess", ADDRESS)


async def test_one_of_another_face_is_none(store: AsyncMock) -> None:
    elsewhere = ControlTokens[ServerClient](Face.PINCONTROL, store, AsyncMock(), RateLimiter())
    store.read_live.return_value = store.read_issued.return_value = GRANT
    for read in (elsewhere.read_live, elsewhere.read_issued):
        with pytest.raises(ControlEnded):
            await read("one of the hosted face", ADDRESS)
