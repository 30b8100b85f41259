"""The app's web page: what its own server hands out, and to whom."""

import ssl
from collections.abc import Iterator

import httpx
import pytest

from cms.sandbox import pki
from cms.sandbox.host_page import HostPage
from cms.sandbox.hosted_client import HostedConfig
from tests.deployment import free_ports

SERVICE = "https://127.0.0.1:4"


@pytest.fixture(scope="module", name="hosted")
def _hosted(tmp_path_factory: pytest.TempPathFactory) -> HostedConfig:
    directory = tmp_path_factory.mktemp("host-page")
    made = pki.create(directory)
    token = directory / "access-token"
    return HostedConfig(SERVICE, made.ca.certificate, "bank-app", token, "demobank01", "card-1")


@pytest.fixture(scope="module", name="page")
def _page(hosted: HostedConfig) -> Iterator[HostPage]:
    (port,) = free_ports(1)
    directory = hosted.ca.parent
    with HostPage(hosted, directory / "server.pem", directory / "server.key", port) as page:
        yield page


@pytest.fixture(scope="module", name="http")
def _http(hosted: HostedConfig, page: HostPage) -> Iterator[httpx.Client]:
    tls = ssl.create_default_context(cafile=hosted.ca)
    with httpx.Client(base_url=page.url, verify=tls) as http:
        yield http


def test_the_page_runs_its_own_script_and_speaks_to_the_service_only(http: httpx.Client) -> None:
    answer = http.get("/")
    assert answer.text.startswith("<!DOCTYPE html>")
    policy = dict(
        directive.split(" ", 1)
        for directive in answer.headers["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == f"'self' {SERVICE}"
    assert policy["frame-src"] == SERVICE
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in " ".join(policy.values())


def test_the_page_is_told_the_newest_access_token(http: httpx.Client, hosted: HostedConfig) -> None:
    for token in ("first", "second"):
        hosted.access_token_file.write_text(token + "\n")
        answer = http.get("/config.json")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.json() == {
            "hosted": {"baseUrl": SERVICE, "clientKey": "bank-app", "accessToken": token}
        }


def test_no_page_of_another_site_is_told_anything(http: httpx.Client) -> None:
    answer = http.get("/config.json", headers={"Origin": "https://evil.test"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    renamed = http.get("/config.json", headers={"Host": "evil.test"})
    assert renamed.status_code == 400


def test_there_is_nothing_else(http: httpx.Client) -> None:
    assert http.get("/host_page.py").status_code == 404


def test_it_ends_with_its_block(hosted: HostedConfig) -> None:
    (port,) = free_ports(1)
    directory = hosted.ca.parent
    with HostPage(hosted, directory / "server.pem", directory / "server.key", port) as page:
        tls = ssl.create_default_context(cafile=hosted.ca)
        assert httpx.get(page.url, verify=tls).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(page.url, verify=tls)
