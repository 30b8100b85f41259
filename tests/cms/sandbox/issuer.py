"""A small issuer, as far as D1 sees one, that can be told to misbehave."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from cms.sandbox.partners.jwe import encrypt
from cms.sandbox.partners.pin_blocks import iso0_block, iso0_pin
from crypto.errors import SeccosError
from crypto.seccos.verify import Verdict
from tests.crypto.seccos.d1_side import Card, SharedKeys
from tests.crypto.seccos.profiles import profile
from tests.crypto.seccos.vault_side import card_data, received

ISSUER_ID = "digibank01"
CARD_ID = "card-1"
PAN = "4761739001010010"
PINS = ("7392", "8405")
REFUSAL = {"errorCode": "PIN_CHANGE_FORBIDDEN", "error": "refused"}
SECCOS_CARD = Card("6725901234567890125", 1, "2912")
SECCOS_KEYS = SharedKeys(
    spe=bytes.fromhex("1F2F3D4C5B6B79890123456789ABCDEF"),
    prw=bytes(range(32)),
    mac=bytes.fromhex("A1B3C2D5E5F70719FEDCBA9876543210"),
)

ISSUER_KEY = JWK.generate(kty="EC", crv="P-256", kid="issuer-1")
D1_KEY = JWK.generate(kty="EC", crv="P-256", kid="d1-1")


def public(key: JWK) -> dict[str, str]:
    members: dict[str, str] = json.loads(key.export_public())
    return members


@dataclass
class Issuer:
    """The service, as far as D1 sees it. The switches turn one rule each off."""

    forgets_the_new_pin: bool = False
    counts_replays: bool = False
    counts_twice: bool = False
    accepts_weak_pins: bool = False
    accepts_stale_counters: bool = False
    hands_out_seccos: bool = False
    encrypts_to: Mapping[str, str] = field(default_factory=lambda: public(D1_KEY))
    lifetime: object = "900"
    answers: dict[tuple[str, str], httpx.Response] = field(default_factory=dict)

    requests: list[httpx.Request] = field(default_factory=list)
    access_tokens: int = 0
    block: str = ""
    counter: int = 0
    seen: set[str] = field(default_factory=set)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        call = (request.method, request.url.path.rsplit("/", 1)[1])
        if call in self.answers:
            return self.answers[call]
        if call != ("POST", "token"):
            assert request.headers["authorization"] == f"Bearer token-{self.access_tokens}"
        routes: dict[tuple[str, str], Callable[[httpx.Request], httpx.Response]] = {
            ("POST", "token"): self._token,
            ("POST", "activate"): lambda _: httpx.Response(204),
            ("GET", "changeCounter"): self._counter,
            ("PUT", "pin"): self._put,
            ("GET", "pin"): self._get,
        }
        return routes[call](request)

    def _token(self, _: httpx.Request) -> httpx.Response:
        self.access_tokens += 1
        answer = {"access_token": f"token-{self.access_tokens}", "expires_in": self.lifetime}
        return httpx.Response(200, json={**answer, "token_type": "Bearer"})

    def _counter(self, _: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"changeCounter": self.counter})

    def _put(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        jwe = body["encryptedPinBlock"]
        replayed = jwe in self.seen
        content = opened(jwe, ISSUER_KEY)
        block = ""
        if body["type"] == "SECCOS":
            if not replayed and not self._accepts_seccos(content):
                return httpx.Response(400, json={"errorCode": "FIELD_INVALID_VALUE", "error": "no"})
        else:
            block = content["pinBlock"]
            if iso0_pin(block, PAN) == "1111" and not self.accepts_weak_pins:
                return httpx.Response(403, json=REFUSAL)
        if not replayed and not (self.block and self.forgets_the_new_pin):
            self.block = block
        if not replayed or self.counts_replays:
            self.counter += 2 if self.counts_twice else 1
        self.seen.add(jwe)
        return httpx.Response(204)

    def _accepts_seccos(self, content: dict[str, Any]) -> bool:
        counter = content["pinChangeCounter"] if self.accepts_stale_counters else self.counter
        card = card_data(SECCOS_CARD)
        try:
            outcome = received(content, profile({}), SECCOS_KEYS, card, counter)
        except SeccosError:
            return False
        return outcome.verdict is Verdict.ACCEPTED

    def _get(self, _: httpx.Request) -> httpx.Response:
        if not self.block and not self.hands_out_seccos:
            return httpx.Response(403, json={"errorCode": "PIN_NOT_AVAILABLE", "error": "no"})
        block = self.block or iso0_block(PINS[0], SECCOS_CARD.pan)
        jwe = encrypt({"pinBlock": block}, self.encrypts_to)
        return httpx.Response(200, json={"type": "ISO0", "encryptedPinBlock": jwe})


def opened(jwe: str, key: JWK) -> dict[str, Any]:
    message = JWE()
    message.deserialize(jwe, key)
    content: dict[str, Any] = json.loads(message.payload)
    return content
