"""GET and PUT pin and changeCounter, through the whole service on a real HSM token and Postgres."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hsm.vault import Vault
from tests.issuer_records import open_issuer
from tests.service import D1, d1, running

pytestmark = pytest.mark.anyio


@pytest.fixture
async def caller(database_url: str, tmp_path: Path, vault: Vault) -> AsyncIterator[D1]:
    sample_issuer = open_issuer(database_url, vault)
    async with (
        running(database_url, tmp_path, vault) as application,
        d1(application, sample_issuer) as it,
    ):
        yield it


async def test_a_pin_that_was_set_is_read_back_and_counted(caller: D1) -> None:
    assert await caller.counter() == 0
    assert (await caller.put_pin("4071")).status_code == 204
    assert await caller.pin() == "4071"
    assert await caller.counter() == 1


async def test_a_b_a_is_three_changes(caller: D1) -> None:
    for pin in ("4071", "9382", "4071"):
        assert (await caller.put_pin(pin)).status_code == 204
    assert await caller.pin() == "4071"
    assert await caller.counter() == 3


async def test_a_jwe_that_was_accepted_changes_nothing_again_even_after_a_newer_one(
    caller: D1,
) -> None:
    first = caller.sample_issuer.pin_jwe("4071")
    assert (await caller.put(first)).status_code == 204
    assert (await caller.put(first)).status_code == 204
    assert (await caller.put_pin("9382")).status_code == 204
    assert (await caller.put(first)).status_code == 204
    assert await caller.pin() == "9382"
    assert await caller.counter() == 2
