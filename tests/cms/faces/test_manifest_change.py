"""An issuer's manifest changes while its clients call: no call fails, and the change has effect."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from cms.persistence import admin
from cms.sandbox import HANG_SECONDS
from cms.services import directory, manifests
from hsm.vault import Vault
from tests.cms.faces.cardholder.hosted import apps
from tests.cms.faces.cardholder.hosted import hosted_face as hosted
from tests.cms.faces.d1_face import PIN, D1Face
from tests.operators import manifest, signed

pytestmark = pytest.mark.anyio
CHANGES = 20
CALLERS = 4


async def load_next(d1_face: D1Face, number: int) -> int:
    """Sign a manifest that differs from the one in force, and give it to the database."""

    def sign(vault: Vault) -> tuple[int, str]:
        body = vault.read_manifest("testbank01").model_dump(mode="json")
        body["wire"]["token"]["ttl_seconds"] = 100 + number
        body["limits"]["handouts_card_day_max"] = 1_000_000
        version = body.pop("version") + 1
        return version, signed(manifest(body.pop("issuer_id"), version, **body))

    version, text = await d1_face.in_vault(sign)
    with admin.transaction(d1_face.url) as database:
        admin.load_manifest(database, "testbank01", version, text)
    return int(version)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        while not await holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def is_in_force(d1_face: D1Face, version: int) -> bool:
    found = await d1_face.in_vault(lambda vault: vault.read_manifest("testbank01").version)
    return bool(found == version)


async def is_answered(d1_face: D1Face, ttl_seconds: int) -> bool:
    answer = await d1_face.d1.ask_token()
    return bool(answer.json()["expires_in"] == str(ttl_seconds))


async def test_no_call_fails_while_the_manifest_changes(
    d1_face: D1Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    monkeypatch.setattr(manifests, "PAUSE_SECONDS", 0.0)
    await apps.add_apps(d1_face)
    statuses: list[int] = []
    over = asyncio.Event()

    async def call_d1(card_id: str) -> None:
        for pin in itertools.cycle((PIN, "9382")):
            d1 = d1_face.d1
            statuses.append((await d1.put_pin(pin, card_id)).status_code)
            statuses.append((await d1.get(card_id)).status_code)
            if over.is_set():
                return

    async def call_hosted(hosted_face: hosted.HostedFace, holder: str) -> None:
        while not over.is_set():
            asked = await hosted_face.ask("pin", holder)
            statuses.append(asked.status_code)
            statuses.append((await hosted_face.image(asked.json()["token"])).status_code)

    await until(partial(is_in_force, d1_face, await load_next(d1_face, 0)))
    async with hosted.opened(d1_face) as hosted_face, asyncio.TaskGroup() as calls:
        for number in range(1, CALLERS + 1):
            calls.create_task(call_d1(f"card-{number}"))
            _, holder = await hosted_face.holder()
            calls.create_task(call_hosted(hosted_face, holder))
        for number in range(1, CHANGES):
            version = await load_next(d1_face, number)
            await until(partial(is_in_force, d1_face, version))
        over.set()
    assert set(statuses) == {200, 204}
    assert len(statuses) > CHANGES
    # Who called before reads it anew within seconds.
    await until(partial(is_answered, d1_face, 100 + CHANGES - 1))
