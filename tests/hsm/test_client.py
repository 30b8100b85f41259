"""The asyncio client without a vault: what it remembers."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hsm.client import VaultClient
from hsm.errors import VaultBusy
from hsm.manifest import model
from hsm.messages import ManifestText, ReadManifest, SocketName, Verb
from tests.operators import manifest

pytestmark = pytest.mark.anyio

ISSUER = "testbank01"
CANONICAL = manifest(ISSUER, 3)


class Answering(VaultClient):
    """Answers as a vault that has version 3, after a while."""

    def __init__(self) -> None:
        super().__init__(Path(), [SocketName.D1], silence_seconds=1, wait_seconds_max=1)
        self.texts = 0
        self.busy = False

    async def call(self, message: Verb[Any]) -> Any:  # noqa: ANN401 - of the verb
        assert isinstance(message, ReadManifest)
        await asyncio.sleep(0)
        if self.busy:
            raise VaultBusy
        if message.known_version == 3:
            return ManifestText(3, None)
        self.texts += 1
        return ManifestText(3, CANONICAL)


async def test_a_manifest_that_is_known_is_not_sent_again_to_callers_at_once() -> None:
    client = Answering()
    first = await client.read_manifest(ISSUER)
    again = await asyncio.gather(*(client.read_manifest(ISSUER) for _ in range(8)))
    assert {*map(id, again)} == {id(first)}
    assert client.texts == 1


async def test_a_call_that_fails_does_not_forget_it() -> None:
    client = Answering()
    assert await client.read_manifest(ISSUER) == model.parse(CANONICAL)
    client.busy = True
    with pytest.raises(VaultBusy):
        await client.read_manifest(ISSUER)
    client.busy = False
    await client.read_manifest(ISSUER)
    assert client.texts == 1
