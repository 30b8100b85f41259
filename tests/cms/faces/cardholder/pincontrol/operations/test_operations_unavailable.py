"""Database or vault unavailable: the documented answer, and no PIN shown or set twice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hsm.errors import VaultUnavailable
from tests.cms.faces.cardholder.pincontrol import outcomes
from tests.cms.faces.cardholder.pincontrol.operations.operations_face import (
    OperationsFace,
    block_of,
    opened,
)
from tests.cms.faces.d1_face import PIN, D1Face
from tests.cms.faces.losing import Losing
from tests.cms.persistence.opened_store import opened_store
from tests.devices import PythonDevice
from tests.in_process_vault import NoVault

pytestmark = pytest.mark.anyio
LATER = (503, "TRY_LATER", "INTEGRATION_ERROR")
ENDED = (400, "CONTROL_ENDED", outcomes.DYNAMIC)
NEW_PIN = "2846"
DEVICE = PythonDevice()
#: More than any request takes.
TURNS = range(1, 10)


@asynccontextmanager
async def losing(d1_face: D1Face, *, late: bool) -> AsyncIterator[tuple[OperationsFace, Losing]]:
    async with (
        opened_store(Losing.connect(d1_face.url)) as store,
        opened(d1_face, store) as operations_face,
    ):
        store.late = late
        yield operations_face, store


async def counter(operations_face: OperationsFace, card_id: str) -> int:
    ((counter,),) = operations_face.pincontrol.sql(
        "SELECT counter FROM cards WHERE card_id = %s", card_id
    )
    return int(counter)


async def test_a_pin_is_shown_to_a_device_at_most_once_whatever_is_lost(
    with_operations: D1Face, late: bool
) -> None:
    async with losing(with_operations, late=late) as (operations_face, store):
        _, plastic_id = await operations_face.pincontrol.plastic()
        lost = 0
        for turn in TURNS:
            control_id = await operations_face.pincontrol.control_id(plastic_id)
            store.turn = turn
            first = await operations_face.view(control_id, DEVICE.public_key)
            store.turn = 0
            second = await operations_face.view(control_id, DEVICE.public_key)
            lost += first.status_code == 503
            assert first.status_code == 200 or outcomes.failure(first) == LATER
            if second.status_code == 200:
                assert first.status_code == 503
            else:
                assert outcomes.failure(second) == ENDED
        assert lost >= 2


async def test_a_device_may_send_its_pin_again_and_it_is_stored_once(
    with_operations: D1Face, late: bool
) -> None:
    async with losing(with_operations, late=late) as (operations_face, store):
        lost = 0
        for turn in TURNS:
            card_id, plastic_id = await operations_face.pincontrol.plastic()
            control_id = await operations_face.pincontrol.control_id(plastic_id, "SET_PIN")
            tzpk = await operations_face.tzpk(control_id, DEVICE.public_key)
            block = DEVICE.write(tzpk, NEW_PIN)
            store.turn = turn
            first = await operations_face.set(control_id, block)
            store.turn = 0
            second = await operations_face.set(control_id, block)
            lost += first.status_code == 503
            assert first.status_code == 200 or outcomes.failure(first) == LATER
            assert second.status_code == 200 or outcomes.failure(second) == ENDED
            assert 200 in (first.status_code, second.status_code) or late
            assert await operations_face.pin(plastic_id) == NEW_PIN
            assert await counter(operations_face, card_id) == 2
        assert lost >= 2


async def test_a_servers_pin_is_stored_or_it_is_503(with_operations: D1Face, late: bool) -> None:
    async with losing(with_operations, late=late) as (operations_face, store):
        lost = 0
        for turn in TURNS:
            card_id, plastic_id = await operations_face.pincontrol.plastic()
            store.turn = turn
            answers = [await operations_face.get(plastic_id)]
            store.turn = turn
            answers.append(await operations_face.put(plastic_id, block_of(NEW_PIN)))
            for answer in answers:
                lost += answer.status_code == 503
                assert answer.status_code == 200 or outcomes.failure(answer) == LATER
            store.turn = 0
            is_new = await operations_face.pin(plastic_id) == NEW_PIN
            assert await counter(operations_face, card_id) == 1 + is_new
            assert is_new or answer.status_code == 503
        assert lost >= 3


async def test_without_a_vault_it_is_503_and_a_control_id_to_set_a_pin_stays(
    with_operations: D1Face,
) -> None:
    away = NoVault(VaultUnavailable("away"))
    async with opened(with_operations) as here, opened(with_operations, vault=away) as there:
        card_id, plastic_id = await here.pincontrol.plastic()
        view_id, set_id = await here.pincontrol.control_ids(plastic_id)
        tzpk = await here.tzpk(set_id, DEVICE.public_key)
        block = DEVICE.write(tzpk, NEW_PIN)
        for answer in (
            await there.get(plastic_id),
            await there.put(plastic_id, block_of(NEW_PIN)),
            await there.key(set_id, DEVICE.public_key),
            await there.set(set_id, block),
            await there.view(view_id, DEVICE.public_key),
        ):
            assert outcomes.failure(answer) == LATER
        failed = "SELECT count(*) FROM audit_events WHERE card_id = %s AND event = 'pin.get.failed'"
        assert here.pincontrol.sql(failed, card_id) == [(2,)]
        assert await here.pin(plastic_id) == PIN
        assert (await here.set(set_id, block)).status_code == 200
        assert outcomes.failure(await here.view(view_id, DEVICE.public_key)) == ENDED
