"""``/pin/v3``: PINs to and from cardholders' devices, by keys that these make."""

import asyncio
import base64
from typing import Final, LiteralString
from uuid import uuid4

import pytest

from cms.domain.cards import CardState
from cms.services import directory
from tests.cms.audit_counts import counted_as_audited
from tests.cms.faces.cardholder.pincontrol import backends, outcomes
from tests.cms.faces.cardholder.pincontrol.operations.operations_face import (
    OperationsFace,
    opened,
    operations,
)
from tests.cms.faces.cardholder.pincontrol.pincontrol_face import AUDIT_USER
from tests.cms.faces.d1_face import PIN
from tests.crypto.ciphers import tdes_ecb_decrypt
from tests.devices import PythonDevice, device_of, is_here, public_text, rsa_key

pytestmark = pytest.mark.anyio
NEW_PIN = "2846"
ENDED = (400, "CONTROL_ENDED", outcomes.DYNAMIC)
REFUSED = (400, "PIN_BLOCK_REFUSED", outcomes.DYNAMIC)
WEAK = (400, "PIN_FORBIDDEN", outcomes.DYNAMIC)
INVALID = (400, "INVALID_REQUEST", outcomes.STATIC)
FORBIDDEN = (403, "CARD_STATE_FORBIDDEN", outcomes.DYNAMIC)
NOT_OFFERED = (403, "OPERATION_NOT_OFFERED", "SECURITY_ERROR")
DEVICE = PythonDevice()
LANGUAGES = [
    pytest.param(name, marks=pytest.mark.skipif(not is_here(name), reason=f"{name} is not here"))
    for name in ("python", "java", "node")
]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_device_sets_a_pin_and_sees_it(
    operations_face: OperationsFace, language: str
) -> None:
    pincontrol = operations_face.pincontrol
    card_id, plastic_id = await pincontrol.plastic(CardState.INACTIVE, pin=None)
    with counted_as_audited(pincontrol.d1_face.url) as counted, device_of(language) as device:
        control_id = await pincontrol.control_id(plastic_id, "SET_PIN")
        made = await operations_face.key(control_id, device.public_key)
        assert (made.status_code, [*made.json()]) == (200, ["tzpk"])
        block = device.write(made.json()["tzpk"], NEW_PIN)
        stored = await operations_face.set(control_id, block)
        assert (stored.status_code, stored.json()) == (200, {})

        view_id = await pincontrol.control_id(plastic_id)
        shown = await operations_face.view(view_id, device.public_key)
        assert (shown.status_code, {*shown.json()}) == (200, {"tzpk", "pinBlock"})
        assert device.read(shown.json()["tzpk"], shown.json()["pinBlock"]) == NEW_PIN
    assert counted == {"control.issued": 2, "control.key": 1, "pin.set": 1, "pin.get": 1}
    for answer in (made, stored, shown):
        assert answer.headers["cache-control"] == "no-store"
    by = (card_id, backends.USER)
    assert pincontrol.audit(made) == [("control.key", *by, None, AUDIT_USER, None)]
    assert pincontrol.audit(stored) == [("pin.set", *by, "pincontrol pki", AUDIT_USER, None)]
    assert pincontrol.audit(shown) == [("pin.get", *by, "pincontrol pki", AUDIT_USER, None)]
    assert pincontrol.controls(card_id) == [(True, "set"), (True, "shown")]
    assert pincontrol.sql("SELECT counter FROM cards WHERE card_id = %s", card_id) == [(1,)]


async def test_what_is_sent_is_another_key_and_block_each_time(
    operations_face: OperationsFace,
) -> None:
    _, plastic_id = await operations_face.pincontrol.plastic()
    seen = set()
    for _ in range(3):
        control_id = await operations_face.pincontrol.control_id(plastic_id)
        shown = (await operations_face.view(control_id, DEVICE.public_key)).json()
        assert DEVICE.read(shown["tzpk"], shown["pinBlock"]) == PIN
        seen |= {shown["tzpk"], shown["pinBlock"], DEVICE.tzpk(shown["tzpk"])}
    assert len(seen) == 9


async def test_a_control_id_shows_a_pin_once(operations_face: OperationsFace) -> None:
    card_id, plastic_id = await operations_face.pincontrol.plastic()
    control_id = await operations_face.pincontrol.control_id(plastic_id)
    at_once = await asyncio.gather(
        *(operations_face.view(control_id, DEVICE.public_key) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in at_once) == [200, 400, 400, 400]
    again = await operations_face.view(control_id, DEVICE.public_key)
    assert outcomes.failure(again) == ENDED
    refused = ("pin.get.refused", card_id, backends.USER, "CONTROL_ENDED", AUDIT_USER)
    assert operations_face.pincontrol.audit(again) == [(*refused, again.json()["id"])]


async def test_of_pins_that_come_at_once_one_is_stored(operations_face: OperationsFace) -> None:
    card_id, plastic_id = await operations_face.pincontrol.plastic()
    control_id = await operations_face.pincontrol.control_id(plastic_id, "SET_PIN")
    tzpk = await operations_face.tzpk(control_id, DEVICE.public_key)
    pins = ["2846", "6193", "5027", "7318"]
    answers = await asyncio.gather(
        *(operations_face.set(control_id, DEVICE.write(tzpk, pin)) for pin in pins)
    )
    (won,) = (n for n, answer in enumerate(answers) if answer.status_code == 200)
    lost = [outcomes.failure(answer) for answer in answers if answer.status_code != 200]
    assert lost == [ENDED] * 3
    assert await operations_face.pin(plastic_id) == pins[won]
    assert operations_face.pincontrol.controls(card_id) == [(True, "set")]
    counter = "SELECT counter FROM cards WHERE card_id = %s"
    assert operations_face.pincontrol.sql(counter, card_id) == [(2,)]


async def test_the_newest_key_of_a_control_id_is_the_one_that_counts(
    operations_face: OperationsFace,
) -> None:
    _, plastic_id = await operations_face.pincontrol.plastic()
    control_id = await operations_face.pincontrol.control_id(plastic_id, "SET_PIN")
    first = await operations_face.tzpk(control_id, DEVICE.public_key)
    second = await operations_face.tzpk(control_id, DEVICE.public_key)
    third = await operations_face.tzpk(control_id, DEVICE.public_key)
    assert len({*map(DEVICE.tzpk, (first, second, third))}) == 3
    refused = await operations_face.key(control_id, DEVICE.public_key)
    assert outcomes.failure(refused) == ENDED
    answer = await operations_face.set(control_id, DEVICE.write(third, NEW_PIN))
    assert answer.status_code == 200
    assert await operations_face.pin(plastic_id) == NEW_PIN


@pytest.mark.parametrize(
    ("clear", "told"),
    [
        ("2" + "4" + NEW_PIN + "A" * 10, REFUSED),
        ("0" + "4" + NEW_PIN + "F" * 10, REFUSED),
        ("1" + "3" + "284" + "A" * 11, REFUSED),
        ("1" + "D" + NEW_PIN + "0" * 10, REFUSED),
        ("1" + "4" + "28A6" + "A" * 10, REFUSED),
        ("1" + "4" + "1111" + "A" * 10, WEAK),
        ("1" + "6" + "284619" + "A" * 8, WEAK),
    ],
)
async def test_a_control_id_is_over_when_its_block_cannot_be_used(
    operations_face: OperationsFace, clear: str, told: tuple[int, str, str]
) -> None:
    card_id, plastic_id = await operations_face.pincontrol.plastic()
    control_id = await operations_face.pincontrol.control_id(plastic_id, "SET_PIN")
    tzpk = await operations_face.tzpk(control_id, DEVICE.public_key)
    answer = await operations_face.set(control_id, DEVICE.write_clear(tzpk, clear))
    assert outcomes.failure(answer) == told
    (row,) = operations_face.pincontrol.audit(answer)
    reason = "PIN_CHANGE_FORBIDDEN" if told == WEAK else "WRONG_PIN_DATA"
    assert row[:5] == ("pin.set.refused", card_id, backends.USER, reason, AUDIT_USER)
    assert operations_face.pincontrol.controls(card_id) == [(False, "failed")]
    again = await operations_face.set(control_id, DEVICE.write(tzpk, NEW_PIN))
    assert outcomes.failure(again) == ENDED
    assert await operations_face.pin(plastic_id) == PIN


async def test_a_block_under_a_key_of_another_control_id_is_refused(
    operations_face: OperationsFace,
) -> None:
    _, plastic_id = await operations_face.pincontrol.plastic()
    first, second = [
        await operations_face.pincontrol.control_id(plastic_id, "SET_PIN") for _ in range(2)
    ]
    recorded = DEVICE.write(await operations_face.tzpk(first, DEVICE.public_key), NEW_PIN)
    deciphered = "1"
    while deciphered.startswith("1"):  # by chance it would be a block of format 1 there too
        other = DEVICE.tzpk(await operations_face.tzpk(second, DEVICE.public_key))
        deciphered = tdes_ecb_decrypt(other)(base64.b64decode(recorded)).hex()
    assert outcomes.failure(await operations_face.set(second, recorded)) == REFUSED
    assert (await operations_face.set(first, recorded)).status_code == 200


COPY: Final[LiteralString] = (
    "UPDATE control_tokens SET sealed_tzpk = other.sealed_tzpk FROM control_tokens AS other"
    " WHERE control_tokens.card_id = %s AND other.card_id = %s"
)
COPY_WITH_GRANT: Final[LiteralString] = COPY.replace(
    "SET sealed_tzpk", "SET sealed_grant = other.sealed_grant, sealed_tzpk"
)


@pytest.mark.parametrize("copy", [COPY, COPY_WITH_GRANT])
async def test_a_row_that_was_copied_from_another_control_id_sets_no_pin(
    operations_face: OperationsFace, copy: LiteralString
) -> None:
    pincontrol = operations_face.pincontrol
    (own, own_plastic), (victim, victim_plastic) = [await pincontrol.plastic() for _ in range(2)]
    own_id = await pincontrol.control_id(own_plastic, "SET_PIN")
    recorded = DEVICE.write(await operations_face.tzpk(own_id, DEVICE.public_key), NEW_PIN)
    victim_id = await pincontrol.control_id(victim_plastic, "SET_PIN")
    pincontrol.sql(copy, victim, own)
    answer = await operations_face.set(victim_id, recorded)
    if copy is COPY:
        assert outcomes.failure(answer)[0] == 500
        ((event, _, _, reason, *_),) = pincontrol.audit(answer)
        assert (event, reason) == ("pin.set.failed", "SEAL_BROKEN")
    else:
        assert outcomes.failure(answer) == ENDED
    assert await operations_face.pin(victim_plastic) == PIN
    assert (await operations_face.set(own_id, recorded)).status_code == 200


async def test_the_key_of_a_device_goes_when_its_control_id_ends(
    operations_face: OperationsFace,
) -> None:
    pincontrol = operations_face.pincontrol
    stored = "SELECT sealed_tzpk IS NOT NULL FROM control_tokens WHERE card_id = %s"
    for pin, status in ((NEW_PIN, 200), ("1111", 400)):
        card_id, plastic_id = await pincontrol.plastic()
        control_id = await pincontrol.control_id(plastic_id, "SET_PIN")
        tzpk = await operations_face.tzpk(control_id, DEVICE.public_key)
        assert pincontrol.sql(stored, card_id) == [(True,)]
        answer = await operations_face.set(control_id, DEVICE.write(tzpk, pin))
        assert answer.status_code == status
        assert pincontrol.sql(stored, card_id) == [(False,)]


async def test_no_pin_comes_before_a_key_was_made(operations_face: OperationsFace) -> None:
    card_id, plastic_id = await operations_face.pincontrol.plastic()
    control_id = await operations_face.pincontrol.control_id(plastic_id, "SET_PIN")
    answer = await operations_face.set(control_id, base64.b64encode(bytes(8)).decode())
    assert outcomes.failure(answer) == ENDED
    assert operations_face.pincontrol.controls(card_id) == [(False, "failed")]


async def test_a_control_id_is_good_for_its_scope_and_server_only(
    operations_face: OperationsFace,
) -> None:
    card_id, plastic_id = await operations_face.pincontrol.plastic()
    view_id, set_id = await operations_face.pincontrol.control_ids(plastic_id)
    tzpk = await operations_face.tzpk(set_id, DEVICE.public_key)
    block = DEVICE.write(tzpk, NEW_PIN)
    other = backends.OTHER_USER
    for answer in (
        await operations_face.view(set_id, DEVICE.public_key),
        await operations_face.key(view_id, DEVICE.public_key),
        await operations_face.set(view_id, block),
        await operations_face.view(view_id, DEVICE.public_key, other),
        await operations_face.key(set_id, DEVICE.public_key, other),
        await operations_face.set(set_id, block, other),
        await operations_face.view(str(uuid4()), DEVICE.public_key),
        await operations_face.key("é", DEVICE.public_key),
        await operations_face.set("😀", block),
    ):
        assert outcomes.failure(answer) == ENDED
        (row,) = operations_face.pincontrol.audit(answer)
        assert row[3:5] == ("CONTROL_ENDED", AUDIT_USER)
        assert row[1] in (None, card_id)
        assert row[1] is None or row[2] == backends.USER
    assert operations_face.pincontrol.controls(card_id) == [(False, None)] * 2
    assert (await operations_face.view(view_id, DEVICE.public_key)).status_code == 200
    assert (await operations_face.set(set_id, block)).status_code == 200


@pytest.mark.parametrize(("seconds", "is_live"), [(20, True), (30, False)])
async def test_a_control_id_lives_30_seconds_for_both_calls(
    operations_face: OperationsFace, seconds: int, *, is_live: bool
) -> None:
    pincontrol = operations_face.pincontrol
    card_id, plastic_id = await pincontrol.plastic()
    view_id, set_id = await pincontrol.control_ids(plastic_id)
    late_id = await pincontrol.control_id(plastic_id, "SET_PIN")
    tzpk = await operations_face.tzpk(set_id, DEVICE.public_key)
    pincontrol.age(card_id, seconds)
    for answer in (
        await operations_face.view(view_id, DEVICE.public_key),
        await operations_face.key(late_id, DEVICE.public_key),
        await operations_face.set(set_id, DEVICE.write(tzpk, NEW_PIN)),
    ):
        if is_live:
            assert answer.status_code == 200, answer.text
        else:
            assert outcomes.failure(answer) == ENDED


async def test_a_control_id_that_a_page_consumed_is_over_here_and_the_other_way_round(
    operations_face: OperationsFace,
) -> None:
    pincontrol = operations_face.pincontrol
    _, plastic_id = await pincontrol.plastic()
    view_id, set_id = await pincontrol.control_ids(plastic_id)
    assert (await pincontrol.view(view_id)).status_code == 200
    assert outcomes.failure(await operations_face.view(view_id, DEVICE.public_key)) == ENDED
    tzpk = await operations_face.tzpk(set_id, DEVICE.public_key)
    assert (await pincontrol.open(set_id)).status_code == 200
    answer = await operations_face.set(set_id, DEVICE.write(tzpk, NEW_PIN))
    assert outcomes.failure(answer) == ENDED
    view_id = await pincontrol.control_id(plastic_id)
    assert (await operations_face.view(view_id, DEVICE.public_key)).status_code == 200
    assert (await pincontrol.view(view_id)).status_code == 410


@pytest.mark.parametrize("state", CardState)
@pytest.mark.parametrize("personalised", [False, True])
async def test_a_card_allows_what_it_allows_our_pages(
    operations_face: OperationsFace, state: CardState, *, personalised: bool
) -> None:
    pincontrol = operations_face.pincontrol
    card_id, plastic_id = await pincontrol.plastic()
    view_id, set_id = await pincontrol.control_ids(plastic_id)
    tzpk = await operations_face.tzpk(set_id, DEVICE.public_key)
    change = "UPDATE cards SET state = %s, personalised = %s WHERE card_id = %s"
    pincontrol.sql(change, state.value, personalised, card_id)
    live = state in (CardState.INACTIVE, CardState.ACTIVE)
    shown = await operations_face.view(view_id, DEVICE.public_key)
    assert shown.status_code == 200 if live else outcomes.failure(shown) == ENDED
    key = await operations_face.key(set_id, DEVICE.public_key)
    tzpk = key.json().get("tzpk", tzpk)
    stored = await operations_face.set(set_id, DEVICE.write(tzpk, NEW_PIN))
    if live and not personalised:
        assert (key.status_code, stored.status_code) == (200, 200)
    else:
        assert (outcomes.failure(key), outcomes.failure(stored)) == (FORBIDDEN, FORBIDDEN)


KEYS = {
    "1024 bits": public_text(rsa_key(bits=1024)),
    "3072 bits": public_text(rsa_key(bits=3072)),
    "empty": "",
    "no base64": "!" * 392,
    "cut": DEVICE.public_key[:-4],
    "longer": DEVICE.public_key + "AAAA",
    "as PEM": f"-----BEGIN PUBLIC KEY-----\n{DEVICE.public_key}\n-----END PUBLIC KEY-----",
    "base64url": DEVICE.public_key.translate(str.maketrans("+/", "-_")) + "\t",
}


# Named, not shown: the keys are others in each process, and test ids must be the same in all.
@pytest.mark.parametrize(
    "public_key", [*KEYS.values(), None, 1, [], {}], ids=[*KEYS, "none", "number", "list", "object"]
)
async def test_a_key_that_no_device_may_have_consumes_nothing(
    operations_face: OperationsFace, public_key: object
) -> None:
    card_id, plastic_id = await operations_face.pincontrol.plastic()
    view_id, set_id = await operations_face.pincontrol.control_ids(plastic_id)
    for path, control_id in (("v3/view", view_id), ("v3/set/tzpk", set_id)):
        answer = await operations_face.post(path, controlId=control_id, publicKey=public_key)
        assert outcomes.failure(answer) == INVALID
        assert "publicKey" in answer.json()["errorReason"]
    assert operations_face.pincontrol.controls(card_id) == [(False, None)] * 2


async def test_line_ends_of_a_pem_file_may_stay(operations_face: OperationsFace) -> None:
    _, plastic_id = await operations_face.pincontrol.plastic()
    control_id = await operations_face.pincontrol.control_id(plastic_id)
    text = DEVICE.public_key
    lines = "".join(text[start : start + 64] + "\r\n" for start in range(0, len(text), 64))
    assert (await operations_face.view(control_id, lines)).status_code == 200


async def test_without_pki_in_the_manifest_devices_get_and_set_nothing(
    operations_face: OperationsFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    async with opened(operations_face.d1_face) as own:
        card_id, plastic_id = await own.pincontrol.plastic()
        view_id, set_id = await own.pincontrol.control_ids(plastic_id)
        tzpk = await own.tzpk(set_id, DEVICE.public_key)
        await own.with_operations(**operations(pki=False))
        try:
            for answer in (
                await own.view(view_id, DEVICE.public_key),
                await own.key(set_id, DEVICE.public_key),
                await own.set(set_id, DEVICE.write(tzpk, NEW_PIN)),
            ):
                assert outcomes.failure(answer) == NOT_OFFERED
                (row,) = own.pincontrol.audit(answer)
                assert row[3] == "TYPE_NOT_OFFERED"
        finally:
            await own.with_operations(**operations())
        assert own.pincontrol.controls(card_id) == [(False, None)] * 2
