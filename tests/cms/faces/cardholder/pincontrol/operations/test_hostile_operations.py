"""Whatever is sent in whichever field: the documented object, and no PIN shown or set."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cms.faces.cardholder.pincontrol import backends, outcomes
from tests.cms.faces.cardholder.pincontrol.operations.operations_face import (
    OperationsFace,
    opened,
)
from tests.cms.faces.cardholder.pincontrol.pincontrol_face import basic
from tests.cms.faces.d1_face import D1Face
from tests.devices import PythonDevice
from tests.issuer_records import SECRET

pytestmark = pytest.mark.anyio
PROXY = "127.0.0.1"
untimed = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
KEY = base64.b64decode(PythonDevice().public_key)
texts = st.text(max_size=60) | st.sampled_from(["", "\0", "' OR 1=1 --", "%00", "9" * 5000, "=="])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
bodies = st.binary(max_size=80) | values.map(lambda value: json.dumps(value).encode())
#: No block of 8 bytes: what has 8 may be one, by chance.
not_hex_blocks = st.text("0123456789abcdefABCDEF g-+ ", max_size=40).filter(
    lambda text: len(text) != 16
)
not_base64_blocks = st.binary(max_size=40).filter(lambda data: len(data) != 8).map(
    lambda data: base64.b64encode(data).decode()
) | st.text("ABCabc019+/=-_ \n", max_size=20).filter(lambda text: len(text) != 12)


@st.composite
def broken_keys(draw: st.DrawFn) -> str:
    """A key of which bytes are others, or are not there, or its text is changed."""
    data = bytearray(KEY)
    start = draw(st.integers(0, 40))  # its header, in which every byte counts
    data[start : start + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    text = base64.b64encode(data if bytes(data) != KEY else KEY[:-1]).decode()
    cut = draw(st.integers(0, len(text)))
    return draw(st.sampled_from([text, text[:cut], text + "=", f" {text}", text[:cut] + "*"]))


@dataclass
class Target:
    """A card with live ids, and addresses enough for every guess."""

    operations_face: OperationsFace
    card_id: str
    plastic_id: str
    view_id: str
    set_id: str
    sent: int = 0

    def __post_init__(self) -> None:
        self.before = self.held()

    def held(self) -> tuple[object, ...]:
        pincontrol = self.operations_face.pincontrol
        return (
            pincontrol.d1_face.stored(self.card_id),
            pincontrol.controls(self.card_id),
            pincontrol.sql(
                "SELECT event FROM audit_events WHERE card_id = %s"
                " AND event IN ('pin.get', 'pin.set')",
                self.card_id,
            ),
        )

    async def send(
        self, method: str, path: str, body: bytes | None = None, query: str = "auditUser=a"
    ) -> None:
        """Send it, be refused in the documented way, and find nothing changed."""
        self.sent += 1
        address = f"10.{self.sent // 62500}.{self.sent // 250 % 250}.{self.sent % 250}"
        headers = {**basic(backends.USER, SECRET), "x-forwarded-for": address}
        answer = await self.operations_face.http.request(
            method, f"/pin/{path}?{query}", content=body, headers=headers
        )
        assert answer.status_code in (400, 404, 405, 429), answer.text
        outcomes.failure(answer)
        assert self.held() == self.before

    async def post(self, path: str, **members: object) -> None:
        await self.send("POST", path, json.dumps(members).encode())


@pytest.fixture
async def target(with_operations: D1Face) -> AsyncIterator[Target]:
    transport_peer = frozenset((PROXY,))
    async with opened(with_operations, proxy_peers=transport_peer) as operations_face:
        card_id, plastic_id = await operations_face.pincontrol.plastic()
        view_id, set_id = await operations_face.pincontrol.control_ids(plastic_id)
        # Others would end it sooner than the tests do.
        life = "UPDATE control_tokens SET expires_at = now() + interval '1 hour' WHERE card_id = %s"
        operations_face.pincontrol.sql(life, card_id)
        yield Target(operations_face, card_id, plastic_id, view_id, set_id)


@given(body=bodies)
@untimed
async def test_no_body_does_anything(target: Target, body: bytes) -> None:
    for path in (f"v2/{target.plastic_id}", "v3/view", "v3/set/tzpk", "v3/set"):
        await target.send("POST", path, body)


@given(key=broken_keys() | texts | values)
@untimed
async def test_no_broken_key_does_anything(target: Target, key: object) -> None:
    await target.post("v3/view", controlId=target.view_id, publicKey=key)
    await target.post("v3/set/tzpk", controlId=target.set_id, publicKey=key)


@given(hexadecimal=not_hex_blocks | values, text=not_base64_blocks | values)
@untimed
async def test_no_broken_block_does_anything(
    target: Target, hexadecimal: object, text: object
) -> None:
    await target.post(f"v2/{target.plastic_id}", zpkIndex="0", pinBlock=hexadecimal)
    await target.post("v3/set", controlId=target.set_id, pinBlock=text)


@given(value=texts | values)
@untimed
async def test_no_other_id_or_index_does_anything(target: Target, value: object) -> None:
    public_key = PythonDevice().public_key
    await target.post("v3/view", controlId=value, publicKey=public_key)
    await target.post("v3/set/tzpk", controlId=value, publicKey=public_key)
    await target.post("v3/set", controlId=value, pinBlock="gXOXEFVuFRg=")
    if value not in ("0", "2026-b"):
        block = {"pinBlock": "81739710556E1518"}
        await target.post(f"v2/{target.plastic_id}", zpkIndex=value, **block)


@given(text=texts)
@untimed
async def test_no_query_and_no_path_does_anything(target: Target, text: str) -> None:
    quoted = quote(text, safe="", errors="replace")
    queries = [f"auditUser=a&zpkIndex={quoted}x", f"auditUser={quoted}&auditUser=b&zpkIndex=0"]
    queries += [f"{quoted}=a&zpkIndex=0"]
    for query in queries:
        await target.send("GET", f"v2/{target.plastic_id}", query=query)
    query = "auditUser=a&zpkIndex=0"
    if not text.isdecimal():
        await target.send("GET", f"v2/{quoted}", query=query)
    await target.send("GET", f"v2/{target.plastic_id}/{quoted}", query=query)
