"""Our own calls: whom they trust, and what the log says when they fail."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine import pki
from cms.services.outbound import AnswerUnusableError, Reachability, cause_of, http_client

pytestmark = pytest.mark.anyio
ANSWER = b"{}"
TIMEOUT_SECONDS = HANG_SECONDS


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    return pki.create(tmp_path_factory.mktemp("trusted"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    return pki.create(tmp_path_factory.mktemp("stranger"), hosts=["elsewhere.test"])


@asynccontextmanager
async def serving(credential: pki.Credential, *, mute: bool = False) -> AsyncIterator[str]:
    """Answer every request, or none at all."""
    over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if not mute:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(ANSWER)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + ANSWER)
            await writer.drain()
        else:
            await over.wait()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credential.certificate, credential.key)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        over.set()
        server.close()


async def causes(
    url: str, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, calls: int = 3
) -> list[tuple[str, str | None]]:
    """Call so often; return what the log says."""
    relay = Reachability("relay")
    for _ in range(calls):
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await http.get(url, timeout=None)
        except (httpx.HTTPError, TimeoutError) as error:
            relay.failed(error)
        else:
            relay.answered()
    return [
        (record.getMessage(), getattr(record, "reason", None))
        for record in caplog.records
        if record.name == "cms.services.outbound"
    ]


async def test_a_certificate_of_the_ca_in_the_file_is_trusted(
    trusted: pki.Pki, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(trusted.server) as url, http_client(trusted.ca.certificate) as http:
        assert (await http.get(url)).content == ANSWER
        assert await causes(url, http, caplog) == []


async def test_no_other_certificate_is_and_the_log_says_why_once(
    trusted: pki.Pki, stranger: pki.Pki, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(trusted.server) as url, http_client(stranger.ca.certificate) as http:
        ((event, reason),) = await causes(url, http, caplog)
    assert event == "relay.unavailable"
    assert str(reason).startswith("certificate verify failed: ")
    caplog.clear()
    async with serving(trusted.server) as url, http_client(None) as http:
        ((_, reason),) = await causes(url, http, caplog)
    assert str(reason).startswith("certificate verify failed: ")


async def test_a_certificate_of_another_name_is_named_as_the_cause(
    stranger: pki.Pki, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(stranger.server) as url, http_client(stranger.ca.certificate) as http:
        found = await causes(url, http, caplog)
        found_by_name = await causes(url.replace("127.0.0.1", "localhost"), http, caplog)
    assert found == [("relay.unavailable", "the certificate is for another name")]
    assert found_by_name == 2 * found
    assert "elsewhere" not in caplog.text


async def test_a_port_where_nobody_listens_is_a_refused_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{free.getsockname()[1]}/"
        async with http_client(None) as http:
            found = await causes(url, http, caplog)
    assert found == [("relay.unavailable", "connection refused")]


async def test_who_does_not_answer_in_time_is_named_so(
    trusted: pki.Pki, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.cms.services.test_outbound.TIMEOUT_SECONDS", 0.2)
    async with (
        serving(trusted.server, mute=True) as url,
        http_client(trusted.ca.certificate) as http,
    ):
        assert await causes(url, http, caplog, 2) == [("relay.unavailable", "timeout")]


def test_a_name_without_address_is_named_so() -> None:
    error = httpx.ConnectError("x")
    error.__cause__ = OSError("all connection attempts failed")
    error.__cause__.__cause__ = socket.gaierror(-2, "not known")
    assert cause_of(error) == "the name has no address"
    group = OSError("x")
    group.__cause__ = ExceptionGroup("x", [ValueError(), ConnectionRefusedError()])
    assert cause_of(group) == "connection refused"


def test_the_log_has_a_line_when_a_failure_begins_changes_and_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    relay = Reachability("relay")
    relay.answered()
    for error in (*[TimeoutError()] * 9, *[AnswerUnusableError("no answer")] * 9):
        relay.failed(error)
    for _ in range(9):
        relay.answered()
    relay.failed(TimeoutError())
    assert [(r.getMessage(), getattr(r, "reason", None)) for r in caplog.records] == [
        ("relay.unavailable", "timeout"),
        ("relay.unavailable", "no answer"),
        ("relay.available_again", None),
        ("relay.unavailable", "timeout"),
    ]


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        http_client(tmp_path / "none.pem")
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(ssl.SSLError):
        http_client(tmp_path / "empty.pem")
