"""The PIN operations of an issuer whose server has two pre-shared keys: real vault and database."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from cms.app import cardholder_services
from cms.faces.cardholder.pincontrol.app import operations_app
from cms.logs import RequestLog
from cms.persistence.store import Store
from cms.services.directory import Directory
from cms.services.manifests import ManifestCarrier
from crypto.secret import Secret
from hsm.client import VaultCalls
from hsm.pkcs11 import shared_keys
from hsm.pkcs11.keys import KeyKind, KeyRole
from hsm.pkcs11.shared_keys import ClearKey
from tests.cms.faces.cardholder.hosted.hosted_face import CONTROL_TOKEN_KEY
from tests.cms.faces.cardholder.pincontrol import backends
from tests.cms.faces.cardholder.pincontrol.pincontrol_face import (
    PUBLIC_URL,
    PinControlFace,
    basic,
)
from tests.cms.faces.cardholder.pincontrol.pincontrol_face import opened as pincontrol_opened
from tests.cms.faces.d1_face import D1Face
from tests.contracts.software_token import SoftwareToken
from tests.crypto.ciphers import tdes_ecb, tdes_ecb_decrypt
from tests.devices import iso1_pin, iso1_text
from tests.issuer_records import SECRET, change_manifest
from tests.operators import open_vault

ISSUER_ID: Final = "testbank01"
#: That of the published sample, without odd parity: K1 and K2.
SAMPLE_KEY: Final = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
OTHER_KEY: Final = secrets.token_bytes(16)
#: What the server calls its keys.
ZPKS: Final = {"0": SAMPLE_KEY, "2026-b": OTHER_KEY}
#: A server that has no pre-shared key.
KEYLESS: Final = backends.OTHER_USER
#: Which no test reaches that does not want to.
LIMITS: Final = {"handouts_card_day_max": 1_000}
QUERY: Final = {"auditUser": "clerk 7"}


@dataclass(frozen=True)
class OperationsFace:
    """What an issuer's server does."""

    pincontrol: PinControlFace
    http: httpx.AsyncClient

    @property
    def d1_face(self) -> D1Face:
        return self.pincontrol.d1_face

    async def get(
        self,
        plastic_id: str,
        zpk_index: str = "0",
        user: str = backends.USER,
        password: str = SECRET,
        **query: str,
    ) -> httpx.Response:
        params = {**QUERY, "zpkIndex": zpk_index, **query}
        headers = basic(user, password)
        return await self.http.get(f"/pin/v2/{plastic_id}", params=params, headers=headers)

    async def put(
        self, plastic_id: str, block: str, zpk_index: str = "0", user: str = backends.USER
    ) -> httpx.Response:
        body = {"zpkIndex": zpk_index, "pinBlock": block}
        return await self.post(f"v2/{plastic_id}", user, **body)

    async def post(self, path: str, user: str = backends.USER, **members: object) -> httpx.Response:
        return await self.http.post(
            f"/pin/{path}", params=QUERY, json=members, headers=basic(user, SECRET)
        )

    async def view(
        self, control_id: str, public_key: str, user: str = backends.USER
    ) -> httpx.Response:
        return await self.post("v3/view", user, controlId=control_id, publicKey=public_key)

    async def key(
        self, control_id: str, public_key: str, user: str = backends.USER
    ) -> httpx.Response:
        return await self.post("v3/set/tzpk", user, controlId=control_id, publicKey=public_key)

    async def set(self, control_id: str, block: str, user: str = backends.USER) -> httpx.Response:
        return await self.post("v3/set", user, controlId=control_id, pinBlock=block)

    async def tzpk(self, control_id: str, public_key: str) -> str:
        answer = await self.key(control_id, public_key)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["tzpk"])

    async def pin(self, plastic_id: str) -> str:
        """Read the PIN as the server does."""
        answer = await self.get(plastic_id)
        assert answer.status_code == 200, answer.text
        return pin_of(answer.json()["pinBlock"])

    async def with_operations(self, **members: object) -> None:
        """Sign another manifest."""
        await self._change(pin_operations=members)

    async def with_policy(self, **members: object) -> None:
        await self._change(policy=members)

    async def with_limits(self, **members: object) -> None:
        await self._change(limits={**LIMITS, **members})

    async def _change(self, **members: object) -> None:
        await self.d1_face.in_vault(lambda vault: change_manifest(vault, ISSUER_ID, **members))


def block_of(pin: str, zpk_index: str = "0") -> str:
    """What a server sends, as the published samples make it."""
    return block_of_clear(iso1_text(pin), zpk_index)


def block_of_clear(text: str, zpk_index: str = "0") -> str:
    return tdes_ecb(ZPKS[zpk_index])(bytes.fromhex(text)).hex().upper()


def pin_of(block: str, zpk_index: str = "0") -> str:
    return iso1_pin(tdes_ecb_decrypt(ZPKS[zpk_index])(bytes.fromhex(block)))


def operations(**members: object) -> dict[str, object]:
    """What a manifest says of the operations: all are on."""
    keys = [
        {"client_id": backends.USER, "zpk_index": index, "generation": generation}
        for generation, index in enumerate(ZPKS, start=1)
    ]
    return {"pre_shared_keys": keys, "pki": True, **members}


def token_with_zpks() -> SoftwareToken:
    hsm_token = SoftwareToken()
    for key in ZPKS.values():
        clear = ClearKey(KeyKind.TDES_2KEY, Secret(key))
        shared_keys.store(hsm_token, KeyRole.ZPK_SERVER, ISSUER_ID, clear)
    return hsm_token


@asynccontextmanager
async def set_up(url: str, directory: Path) -> AsyncIterator[D1Face]:
    """Open the issuer."""
    vault = open_vault(token_with_zpks(), directory)
    async with D1Face.set_up(url, directory, vault) as d1_face:
        await backends.add_backends(d1_face)
        await d1_face.in_vault(
            lambda vault: change_manifest(
                vault,
                ISSUER_ID,
                pin_operations=operations(),
                limits=LIMITS,
            )
        )
        yield d1_face


@asynccontextmanager
async def opened(
    d1_face: D1Face,
    store: Store | None = None,
    vault: VaultCalls | None = None,
    proxy_peers: frozenset[str] = frozenset(),
) -> AsyncIterator[OperationsFace]:
    """Serve the operations over the store and vault of *d1_face*, with rate limits of its own."""
    application = d1_face.application
    store = store or application.store
    directory = Directory(store, application.vault)
    manifests = ManifestCarrier(store, application.vault, "here")
    _, services = cardholder_services(
        store, directory, manifests, CONTROL_TOKEN_KEY, vault or application.vault
    )
    transport = httpx.ASGITransport(
        RequestLog(operations_app(services, proxy_peers), "cardholder"), raise_app_exceptions=False
    )
    async with (
        pincontrol_opened(d1_face) as pincontrol,
        httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http,
    ):
        yield OperationsFace(pincontrol, http)
