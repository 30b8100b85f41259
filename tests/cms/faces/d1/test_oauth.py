"""The token endpoint: RFC 6749 4.4 with the members that D1 publishes."""

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, quote_plus

import httpx
import pytest
from cryptography import x509

from cms.faces.d1.oauth import TOKEN_PATH
from cms.persistence import admin
from cms.services import directory
from cms.services.d1 import access
from crypto.jose import base64url
from tests.cms.faces.d1_face import D1Face
from tests.issuer_records import SECRET, Certificate, certificate, change_client, secret_hash
from tests.service import D1, PUBLIC_URL, d1

pytestmark = pytest.mark.anyio

FORM = "application/x-www-form-urlencoded"
GRANT = b"grant_type=client_credentials"
INVALID_CLIENT = (401, {"error": "invalid_client", "errorCode": "AUTHORIZER_UNAUTHORIZED"})
INVALID_REQUEST = (400, {"error": "invalid_request", "errorCode": "FIELD_INVALID_FORMAT"})
OTHER_GRANT = (400, {"error": "unsupported_grant_type", "errorCode": "FIELD_INVALID_VALUE"})


def basic(text: str | bytes) -> str:
    raw = text if isinstance(text, bytes) else text.encode()
    return f"Basic {base64.b64encode(raw).decode()}"


async def ask(
    caller: D1, body: bytes = GRANT, content_type: str = FORM, authorization: str = ""
) -> httpx.Response:
    credentials = f"{caller.sample_issuer.client_id}:{caller.sample_issuer.secret}"
    headers = {
        "authorization": authorization or basic(credentials),
        "content-type": content_type,
    }
    return await caller.http.post(TOKEN_PATH, content=body, headers=headers)


def refused(answer: httpx.Response) -> tuple[int, dict[str, str]]:
    """Return the status and the body of an answer that has what RFC 6749 asks for."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
    return answer.status_code, answer.json()


async def test_the_scope_is_the_issuers_in_the_answer_and_in_the_claims(d1_face: D1Face) -> None:
    wire = {"token": {"scope": "pin:read pin:write"}}
    async with d1_face.d1_of("scopebank1", wire=wire) as caller:
        body = (await ask(caller, GRANT + b"&scope=everything")).json()
    assert body["scope"] == "pin:read pin:write"
    claims = json.loads(base64url.decode(body["access_token"].split(".")[1]))
    assert claims["scope"] == "pin:read pin:write"


async def change_secret(d1_face: D1Face, issuer_id: str, secret: str) -> None:
    await d1_face.in_vault(
        lambda vault: change_client(vault, issuer_id, issuer_id, secrets=[secret_hash(secret)])
    )


async def test_the_answer_has_the_members_as_published(d1_face: D1Face) -> None:
    before = time.time()
    answer = await ask(d1_face.d1)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    body = answer.json()
    assert body.keys() == {"access_token", "token_type", "expires_in", "expires_at", "scope"}
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == "900"
    assert body["scope"] == "pin"
    expires_at = datetime.strptime(body["expires_at"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert len(body["expires_at"]) == len("2023-06-06T05:05:59.711Z")
    assert int(before) + 900 <= expires_at.timestamp() <= time.time() + 900


async def test_the_access_token_names_issuer_client_and_certificate_and_expires(
    d1_face: D1Face,
) -> None:
    parts = (await ask(d1_face.d1)).json()["access_token"].split(".")
    header, claims = (json.loads(base64url.decode(part)) for part in parts[:2])
    assert header.keys() == {"alg", "kid", "typ"}
    assert (header["alg"], header["typ"]) == ("ES256", "at+jwt")
    assert claims["exp"] - claims["iat"] == 900
    assert (claims["iss"], claims["aud"]) == (PUBLIC_URL, PUBLIC_URL)
    assert (claims["sub"], claims["issuerId"]) == (
        d1_face.sample_issuer.client_id,
        d1_face.sample_issuer.issuer_id,
    )
    assert claims["cnf"] == {"x5t#S256": d1_face.sample_issuer.certificate.thumbprint}


async def test_no_two_access_tokens_are_the_same(d1_face: D1Face) -> None:
    access_tokens = {(await ask(d1_face.d1)).json()["access_token"] for _ in range(3)}
    assert len(access_tokens) == 3


async def test_the_profile_chooses_number_life_and_members(d1_face: D1Face) -> None:
    profile = {"ttl_seconds": 60, "expires_in_as_string": False, "emit_expires_at": False}
    async with d1_face.d1_of("numberbank", wire={"token": profile}) as caller:
        body = (await ask(caller)).json()
    assert body.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert body["expires_in"] == 60
    assert type(body["expires_in"]) is int


#: Its base64 has both characters in which the two alphabets differ, and padding.
STRANGE = "é:ÿ?~ÿÿ>>ü€💳x"


async def test_credentials_are_taken_in_either_base64_padded_or_not(d1_face: D1Face) -> None:
    async with d1_face.d1_of("strangebk1") as caller:
        await change_secret(d1_face, "strangebk1", STRANGE)
        credentials = f"strangebk1:{STRANGE}".encode()
        standard, url_safe = base64.b64encode(credentials), base64.urlsafe_b64encode(credentials)
        assert {43, 47, 61} <= set(standard)
        assert {45, 95, 61} <= set(url_safe)
        for encoded in (standard, url_safe, standard.rstrip(b"="), url_safe.rstrip(b"=")):
            for scheme in ("Basic", "basic", "BASIC", "Basic  "):
                authorization = f"{scheme} {encoded.decode()}"
                assert (await ask(caller, authorization=authorization)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"grant_type=client_credentials",
        b"grant_type=client_credentials&scope=",
        b"scope=pin%3Aread+pin%3Awrite&grant_type=client_credentials&new=1",
        b"grant_type=client%5Fcredentials",
        b"&&grant_type=client_credentials&",
    ],
)
async def test_a_form_with_the_grant_is_taken(d1_face: D1Face, body: bytes) -> None:
    assert (await ask(d1_face.d1, body)).status_code == 200


@pytest.mark.parametrize("content_type", [FORM.upper(), f"{FORM}; charset=UTF-8", f" {FORM} "])
async def test_the_content_type_may_be_written_otherwise(
    d1_face: D1Face, content_type: str
) -> None:
    assert (await ask(d1_face.d1, GRANT, content_type)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"junk",
        b"scope=pin",
        GRANT + b"&" + GRANT,
        GRANT + b"&scope=a&scope=a",
        GRANT + b"&a=&a=",
        GRANT + "&scope=é".encode(),
        GRANT + b"\xff",
        b'{"grant_type":"client_credentials"}',
        b"Grant_Type=client_credentials",
        GRANT + b"".join(b"&p%d=" % n for n in range(16)),
        GRANT + b"&scope=" + b"x" * 16 * 1024,
        GRANT.ljust(1_000_000, b"&"),
    ],
)
async def test_another_form_is_an_invalid_request(d1_face: D1Face, body: bytes) -> None:
    assert refused(await ask(d1_face.d1, body)) == INVALID_REQUEST


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "multipart/form-data", "junk", " "]
)
async def test_another_content_type_is_an_invalid_request(
    d1_face: D1Face, content_type: str
) -> None:
    assert refused(await ask(d1_face.d1, GRANT, content_type)) == INVALID_REQUEST


@pytest.mark.parametrize(
    "grant",
    [
        "password",
        "authorization_code",
        "refresh_token",
        "CLIENT_CREDENTIALS",
        "",
        " client_credentials",
        "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer",
        "client_credentials%00",
    ],
)
async def test_another_grant_is_not_supported(d1_face: D1Face, grant: str) -> None:
    answer = await ask(d1_face.d1, f"grant_type={grant}".encode())
    assert refused(answer) == OTHER_GRANT


BAD_CREDENTIALS: Mapping[str, bytes] = {
    "wrong secret": basic("testbank01:wrong").encode(),
    "empty secret": basic("testbank01:").encode(),
    "secret with a suffix": basic(f"testbank01:{SECRET} ").encode(),
    "unknown client": basic(f"testbank01-x:{SECRET}").encode(),
    "unknown issuer": basic(f"nobody0001:{SECRET}").encode(),
    "another issuer's client": basic(f"otherbank1:{SECRET}").encode(),
    "short client id": basic(f"test:{SECRET}").encode(),
    "no client id": basic(f":{SECRET}").encode(),
    "long client id": basic(f"testbank01{'x' * 5000}:{SECRET}").encode(),
    "nul in client id": basic(f"testbank0\0:{SECRET}").encode(),
    "nul client id": basic("\0" * 10 + ":x").encode(),
    "nul in secret": basic("testbank01:\0").encode(),
    "no colon": basic("testbank01").encode(),
    "not utf-8": basic(b"testbank01:\xff\xfe").encode(),
    "empty": b"Basic ",
    "scheme only": b"Basic",
    "not base64": b"Basic !!!!",
    "one character": b"Basic A",
    "padding inside": b"Basic dGVz=dGJhbms6eA==",
    "not ascii": b"Basic \xe9\xe9\xe9\xe9",
    "percent": basic("testbank01%3Ax").encode(),
    "bearer": b"Bearer a.b.c",
    "digest": b'Digest username="testbank01"',
    "unnamed scheme": base64.b64encode(f"testbank01:{SECRET}".encode()),
}


@pytest.mark.parametrize("name", BAD_CREDENTIALS)
async def test_every_bad_credential_has_the_one_answer(d1_face: D1Face, name: str) -> None:
    headers = [(b"authorization", BAD_CREDENTIALS[name]), (b"content-type", FORM.encode())]
    answer = await d1_face.d1.http.post(TOKEN_PATH, content=GRANT, headers=headers)
    assert refused(answer) == INVALID_CLIENT
    assert answer.headers["www-authenticate"] == "Basic"


async def test_credentials_may_be_encoded_as_a_form_or_not(d1_face: D1Face) -> None:
    client_id = d1_face.sample_issuer.client_id
    everything = "".join(f"%{ord(character):02x}" for character in SECRET)
    for secret in (SECRET, quote_plus(SECRET), quote(SECRET), everything):
        for name in (client_id, client_id.replace("b", "%62")):
            assert (await d1_face.d1.ask_token(f"{name}:{secret}")).status_code == 200
    for wrong in (quote_plus(quote(SECRET)), f"{SECRET}+", f"%20{SECRET}", f"{SECRET}%"):
        assert (await d1_face.d1.ask_token(f"{client_id}:{wrong}")).status_code == 401


async def test_no_or_two_authorization_headers_are_refused(d1_face: D1Face) -> None:
    good = ("authorization", basic(f"{d1_face.sample_issuer.client_id}:{SECRET}"))
    for headers in ([], [good, good]):
        answer = await d1_face.d1.http.post(
            TOKEN_PATH, content=GRANT, headers=[*headers, ("content-type", FORM)]
        )
        assert refused(answer) == INVALID_CLIENT


async def test_credentials_in_the_form_or_query_are_no_credentials(d1_face: D1Face) -> None:
    given = f"client_id={d1_face.sample_issuer.client_id}&client_secret={SECRET}"
    answer = await d1_face.d1.http.post(
        f"{TOKEN_PATH}?{given}",
        content=GRANT + b"&" + given.encode(),
        headers={"content-type": FORM},
    )
    assert refused(answer) == INVALID_CLIENT


async def test_bad_credentials_come_before_a_bad_form(d1_face: D1Face) -> None:
    answer = await ask(d1_face.d1, b"junk", "text/plain", authorization="Basic !!!!")
    assert refused(answer) == INVALID_CLIENT


async def test_the_clients_certificate_is_needed(d1_face: D1Face) -> None:
    for presented in (certificate("d1-otherbank1"), certificate("D1-testbank01")):
        async with d1(d1_face.application, d1_face.sample_issuer, presented) as thief:
            assert refused(await ask(thief)) == INVALID_CLIENT


@pytest.mark.parametrize(
    ("issuer_id", "names"),
    [
        ("sandnsbank", ["dns:d1.example"]),
        ("sanuribank", ["uri:spiffe://d1/client"]),
        ("sanmorebnk", ["CN=d1-renewed", "dns:another.example", "uri:spiffe://d1/client"]),
    ],
)
async def test_a_client_may_be_registered_by_an_alternative_name(
    d1_face: D1Face, issuer_id: str, names: list[str]
) -> None:
    presented = certificate(
        "d1-san", x509.DNSName("d1.example"), x509.UniformResourceIdentifier("spiffe://d1/client")
    )
    async with d1_face.d1_of(issuer_id) as registered:
        await d1_face.register_certificates(issuer_id, names)
    async with d1(d1_face.application, registered.sample_issuer, presented) as caller:
        assert await caller.counter() == 0
    # What stands in a subject, or in another kind of name, is not that name.
    other = x509.DNSName("uri:spiffe://d1/client"), x509.UniformResourceIdentifier("d1.example")
    for impostor in (certificate("dns:d1.example"), certificate("d1-san", *other)):
        async with d1(d1_face.application, registered.sample_issuer, impostor) as caller:
            assert refused(await ask(caller)) == INVALID_CLIENT


async def status_with(d1_face: D1Face, registered: D1, presented: Certificate) -> int:
    """Ask with another certificate."""
    async with d1(d1_face.application, registered.sample_issuer, presented) as caller:
        return (await ask(caller)).status_code


async def test_a_name_of_a_host_is_compared_whatever_its_case_and_one_of_a_path_is_not(
    d1_face: D1Face,
) -> None:
    names = ["dns:d1.example", "uri:spiffe://bank.example/D1"]
    async with d1_face.d1_of("sancasebnk") as registered:
        await d1_face.register_certificates("sancasebnk", names)
    for name, status in (
        (x509.DNSName("D1.Example"), 200),
        (x509.UniformResourceIdentifier("SPIFFE://Bank.Example/D1"), 200),
        (x509.UniformResourceIdentifier("spiffe://bank.example/d1"), 401),
        (x509.DNSName("d1.example.com"), 401),
    ):
        presented = certificate("d1-san", name)
        assert await status_with(d1_face, registered, presented) == status


async def test_a_certificate_without_a_subject_is_known_by_its_other_names_only(
    d1_face: D1Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    bare = certificate("")
    named = certificate("", x509.DNSName("d1.example"))
    async with d1_face.d1_of("nosubjbank") as registered:
        pass
    digest = hashlib.sha256(bare.der).hexdigest()
    for names, statuses in (
        ([f"sha256:{digest}"], (200, 401)),
        (["dns:d1.example"], (401, 200)),
        (["CN=d1"], (401, 401)),
    ):
        await d1_face.register_certificates("nosubjbank", names)
        for presented, status in zip((bare, named), statuses, strict=True):
            assert await status_with(d1_face, registered, presented) == status


async def test_a_removed_client_and_a_suspended_issuer_are_refused_at_once_when_read_again(
    d1_face: D1Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    async with d1_face.d1_of("statesbank") as caller:
        bearer = await caller.bearer()
        path = caller.path("card-1", "/pin/changeCounter")

        async def statuses() -> tuple[int, int]:
            used = await caller.http.get(path, headers=bearer)
            return (await ask(caller)).status_code, used.status_code

        assert await statuses() == (200, 200)
        for set_state in (have_client, have_issuer):
            await set_state(d1_face, "statesbank", False)
            assert await statuses() == (401, 401)
            assert refused(await ask(caller)) == INVALID_CLIENT
            await set_state(d1_face, "statesbank", True)
            assert await statuses() == (200, 200)


async def have_client(d1_face: D1Face, issuer_id: str, in_service: bool) -> None:
    gone = f"{issuer_id}-gone"
    before, after = (gone, issuer_id) if in_service else (issuer_id, gone)
    await d1_face.in_vault(lambda vault: change_client(vault, issuer_id, before, client_id=after))


async def have_issuer(d1_face: D1Face, issuer_id: str, in_service: bool) -> None:
    with admin.connect(d1_face.url).begin() as connection:
        admin.set_issuer_state(connection, issuer_id, "active" if in_service else "suspended")


async def test_a_wrong_secret_over_a_foreign_certificate_is_not_even_compared(
    d1_face: D1Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []
    monkeypatch.setattr(access, "is_secret", lambda secret, *_: compared.append(secret.reveal()))
    async with d1_face.d1_of("victimbank") as caller:
        assert (await d1_face.d1.ask_token("victimbank:wrong")).status_code == 401
        assert compared == []
        assert (await caller.ask_token("victimbank:wrong")).status_code == 401
        assert compared == ["wrong"]


async def test_a_changed_secret_is_asked_again(
    d1_face: D1Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    async with d1_face.d1_of("changedbk1") as caller:
        assert (await ask(caller)).status_code == 200
        await change_secret(d1_face, "changedbk1", "another")
        assert (await ask(caller)).status_code == 401
        assert (await caller.ask_token("changedbk1:another")).status_code == 200
