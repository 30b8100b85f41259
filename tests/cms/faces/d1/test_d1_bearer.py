"""Who may call: access tokens and the certificates that they are bound to."""

import json
import time
from collections.abc import Mapping

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from cms.domain.errors import Unauthorized
from cms.services.d1.access import Access, read_certificate
from cms.services.directory import Directory
from crypto.jose import base64url
from crypto.secret import Secret
from hsm.pkcs11.keys import KeyRole
from hsm.port import PublicKeyRole
from hsm.vault import Vault
from tests.cms.faces.d1 import refusals
from tests.cms.faces.d1.access_tokens import access_token, claims
from tests.cms.faces.d1_face import D1Face, refusal
from tests.issuer_records import SECRET, Certificate, certificate, change_client, secret_hash
from tests.operators import VALID_FROM
from tests.service import PUBLIC_URL, d1

pytestmark = pytest.mark.anyio


async def counter_with(d1_face: D1Face, authorization: str) -> httpx.Response:
    path = d1_face.d1.path("active", "/pin/changeCounter")
    return await d1_face.send("GET", path, Authorization=authorization)


async def test_a_token_of_ours_is_taken(d1_face: D1Face) -> None:
    for changed in ({}, {"exp": LATER}):
        token = await access_token(d1_face, **changed)
        assert (await counter_with(d1_face, f"Bearer {token}")).status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer:", "bearer: "])
async def test_the_scheme_is_taken_as_d1_may_write_it(d1_face: D1Face, scheme: str) -> None:
    bearer = d1_face.bearer["Authorization"].removeprefix("Bearer ")
    assert (await counter_with(d1_face, f"{scheme} {bearer}")).status_code == 200


LATER = int(time.time()) + 24 * 3600
WRONG_CLAIMS: Mapping[str, Mapping[str, object]] = {
    "expired": {"exp": 1_700_000_000},
    "expires as a fraction": {"exp": LATER + 0.5},
    "expires as a whole fraction": {"exp": float(LATER)},
    "expires as text": {"exp": str(LATER)},
    "expires true": {"exp": True},
    "expires null": {"exp": None},
    "expires never": {"exp": []},
    "another issuer of access tokens": {"iss": "https://pins.example"},
    "our address with a slash": {"iss": f"{PUBLIC_URL}/"},
    "no issuer of access tokens": {"iss": None},
    "another audience": {"aud": "https://pins.example"},
    "a list as audience": {"aud": [PUBLIC_URL]},
    "an unknown issuer": {"issuerId": "nobody0001"},
    "an issuer id that is too short": {"issuerId": "testbank0"},
    "a number as issuer id": {"issuerId": 1234567890},
    "an unknown client": {"sub": "testbank01-none"},
    "no client": {"sub": None},
    "another certificate": {"cnf": {"x5t#S256": certificate("d1-otherbank1").thumbprint}},
    "no certificate": {"cnf": None},
    "a certificate by another name": {"cnf": {"x5t": "A" * 43}},
    "a certificate as text": {"cnf": "x5t#S256"},
}


@pytest.mark.parametrize("name", WRONG_CLAIMS)
async def test_a_token_of_ours_with_a_wrong_claim_is_refused(d1_face: D1Face, name: str) -> None:
    bearer = await access_token(d1_face, **WRONG_CLAIMS[name])
    assert refusal(await counter_with(d1_face, f"Bearer {bearer}")) == refusals.UNAUTHORIZED


async def test_a_token_of_another_type_is_refused(d1_face: D1Face) -> None:
    good = await access_token(d1_face)
    header = json.loads(base64url.decode(good.split(".")[0]))
    others = ({"typ": "JWT"}, {"typ": None}, {"typ": "at+JWT"}, {"crit": ["exp"]}, {"b64": False})
    for changed in others:
        bearer = await resigned_by_us(d1_face, {**header, **changed})
        assert refusal(await counter_with(d1_face, f"Bearer {bearer}")) == refusals.UNAUTHORIZED
    bearer = await resigned_by_us(d1_face, header)
    assert (await counter_with(d1_face, f"Bearer {bearer}")).status_code == 200


async def resigned_by_us(d1_face: D1Face, header: Mapping[str, object]) -> str:
    """Sign good claims under another header with the key of the service."""
    signing_input = ".".join(
        base64url.encode(json.dumps(part).encode()) for part in (header, claims(d1_face))
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(signing_input.encode())
    value = digest.finalize()

    def sign(vault: Vault) -> bytes:
        return vault._hsm_token.sign(vault._active(KeyRole.TOKEN_SIGN), value)

    return f"{signing_input}.{base64url.encode(await d1_face.in_vault(sign))}"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE"])
@pytest.mark.parametrize("signature", ["", "A" * 86])
async def test_an_unsigned_token_is_refused(d1_face: D1Face, alg: str, signature: str) -> None:
    header, payload, _ = (await access_token(d1_face)).split(".")
    unsigned = base64url.encode(json.dumps(parsed(header) | {"alg": alg}).encode())
    for bearer in (f"{unsigned}.{payload}.{signature}", f"{unsigned}.{payload}"):
        assert refusal(await counter_with(d1_face, f"Bearer {bearer}")) == refusals.UNAUTHORIZED


async def test_a_token_that_was_signed_again_is_refused(d1_face: D1Face) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    header, payload, signature = (await access_token(d1_face)).split(".")
    own_key = {
        "kty": "EC",
        "crv": "P-256",
        "x": base64url.encode(key.public_key().public_numbers().x.to_bytes(32)),
        "y": base64url.encode(key.public_key().public_numbers().y.to_bytes(32)),
    }
    headers = [
        header,
        encoded(parsed(header) | {"kid": "unknown"}),
        encoded(parsed(header) | {"jwk": own_key}),
        encoded({name: value for name, value in parsed(header).items() if name != "kid"}),
    ]
    for head in headers:
        bearer = signed(f"{head}.{payload}", key)
        assert refusal(await counter_with(d1_face, f"Bearer {bearer}")) == refusals.UNAUTHORIZED
    zero, other = base64url.encode(bytes(64)), signature[::-1]
    for wrong in (zero, other, "", signature[:-2], signature + "AA"):
        bearer = f"{header}.{payload}.{wrong}"
        assert refusal(await counter_with(d1_face, f"Bearer {bearer}")) == refusals.UNAUTHORIZED


async def test_a_token_made_with_the_public_key_as_hmac_secret_is_refused(d1_face: D1Face) -> None:
    header, payload, _ = (await access_token(d1_face)).split(".")
    jwk = (await d1_face.in_vault(lambda vault: vault.public_jwks(PublicKeyRole.TOKEN_SIGN)))[
        "keys"
    ][0]
    x, y = (int.from_bytes(base64url.decode(jwk[name])) for name in "xy")
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    pem, der = (
        public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER)
    )
    head = encoded(parsed(header) | {"alg": "HS256"})
    for secret in (pem, der, json.dumps(jwk).encode()):
        mac = hmac.HMAC(secret, hashes.SHA256())
        mac.update(f"{head}.{payload}".encode())
        bearer = f"{head}.{payload}.{base64url.encode(mac.finalize())}"
        assert refusal(await counter_with(d1_face, f"Bearer {bearer}")) == refusals.UNAUTHORIZED


async def test_an_altered_payload_is_refused(d1_face: D1Face) -> None:
    header, payload, signature = (await access_token(d1_face)).split(".")
    longer = encoded(parsed(payload) | {"exp": 4_000_000_000})
    bearer = f"{header}.{longer}.{signature}"
    assert refusal(await counter_with(d1_face, f"Bearer {bearer}")) == refusals.UNAUTHORIZED


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer:",
        "Basic dGVzdGJhbmswMTp4",
        "Token x",
        "Bearer a.b.c",
        "Bearer ..",
        "Bearer " + "a" * 9000,
        "Bearer \xff\xfe",
        "Bearer a b",
    ],
)
async def test_junk_is_refused(d1_face: D1Face, authorization: str) -> None:
    path = d1_face.d1.path("active", "/pin/changeCounter")
    headers = [(b"authorization", authorization.encode("latin-1"))]
    answer = await d1_face.d1.http.get(path, headers=headers)
    assert refusal(answer) == refusals.UNAUTHORIZED
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_two_authorization_headers_are_refused(d1_face: D1Face) -> None:
    good = ("authorization", d1_face.bearer["Authorization"])
    path = d1_face.d1.path("active", "/pin/changeCounter")
    assert refusal(await d1_face.d1.http.get(path, headers=[good, good])) == refusals.UNAUTHORIZED


async def test_a_good_token_over_another_certificate_is_refused(d1_face: D1Face) -> None:
    for name in ("d1-otherbank1", "d1-testbank01 "):
        async with d1(d1_face.application, d1_face.sample_issuer, certificate(name)) as thief:
            answer = await thief.http.get(thief.path("active"), headers=d1_face.bearer)
            assert refusal(answer) == refusals.UNAUTHORIZED


NAMED = certificate("d1-testbank01", x509.DNSName("d1")).der
UNREADABLE = {
    "empty": b"",
    "junk": b"junk",
    "cut off": NAMED[:-1],
    "of version 2": NAMED.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01", 1),
    "an unknown kind of name": NAMED.replace(b"\x82\x02d1", b"\xa3\x02\x05\0", 1),
    "a name that is no text": NAMED.replace(b"\x82\x02d1", b"\x82\x02\xff\xfe", 1),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_certificate_that_cannot_be_read_is_nobodys(d1_face: D1Face, name: str) -> None:
    presented = Certificate(UNREADABLE[name], "CN=d1-testbank01")
    async with d1(d1_face.application, d1_face.sample_issuer, presented) as caller:
        answer = await caller.http.get(caller.path("active"), headers=d1_face.bearer)
        assert refusal(answer) == refusals.UNAUTHORIZED
        assert (await caller.ask_token()).status_code == 401


async def test_another_issuers_token_is_good_at_its_own_path_only(d1_face: D1Face) -> None:
    other = await d1_face.open_issuer("otherbank1")
    async with d1(d1_face.application, other) as caller:
        bearer = await caller.bearer()
        assert await caller.counter("card-1") == 0
        for tail in ("/pin", "/pin/changeCounter"):
            answer = await caller.http.get(d1_face.d1.path("active", tail), headers=bearer)
            assert refusal(answer) == (404, "ISSUER_NOT_FOUND", "Unknown issuer")


@pytest.mark.parametrize(
    ("binding", "renewed", "renamed"),
    [("certificate", 401, 401), ("subject", 200, 401), ("none", 200, 200)],
)
async def test_what_a_token_is_bound_to_is_the_issuers_choice(
    d1_face: D1Face, binding: str, renewed: int, renamed: int
) -> None:
    issuer_id = f"bound-{binding}"[:10].ljust(10, "0")
    subjects = [f"CN=d1-{issuer_id}", "CN=d1-renamed"]
    bound = await d1_face.open_issuer(issuer_id, wire={"token": {"bearer_binding": binding}})
    await d1_face.register_certificates(issuer_id, subjects)
    async with d1(d1_face.application, bound) as caller:
        bearer = await caller.bearer()
    certificates = (certificate.__wrapped__(f"d1-{issuer_id}"), certificate("d1-renamed"))
    stranger = certificate("d1-stranger")
    presented_and_expected = zip((*certificates, stranger), (renewed, renamed, 401), strict=True)
    for presented, expected in presented_and_expected:
        async with d1(d1_face.application, bound, presented) as caller:
            path = caller.path("card-1", "/pin/changeCounter")
            assert (await caller.http.get(path, headers=bearer)).status_code == expected


async def test_an_empty_subject_binds_a_token_to_nobody_elses_certificate(d1_face: D1Face) -> None:
    wire = {"token": {"bearer_binding": "subject"}}
    bound = await d1_face.open_issuer("boundempty", wire=wire)
    names = ["dns:d1.example", "dns:other.example"]
    await d1_face.register_certificates("boundempty", names)
    own, other = (certificate("", x509.DNSName(name.removeprefix("dns:"))) for name in names)
    async with d1(d1_face.application, bound, own) as caller:
        bearer = await caller.bearer()
        path = caller.path("card-1", "/pin/changeCounter")
        assert (await caller.http.get(path, headers=bearer)).status_code == 200
    async with d1(d1_face.application, bound, other) as caller:
        assert (await caller.http.get(path, headers=bearer)).status_code == 401


async def test_a_client_without_secret_is_named_by_its_certificate(d1_face: D1Face) -> None:
    bare = await d1_face.open_issuer("barebank01", auth="certificate")
    async with d1(d1_face.application, bare) as caller:
        path = caller.path("card-1", "/pin/changeCounter")
        assert (await caller.http.get(path)).json() == {"changeCounter": 0}
        foreign = d1_face.d1.path("active", "/pin/changeCounter")
        assert refusal(await caller.http.get(foreign)) == refusals.UNAUTHORIZED
        # A bearer is never ignored: here nobody could have got one.
        own = {"sub": bare.client_id, "issuerId": bare.issuer_id}
        certain = {"cnf": {"x5t#S256": bare.certificate.thumbprint}}
        bearer = await access_token(d1_face, **own, **certain)
        for headers in (d1_face.bearer, {"Authorization": f"Bearer {bearer}"}):
            assert refusal(await caller.http.get(path, headers=headers)) == refusals.UNAUTHORIZED
        assert (await caller.ask_token()).status_code == 401
    async with d1(d1_face.application, bare, certificate("d1-another")) as caller:
        assert refusal(await caller.http.get(path)) == refusals.UNAUTHORIZED


async def test_a_client_with_a_secret_needs_its_bearer(d1_face: D1Face) -> None:
    path = d1_face.d1.path("active", "/pin/changeCounter")
    assert refusal(await d1_face.d1.http.get(path)) == refusals.UNAUTHORIZED


async def test_a_client_whose_secrets_ended_is_not_named_by_its_certificate(
    d1_face: D1Face,
) -> None:
    ended = [secret_hash(SECRET, valid_until=VALID_FROM.isoformat())]
    over = await d1_face.open_issuer("endedbank1")
    await d1_face.in_vault(
        lambda vault: change_client(vault, "endedbank1", "endedbank1", secrets=ended)
    )
    async with d1(d1_face.application, over) as caller:
        path = caller.path("card-1", "/pin/changeCounter")
        assert refusal(await caller.http.get(path)) == refusals.UNAUTHORIZED
        assert (await caller.ask_token()).status_code == 401


async def test_a_token_that_was_verified_is_refused_once_it_expires(d1_face: D1Face) -> None:
    now = [time.time()]
    application = d1_face.application
    directory = Directory(application.store, application.vault)
    access = Access(directory, application.vault, PUBLIC_URL, lambda: now[0])
    presented = read_certificate(d1_face.sample_issuer.certificate.der)
    issuer_id = d1_face.sample_issuer.issuer_id
    _, issued = await access.issue(
        d1_face.sample_issuer.client_id, Secret(d1_face.sample_issuer.secret), presented
    )

    await access.caller(issued.access_token, presented, issuer_id)
    now[0] = issued.expires_at - 1
    await access.caller(issued.access_token, presented, issuer_id)
    now[0] = issued.expires_at
    with pytest.raises(Unauthorized):
        await access.caller(issued.access_token, presented, issuer_id)


def parsed(part: str) -> dict[str, object]:
    members: dict[str, object] = json.loads(base64url.decode(part))
    return members


def encoded(members: Mapping[str, object]) -> str:
    return base64url.encode(json.dumps(members).encode())


def signed(signing_input: str, key: ec.EllipticCurvePrivateKey) -> str:
    r, s = decode_dss_signature(key.sign(signing_input.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signing_input}.{base64url.encode(r.to_bytes(32) + s.to_bytes(32))}"
