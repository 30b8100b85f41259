"""Mutual TLS that ends in a proxy: whose word about the client certificate counts."""

import base64
import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from cms.app import Application
from cms.faces.d1.oauth import TOKEN_PATH
from hsm.vault import Vault
from tests.cms.faces.d1 import refusals
from tests.cms.faces.d1_face import D1Face, refusal
from tests.issuer_records import SampleIssuer, certificate, change_client
from tests.service import D1, PUBLIC_URL, running, with_certificate

pytestmark = pytest.mark.anyio

PEER = "10.0.0.1"


@pytest.fixture(scope="module")
async def behind_proxy(
    d1_face: D1Face, vault: Vault, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Application]:
    """The same database served by a process whose mutual TLS ends in a proxy."""
    directory = tmp_path_factory.mktemp("proxy")
    given = {"d1_mtls_ends": "proxy", "d1_proxy_peers": {PEER, "unix"}}
    async with running(d1_face.url, directory, vault, **given) as application:
        yield application


def client_cert(der: bytes) -> tuple[bytes, bytes]:
    """Write the header of RFC 9440."""
    return b"client-cert", b":" + base64.b64encode(der) + b":"


async def call(
    application: Application,
    sample_issuer: SampleIssuer,
    *headers: tuple[bytes, bytes],
    peer: str | None = PEER,
) -> httpx.Response:
    """Ask for an access token from the address *peer*; None is a unix socket."""
    app = from_unix(application.listeners["d1"]) if peer is None else application.listeners["d1"]
    transport = httpx.ASGITransport(app, client=(peer or "", 1))
    basic = base64.b64encode(f"{sample_issuer.client_id}:{sample_issuer.secret}".encode())
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http:
        return await http.post(
            TOKEN_PATH,
            content=b"grant_type=client_credentials",
            headers=[
                (b"authorization", b"Basic " + basic),
                (b"content-type", b"application/x-www-form-urlencoded"),
                *headers,
            ],
        )


def from_unix(app: ASGIApp) -> ASGIApp:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "client": None}, receive, send)

    return call


@pytest.mark.parametrize("peer", [PEER, None])
async def test_the_header_of_a_configured_peer_counts(
    d1_face: D1Face, behind_proxy: Application, peer: str | None
) -> None:
    header = client_cert(d1_face.sample_issuer.certificate.der)
    assert (await call(behind_proxy, d1_face.sample_issuer, header, peer=peer)).status_code == 200


async def test_the_certificate_in_the_header_is_compared_like_any_other(
    d1_face: D1Face, behind_proxy: Application
) -> None:
    header = client_cert(certificate("d1-otherbank1").der)
    assert (await call(behind_proxy, d1_face.sample_issuer, header)).status_code == 401


async def test_a_certificate_without_a_subject_is_known_by_its_other_names(
    d1_face: D1Face, behind_proxy: Application
) -> None:
    opened = await d1_face.open_issuer("proxiedbnk")
    registered = opened.certificate
    bare, other = certificate.__wrapped__(""), certificate.__wrapped__("")
    names = [registered.subject, f"sha256:{hashlib.sha256(bare.der).hexdigest()}"]
    await d1_face.in_vault(
        lambda vault: change_client(vault, "proxiedbnk", "proxiedbnk", certificates=names)
    )
    for presented, status in ((registered, 200), (bare, 200), (other, 401)):
        answer = await call(behind_proxy, opened, client_cert(presented.der))
        assert answer.status_code == status


@pytest.mark.parametrize("peer", ["10.0.0.2", "127.0.0.1", "::1", "::ffff:10.0.0.1", "", "unix2"])
async def test_the_header_of_anybody_else_does_not_count(
    d1_face: D1Face, behind_proxy: Application, peer: str
) -> None:
    header = client_cert(d1_face.sample_issuer.certificate.der)
    assert (await call(behind_proxy, d1_face.sample_issuer, header, peer=peer)).status_code == 401


async def test_no_other_header_names_the_peer(d1_face: D1Face, behind_proxy: Application) -> None:
    header = client_cert(d1_face.sample_issuer.certificate.der)
    for name in (b"x-forwarded-for", b"forwarded", b"x-real-ip"):
        answer = await call(
            behind_proxy, d1_face.sample_issuer, header, (name, PEER.encode()), peer="10.0.0.2"
        )
        assert answer.status_code == 401


DER = certificate("d1-testbank01").der
ENCODED = base64.b64encode(DER)
MALFORMED = {
    "no header": [],
    "twice": [client_cert(DER), client_cert(DER)],
    "twice, one empty": [client_cert(DER), (b"client-cert", b"")],
    "a list in one header": [(b"client-cert", b":%b:, :%b:" % (ENCODED, ENCODED))],
    "empty": [(b"client-cert", b"")],
    "one colon": [(b"client-cert", b":")],
    "two colons": [(b"client-cert", b"::")],
    "no colons": [(b"client-cert", ENCODED)],
    "no colon at the end": [(b"client-cert", b":" + ENCODED)],
    "with parameters": [(b"client-cert", b":%b:;a=1" % ENCODED)],
    "not base64": [(b"client-cert", b":!!!!:")],
    "not ascii": [(b"client-cert", b":\xff\xfe:")],
    "cut off": [client_cert(DER[:-1])],
    "more after it": [client_cert(DER + b"\0")],
    "not a certificate": [client_cert(b"junk")],
    "pem": [(b"client-cert", b"-----BEGIN CERTIFICATE----- " + ENCODED)],
    "percent-encoded pem": [(b"client-cert", b"-----BEGIN%20CERTIFICATE-----%0A" + ENCODED)],
    "another header": [(b"x-client-cert", b":%b:" % ENCODED)],
    "the chain only": [(b"client-cert-chain", b":%b:" % ENCODED)],
    "the subject": [(b"x-ssl-client-s-dn", b"CN=d1-testbank01")],
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_header_is_refused(
    d1_face: D1Face, behind_proxy: Application, name: str
) -> None:
    assert (await call(behind_proxy, d1_face.sample_issuer, *MALFORMED[name])).status_code == 401


async def test_the_tls_layer_does_not_count_behind_a_proxy(
    d1_face: D1Face, behind_proxy: Application
) -> None:
    app = with_certificate(behind_proxy.listeners["d1"], d1_face.sample_issuer.certificate)
    transport = httpx.ASGITransport(app, client=(PEER, 1))
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http:
        caller = D1(http, d1_face.sample_issuer)
        assert (await caller.ask_token()).status_code == 401
        assert (
            refusal(await http.get(caller.path(), headers=d1_face.bearer)) == refusals.UNAUTHORIZED
        )


async def test_the_header_never_counts_where_tls_ends_in_the_service(d1_face: D1Face) -> None:
    header = client_cert(d1_face.sample_issuer.certificate.der)
    for peer in (PEER, "127.0.0.1", None):
        answer = await call(d1_face.application, d1_face.sample_issuer, header, peer=peer)
        assert answer.status_code == 401
    # Nor does it replace, or add to, the certificate of the connection.
    other = with_certificate(d1_face.application.listeners["d1"], certificate("d1-otherbank1"))
    transport = httpx.ASGITransport(other)
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http:
        headers = [*((k.encode(), v.encode()) for k, v in d1_face.bearer.items()), header]
        answer = await http.get(d1_face.d1.path("active"), headers=headers)
        assert refusal(answer) == refusals.UNAUTHORIZED


async def test_the_pin_calls_read_the_header_too(
    d1_face: D1Face, behind_proxy: Application
) -> None:
    transport = httpx.ASGITransport(behind_proxy.listeners["d1"], client=(PEER, 1))
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http:
        name, value = client_cert(d1_face.sample_issuer.certificate.der)
        http.headers[name.decode()] = value.decode()
        assert await D1(http, d1_face.sample_issuer).counter("active") == 1
        http.headers[name.decode()] = client_cert(certificate("d1-renewed").der)[1].decode()
        answer = await http.get(d1_face.d1.path("active"), headers=d1_face.bearer)
        assert refusal(answer) == refusals.UNAUTHORIZED


async def test_where_mutual_tls_ends_here_nobody_vouches_for_a_certificate(
    d1_face: D1Face,
) -> None:
    """A proxy that should be no proxy is noticed, rather than not believed."""
    _, value = client_cert(d1_face.sample_issuer.certificate.der)
    app = with_certificate(d1_face.application.listeners["d1"], d1_face.sample_issuer.certificate)
    transport = httpx.ASGITransport(app, client=(PEER, 1))
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http:
        path = D1(http, d1_face.sample_issuer).path("active", "/pin/changeCounter")
        assert (await http.get(path, headers=d1_face.bearer)).status_code == 200
        answer = await http.get(path, headers={**d1_face.bearer, "Client-Cert": value.decode()})
        assert refusal(answer) == refusals.UNAUTHORIZED
