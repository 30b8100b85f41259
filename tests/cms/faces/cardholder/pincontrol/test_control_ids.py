"""``POST /pincontrol/v2/plastic/{plasticId}``: what an issuer's server asks and is told."""

import asyncio
import json
from uuid import UUID

import httpx
import pytest

from cms.domain.cards import CardState
from cms.faces.cardholder.pincontrol import schemas
from cms.services import directory
from tests.cms.faces.cardholder.pincontrol import backends, outcomes
from tests.cms.faces.cardholder.pincontrol.pincontrol_face import (
    AUDIT_USER,
    PUBLIC_URL,
    PinControlFace,
    basic,
    opened,
)
from tests.cms.faces.d1_face import D1Face
from tests.issuer_records import (
    SECRET,
    add_clients,
    change_manifest,
    open_issuer,
    server_client,
)

pytestmark = pytest.mark.anyio
UNAUTHORIZED = (401, "UNAUTHORIZED", "SECURITY_ERROR")
INVALID = (400, "INVALID_REQUEST", outcomes.STATIC)
NOT_FOUND = (404, "CARD_NOT_FOUND", outcomes.DYNAMIC)
FORBIDDEN = (403, "CARD_STATE_FORBIDDEN", outcomes.DYNAMIC)
NO_PIN = (403, "PIN_NOT_AVAILABLE", outcomes.DYNAMIC)
NOT_OFFERED = (403, "PIN_CHANGE_NOT_OFFERED", outcomes.DYNAMIC)
STATES = [state.value for state in CardState]


def told(answer: httpx.Response) -> tuple[int, str, str] | int:
    return 201 if answer.status_code == 201 else outcomes.failure(answer)


async def test_a_server_gets_an_id_and_both_addresses(pincontrol_face: PinControlFace) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    answer = await pincontrol_face.ask(plastic_id)
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert str(UUID(body["id"])) == body.pop("id")
    assert body == {
        "pinURL": f"{PUBLIC_URL}/pincontrol/pin",
        "pinFrameURL": f"{PUBLIC_URL}/pincontrol/frame",
    }
    issued = ("control.issued", card_id, backends.USER, "pincontrol view", AUDIT_USER, None)
    assert pincontrol_face.audit(answer) == [issued]


async def test_an_id_lives_30_seconds_by_the_databases_clock(
    pincontrol_face: PinControlFace,
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    await pincontrol_face.control_id(plastic_id)
    life = "SELECT extract(epoch FROM expires_at - issued_at) FROM control_tokens"
    assert pincontrol_face.sql(life + " WHERE card_id = %s", card_id) == [(30,)]
    for seconds, status in ((20, 200), (30, 410)):
        control_id = await pincontrol_face.control_id(plastic_id)
        pincontrol_face.age(card_id, seconds)
        assert (await pincontrol_face.view(control_id)).status_code == status


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic !",
        "Bearer a.b.c",
        basic(backends.USER, "wrong")["authorization"],
        basic(backends.USER, "")["authorization"],
        basic("testbank01-nobody", SECRET)["authorization"],
        basic("nobody0001-server", SECRET)["authorization"],
        basic("testbank01", SECRET)["authorization"],  # D1's client
        basic("testbank0\0-server", SECRET)["authorization"],
        basic("", SECRET)["authorization"],
    ],
)
async def test_who_is_not_a_server_of_an_issuer_is_unauthorized(
    pincontrol_face: PinControlFace, authorization: str | None
) -> None:
    _, plastic_id = await pincontrol_face.plastic()
    headers = {} if authorization is None else {"authorization": authorization}
    answer = await pincontrol_face.http.post(
        f"/pincontrol/v2/plastic/{plastic_id}?auditUser=x",
        json={"scope": "VIEW_PIN"},
        headers=headers,
    )
    assert outcomes.failure(answer) == UNAUTHORIZED
    assert answer.headers["www-authenticate"] == 'Basic realm="pincontrol", charset="UTF-8"'
    assert pincontrol_face.audit(answer) == []


async def test_a_server_that_was_removed_is_unauthorized(
    pincontrol_face: PinControlFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    _, plastic_id = await pincontrol_face.plastic()
    await pincontrol_face.control_id(plastic_id, user=backends.OTHER_USER)
    await pincontrol_face.change(backends.OTHER_USER, client_id=backends.GONE)
    try:
        assert (
            outcomes.failure(await pincontrol_face.ask(plastic_id, user=backends.OTHER_USER))
            == UNAUTHORIZED
        )
    finally:
        await pincontrol_face.change(backends.GONE, client_id=backends.OTHER_USER)
    assert (await pincontrol_face.ask(plastic_id, user=backends.OTHER_USER)).status_code == 201


async def test_of_two_things_that_are_wrong_the_first_is_told(
    pincontrol_face: PinControlFace,
) -> None:
    blocked, plastic_id = await pincontrol_face.plastic()
    pincontrol_face.block(blocked)
    for password, password_told in (("wrong", UNAUTHORIZED), (SECRET, None)):
        for scope, scope_told in (("PIN", INVALID), ("VIEW_PIN", None)):
            for plastic, plastic_told in (("123", NOT_FOUND), (plastic_id, FORBIDDEN)):
                answer = await pincontrol_face.ask(plastic, scope, password=password)
                assert outcomes.failure(answer) == (password_told or scope_told or plastic_told)


@pytest.mark.parametrize(
    "plastic_id",
    ["x", "1x", "-1", "+1", "1.0", "%201", "1%00", "٣", "%D9%A3", "1" * 39, "0x1", "%0A1"],
)
async def test_a_plastic_id_is_a_number_of_1_to_38_digits(
    pincontrol_face: PinControlFace, plastic_id: str
) -> None:
    answer = await pincontrol_face.ask(plastic_id)
    assert outcomes.failure(answer) == INVALID
    assert "plasticId" in answer.json()["errorReason"]
    refused = (
        *("control.refused", None, backends.USER, "REQUEST_INVALID", AUDIT_USER),
        answer.json()["id"],
    )
    assert pincontrol_face.audit(answer) == [refused]


async def test_leading_zeros_name_the_same_number(pincontrol_face: PinControlFace) -> None:
    _, plastic_id = await pincontrol_face.plastic()
    for written in (plastic_id, f"0{plastic_id}", plastic_id.rjust(38, "0")):
        assert (await pincontrol_face.ask(written)).status_code == 201
    assert outcomes.failure(await pincontrol_face.ask("0" * 38)) == NOT_FOUND
    assert outcomes.failure(await pincontrol_face.ask("9" * 38)) == NOT_FOUND


async def test_no_pan_is_looked_for_in_what_is_too_long_for_who_asks(
    pincontrol_face: PinControlFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long text it takes a tenth of a second, in which nobody else is served."""
    sought: list[str] = []
    monkeypatch.setattr(schemas, "holds_pan", lambda text, **_: sought.append(text))
    _, plastic_id = await pincontrol_face.plastic()
    for length, status in ((128, 201), (129, 400)):
        answer = await pincontrol_face.ask(plastic_id, query="auditUser=" + "1" * length)
        assert answer.status_code == status
    assert [len(text) for text in sought] == [128]


@pytest.mark.parametrize(
    ("query", "audit_user"),
    [
        ("auditUser=a", "a"),
        ("auditUser=" + "x" * 128, "x" * 128),
        ("auditUser=%C3%A9%20%F0%9F%92%B3+%3B%2F'\"", "é 💳 ;/'\""),
        ("auditUser=" + "%F0%9F%92%B3" * 128, "💳" * 128),
        ("other=1&auditUser=a&AuditUser=b", "a"),
        ("", None),
        ("auditUser", None),
        ("auditUser=", None),
        ("AUDITUSER=a", None),
        ("auditUser=a&auditUser=a", None),
        ("auditUser=" + "x" * 129, None),
        ("auditUser=a%00", None),
        ("auditUser=a%0Ab", None),
        ("auditUser=a%7F", None),
        ("auditUser=a%C2%85", None),
        ("auditUser=a%E2%80%A8", None),
        ("auditUser=a%E2%80%8B", None),
        ("auditUser=a%E2%80%AEb", None),
        ("auditUser=%20%20", None),
        ("auditUser=%FF", None),
        ("auditUser=4539578763621486", None),
        ("auditUser=desk-4539578763621486-b", None),
        ("auditUser=4539578763621487", "4539578763621487"),
        ("auditUser=4539-5787.6362%2F1486", None),
        ("auditUser=550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-446655440000"),
        ("auditUser=auth0%7C5f7c8ec71111070071234567", "auth0|5f7c8ec71111070071234567"),
    ],
)
async def test_who_asks_is_1_to_128_printable_characters_once(
    pincontrol_face: PinControlFace, query: str, audit_user: str | None
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    answer = await pincontrol_face.ask(plastic_id, query=query)
    (row,) = pincontrol_face.audit(answer)
    if audit_user is not None:
        assert answer.status_code == 201, answer.text
        assert row == (
            "control.issued",
            card_id,
            backends.USER,
            "pincontrol view",
            audit_user,
            None,
        )
    else:
        assert outcomes.failure(answer) == INVALID
        assert "auditUser" in answer.json()["errorReason"]
        assert row == (
            "control.refused",
            None,
            backends.USER,
            "REQUEST_INVALID",
            None,
            answer.json()["id"],
        )
        assert pincontrol_face.controls(card_id) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"not JSON",
        b'{"scope": "VIEW_PIN"',
        b'{"scope": "VIEW_PIN"} x',
        b'{"scope": "VIEW_PIN", "scope": "VIEW_PIN"}',
        b'{"Scope": "VIEW_PIN"}',
        b'{"scope": "view_pin"}',
        b'{"scope": "VIEW_PIN "}',
        b'{"scope": "PIN"}',
        b'{"scope": ""}',
        b'{"scope": null}',
        b'{"scope": 1}',
        b'{"scope": true}',
        b'{"scope": ["VIEW_PIN"]}',
        b'{"scope": {"VIEW_PIN": 1}}',
        b'{"scope": "\\ud800"}',
        b'\xff{"scope": "VIEW_PIN"}',
        b"scope=VIEW_PIN",
        b"[" * 5000,
        b'{"scope": "VIEW_PIN", "x": "' + b"x" * 17_000 + b'"}',
    ],
)
async def test_a_body_is_an_object_with_a_scope_as_enumerated(
    pincontrol_face: PinControlFace, body: bytes
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    answer = await pincontrol_face.ask(plastic_id, body=body)
    assert outcomes.failure(answer) == INVALID
    refused = (
        "control.refused",
        None,
        backends.USER,
        "REQUEST_INVALID",
        AUDIT_USER,
        answer.json()["id"],
    )
    assert pincontrol_face.audit(answer) == [refused]
    assert pincontrol_face.controls(card_id) == []


async def test_members_and_parameters_that_are_not_known_are_ignored(
    pincontrol_face: PinControlFace,
) -> None:
    _, plastic_id = await pincontrol_face.plastic()
    body = json.dumps({"scope": "VIEW_PIN", "new": {"deep": [1]}, "pin": 1}).encode()
    answer = await pincontrol_face.ask(plastic_id, query="auditUser=a&new=1&new=2", body=body)
    assert answer.status_code == 201


@pytest.mark.parametrize("personalised", [False, True])
@pytest.mark.parametrize("pin", [None, "4071"])
@pytest.mark.parametrize("state", STATES)
async def test_what_a_plastic_allows(
    pincontrol_face: PinControlFace, state: str, pin: str | None, personalised: bool
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic(
        CardState(state), pin, personalised=personalised
    )
    usable = state in ("inactive", "active")
    view = FORBIDDEN if not usable else NO_PIN if pin is None else 201
    set_ = FORBIDDEN if not usable or personalised else 201
    for scope, verb, expected in (("VIEW_PIN", "pin.get", view), ("SET_PIN", "pin.set", set_)):
        answer = await pincontrol_face.ask(plastic_id, scope)
        assert told(answer) == expected
        if expected != 201:
            reason = answer.json()["errorCode"]
            refused = (
                f"{verb}.refused",
                card_id,
                backends.USER,
                reason,
                AUDIT_USER,
                answer.json()["id"],
            )
            assert pincontrol_face.audit(answer) == [refused]
    assert len(pincontrol_face.controls(card_id)) == [view, set_].count(201)


async def test_a_pin_that_came_as_seccos_only_is_not_shown(pincontrol_face: PinControlFace) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    pincontrol_face.sql("UPDATE cards SET pin_type = 'SECCOS' WHERE card_id = %s", card_id)
    assert outcomes.failure(await pincontrol_face.ask(plastic_id)) == NO_PIN
    assert (await pincontrol_face.ask(plastic_id, "SET_PIN")).status_code == 201


async def test_where_only_d1_makes_the_prw_no_pin_is_set(pincontrol_face: PinControlFace) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    in_vault = pincontrol_face.d1_face.in_vault
    asked = {"seccos": {}, "verification": {"prw": True}}
    not_asked: dict[str, object] = {"seccos": None, "verification": {}}
    try:
        await in_vault(lambda vault: change_manifest(vault, "testbank01", **asked))
        answer = await pincontrol_face.ask(plastic_id, "SET_PIN")
        assert outcomes.failure(answer) == NOT_OFFERED
        ((event, card, *_, error_id),) = pincontrol_face.audit(answer)
        assert (event, card, error_id) == ("pin.set.refused", card_id, answer.json()["id"])
        assert (await pincontrol_face.ask(plastic_id)).status_code == 201
    finally:
        await in_vault(lambda vault: change_manifest(vault, "testbank01", **not_asked))


async def test_another_issuers_plastic_of_the_same_number_is_another(
    pincontrol_face: PinControlFace,
) -> None:
    _, plastic_id = await pincontrol_face.plastic()
    d1_face = pincontrol_face.d1_face
    await d1_face.in_vault(lambda vault: open_issuer(d1_face.url, vault, "secondbank"))
    server = server_client("secondbank-x")
    await d1_face.in_vault(lambda vault: add_clients(vault, "secondbank", server))
    answer = await pincontrol_face.ask(plastic_id, "SET_PIN", "secondbank-x")
    assert outcomes.failure(answer) == NOT_FOUND
    refused = (
        *("pin.set.refused", None, "secondbank-x", "CARD_NOT_FOUND", AUDIT_USER),
        answer.json()["id"],
    )
    assert pincontrol_face.audit(answer) == [refused]


@pytest.mark.parametrize("scope", ["VIEW_PIN", "SET_PIN"])
async def test_a_plastic_that_only_the_database_numbers_so_is_none(
    pincontrol_face: PinControlFace, scope: str
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    number = "UPDATE cards SET plastic_id = %s WHERE card_id = %s"
    pincontrol_face.sql(number, f"9{plastic_id}", card_id)
    answer = await pincontrol_face.ask(f"9{plastic_id}", scope)
    assert outcomes.failure(answer) == NOT_FOUND
    ((event, *_, reason, audit_user, error_id),) = pincontrol_face.audit(answer)
    assert (event[-8:], reason, audit_user) == (".refused", "EVIDENCE_REFUSED", AUDIT_USER)
    assert error_id == answer.json()["id"]
    pincontrol_face.sql(number, plastic_id, card_id)
    assert (await pincontrol_face.ask(plastic_id, scope)).status_code == 201


async def test_three_ids_of_a_card_purpose_and_client_are_live(
    pincontrol_face: PinControlFace,
) -> None:
    _, plastic_id = await pincontrol_face.plastic()
    views = [await pincontrol_face.control_id(plastic_id) for _ in range(4)]
    others = [
        await pincontrol_face.control_id(plastic_id, "SET_PIN"),
        await pincontrol_face.control_id(plastic_id, user=backends.OTHER_USER),
    ]
    statuses = [
        (await pincontrol_face.webview(control_id)).status_code for control_id in views + others
    ]
    assert statuses == [410, 200, 200, 200, 200, 200]


async def test_of_ids_asked_for_at_once_three_are_live(pincontrol_face: PinControlFace) -> None:
    _, plastic_id = await pincontrol_face.plastic()
    await pincontrol_face.control_id(plastic_id)
    ids = await asyncio.gather(*(pincontrol_face.control_id(plastic_id) for _ in range(12)))
    live = [(await pincontrol_face.webview(control_id)).status_code for control_id in ids]
    assert sorted(live) == [200] * 3 + [410] * 9


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        (
            "GET",
            "/pincontrol/v2/plastic/1?auditUser=x",
            (405, "METHOD_NOT_ALLOWED", outcomes.STATIC),
        ),
        ("PUT", "/pincontrol/v2/plastic/1", (405, "METHOD_NOT_ALLOWED", outcomes.STATIC)),
        ("OPTIONS", "/pincontrol/v2/plastic/1", (405, "METHOD_NOT_ALLOWED", outcomes.STATIC)),
        ("DELETE", "/pincontrol/pin", (405, "METHOD_NOT_ALLOWED", outcomes.STATIC)),
        ("POST", "/pincontrol/frame", (405, "METHOD_NOT_ALLOWED", outcomes.STATIC)),
        ("GET", "/pincontrol/page/session", (405, "METHOD_NOT_ALLOWED", outcomes.STATIC)),
        ("POST", "/pincontrol/v2/plastic/", (404, "NO_SUCH_RESOURCE", outcomes.STATIC)),
        ("POST", "/pincontrol/v2/plastic/1/", (404, "NO_SUCH_RESOURCE", outcomes.STATIC)),
        ("POST", "/pincontrol/v1/plastic/1", (404, "NO_SUCH_RESOURCE", outcomes.STATIC)),
        ("GET", "/pincontrol/", (404, "NO_SUCH_RESOURCE", outcomes.STATIC)),
        ("GET", "/pincontrol/docs", (404, "NO_SUCH_RESOURCE", outcomes.STATIC)),
        ("GET", "/pincontrol/openapi.json", (404, "NO_SUCH_RESOURCE", outcomes.STATIC)),
        ("POST", "/pincontrol/page/", (404, "NO_SUCH_RESOURCE", outcomes.STATIC)),
    ],
)
async def test_what_is_not_there_is_told_in_the_same_words(
    pincontrol_face: PinControlFace, method: str, path: str, told: tuple[int, str, str]
) -> None:
    answer = await pincontrol_face.http.request(method, path, headers=basic(backends.USER, SECRET))
    assert outcomes.failure(answer) == told


async def test_a_method_that_is_not_taken_is_answered_with_those_that_are(
    pincontrol_face: PinControlFace,
) -> None:
    answer = await pincontrol_face.http.delete("/pincontrol/pin")
    assert {*answer.headers["allow"].split(", ")} == {"GET", "HEAD", "POST"}


async def test_nobody_else_says_who_calls(with_backends: D1Face) -> None:
    """Otherwise each guess at a password comes from another address."""
    async with opened(with_backends) as pincontrol_face:
        _, plastic_id = await pincontrol_face.plastic()
        for n in range(11):
            answer = await pincontrol_face.ask(plastic_id, x_forwarded_for=f"192.0.2.{n}")
            assert outcomes.failure(answer) == (400, "INVALID_REQUEST", "STATIC_VALIDATION_ERROR")
        assert (await pincontrol_face.ask(plastic_id)).status_code == 201


async def test_ten_wrong_passwords_from_an_address_make_it_wait(with_backends: D1Face) -> None:
    async with opened(with_backends, proxy_peers=frozenset({"127.0.0.1"})) as pincontrol_face:
        _, plastic_id = await pincontrol_face.plastic()
        await pincontrol_face.control_id(plastic_id)
        for n in range(10):
            answer = await pincontrol_face.ask(plastic_id, password=f"guess {n}")
            assert outcomes.failure(answer) == UNAUTHORIZED
        answer = await pincontrol_face.ask(plastic_id, password="guess 10")
        assert outcomes.failure(answer) == (429, "TOO_MANY_FAILURES", "SECURITY_ERROR")
        assert answer.headers["retry-after"] == "60"
        # The server itself, at the same address, and others elsewhere go on.
        assert (await pincontrol_face.ask(plastic_id)).status_code == 201
        answer = await pincontrol_face.ask(
            plastic_id, user=backends.OTHER_USER, x_forwarded_for="192.0.2.9"
        )
        assert answer.status_code == 201
        # Cardholders are not shut out by them.
        assert (
            await pincontrol_face.webview(await pincontrol_face.control_id(plastic_id))
        ).status_code == 200
