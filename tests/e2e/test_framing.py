"""What a request is, on every listener of a real service: TLS, plain and unix sockets."""

import base64
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from cms.faces.d1.oauth import TOKEN_PATH
from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.pkcs11.token import Pkcs11Token
from tests.deployment import Enrolled, Service, Shared, deployment, new_database
from tests.e2e.test_listeners import client_cert_header
from tests.framings import Streams, seen_by_h11

MIB = 1024 * 1024
ENDLESS = 128 * MIB
"""Far more than waits in the sockets between, and than is read while a connection is closed."""
LISTENERS = ("d1", "d1 behind a proxy", "cardholder", "ops")
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
FORM = b"grant_type=client_credentials"
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ")
PLAIN = b"content-type: text/plain\r\n"

Connect = Callable[[str], socket.socket]


@pytest.fixture(scope="module")
def proxied(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    softhsm: SoftHsm,
    hsm_token: Pkcs11Token,
) -> Iterator[tuple[Service, Enrolled]]:
    """A service behind proxies: D1's calls it on a unix socket, the cardholders' on loopback."""
    directory = tmp_path_factory.mktemp("framing")
    prepared = (
        deployment(directory, new_database(postgres), softhsm)
        .behind_proxy()
        .for_cardholders()
        .given(
            cardholder_url="https://pins.test",
            cardholder_proxy_peers='["127.0.0.1"]',
            cardholder_certificate_file=None,
            cardholder_key_file=None,
        )
    )
    enrolled = prepared.enrol(hsm_token, "proxybank1")
    with prepared.serving() as service:
        yield service, enrolled


@pytest.fixture
def connect(shared: Shared, proxied: tuple[Service, Enrolled]) -> Connect:
    """Connects to a listener by its name."""
    environment = proxied[0].deployment.environment
    contexts: dict[str, ssl.SSLContext] = {}

    def connected(listener: str) -> socket.socket:
        if listener == "d1":
            context = contexts.setdefault("d1", shared.first.tls())
            return shared.service.tls_socket(context)
        if listener == "d1 behind a proxy":
            unix = socket.socket(socket.AF_UNIX)
            unix.settimeout(HANG_SECONDS)
            unix.connect(environment["CMS_D1_SOCKET"])
            return unix
        port = environment[f"CMS_{listener.upper()}_PORT"]
        return socket.create_connection(("127.0.0.1", int(port)), timeout=HANG_SECONDS)

    return connected


def answers(connection: socket.socket, *pieces: bytes) -> bytes:
    """Send *pieces* and return all that comes back until the connection is closed."""
    received = bytearray()
    with connection:
        connection.settimeout(HANG_SECONDS)
        try:
            for piece in pieces:
                connection.sendall(piece)
            while data := connection.recv(65536):
                received += data
        except (ConnectionError, ssl.SSLError):
            pass  # it was closed while something was left to read
    return bytes(received)


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in STATUS_LINE.findall(received)]


@pytest.mark.parametrize("listener", LISTENERS)
def test_no_listener_sees_more_requests_than_a_second_parser(
    connect: Connect, listener: str
) -> None:
    streams, answered = Streams(7), 0
    for _ in range(60):
        pieces = [*streams.make(), LAST]
        requests = seen_by_h11(b"".join(pieces))
        if requests and not requests[-1].complete:
            continue  # it waits for the rest
        received = answers(connect(listener), *pieces)
        refused = received.count(PLAIN)
        assert len(statuses(received)) - refused <= len(requests)
        answered += len(statuses(received)) - refused
    assert answered > 60


@pytest.mark.parametrize("listener", LISTENERS)
def test_no_listener_reads_trailers_without_end(connect: Connect, listener: str) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    trailers = b"X-Trailer: x\r\n" * 4681
    with connect(listener) as connection:
        connection.sendall(head)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            send_again(connection, trailers, ENDLESS // len(trailers))


def send_again(connection: socket.socket, data: bytes, times: int) -> None:
    for _ in range(times):
        connection.sendall(data)


def token_request(enrolled: Enrolled, *lines: bytes) -> bytes:
    """Write the head of a request for an access token, with further header lines."""
    secret = enrolled.config.client_secret_file.read_text()
    basic = base64.b64encode(f"{enrolled.config.client_id}:{secret}".encode())
    given = [
        b"POST %b HTTP/1.1" % TOKEN_PATH.encode(),
        b"Host: x",
        b"Authorization: Basic " + basic,
        b"Content-Type: application/x-www-form-urlencoded",
        *lines,
    ]
    return b"\r\n".join(given) + b"\r\n\r\n"


def chunked(body: bytes, trailer: bytes = b"") -> bytes:
    return b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailer)


def test_a_certificate_in_a_trailer_gives_no_access_token(
    connect: Connect, proxied: tuple[Service, Enrolled]
) -> None:
    """A proxy that lets callers without a certificate pass forwards trailers as they are."""
    _, enrolled = proxied
    line = b"Client-Cert: " + client_cert_header(enrolled).encode()
    coding = b"Transfer-Encoding: chunked"
    head = token_request(enrolled, coding, b"Trailer: Client-Cert")
    for pieces in (
        (head + chunked(FORM, line + b"\r\n"), LAST),
        (head, chunked(FORM, line + b"\r\n"), LAST),
    ):
        received = answers(connect("d1 behind a proxy"), *pieces)
        assert statuses(received)[0] == 401
        assert b"access_token" not in received
    genuine = token_request(enrolled, coding, line) + chunked(FORM)
    assert b"access_token" in answers(connect("d1 behind a proxy"), genuine, LAST)


def test_an_address_in_a_trailer_changes_nothing(connect: Connect) -> None:
    """The limit of one address is not evaded by it, and another address is not shut out."""
    caller, other = b"X-Forwarded-For: 198.51.100.1", b"X-Forwarded-For: 198.51.100.2"
    head = b"GET /details-image?token=none HTTP/1.1\r\nHost: x\r\n"
    coding = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    one = head + caller + coding + chunked(b"a", other + b"\r\n")
    assert statuses(answers(connect("cardholder"), one * 11 + LAST))[:11] == [410] * 10 + [429]
    elsewhere = head + other + b"\r\n\r\n"
    assert statuses(answers(connect("cardholder"), elsewhere + LAST))[0] == 410


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("listener", ["d1", "d1 behind a proxy"])
def test_an_access_token_is_given_to_a_client_that_offers_an_upgrade(
    connect: Connect,
    shared: Shared,
    proxied: tuple[Service, Enrolled],
    listener: str,
    pieces: int,
) -> None:
    """As Java's HTTP client does on every request that is not TLS."""
    enrolled = shared.first if listener == "d1" else proxied[1]
    lines = [
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA",
        b"Content-Length: %d" % len(FORM),
    ]
    if listener != "d1":
        lines.append(b"Client-Cert: " + client_cert_header(enrolled).encode())
    head = token_request(enrolled, *lines)
    sent = (head + FORM,) if pieces == 1 else (head, FORM)
    received = answers(connect(listener), *sent, LAST)
    assert statuses(received) == [200, 404]
    assert json.loads(received[received.index(b"{") : received.index(b"}") + 1])["access_token"]


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_request_inside_the_body_of_another_is_no_request(
    connect: Connect, listener: str
) -> None:
    """Behind a proxy it would pass mutual TLS as the next caller."""
    inner = b"GET /inner HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /outer HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(inner)
    received = answers(connect(listener), head + length + inner + LAST)
    assert len(statuses(received)) == 2
