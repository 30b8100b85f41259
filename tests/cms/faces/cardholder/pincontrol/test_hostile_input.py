"""Whatever is sent in whichever field: the documented object or the ended page, and no effect."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cms.faces.cardholder.hosted.jwes import page_jwe, submission
from tests.cms.faces.cardholder.pincontrol import backends, outcomes
from tests.cms.faces.cardholder.pincontrol.pincontrol_face import PinControlFace, basic, opened
from tests.cms.faces.d1_face import D1Face
from tests.issuer_records import SECRET

pytestmark = pytest.mark.anyio
PROXY = "127.0.0.1"
untimed = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

texts = st.text(max_size=60) | st.sampled_from(
    [
        "",
        "\0",
        "' OR 1=1 --",
        "../..",
        "%00",
        "<script>",
        backends.FRAME_KEY,
        backends.USER,
        "9" * 5000,
        "\u202e",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
bodies = st.binary(max_size=80) | values.map(lambda value: json.dumps(value).encode())


@dataclass
class Target:
    """A card with live ids and sessions, and addresses enough for every guess."""

    pincontrol_face: PinControlFace
    card_id: str
    plastic_id: str
    ids: dict[str, str] = field(default_factory=dict)
    sent: int = 0

    def __post_init__(self) -> None:
        self.before = self.held()

    def held(self) -> tuple[object, ...]:
        return (
            self.pincontrol_face.d1_face.stored(self.card_id),
            self.pincontrol_face.sql(
                "SELECT event FROM audit_events WHERE card_id = %s"
                " AND event IN ('pin.get', 'pin.set')",
                self.card_id,
            ),
        )

    @property
    def headers(self) -> dict[str, str]:
        self.sent += 1
        return {
            "x-forwarded-for": f"10.{self.sent // 62500}.{self.sent // 250 % 250}.{self.sent % 250}"
        }

    async def post(self, verb: str, body: bytes) -> httpx.Response:
        return await self.pincontrol_face.http.post(
            f"/pincontrol/page/{verb}",
            content=body,
            headers={**self.headers, "content-type": "application/json"},
        )

    def unchanged(self) -> bool:
        return self.held() == self.before


@pytest.fixture
async def target(with_backends: D1Face) -> AsyncIterator[Target]:
    async with opened(with_backends, proxy_peers=frozenset({PROXY})) as pincontrol_face:
        card_id, plastic_id = await pincontrol_face.plastic()
        target = Target(pincontrol_face, card_id, plastic_id)
        for scope in ("VIEW_PIN", "SET_PIN"):
            target.ids[scope] = await pincontrol_face.control_id(plastic_id, scope)
        yield target
        assert target.unchanged()
        # Neither is consumed; many newer ones may have taken the place of one.
        assert [consumed for consumed, _ in pincontrol_face.controls(card_id)[:2]] == [False, False]


def refused(answer: httpx.Response) -> bool:
    status, *_ = outcomes.failure(answer)
    return 400 <= status < 500


@untimed
@given(body=bodies, verb=st.sampled_from(["session", "view", "digits", "extend", "submit"]))
async def test_any_body_of_a_page(target: Target, body: bytes, verb: str) -> None:
    assert refused(await target.post(verb, body))


@untimed
@given(
    control_id=values,
    key=values,
    verb=st.sampled_from(["session", "view"]),
    good=st.sampled_from(["controlId", "key", None]),
)
async def test_any_id_and_any_key(
    target: Target, control_id: object, key: object, verb: str, good: str | None
) -> None:
    members: dict[str, object] = {"controlId": control_id, "key": key}
    if good == "key":
        members["key"] = backends.FRAME_KEY
    elif good == "controlId":
        members["controlId"] = target.ids["VIEW_PIN" if verb == "view" else "SET_PIN"]
        if key in (None, backends.FRAME_KEY):
            members["key"] = backends.OTHER_FRAME_KEY
    assert refused(await target.post(verb, json.dumps(members).encode()))


@untimed
@given(
    session=values,
    control_token=values,
    jwe=values,
    key=values,
    verb=st.sampled_from(["digits", "submit", "extend"]),
)
async def test_any_session_and_what_comes_with_it(
    target: Target, session: object, control_token: object, jwe: object, key: object, verb: str
) -> None:
    members = {"session": session, "controlToken": control_token, "jwe": jwe, "key": key}
    assert refused(await target.post(verb, json.dumps(members).encode()))


@untimed
@given(session=values)
async def test_any_session_is_cancelled_without_a_word(target: Target, session: object) -> None:
    answer = await target.post("cancel", json.dumps({"session": session}).encode())
    assert answer.status_code == 204 if isinstance(session, str) else refused(answer)


@untimed
@given(
    jwe=texts | st.lists(st.text("AZaz09-_=", max_size=30), min_size=5, max_size=5).map(".".join)
)
async def test_any_jwe_in_a_live_session(target: Target, jwe: str) -> None:
    pincontrol_face = target.pincontrol_face
    opened_page = await pincontrol_face.session(target.plastic_id)
    body = json.dumps(submission(opened_page, jwe)).encode()
    assert refused(await target.post("submit", body))
    assert target.unchanged()


@untimed
@given(
    plaintext=st.dictionaries(
        st.sampled_from(["grantId", "controlToken", "block"]), values, min_size=1
    )
)
async def test_any_plaintext_in_a_live_session(target: Target, plaintext: dict[str, Any]) -> None:
    pincontrol_face = target.pincontrol_face
    opened_page = await pincontrol_face.session(target.plastic_id)
    jwe = page_jwe(opened_page, "593", **plaintext)
    body = json.dumps(submission(opened_page, jwe)).encode()
    assert refused(await target.post("submit", body))
    assert target.unchanged()


@untimed
@given(body=st.binary(max_size=60) | texts.map(lambda text: f"controlId={quote(text)}".encode()))
async def test_any_form(target: Target, body: bytes) -> None:
    headers = {**target.headers, "content-type": "application/x-www-form-urlencoded"}
    http = target.pincontrol_face.http
    answer = await http.post("/pincontrol/pin", content=body, headers=headers)
    assert outcomes.tells_app(answer, 400) or outcomes.tells_app(answer)


@untimed
@given(
    body=st.binary(max_size=60)
    | st.dictionaries(st.sampled_from(["controlId", "pinControlId"]) | texts, texts | st.integers())
    .map(json.dumps)
    .map(str.encode),
    content_type=st.sampled_from(["application/json", "application/JSON; charset=utf-8", ""])
    | texts.map(quote),
)
async def test_any_body_of_any_type(target: Target, body: bytes, content_type: str) -> None:
    headers = {**target.headers, "content-type": content_type}
    http = target.pincontrol_face.http
    answer = await http.post("/pincontrol/pin", content=body, headers=headers)
    assert outcomes.tells_app(answer, 400) or outcomes.tells_app(answer)


@untimed
@given(key=texts.filter(lambda text: text not in (backends.FRAME_KEY, backends.OTHER_FRAME_KEY)))
async def test_any_frame_key(target: Target, key: str) -> None:
    assert outcomes.is_ended(await target.pincontrol_face.frame(key))


@untimed
@given(plastic_id=texts, audit_user=texts, body=bodies, good=st.integers(0, 7))
async def test_any_request_for_an_id(
    target: Target, plastic_id: str, audit_user: str, body: bytes, good: int
) -> None:
    # Of the three parts any are good, but not all.
    path = target.plastic_id if good & 1 else plastic_id
    query = "clerk" if good & 2 else audit_user
    content = b'{"scope": "VIEW_PIN"}' if good & 4 and good != 7 else body
    answer = await target.pincontrol_face.http.post(
        f"/pincontrol/v2/plastic/{quote(path, safe='')}?auditUser={quote(query)}",
        content=content,
        headers={**basic(backends.USER, SECRET), **target.headers},
    )
    if answer.status_code == 201:  # somebody with a printable name
        assert good & 5 == 5
        assert query.isprintable()
    else:
        assert refused(answer)


@untimed
@given(user=texts.filter(lambda text: text != backends.USER), password=texts)
async def test_any_user_and_password(target: Target, user: str, password: str) -> None:
    answer = await target.pincontrol_face.http.post(
        f"/pincontrol/v2/plastic/{target.plastic_id}?auditUser=x",
        content=b'{"scope": "VIEW_PIN"}',
        headers={**basic(user, password), **target.headers},
    )
    assert outcomes.failure(answer)[0] == 401
