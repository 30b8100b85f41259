"""PUT pin with a SECCOS payload: counter, MAC, block, PRW, and who is stopped after failures."""

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from cms.app import Application
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.partners.d1_seccos import mac, session_key
from cms.services import directory
from crypto.jose import jws_json
from hsm.port import ValueKind
from tests import counted
from tests.cms.faces.d1 import refusals
from tests.cms.faces.d1_face import put_body, refusal
from tests.deployment import TEMPLATE
from tests.issuer_records import change_manifest, run_sql
from tests.seccos_issuer import (
    ISSUER_IDS,
    KEYS,
    PVV_AND_OFFSET,
    SeccosIssuer,
    Watched,
    flipped,
    open_girobank,
    watched_vault,
)
from tests.service import d1, running

pytestmark = pytest.mark.anyio

PIN, OTHER_PIN = "4071", "9382"
ISSUERS_OWN_PRW = {"prw_source": "issuer"}
KINDS = (ValueKind.PVV, ValueKind.OFFSET_3624, ValueKind.PRW, ValueKind.SCRIPT)


@dataclass(frozen=True)
class Giro:
    """One issuer before the running service, called as its D1 does."""

    url: str
    vault: Watched
    http: httpx.AsyncClient
    seccos_issuer: SeccosIssuer

    @property
    def issuer_id(self) -> str:
        return self.seccos_issuer.sample_issuer.issuer_id

    def path(self, card_id: str = "card-1", tail: str = "") -> str:
        return f"/cms/api/v1/issuers/{self.issuer_id}/cards/{card_id}/pin{tail}"

    async def put(self, jwe: str, card_id: str = "card-1", type_: str = "SECCOS") -> httpx.Response:
        return await self.http.put(self.path(card_id), content=put_body(jwe, type_))

    async def put_iso0(self, pin: str = PIN, card_id: str = "card-1") -> httpx.Response:
        return await self.put(
            self.seccos_issuer.sample_issuer.pin_jwe(pin, card_id), card_id, "ISO0"
        )

    async def put_seccos(self, counter: int, card_id: str = "card-1") -> httpx.Response:
        return await self.put(self.seccos_issuer.seccos(PIN, counter, card_id), card_id)

    async def get(self, card_id: str = "card-1") -> httpx.Response:
        return await self.http.get(self.path(card_id))

    async def counter(self, card_id: str = "card-1") -> int:
        answer = await self.http.get(self.path(card_id, "/changeCounter"))
        assert answer.status_code == 200
        return int(answer.json()["changeCounter"])

    async def have_refused(self, card_id: str = "card-1") -> None:
        """Guess until the card takes no SECCOS."""
        for _ in range(5):
            answer = await self.put(self.seccos_issuer.wrong_prw(0, card_id), card_id)
            assert refusal(answer) == refusals.BLOCK

    async def have_limited(self, card_id: str = "card-1") -> None:
        """Send what is not genuine until the client has to wait."""
        jwe = self.seccos_issuer.wrong_mac(0, card_id)
        for _ in range(60):
            assert refusal(await self.put(jwe, card_id)) == refusals.BLOCK

    def reason(self, answer: httpx.Response) -> str | None:
        """Return what the audit says of the one request."""
        ((event, reason),) = run_sql(
            self.url,
            "SELECT event, reason FROM audit_events WHERE correlation_id = %s",
            answer.headers["x-correlation-id"],
        )
        assert event == ("pin.set" if reason is None else "pin.set.refused")
        return reason if reason is None else str(reason)

    def stored(self) -> list[tuple[object, ...]]:
        """Return everything that is stored of the cards but for the audit."""
        return [
            *run_sql(self.url, "SELECT * FROM cards WHERE issuer_id = %s", self.issuer_id),
            *run_sql(self.url, "SELECT * FROM pin_changes WHERE issuer_id = %s", self.issuer_id),
        ]

    def kinds(self, card_id: str = "card-1") -> set[str]:
        """Name what is stored of the PIN."""
        ((pin, *values),) = run_sql(
            self.url,
            "SELECT sealed_pin, sealed_pvv, sealed_offset_3624, sealed_prw, sealed_script"
            " FROM cards WHERE issuer_id = %s AND card_id = %s",
            *(self.issuer_id, card_id),
        )
        cached = {kind.value for kind, value in zip(KINDS, values, strict=True) if value}
        return cached | {"pin"} if pin else cached

    def age(self, **time: int) -> None:
        """Let time pass for the failures that were counted."""
        counted.age(self.vault, self.issuer_id, int(timedelta(**time).total_seconds()))


@dataclass(frozen=True)
class Stage:
    """The running service; each test opens an issuer of its own at it."""

    url: str
    application: Application
    vault: Watched
    state_directory: Path
    closing: AsyncExitStack
    issuer_ids: Iterator[str]

    async def open(
        self,
        profile: Mapping[str, object] | None,
        verification: Mapping[str, object] | None = None,
    ) -> Giro:
        seccos_issuer = open_girobank(
            self.url,
            self.vault,
            next(self.issuer_ids),
            profile=profile,
            verification=verification,
        )
        caller = await self.closing.enter_async_context(
            d1(self.application, seccos_issuer.sample_issuer)
        )
        return Giro(self.url, self.vault, caller.http, seccos_issuer)


@pytest.fixture(scope="module")
async def stage(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    name = f"stage_{secrets.token_hex(6)}"
    postgres.create_database(name, template=TEMPLATE)
    files, state = tmp_path_factory.mktemp(name), tmp_path_factory.mktemp("vault")
    url, vault = postgres.url(name), watched_vault(state)
    async with running(url, files, vault) as application, AsyncExitStack() as closing:
        yield Stage(url, application, vault, state, closing, iter(ISSUER_IDS))
    postgres.drop_database(name)


@pytest.fixture
async def giro(stage: Stage) -> Giro:
    """An issuer with the default profile that asks for no verification values."""
    return await stage.open({})


# The conversation


async def test_a_pin_is_taken_for_the_counter_that_was_read_and_moves_it(giro: Giro) -> None:
    for counter, pin in enumerate((PIN, OTHER_PIN, PIN)):
        assert await giro.counter() == counter
        answer = await giro.put(giro.seccos_issuer.seccos(pin, counter))
        assert (answer.status_code, answer.content) == (204, b"")
        assert giro.reason(answer) is None
    assert await giro.counter() == 3


@pytest.mark.parametrize("stale", [0, 2])
async def test_a_counter_that_is_not_the_cards_is_refused(giro: Giro, stale: int) -> None:
    assert (await giro.put_seccos(0)).status_code == 204
    before = giro.stored()
    answer = await giro.put_seccos(stale)
    assert refusal(answer) == refusals.BLOCK
    assert giro.reason(answer) == "NOT_GENUINE"
    assert giro.stored() == before


async def test_the_same_jwe_again_is_taken_and_changes_nothing_even_after_a_newer_one(
    giro: Giro,
) -> None:
    first = giro.seccos_issuer.seccos(PIN, 0)
    assert (await giro.put(first)).status_code == 204
    before = giro.stored()
    assert (await giro.put(first)).status_code == 204
    assert giro.stored() == before
    assert (await giro.put(giro.seccos_issuer.seccos(OTHER_PIN, 1))).status_code == 204
    before = giro.stored()
    assert (await giro.put(first)).status_code == 204
    assert giro.stored() == before
    assert await giro.counter() == 2


async def test_the_same_jwe_again_is_taken_from_a_limited_client_for_a_refused_card(
    giro: Giro,
) -> None:
    first = giro.seccos_issuer.seccos(PIN, 0)
    assert (await giro.put(first)).status_code == 204
    for _ in range(5):
        await giro.put(giro.seccos_issuer.wrong_prw(1))
    assert (await giro.put(first)).status_code == 204
    await giro.have_limited("card-2")
    assert (await giro.put(first)).status_code == 204
    assert await giro.counter() == 1


async def test_a_pin_that_came_as_seccos_is_not_handed_out_and_iso0_takes_its_place(
    giro: Giro,
) -> None:
    assert (await giro.put_seccos(0)).status_code == 204
    assert giro.kinds() == {"prw", "script"}
    assert refusal(await giro.get()) == refusals.NOT_AVAILABLE
    assert (await giro.put_iso0()).status_code == 204
    assert (await giro.get()).status_code == 200
    assert giro.kinds() == {"pin"}
    assert await giro.counter() == 2
    assert (await giro.put_seccos(2)).status_code == 204
    assert refusal(await giro.get()) == refusals.NOT_AVAILABLE


async def test_a_weak_pin_is_refused_by_policy(giro: Giro) -> None:
    assert refusal(await giro.put(giro.seccos_issuer.seccos("1234", 0))) == refusals.POLICY
    assert await giro.counter() == 0


async def test_a_card_whose_changes_cannot_be_counted_further_is_refused(giro: Giro) -> None:
    run_sql(giro.url, "UPDATE cards SET counter = 65536 WHERE issuer_id = %s", giro.issuer_id)
    assert refusal(await giro.put_seccos(0)) == refusals.NO_FURTHER_CHANGE


# One answer


def wrong_block(seccos_issuer: SeccosIssuer) -> str:
    """Put another PIN's block behind a MAC that is right for it."""
    payload, block = seccos_issuer.payload(PIN, 0), bytes.fromhex("00112233445566FF")
    tag = mac(block, 0, session_key(KEYS.mac, seccos_issuer.card(), 0)).hex().upper()
    return seccos_issuer.jwe({**payload, "pinBlock": block.hex().upper(), "mac": tag})


def changed(**members: object) -> Callable[[SeccosIssuer], str]:
    """Put these in place of a good payload's; None leaves a member out."""

    def make(seccos_issuer: SeccosIssuer) -> str:
        payload = seccos_issuer.payload(PIN, 0) | members
        return seccos_issuer.jwe(
            {name: value for name, value in payload.items() if value is not None}
        )

    return make


FAILURES: Mapping[str, tuple[str, Callable[[SeccosIssuer], str]]] = {
    "MAC": ("NOT_GENUINE", lambda sample_issuer: sample_issuer.wrong_mac(0)),
    "block": ("NOT_GENUINE", lambda b: b.jwe(flipped(b.payload(PIN, 0), "pinBlock", 63))),
    "counter": ("NOT_GENUINE", lambda sample_issuer: sample_issuer.seccos(PIN, 1)),
    "counter told": ("NOT_GENUINE", changed(pinChangeCounter=1)),
    "another card": (
        "NOT_GENUINE",
        lambda sample_issuer: sample_issuer.seccos(PIN, 0, "card-2"),
    ),
    "PRW": ("WRONG_PIN_DATA", lambda sample_issuer: sample_issuer.wrong_prw(0)),
    "random": ("WRONG_PIN_DATA", changed(prwRandom="00000000")),
    "block behind a MAC": ("WRONG_PIN_DATA", wrong_block),
    "no MAC": ("PIN_REFUSED", changed(mac=None)),
    "no PRW": ("PIN_REFUSED", changed(prw=None)),
    "block twice": ("PIN_REFUSED", changed(block="0011223344556677")),
    "counter twice": ("PIN_REFUSED", changed(counter=0)),
    "odd hex": ("PIN_REFUSED", changed(mac="0" * 15)),
    "no hex": ("PIN_REFUSED", changed(mac="G" * 16)),
    "long MAC": ("PIN_REFUSED", changed(mac="0" * 18)),
    "short PRW": ("PIN_REFUSED", changed(prw="0" * 16)),
    "long block": ("PIN_REFUSED", changed(pinBlock="0" * 32)),
    "block a number": ("PIN_REFUSED", changed(pinBlock=1122334455667788)),
    "key id": ("PIN_REFUSED", changed(keyId="2026")),
    "counter a float": ("PIN_REFUSED", changed(pinChangeCounter=0.0)),
    "counter a boolean": ("PIN_REFUSED", changed(pinChangeCounter=False)),
    "counter negative": ("PIN_REFUSED", changed(pinChangeCounter=-1)),
    "counter too high": ("PIN_REFUSED", changed(pinChangeCounter=65536)),
    "JWE": ("PIN_REFUSED", lambda sample_issuer: spoilt(sample_issuer.seccos(PIN, 0))),
    "ISO-0": (
        "PIN_REFUSED",
        lambda sample_issuer: sample_issuer.sample_issuer.pin_jwe(PIN),
    ),
}


def spoilt(jwe: str) -> str:
    head, _, tag = jwe.rpartition(".")
    return f"{head}.{'B' if tag[0] == 'A' else 'A'}{tag[1:]}"


def wire(answer: httpx.Response) -> tuple[object, ...]:
    """Return all that a caller sees, but for its own correlation id."""
    headers = [item for item in answer.headers.items() if item[0] != "x-correlation-id"]
    return answer.status_code, answer.content, headers


async def test_every_failure_has_the_same_answer_stores_no_pin_and_is_audited_as_what_it_is(
    giro: Giro,
) -> None:
    answers = {}
    for name, (reason, make) in FAILURES.items():
        counted.forget(giro.vault)
        before = giro.stored()
        answers[name] = await giro.put(make(giro.seccos_issuer))
        assert (name, giro.reason(answers[name])) == (name, reason)
        assert giro.stored() == before, name
    await giro.have_refused("card-3")
    answers["card refused"] = await giro.put_seccos(0, "card-3")
    assert giro.reason(answers["card refused"]) == "CARD_REFUSED"
    assert {name: wire(answer) for name, answer in answers.items()} == dict.fromkeys(
        answers, wire(answers["MAC"])
    )
    assert refusal(answers["MAC"]) == refusals.BLOCK
    assert [await giro.counter(f"card-{n}") for n in (1, 2, 3)] == [0, 0, 0]
    assert (await giro.put_seccos(0)).status_code == 204


async def test_a_seccos_body_with_the_type_of_iso0_is_refused(giro: Giro) -> None:
    answer = await giro.put(giro.seccos_issuer.seccos(PIN, 0), type_="ISO0")
    # An enciphered block may look like one of a length that no policy takes.
    assert refusal(answer) in (refusals.BLOCK, refusals.POLICY)
    assert await giro.counter() == 0


async def test_an_issuer_without_a_profile_takes_no_seccos(stage: Stage) -> None:
    giro = await stage.open(None)
    assert refusal(await giro.put_seccos(0)) == refusals.NOT_OFFERED
    assert (await giro.put_iso0()).status_code == 204


# Guesses count against the card


async def test_after_5_guesses_the_right_pin_is_refused_unseen_and_all_else_goes_on(
    giro: Giro,
) -> None:
    assert (await giro.put_iso0()).status_code == 204
    for _ in range(4):
        assert refusal(await giro.put(giro.seccos_issuer.wrong_prw(1))) == refusals.BLOCK
    assert (await giro.put_seccos(1)).status_code == 204  # 4 are not too many, and stay counted
    assert refusal(await giro.put(giro.seccos_issuer.wrong_prw(2))) == refusals.BLOCK
    tried, right = giro.vault.tried, giro.seccos_issuer.seccos(PIN, 2)
    answer = await giro.put(right)
    assert refusal(answer) == refusals.BLOCK
    assert giro.reason(answer) == "CARD_REFUSED"
    assert giro.vault.tried == tried
    assert await giro.counter() == 2
    assert (await giro.put_seccos(0, "card-2")).status_code == 204
    assert (await giro.put_iso0()).status_code == 204
    assert (await giro.get()).status_code == 200
    assert await giro.counter() == 3


async def test_a_refused_card_takes_seccos_again_24_hours_later(giro: Giro) -> None:
    await giro.have_refused()
    giro.age(hours=23, minutes=59)
    assert refusal(await giro.put_seccos(0)) == refusals.BLOCK
    giro.age(minutes=2)
    assert (await giro.put_seccos(0)).status_code == 204


async def test_a_refused_card_takes_seccos_again_once_an_operator_says_so(giro: Giro) -> None:
    await giro.have_refused()
    right = giro.seccos_issuer.seccos(PIN, 0)
    assert refusal(await giro.put(right)) == refusals.BLOCK
    giro.vault.forget_failures(giro.seccos_issuer.sample_issuer.card())
    assert (await giro.put(right)).status_code == 204


async def test_that_a_card_is_refused_is_logged_once(
    giro: Giro, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "hsm.budgets"):
        await giro.have_refused()
        await giro.put_seccos(0)
    assert [(r.getMessage(), r.__dict__["card_id"]) for r in caplog.records] == [
        ("seccos.card_refused", "card-1")
    ]


async def test_of_20_guesses_at_once_5_reach_the_vault(giro: Giro) -> None:
    jwes = [giro.seccos_issuer.wrong_prw(0) for _ in range(20)]
    tried = giro.vault.tried
    answers = await asyncio.gather(*map(giro.put, jwes))
    assert {refusal(answer) for answer in answers} == {refusals.BLOCK}
    assert giro.vault.tried - tried == 5


# What is not genuine counts against the client


async def test_what_is_not_genuine_never_has_a_card_refused(giro: Giro) -> None:
    for jwe in [giro.seccos_issuer.wrong_mac(0), giro.seccos_issuer.seccos(PIN, 7)] * 10:
        assert refusal(await giro.put(jwe)) == refusals.BLOCK
    assert (await giro.put_seccos(0)).status_code == 204


async def test_what_is_malformed_counts_against_nobody(giro: Giro) -> None:
    jwe = changed(mac=None)(giro.seccos_issuer)
    for _ in range(61):
        assert refusal(await giro.put(jwe)) == refusals.BLOCK
    assert (await giro.put_seccos(0)).status_code == 204


async def test_the_60th_that_is_not_genuine_within_a_minute_stops_seccos_of_the_client_alone(
    stage: Stage, giro: Giro, caplog: pytest.LogCaptureFixture
) -> None:
    other = await stage.open({})
    with caplog.at_level(logging.WARNING, "hsm.budgets"):
        await giro.have_limited()
        tried = giro.vault.tried
        for card_id in ("card-1", "card-2"):
            answer = await giro.put_seccos(0, card_id)
            assert refusal(answer)[:2] == (429, "TOO_MANY_REQUESTS")
            assert answer.headers["retry-after"] == "60"
            assert giro.reason(answer) == "TOO_MANY_FAILURES"
    assert giro.vault.tried == tried
    assert [(r.levelname, r.getMessage(), r.__dict__["client_id"]) for r in caplog.records] == [
        ("ERROR", "alarm.seccos_client", giro.seccos_issuer.sample_issuer.client_id)
    ]
    assert (await giro.put_iso0()).status_code == 204
    assert (await giro.get()).status_code == 200
    assert await giro.counter() == 1
    assert (await other.put_seccos(0)).status_code == 204
    giro.age(minutes=1)
    assert (await giro.put_seccos(1)).status_code == 204


# Verification values


async def test_every_value_that_is_asked_for_is_stored_whatever_form_the_pin_came_in(
    stage: Stage,
) -> None:
    giro = await stage.open(ISSUERS_OWN_PRW, {**PVV_AND_OFFSET, "prw": True})
    assert (await giro.put_seccos(0)).status_code == 204
    assert giro.kinds() == {"pvv", "offset-3624", "prw", "script"}
    assert (await giro.put_iso0()).status_code == 204
    assert giro.kinds() == {"pin", "pvv", "offset-3624", "prw"}


async def test_a_value_that_is_no_longer_asked_for_is_cleared_by_the_next_change(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    giro = await stage.open({}, PVV_AND_OFFSET)
    assert (await giro.put_iso0()).status_code == 204
    assert giro.kinds() == {"pin", "pvv", "offset-3624"}
    change_manifest(giro.vault, giro.issuer_id, verification={})
    assert giro.kinds() == {"pin", "pvv", "offset-3624"}
    assert (await giro.put_iso0(OTHER_PIN)).status_code == 204
    assert giro.kinds() == {"pin"}


async def test_where_only_d1_makes_a_prw_a_pin_comes_as_seccos_or_not_at_all(
    stage: Stage,
) -> None:
    giro = await stage.open({}, {"prw": True})
    assert refusal(await giro.put_iso0()) == refusals.NOT_IN_THIS_FORM
    assert giro.kinds() == set()
    assert (await giro.put_seccos(0)).status_code == 204
    assert giro.kinds() == {"prw", "script"}
    before = giro.stored()
    assert refusal(await giro.put_iso0()) == refusals.NOT_IN_THIS_FORM
    assert giro.stored() == before


# A manifest that the vault refuses


def state_file(stage: Stage, issuer_id: str) -> Path:
    return stage.state_directory / f"{issuer_id.encode().hex()}.json"


def edited(payload: bytes) -> bytes:
    return payload.replace(b'"verify":"full"', b'"verify":"mac_only"')


async def test_a_profile_that_was_edited_in_the_vaults_own_files_stores_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    giro = await stage.open({})
    file = state_file(stage, giro.issuer_id)
    stored = json.loads(file.read_text())
    signed = jws_json.parse(stored["jws"])
    forged = str(replace(signed, payload=edited(signed.payload)))
    assert forged != str(signed)
    file.write_text(json.dumps({**stored, "jws": forged}))
    await refused_for_now(giro)
    file.write_text(json.dumps({**stored, "cmac": stored["cmac"][:16]}))
    await refused_for_now(giro)


async def test_the_manifest_of_another_issuer_stores_nothing(
    stage: Stage, giro: Giro, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    victim = await stage.open(None)
    file = state_file(stage, giro.issuer_id)
    state_file(stage, victim.issuer_id).write_text(file.read_text())
    await refused_for_now(victim)


async def test_a_manifest_that_ended_is_not_one_that_the_issuer_never_had(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    giro = await stage.open({}, PVV_AND_OFFSET)
    end = datetime.now(UTC) + timedelta(hours=1)
    change_manifest(giro.vault, giro.issuer_id, valid_until=end.isoformat())
    assert (await giro.put_seccos(0)).status_code == 204
    monkeypatch.setattr(giro.vault, "ahead", timedelta(hours=1))
    await refused_for_now(giro)


async def refused_for_now(giro: Giro) -> None:
    """Send a good PIN in each form: both must be answered 503 and store nothing."""
    before = giro.stored()
    for answer in (await giro.put_seccos(0), await giro.put_iso0()):
        assert refusal(answer) == refusals.TRY_LATER
        assert answer.headers["retry-after"] == "1"
    assert giro.stored() == before
