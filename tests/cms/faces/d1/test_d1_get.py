"""GET pin and changeCounter: what is handed out, to whom, and when nothing is."""

import json
import logging
from typing import Any, LiteralString

import pytest
from jwcrypto.jwe import JWE

from cms.domain.errors import ServiceUnavailable
from cms.sandbox.partners.jwe import decrypt, encrypt
from cms.sandbox.partners.pin_blocks import iso0_block
from cms.services import directory
from cms.services.d1 import pins
from tests.cms.faces.d1 import refusals
from tests.cms.faces.d1_face import PIN, D1Face, refusal
from tests.issuer_records import PAN, PANS, change_manifest, run_sql

pytestmark = pytest.mark.anyio


async def test_the_answer_is_a_jwe_to_d1s_key_that_only_holds_the_block(d1_face: D1Face) -> None:
    answer = await d1_face.send("GET", d1_face.d1.path("active"))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"type", "encryptedPinBlock"}
    assert body["type"] == "ISO0"
    jwe = JWE(algs=["ECDH-ES", "A256GCM"])
    jwe.deserialize(body["encryptedPinBlock"])
    assert jwe.jose_header.keys() == {"alg", "enc", "kid", "epk"}
    assert jwe.jose_header["kid"] == d1_face.sample_issuer.d1_key.thumbprint()
    assert decrypt(body["encryptedPinBlock"], recipient(d1_face)) == {
        "pinBlock": iso0_block(PIN, PAN)
    }


def recipient(d1_face: D1Face) -> Any:  # noqa: ANN401 - jwcrypto has no types
    return type(d1_face.sample_issuer.d1_key)(
        **json.loads(d1_face.sample_issuer.d1_key.export())
        | {"kid": d1_face.sample_issuer.d1_key.thumbprint()}
    )


async def test_each_answer_is_encrypted_anew(d1_face: D1Face) -> None:
    answers = [await d1_face.send("GET", d1_face.d1.path("active")) for _ in range(3)]
    assert len({answer.json()["encryptedPinBlock"] for answer in answers}) == 3


async def test_a_pin_handed_out_is_audited(d1_face: D1Face) -> None:
    answer = await d1_face.send("GET", d1_face.d1.path("active"))
    assert d1_face.audit(answer) == [
        ("pin.get", "active", d1_face.sample_issuer.client_id, None, 1)
    ]


async def test_reading_changes_nothing(d1_face: D1Face) -> None:
    before = d1_face.stored("active")
    await d1_face.send("GET", d1_face.d1.path("active"))
    await d1_face.send("GET", d1_face.d1.path("active", "/pin/changeCounter"))
    assert d1_face.stored("active") == before


async def test_a_card_without_pin_has_none_to_hand_out(d1_face: D1Face) -> None:
    answer = await d1_face.send("GET", d1_face.d1.path("empty"))
    assert refusal(answer) == refusals.NOT_AVAILABLE
    row = ("pin.get.refused", "empty", d1_face.sample_issuer.client_id, "PIN_NOT_AVAILABLE", None)
    assert d1_face.audit(answer) == [row]


async def test_a_pin_that_came_as_seccos_is_not_handed_out(d1_face: D1Face) -> None:
    card = await d1_face.add_card(pin=PIN)
    run_sql(d1_face.url, "UPDATE cards SET pin_type = 'SECCOS' WHERE card_id = %s", card)
    assert refusal(await d1_face.send("GET", d1_face.d1.path(card))) == refusals.NOT_AVAILABLE
    answer = await d1_face.send("GET", d1_face.d1.path(card, "/pin/changeCounter"))
    assert answer.json() == {"changeCounter": 1}


def alarms(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [
        (record.__dict__["card_id"], record.__dict__["reason"])
        for record in caplog.records
        if record.msg == "alarm.seal_broken"
    ]


async def test_an_old_card_row_put_back_is_an_alarm_and_hands_out_nothing(
    d1_face: D1Face, caplog: pytest.LogCaptureFixture
) -> None:
    card = await d1_face.add_card(pin=PIN)
    ((old,),) = run_sql(d1_face.url, "SELECT sealed_pin FROM cards WHERE card_id = %s", card)
    assert (await d1_face.put_pin("9382", card)).status_code == 204
    change(d1_face, "UPDATE cards SET sealed_pin = %s, counter = 1 WHERE card_id = %s", old, card)

    with caplog.at_level(logging.INFO):
        answer = await d1_face.send("GET", d1_face.d1.path(card))
    assert refusal(answer) == refusals.INTERNAL
    client_id = d1_face.sample_issuer.client_id
    assert d1_face.audit(answer) == [("pin.get.failed", card, client_id, "SEAL_BROKEN", None)]
    assert alarms(caplog) == [(card, "pin.get")]


async def test_an_old_sealed_pin_alone_put_back_does_not_open(d1_face: D1Face) -> None:
    card = await d1_face.add_card(pin=PIN)
    ((old,),) = run_sql(d1_face.url, "SELECT sealed_pin FROM cards WHERE card_id = %s", card)
    assert (await d1_face.put_pin("9382", card)).status_code == 204
    change(d1_face, "UPDATE cards SET sealed_pin = %s WHERE card_id = %s", old, card)
    answer = await d1_face.send("GET", d1_face.d1.path(card))
    assert refusal(answer) == refusals.INTERNAL
    client_id = d1_face.sample_issuer.client_id
    assert d1_face.audit(answer) == [("pin.get.failed", card, client_id, "SEAL_BROKEN", None)]


async def test_a_pin_set_over_a_tampered_pan_is_an_alarm_and_stores_nothing(
    d1_face: D1Face, caplog: pytest.LogCaptureFixture
) -> None:
    card, other = [await d1_face.add_card(pin=PIN, pan=PANS[0]) for _ in range(2)]
    change(
        d1_face,
        "UPDATE cards SET sealed_record = other.sealed_record FROM cards other"
        " WHERE cards.card_id = %s AND other.card_id = %s",
        *(card, other),
    )
    answer = await d1_face.put_pin("9382", card)
    assert refusal(answer) == refusals.INTERNAL
    client_id = d1_face.sample_issuer.client_id
    assert d1_face.audit(answer) == [("pin.set.failed", card, client_id, "SEAL_BROKEN", None)]
    assert alarms(caplog) == [(card, "pin.set")]


async def test_a_pin_set_where_the_counter_was_put_back_is_an_alarm_and_stores_nothing(
    d1_face: D1Face, caplog: pytest.LogCaptureFixture
) -> None:
    card = await d1_face.add_card(pin=PIN)
    change(d1_face, "UPDATE cards SET counter = 0 WHERE card_id = %s", card)
    answer = await d1_face.put_pin("9382", card)
    assert refusal(answer) == refusals.INTERNAL
    client_id = d1_face.sample_issuer.client_id
    assert d1_face.audit(answer) == [("pin.set.failed", card, client_id, "SEAL_BROKEN", None)]
    assert alarms(caplog) == [(card, "pin.set")]
    assert d1_face.counter(card) == 0


async def test_without_the_vault_it_is_recorded_that_nothing_was_handed_out(
    d1_face: D1Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> str:
        raise ServiceUnavailable

    card = await d1_face.add_card(pin=PIN)
    monkeypatch.setattr(pins, "called", gone)
    answer = await d1_face.send("GET", d1_face.d1.path(card))
    assert answer.status_code == 503
    assert [(event, why) for event, _, _, why, _ in d1_face.audit(answer)] == [
        ("pin.get.failed", "VAULT_UNAVAILABLE")
    ]


@pytest.mark.parametrize("column", ["sealed_pin", "sealed_record"])
async def test_the_sealed_value_of_another_card_does_not_open(d1_face: D1Face, column: str) -> None:
    card, other = [await d1_face.add_card(pin=PIN, pan=PANS[0]) for _ in range(2)]
    statement: LiteralString = (
        "UPDATE cards SET sealed_pin = other.sealed_pin FROM cards other"
        if column == "sealed_pin"
        else "UPDATE cards SET sealed_record = other.sealed_record FROM cards other"
    )
    change(d1_face, statement + " WHERE cards.card_id = %s AND other.card_id = %s", card, other)
    assert refusal(await d1_face.send("GET", d1_face.d1.path(card))) == refusals.INTERNAL
    assert await d1_face.d1.pin(other) == PIN


@pytest.mark.parametrize("at", [0, 1, 2, 8, 24, -1])
async def test_an_altered_sealed_pin_does_not_open(d1_face: D1Face, at: int) -> None:
    card = await d1_face.add_card(pin=PIN)
    ((sealed,),) = run_sql(d1_face.url, "SELECT sealed_pin FROM cards WHERE card_id = %s", card)
    altered = bytearray(sealed)
    altered[at] ^= 1
    change(d1_face, "UPDATE cards SET sealed_pin = %s WHERE card_id = %s", bytes(altered), card)
    assert refusal(await d1_face.send("GET", d1_face.d1.path(card))) == refusals.INTERNAL


async def test_a_counter_that_the_history_does_not_know_is_an_alarm(d1_face: D1Face) -> None:
    card = await d1_face.add_card(pin=PIN)
    change(d1_face, "UPDATE cards SET counter = 7 WHERE card_id = %s", card)
    assert refusal(await d1_face.send("GET", d1_face.d1.path(card))) == refusals.INTERNAL


def change(d1_face: D1Face, statement: LiteralString, *parameters: object) -> None:
    """Do what somebody with the database's password could do."""
    run_sql(d1_face.url, statement, *parameters)


async def test_without_a_recipient_a_pin_is_set_and_not_handed_out(
    d1_face: D1Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    async with d1_face.d1_of("unaddressd") as caller:
        assert (await caller.put_pin(PIN)).status_code == 204
        await d1_face.in_vault(lambda vault: change_manifest(vault, "unaddressd", recipient=None))
        answer = await caller.get()
        assert refusal(answer) == refusals.TRY_LATER
        assert answer.headers["retry-after"] == "1"
        assert (await caller.put_pin("9382")).status_code == 204
        assert await caller.counter() == 2


async def test_a_renewed_recipient_gets_the_pin(
    d1_face: D1Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    async with d1_face.d1_of("renewbank1") as caller:
        assert (await caller.put_pin(PIN)).status_code == 204
        key = type(caller.sample_issuer.d1_key).generate(kty="EC", crv="P-256", kid="chosen by D1")
        body = {"jwk": json.loads(key.export_public())}
        await d1_face.in_vault(lambda vault: change_manifest(vault, "renewbank1", recipient=body))
        answer = await caller.get()
        assert decrypt(answer.json()["encryptedPinBlock"], key) == {
            "pinBlock": iso0_block(PIN, PAN)
        }


async def test_the_wire_profile_names_every_member_that_is_not_published(d1_face: D1Face) -> None:
    wire = {
        "put_pin": {"iso0": ["CLEAR-0"], "seccos": ["CHIP"]},
        "get_pin": {"field": "pinJwe", "type_literal": "Clear-0", "include_type": True},
        "iso0": {"field": "clearBlock", "aliases": ["cb"], "hex_case": "lower", "pan_field": "p"},
        "counter": {"field": "pinChangeCounter", "as_string": True},
        "errors": {"code_field": "code", "error_field": "message"},
    }
    async with d1_face.d1_of("wirebank01", wire=wire) as caller:
        block = iso0_block(PIN, PAN)
        jwe = encrypt({"cb": block, "p": PAN, "pan": "not the PAN"}, caller.sample_issuer.d1_jwk)
        assert (await caller.put(jwe, type_="clear-0")).status_code == 204
        answer = (await caller.get()).json()
        assert answer.keys() == {"type", "pinJwe"}
        assert answer["type"] == "Clear-0"
        jwe = JWE(algs=["ECDH-ES", "A256GCM"])
        jwe.deserialize(answer["pinJwe"], caller.sample_issuer.d1_key)
        assert json.loads(jwe.payload) == {"clearBlock": block.lower()}
        path = caller.path("card-1", "/pin/changeCounter")
        bearer = await caller.bearer()
        assert (await caller.http.get(path, headers=bearer)).json() == {"pinChangeCounter": "1"}
        # The default literals are not taken beside the configured ones.
        refused = await caller.put(caller.sample_issuer.pin_jwe(PIN))
        assert refused.json() == {"code": "FIELD_INVALID_FORMAT", "message": "type"}
        refused = await caller.put(caller.sample_issuer.pin_jwe(PIN), type_="CHIP")
        assert refused.json()["code"] == "PIN_CHANGE_FORBIDDEN"
        refused = await caller.put(caller.sample_issuer.pin_jwe(PIN), type_="CLEAR-0")
        assert refused.json() == {"code": "FIELD_INVALID_VALUE", "message": "encryptedPinBlock"}
        # Before the caller is known, nobody knows its names.
        refused = await caller.http.get(path)
        assert refused.json() == {"errorCode": "AUTHORIZER_UNAUTHORIZED", "error": "Unauthorized"}


async def test_the_type_can_be_left_out_of_the_answer(d1_face: D1Face) -> None:
    async with d1_face.d1_of("typelessbk", wire={"get_pin": {"include_type": False}}) as caller:
        assert (await caller.put_pin(PIN)).status_code == 204
        assert (await caller.get()).json().keys() == {"encryptedPinBlock"}
        assert await caller.pin() == PIN


async def test_the_policy_is_the_issuers(d1_face: D1Face) -> None:
    policy = {"length_min": 5, "length_max": 12, "refuse_repeated": False, "refuse_runs": False}
    async with d1_face.d1_of("policybank", policy=policy) as caller:
        for pin, status in {"4071": 403, "11111": 204, "12345": 204, "407193825061": 204}.items():
            assert (await caller.put_pin(pin)).status_code == status, pin
        assert await caller.pin() == "407193825061"
