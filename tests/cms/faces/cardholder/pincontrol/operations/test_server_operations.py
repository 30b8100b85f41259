"""``/pin/v2/{plasticId}``: PINs to and from an issuer's own server, under a key that it has too."""

import asyncio

import httpx
import pytest

from cms.domain.cards import CardState
from cms.services import directory
from tests.cms.faces.cardholder.pincontrol import backends, outcomes
from tests.cms.faces.cardholder.pincontrol.operations.operations_face import (
    KEYLESS,
    OperationsFace,
    block_of,
    block_of_clear,
    opened,
    operations,
    pin_of,
)
from tests.cms.faces.cardholder.pincontrol.pincontrol_face import AUDIT_USER, basic
from tests.cms.faces.d1_face import PIN
from tests.issuer_records import SECRET

pytestmark = pytest.mark.anyio
NEW_PIN = "2846"
UNAUTHORIZED = (401, "UNAUTHORIZED", "SECURITY_ERROR")
INVALID = (400, "INVALID_REQUEST", outcomes.STATIC)
REFUSED = (400, "PIN_BLOCK_REFUSED", outcomes.DYNAMIC)
WEAK = (400, "PIN_FORBIDDEN", outcomes.DYNAMIC)
NOT_FOUND = (404, "CARD_NOT_FOUND", outcomes.DYNAMIC)
NOWHERE = (404, "NO_SUCH_RESOURCE", outcomes.STATIC)
FORBIDDEN = (403, "CARD_STATE_FORBIDDEN", outcomes.DYNAMIC)
NO_PIN = (403, "PIN_NOT_AVAILABLE", outcomes.DYNAMIC)
NOT_OFFERED = (403, "OPERATION_NOT_OFFERED", "SECURITY_ERROR")
LIMITED = (429, "TOO_MANY_FAILURES", "SECURITY_ERROR")


async def both(operations_face: OperationsFace, plastic_id: str) -> tuple[object, object]:
    """Tell what becomes of seeing, and of setting, the PIN of a plastic."""
    seen = await operations_face.get(plastic_id)
    stored = await operations_face.put(plastic_id, block_of(NEW_PIN))
    return told(seen), told(stored)


def told(answer: httpx.Response) -> object:
    return 200 if answer.status_code == 200 else outcomes.failure(answer)


@pytest.mark.parametrize("zpk_index", ["0", "2026-b"])
async def test_a_server_sets_a_pin_and_sees_it(
    operations_face: OperationsFace, zpk_index: str
) -> None:
    pincontrol = operations_face.pincontrol
    card_id, plastic_id = await pincontrol.plastic(CardState.INACTIVE, pin=None)
    block = block_of(NEW_PIN, zpk_index)
    stored = await operations_face.put(plastic_id, block, zpk_index)
    assert (stored.status_code, stored.json()) == (200, {})
    shown = await operations_face.get(f"00{plastic_id}", zpk_index)
    assert (shown.status_code, [*shown.json()]) == (200, ["pinBlock"])
    text = shown.json()["pinBlock"]
    assert (len(text), text, pin_of(text, zpk_index)) == (16, text.upper(), NEW_PIN)
    for answer in (stored, shown):
        assert answer.headers["cache-control"] == "no-store"
    by, where = (card_id, backends.USER), ("pincontrol pre-shared key", AUDIT_USER, None)
    assert pincontrol.audit(stored) == [("pin.set", *by, *where)]
    assert pincontrol.audit(shown) == [("pin.get", *by, *where)]
    receipts = "SELECT receipt FROM audit_events WHERE card_id = %s AND receipt IS NOT NULL"
    assert len({*pincontrol.sql(receipts, card_id)}) == 2
    assert pincontrol.sql("SELECT counter FROM cards WHERE card_id = %s", card_id) == [(1,)]


async def test_the_published_sample_is_read(operations_face: OperationsFace) -> None:
    """The block of the published sample: PIN 1234, fill A, under its key without odd parity."""
    await operations_face.with_policy(refuse_runs=False)
    try:
        _, plastic_id = await operations_face.pincontrol.plastic()
        assert block_of("1234") == "81739710556E1518"
        stored = await operations_face.put(plastic_id, "81739710556e1518")
        assert stored.status_code == 200, stored.text
        assert await operations_face.pin(plastic_id) == "1234"
    finally:
        await operations_face.with_policy()


async def test_a_block_is_another_each_time(operations_face: OperationsFace) -> None:
    _, plastic_id = await operations_face.pincontrol.plastic()
    blocks = [(await operations_face.get(plastic_id)).json()["pinBlock"] for _ in range(5)]
    assert len({*blocks}) == 5
    assert {pin_of(block) for block in blocks} == {PIN}


async def test_the_same_block_may_come_again_and_is_meant_again(
    operations_face: OperationsFace,
) -> None:
    card_id, plastic_id = await operations_face.pincontrol.plastic()
    for pin in (NEW_PIN, "6193", NEW_PIN, NEW_PIN):
        assert (await operations_face.put(plastic_id, block_of(pin))).status_code == 200
        assert await operations_face.pin(plastic_id) == pin
    counter = "SELECT counter FROM cards WHERE card_id = %s"
    assert operations_face.pincontrol.sql(counter, card_id) == [(5,)]


async def test_pins_that_come_at_once_are_one_change_each(operations_face: OperationsFace) -> None:
    card_id, plastic_id = await operations_face.pincontrol.plastic()
    answers = await asyncio.gather(
        *(operations_face.put(plastic_id, block_of(pin)) for pin in ("2846", "6193"))
    )
    assert [answer.status_code for answer in answers] == [200, 200]
    counter = "SELECT counter FROM cards WHERE card_id = %s"
    assert operations_face.pincontrol.sql(counter, card_id) == [(3,)]
    assert await operations_face.pin(plastic_id) in ("2846", "6193")


async def test_a_pin_that_is_set_ends_every_control_id_of_the_card(
    operations_face: OperationsFace,
) -> None:
    _, plastic_id = await operations_face.pincontrol.plastic()
    view_id = await operations_face.pincontrol.control_id(plastic_id)
    assert (await operations_face.put(plastic_id, block_of(NEW_PIN))).status_code == 200
    assert (await operations_face.pincontrol.view(view_id)).status_code == 410


@pytest.mark.parametrize("state", CardState)
@pytest.mark.parametrize("personalised", [False, True])
@pytest.mark.parametrize("pin", [PIN, None])
async def test_a_card_allows_what_it_allows_our_pages(
    operations_face: OperationsFace, state: CardState, pin: str | None, *, personalised: bool
) -> None:
    card_id, plastic_id = await operations_face.pincontrol.plastic(
        state, pin if state is CardState.ACTIVE else None, personalised=personalised
    )
    live = state in (CardState.INACTIVE, CardState.ACTIVE)
    seen, stored = await both(operations_face, plastic_id)
    may_see = 200 if pin is not None and state is CardState.ACTIVE else NO_PIN
    assert seen == (may_see if live else FORBIDDEN)
    assert stored == (200 if live and not personalised else FORBIDDEN)
    assert card_id


async def test_who_is_not_a_server_of_an_issuer_is_unauthorized(
    operations_face: OperationsFace,
) -> None:
    _, plastic_id = await operations_face.pincontrol.plastic()
    for user, password in ((backends.USER, "wrong"), ("testbank01", SECRET), ("nobody", SECRET)):
        answer = await operations_face.get(plastic_id, user=user, password=password)
        assert outcomes.failure(answer) == UNAUTHORIZED
    answer = await operations_face.http.post(f"/pin/v2/{plastic_id}?auditUser=x", json={})
    assert outcomes.failure(answer) == UNAUTHORIZED


async def test_a_server_without_a_pre_shared_key_is_refused_whatever_index_it_names(
    operations_face: OperationsFace,
) -> None:
    card_id, plastic_id = await operations_face.pincontrol.plastic()
    for index in ("0", "1"):
        for answer in (
            await operations_face.get(plastic_id, index, KEYLESS),
            await operations_face.put(plastic_id, block_of(NEW_PIN), index, KEYLESS),
        ):
            assert outcomes.failure(answer) == NOT_OFFERED
            (row,) = operations_face.pincontrol.audit(answer)
            assert row[1:5] == (None, KEYLESS, "TYPE_NOT_OFFERED", AUDIT_USER)
    assert await operations_face.pin(plastic_id) == PIN
    assert card_id


@pytest.mark.parametrize("index", ["1", "00", "", "x" * 17, "0 ", "é", "2026-B"])
async def test_an_index_that_names_no_key_is_refused(
    operations_face: OperationsFace, index: str
) -> None:
    _, plastic_id = await operations_face.pincontrol.plastic()
    for answer in (
        await operations_face.get(plastic_id, index),
        await operations_face.put(plastic_id, block_of(NEW_PIN), index),
    ):
        assert outcomes.failure(answer) == INVALID
        assert "zpkIndex" in answer.json()["errorReason"]


@pytest.mark.parametrize("plastic_id", ["x", "-1", "1" * 39, "%00", "é"])
async def test_a_plastic_id_is_a_number(operations_face: OperationsFace, plastic_id: str) -> None:
    seen, stored = await both(operations_face, plastic_id)
    assert (seen, stored) == (INVALID, INVALID)


async def test_a_plastic_that_is_none_is_not_found(operations_face: OperationsFace) -> None:
    assert await both(operations_face, "9" * 38) == (NOT_FOUND, NOT_FOUND)


@pytest.mark.parametrize(
    "block",
    [
        *("", "81739710556E151", "81739710556E15180", "81739710556E151G", " 1739710556E1518"),
        *("gXOXEFVuFRg=", None, 81739710556, ["81739710556E1518"], "\uff181739710556E1518"),
    ],
)
async def test_a_block_is_16_hexadecimal_digits(
    operations_face: OperationsFace, block: object
) -> None:
    _, plastic_id = await operations_face.pincontrol.plastic()
    answer = await operations_face.post(f"v2/{plastic_id}", zpkIndex="0", pinBlock=block)
    assert outcomes.failure(answer) == INVALID
    assert "pinBlock" in answer.json()["errorReason"]


@pytest.mark.parametrize(
    ("clear", "expected"),
    [
        *((start + NEW_PIN + "A" * 10, REFUSED) for start in ("04", "24", "34", "44", "1D", "1F")),
        ("13" + "284" + "A" * 11, REFUSED),
        ("10" + "A" * 14, REFUSED),
        ("14" + "28A6" + "A" * 10, REFUSED),
        ("1C" + "28461957302A" + "00", REFUSED),
        ("14" + "1111" + "A" * 10, WEAK),
        ("14" + "1234" + "A" * 10, WEAK),
        ("15" + "28461" + "A" * 9, WEAK),
        ("1C" + "284619573028" + "00", WEAK),
        *(("14" + NEW_PIN + fill * 10, 200) for fill in "09AF"),
    ],
)
async def test_a_block_is_one_of_format_1_with_a_pin_that_the_policy_takes(
    operations_face: OperationsFace, clear: str, expected: object
) -> None:
    _, plastic_id = await operations_face.pincontrol.plastic()
    answer = await operations_face.put(plastic_id, block_of_clear(clear))
    assert told(answer) == expected
    assert await operations_face.pin(plastic_id) == (NEW_PIN if expected == 200 else PIN)


async def test_blocks_that_are_wrong_are_counted_for_the_card(
    operations_face: OperationsFace,
) -> None:
    wrong = block_of_clear("0" * 16)
    _, plastic_id = await operations_face.pincontrol.plastic()
    for _ in range(5):
        assert told(await operations_face.put(plastic_id, wrong)) == REFUSED
    answer = await operations_face.put(plastic_id, block_of(NEW_PIN))
    assert told(answer) == REFUSED
    assert operations_face.pincontrol.audit(answer)[0][3] == "CARD_REFUSED"
    assert await operations_face.pin(plastic_id) == PIN
    _, another = await operations_face.pincontrol.plastic()
    assert told(await operations_face.put(another, block_of(NEW_PIN))) == 200


async def test_blocks_that_are_wrong_are_counted_for_the_server(
    operations_face: OperationsFace,
) -> None:
    await operations_face.with_policy(failures_client_max=3)
    try:
        for _ in range(3):
            _, plastic_id = await operations_face.pincontrol.plastic()
            assert told(await operations_face.put(plastic_id, block_of_clear("0" * 16))) == REFUSED
        _, plastic_id = await operations_face.pincontrol.plastic()
        assert told(await operations_face.put(plastic_id, block_of(NEW_PIN))) == LIMITED
    finally:
        await operations_face.with_policy()


async def test_what_is_shown_and_set_counts_against_the_limits_of_a_day(
    operations_face: OperationsFace,
) -> None:
    _, plastic_id = await operations_face.pincontrol.plastic()
    await operations_face.with_limits(handouts_card_day_max=2)
    try:
        assert await operations_face.pin(plastic_id) == PIN
        assert told(await operations_face.put(plastic_id, block_of(NEW_PIN))) == 200
        limited = (429, "LIMIT_REACHED", "SECURITY_ERROR")
        assert await both(operations_face, plastic_id) == (limited, limited)
    finally:
        await operations_face.with_limits()
    assert await operations_face.pin(plastic_id) == NEW_PIN


async def test_without_pre_shared_keys_in_the_manifest_no_server_sees_or_sets_a_pin(
    operations_face: OperationsFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    _, plastic_id = await operations_face.pincontrol.plastic()
    async with opened(operations_face.d1_face) as own:
        await own.with_operations(**operations(pre_shared_keys=[]))
        try:
            assert await both(own, plastic_id) == (NOT_OFFERED, NOT_OFFERED)
        finally:
            await own.with_operations(**operations())
        assert await both(own, plastic_id) == (200, 200)


@pytest.mark.parametrize("query", ["", "auditUser=", "auditUser=a&auditUser=b", "audituser=a"])
async def test_who_asks_must_be_named(operations_face: OperationsFace, query: str) -> None:
    _, plastic_id = await operations_face.pincontrol.plastic()
    view_id, set_id = await operations_face.pincontrol.control_ids(plastic_id)
    http, headers = operations_face.http, basic(backends.USER, SECRET)
    path = f"/pin/v2/{plastic_id}?{query}"
    body = {"zpkIndex": "0", "pinBlock": block_of(NEW_PIN)}
    answers = [await http.get(f"{path}&zpkIndex=0", headers=headers)]
    answers.append(await http.post(path, json=body, headers=headers))
    for name, members in (
        ("view", {"controlId": view_id}),
        ("set/tzpk", {"controlId": set_id}),
        ("set", {"controlId": set_id, "pinBlock": "gXOXEFVuFRg="}),
    ):
        answers.append(await http.post(f"/pin/v3/{name}?{query}", json=members, headers=headers))
    for answer in answers:
        assert outcomes.failure(answer) == INVALID
        assert "auditUser" in answer.json()["errorReason"]


async def test_what_is_deprecated_or_never_was_is_not_served(
    operations_face: OperationsFace,
) -> None:
    http, headers = operations_face.http, basic(backends.USER, SECRET)
    _, plastic_id = await operations_face.pincontrol.plastic()
    for method, path in (
        ("GET", f"v1/{plastic_id}"),
        *(("POST", f"v2/{name}") for name in ("view", "set/tzpk", "set")),
        *(("POST", f"v3/{name}") for name in ("", "view/", plastic_id)),
        ("GET", "v2"),
        ("GET", ""),
    ):
        answer = await http.request(
            method, f"/pin/{path}", params={"auditUser": "a", "zpkIndex": "0"}, headers=headers
        )
        assert outcomes.failure(answer) == NOWHERE, path


async def test_other_methods_do_nothing(operations_face: OperationsFace) -> None:
    http, headers = operations_face.http, basic(backends.USER, SECRET)
    _, plastic_id = await operations_face.pincontrol.plastic()
    for path, allowed in (
        (f"v2/{plastic_id}", {"GET", "POST"}),
        ("v3/view", {"POST"}),
        ("v3/set/tzpk", {"POST"}),
        ("v3/set", {"POST"}),
    ):
        for method in {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "POST"} - allowed:
            answer = await http.request(
                method,
                f"/pin/{path}",
                params={"auditUser": "a", "zpkIndex": "0"},
                headers={**headers, "origin": "https://desk.example"},
            )
            assert answer.status_code == 405
            assert {*answer.headers["allow"].split(", ")} == allowed
            assert "access-control-allow-origin" not in answer.headers
            assert operations_face.pincontrol.audit(answer) == []


async def test_a_body_that_is_too_large_is_refused(operations_face: OperationsFace) -> None:
    _, plastic_id = await operations_face.pincontrol.plastic()
    for path in (f"v2/{plastic_id}", "v3/view", "v3/set/tzpk", "v3/set"):
        answer = await operations_face.post(path, x="x" * 17_000)
        assert outcomes.failure(answer) == INVALID
        ((_, card_id, *_, reason, audit_user, _),) = operations_face.pincontrol.audit(answer)
        assert (card_id, reason, audit_user) == (None, "REQUEST_INVALID", AUDIT_USER)


async def test_a_sealed_pin_of_another_card_is_an_alarm(operations_face: OperationsFace) -> None:
    pincontrol = operations_face.pincontrol
    victim, own = await pincontrol.plastic(), await pincontrol.plastic(pin="9382")
    copy = (
        "UPDATE cards SET sealed_pin = (SELECT sealed_pin FROM cards WHERE card_id = %s)"
        " WHERE card_id = %s"
    )
    pincontrol.sql(copy, victim[0], own[0])
    answer = await operations_face.get(own[1])
    assert outcomes.failure(answer)[0] == 500
    ((event, _, _, reason, *_),) = pincontrol.audit(answer)
    assert (event, reason) == ("pin.get.failed", "SEAL_BROKEN")


async def test_another_plastic_id_in_a_row_shows_nothing(operations_face: OperationsFace) -> None:
    """The vault believes the sealed record."""
    pincontrol = operations_face.pincontrol
    card_id, plastic_id = await pincontrol.plastic()
    pincontrol.sql("UPDATE cards SET plastic_id = '4242424242' WHERE card_id = %s", card_id)
    assert await both(operations_face, "4242424242") == (NOT_FOUND, NOT_FOUND)
    pincontrol.sql("UPDATE cards SET plastic_id = %s WHERE card_id = %s", plastic_id, card_id)
    assert await both(operations_face, plastic_id) == (200, 200)


async def test_the_other_listener_and_the_other_faces_do_not_serve_them(
    operations_face: OperationsFace,
) -> None:
    _, plastic_id = await operations_face.pincontrol.plastic()
    d1, headers = operations_face.d1_face.d1.http, basic(backends.USER, SECRET)
    params = {"auditUser": "a", "zpkIndex": "0"}
    for http in (d1, operations_face.pincontrol.http):
        answer = await http.get(f"/pin/v2/{plastic_id}", params=params, headers=headers)
        assert answer.status_code == 404
        assert "pinBlock" not in answer.text
