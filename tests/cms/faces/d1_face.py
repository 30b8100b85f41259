"""A running service with a bank whose cards are in every state, shared by the tests of a file."""

import itertools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cms.app import Application
from cms.domain.cards import CardState
from hsm.vault import Vault
from tests import counted
from tests.in_process_vault import in_process
from tests.issuer_records import PAN, SampleIssuer, add_card, change_client, open_issuer, run_sql
from tests.service import D1, d1, running

PIN = "4071"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class D1Face:
    """The cards ``active``, ``inactive``, ``blocked`` and ``closed`` have a PIN, ``empty`` none."""

    url: str
    application: Application
    sample_issuer: SampleIssuer
    d1: D1
    bearer: Mapping[str, str]

    @classmethod
    @asynccontextmanager
    async def set_up(cls, url: str, directory: Path, vault: Vault) -> AsyncIterator["D1Face"]:
        sample_issuer = open_issuer(url, vault)
        async with (
            running(url, directory, vault) as application,
            d1(application, sample_issuer) as caller,
        ):
            d1_face = cls(url, application, sample_issuer, caller, await caller.bearer())
            for state in CardState:
                await d1_face.add_card(state.value, state, pin=PIN)
            await d1_face.add_card("empty")
            yield d1_face

    async def add_card(
        self,
        card_id: str = "",
        state: CardState = CardState.ACTIVE,
        *,
        pin: str | None = None,
        pan: str = PAN,
        plastic_id: str | None = None,
        cardholder_id: str | None = None,
    ) -> str:
        """Add a card, with an id of its own unless one is given."""
        name = card_id or f"new-{next(_numbers)}"
        await self.in_vault(
            lambda vault: add_card(
                *(self.url, vault, self.sample_issuer, name, pan),
                plastic_id=plastic_id,
                cardholder_id=cardholder_id,
            )
        )
        if pin is not None:
            assert (await self.put_pin(pin, name)).status_code == 204
        run_sql(self.url, "UPDATE cards SET state = %s WHERE card_id = %s", state.value, name)
        return name

    async def in_vault(self, verb: Any) -> Any:  # noqa: ANN401 - whatever the verb returns
        """Run *verb* where the service does: the HSM token's session is for one thread."""
        return await in_process(self.application.vault).run(verb)

    async def open_issuer(self, issuer_id: str, **given: Any) -> SampleIssuer:  # noqa: ANN401 - open_issuer's
        """Add another issuer."""
        opened: SampleIssuer = await self.in_vault(
            lambda vault: open_issuer(self.url, vault, issuer_id, **given)
        )
        return opened

    @asynccontextmanager
    async def d1_of(self, issuer_id: str, **given: Any) -> AsyncIterator[D1]:  # noqa: ANN401 - open_issuer's
        """Add another issuer, and play D1 to it."""
        async with d1(self.application, await self.open_issuer(issuer_id, **given)) as caller:
            yield caller

    async def register_certificates(self, issuer_id: str, names: Sequence[str]) -> None:
        """Have an issuer's D1 known by these names of certificates."""
        await self.in_vault(
            lambda vault: change_client(vault, issuer_id, issuer_id, certificates=list(names))
        )

    async def put_pin(self, pin: str, card_id: str) -> httpx.Response:
        return await self.put(put_body(self.sample_issuer.pin_jwe(pin, card_id)), card_id)

    async def put(
        self, body: bytes | AsyncIterator[bytes], card_id: str, **headers: str
    ) -> httpx.Response:
        return await self.send("PUT", self.d1.path(card_id), body, **headers)

    async def send(
        self, method: str, path: str, body: bytes | AsyncIterator[bytes] = b"", **headers: str
    ) -> httpx.Response:
        """Send a request with the client's bearer and a correlation id of its own."""
        return await self.d1.http.request(
            method,
            path,
            content=body,
            headers={**self.bearer, "x-correlation-id": f"call-{next(_numbers)}", **headers},
        )

    def audit(self, answer: httpx.Response) -> list[tuple[Any, ...]]:
        """Return what the audit says of one request: event, card, actor, reason, counter."""
        return run_sql(
            self.url,
            "SELECT event, card_id, actor, reason, counter FROM audit_events"
            " WHERE correlation_id = %s",
            answer.headers["x-correlation-id"],
        )

    def stored(self, card_id: str) -> tuple[Any, ...]:
        """Return everything that is stored of a card, but for the audit."""
        (card,) = run_sql(
            self.url,
            "SELECT to_jsonb(cards) FROM cards WHERE card_id = %s",
            card_id,
        )
        changes = run_sql(
            self.url, "SELECT * FROM pin_changes WHERE card_id = %s ORDER BY counter", card_id
        )
        return (*card, *changes)

    async def forget_failures(self) -> None:
        """Let a test fail as often as it likes."""
        await self.in_vault(counted.forget)

    def state(self, card_id: str) -> str:
        ((state,),) = run_sql(self.url, "SELECT state FROM cards WHERE card_id = %s", card_id)
        return str(state)

    def counter(self, card_id: str) -> int:
        ((counter,),) = run_sql(self.url, "SELECT counter FROM cards WHERE card_id = %s", card_id)
        return int(counter)


def put_body(jwe: object, type_: object = "ISO0", **more: object) -> bytes:
    return json.dumps({"type": type_, "encryptedPinBlock": jwe, **more}).encode()


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """Return status, code and text of an answer that has the documented shape and no other."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert body.keys() == {"errorCode", "error"}, body
    return answer.status_code, body["errorCode"], body["error"]
