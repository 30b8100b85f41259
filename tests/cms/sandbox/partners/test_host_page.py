"""The app's web page: what its own server hands out, and to whom."""

import ssl
from collections.abc import Iterator

import httpx
import pytest

from cms.sandbox.machine import pki
from cms.sandbox.partners.host_page import HostPage
from cms.sandbox.partners.hosted_app import HostedConfig
from cms.sandbox.partners.pincontrol_server import PinControlClient, PinControlConfig
from tests.deployment import free_ports

SERVICE = "https://127.0.0.1:4"
PASSWORD = "p4ssw0rd-of-the-server"
PERSONALISED, UNPERSONALISED = "9002", "9003"


@pytest.fixture(scope="module", name="hosted")
def _hosted(tmp_path_factory: pytest.TempPathFactory) -> HostedConfig:
    directory = tmp_path_factory.mktemp("host-page")
    made = pki.create(directory)
    access_token = directory / "access-token"
    return HostedConfig(
        SERVICE, made.ca.certificate, "app-key", access_token, "demobank01", "card-1"
    )


@pytest.fixture(scope="module", name="pincontrol")
def _pincontrol(hosted: HostedConfig) -> PinControlConfig:
    password = hosted.ca.parent / "password"
    password.write_text(PASSWORD)
    user, frame_key, clerk = "server-user", "frame-key", "clerk 7"
    return PinControlConfig(
        *(SERVICE, hosted.ca, user, password, frame_key, clerk, PERSONALISED, UNPERSONALISED)
    )


@pytest.fixture(scope="module", name="page")
def _page(hosted: HostedConfig, pincontrol: PinControlConfig) -> Iterator[HostPage]:
    with serve(hosted, pincontrol) as page:
        yield page


def serve(hosted: HostedConfig, pincontrol: PinControlConfig) -> HostPage:
    (port,) = free_ports(1)
    directory = hosted.ca.parent
    return HostPage(hosted, pincontrol, directory / "server.pem", directory / "server.key", port)


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
    assert policy["form-action"] == SERVICE
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in " ".join(policy.values())


def test_the_page_is_told_the_newest_access_token(http: httpx.Client, hosted: HostedConfig) -> None:
    for token in ("first", "second"):
        hosted.access_token_file.write_text(token + "\n")
        answer = http.get("/config.json")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.json() == {
            "hosted": {"baseUrl": SERVICE, "clientKey": "app-key", "accessToken": token},
            "pincontrol": {
                "baseUrl": SERVICE,
                "frameKey": "frame-key",
                "producedPlasticId": PERSONALISED,
                "unproducedPlasticId": UNPERSONALISED,
            },
        }


def test_no_page_of_another_site_is_told_anything(http: httpx.Client) -> None:
    answer = http.get("/config.json", headers={"Origin": "https://evil.test"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    renamed = http.get("/config.json", headers={"Host": "evil.test"})
    assert renamed.status_code == 400


def test_there_is_nothing_else(http: httpx.Client) -> None:
    assert http.get("/host_page.py").status_code == 404


@pytest.fixture(name="asked")
def _asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the page's server asks the service for, whose answer is a refusal."""
    asked = []

    def ask(_: PinControlClient, plastic_id: str, scope: str) -> httpx.Response:
        asked.append((plastic_id, scope))
        return httpx.Response(403, json={"code": "403"})

    monkeypatch.setattr(PinControlClient, "ask", ask)
    return asked


def ask_for(http: httpx.Client, path: str, origin: str | None) -> httpx.Response:
    return http.post(f"/pincontrol/{path}", headers={} if origin is None else {"Origin": origin})


def test_the_page_gets_what_the_service_answers_its_server(
    http: httpx.Client, page: HostPage, asked: list[tuple[str, str]]
) -> None:
    origin = page.url.removesuffix("/")
    for path in (f"view?plasticId={UNPERSONALISED}", f"set?plasticId={PERSONALISED}"):
        answer = ask_for(http, path, origin)
        assert (answer.status_code, answer.json()) == (403, {"code": "403"})
        assert answer.headers["Cache-Control"] == "no-store"
    assert asked == [(UNPERSONALISED, "VIEW_PIN"), (PERSONALISED, "SET_PIN")]


@pytest.mark.parametrize("origin", ["https://evil.test", "null", None])
def test_no_page_of_another_site_gets_a_control_id(
    http: httpx.Client, asked: list[tuple[str, str]], origin: str | None
) -> None:
    answer = ask_for(http, f"view?plasticId={UNPERSONALISED}", origin)
    assert answer.json() == {"message": "Only the page itself may ask"}
    assert asked == []


@pytest.mark.parametrize("path", ["view?plasticId=1", "view", f"change?plasticId={PERSONALISED}"])
def test_nothing_else_is_asked_for(
    http: httpx.Client, page: HostPage, asked: list[tuple[str, str]], path: str
) -> None:
    assert ask_for(http, path, page.url.removesuffix("/")).status_code == 404
    assert asked == []


def test_the_password_is_in_no_answer(http: httpx.Client, page: HostPage) -> None:
    answers = [http.get(path) for path in ("/", "/host_page.js", "/config.json")]
    # Nothing listens where the service would be.
    unavailable = ask_for(http, f"view?plasticId={PERSONALISED}", page.url.removesuffix("/"))
    assert (unavailable.status_code, unavailable.json()) == (
        502,
        {"message": "The service cannot be reached"},
    )
    assert not any(
        PASSWORD in answer.text + str(answer.headers) for answer in (*answers, unavailable)
    )


def test_it_ends_with_its_block(hosted: HostedConfig, pincontrol: PinControlConfig) -> None:
    with serve(hosted, pincontrol) as page:
        tls = ssl.create_default_context(cafile=hosted.ca)
        assert httpx.get(page.url, verify=tls).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(page.url, verify=tls)
