"""Clients of a manifest: what each kind may say of itself, and what is refused."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from hsm.errors import ManifestRefused
from hsm.manifest.clients import AppClient, D1Client, ServerClient
from hsm.manifest.model import parse

SECRET = {"sha256": "0123456789abcdef" * 4}
OTHER_SECRET = {"sha256": "f" * 64, "valid_until": "2026-06-01T00:00:00Z"}
D1 = {"kind": "d1", "client_id": "testbank01-d1", "certificates": ["CN=d1,O=Example,C=DE"]}
APP = {"kind": "app", "client_id": "testbank01-app"}
SERVER = {"kind": "server", "client_id": "testbank01-server", "secrets": [SECRET]}
FRAMED = {**SERVER, "frame_key": "testbank01-frame", "frame_origins": ["https://bank.example"]}


def client(members: Mapping[str, Any]) -> Any:  # noqa: ANN401 - one of three kinds
    """Read a manifest with this client, and again what is signed of it."""
    body = {
        "issuer_id": "testbank01",
        "version": 1,
        "valid_from": "2026-01-01T00:00:00Z",
        "valid_until": "2027-01-01T00:00:00Z",
        "sandbox": True,
        "clients": [members],
    }
    manifest = parse(json.dumps(body).encode())
    assert parse(manifest.canonical()) == manifest
    return manifest.clients[0]


def refusal(members: Mapping[str, Any]) -> str:
    with pytest.raises(ManifestRefused) as refused:
        client(members)
    return str(refused.value)


def test_a_client_of_each_kind_has_its_defaults_written_out() -> None:
    assert client(D1) == D1Client(
        kind="d1", client_id="testbank01-d1", certificates=("CN=d1,O=Example,C=DE",), secrets=()
    )
    assert client(APP) == AppClient(
        kind="app",
        client_id="testbank01-app",
        redirect_origins=(),
        embed_origins=(),
        failure_image_status=410,
        language=None,
    )
    server = client(SERVER)
    assert isinstance(server, ServerClient)
    assert (server.frame_key, server.frame_origins, server.language) == (None, (), None)
    assert (server.show_button, server.hide_seconds, server.view_style) == (True, 30, {})


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({**D1, "certificates": []}, "clients.0.d1.certificates"),
        ({"kind": "d1", "client_id": "testbank01-d1"}, "clients.0.d1.certificates"),
        ({**D1, "state": "disabled"}, "clients.0.d1.state"),
        ({**D1, "redirect_origins": []}, "clients.0.d1.redirect_origins"),
        ({**APP, "certificates": ["CN=d1"]}, "clients.0.app.certificates"),
        ({**APP, "secrets": [SECRET]}, "clients.0.app.secrets"),
        ({**APP, "failure_image_status": 404}, "clients.0.app.failure_image_status"),
        ({**APP, "language": "DE"}, "clients.0.app.language"),
        ({**APP, "language": "de\n"}, "clients.0.app.language"),
        ({"kind": "server", "client_id": "testbank01-server"}, "clients.0.server.secrets"),
        ({**SERVER, "secrets": []}, "clients.0.server.secrets"),
        ({**SERVER, "hide_seconds": 4}, "clients.0.server.hide_seconds"),
        ({**SERVER, "hide_seconds": 121}, "clients.0.server.hide_seconds"),
        ({**SERVER, "show_button": 1}, "clients.0.server.show_button"),
        ({**FRAMED, "frame_key": "testbank01/frame"}, "clients.0.server.frame_key"),
        ({**FRAMED, "frame_key": "testbank01-" + "f" * 54}, "clients.0.server.frame_key"),
        ({"client_id": "testbank01-app"}, "clients.0"),
        *(
            ({**APP, "client_id": name}, "clients.0.app.client_id")
            for name in (
                "",
                "testbank01:app",
                "testbank01 app",
                "testbank01-app\n",
                "testbank01-äpp",
                "testbank01-" + "a" * 30,
            )
        ),
    ],
    ids=str,
)
def test_a_client_is_refused_by_the_path_of_its_fault(
    members: Mapping[str, Any], path: str
) -> None:
    assert refusal(members) == f"refused members: {path}"


@pytest.mark.parametrize(
    "secret",
    [
        {"sha256": SECRET["sha256"].upper()},
        {"sha256": SECRET["sha256"][:-1]},
        {"sha256": SECRET["sha256"] + "0"},
        {"sha256": SECRET["sha256"] + "\n"},
        {"sha256": "correct horse battery staple"},
        {"secret": "correct horse battery staple"},
        {**SECRET, "valid_until": "2026-06-01T00:00:00"},
    ],
    ids=str,
)
def test_of_a_secret_only_its_hash_is_taken(secret: object) -> None:
    for members in (D1, SERVER):
        message = refusal({**members, "secrets": [secret]})
        assert ".secrets.0." in message
        assert "horse" not in message


def test_two_secrets_are_valid_while_one_takes_the_place_of_the_other() -> None:
    for members in (D1, SERVER):
        two = client({**members, "secrets": [SECRET, OTHER_SECRET]}).secrets
        assert [secret.sha256 for secret in two] == [SECRET["sha256"], OTHER_SECRET["sha256"]]
        assert (two[0].valid_until, two[1].valid_until.isoformat()) == (
            None,
            "2026-06-01T00:00:00+00:00",
        )
        assert "secrets" in refusal({**members, "secrets": [SECRET, OTHER_SECRET, SECRET]})


@pytest.mark.parametrize(
    "name",
    [
        "not a name",
        "",
        "dns:",
        "dns:D1.example",
        "sha256:" + "0" * 63,
        "sha256:" + "A" * 64,
        "CN=d1, O=Example, C=DE",
        "C = DE, O = Example, CN = d1",
        "cn=d1",
        "subject=CN=d1",
        "CN=d1\n",
        "CN=d1 ",
        "OU=b+CN=d1",
        "CN=\\64\\31",
        "CN=a\N{COMBINING DIAERESIS}",
    ],
    ids=ascii,
)
def test_a_certificate_is_named_as_it_is_compared(name: str) -> None:
    reason = "not the name of a certificate as it is compared"
    message = refusal({**D1, "certificates": ["CN=d1", name]})
    assert message == f"refused members: clients.0.d1.certificates ({reason})"


def test_a_certificate_stands_at_a_client_once() -> None:
    assert "a name stands twice" in refusal({**D1, "certificates": ["CN=d1", "CN=d1"]})


def test_a_client_may_have_more_than_one_certificate() -> None:
    # The second is of a certificate that has its common name first, as few have.
    names = [
        "CN=d1,O=Example,C=DE",
        "C=DE,O=Example,CN=d1",
        "dns:d1.example",
        "uri:spiffe://bank/d1",
        "sha256:" + "0" * 64,
    ]
    assert client({**D1, "certificates": names}).certificates == tuple(names)


ORIGINS = ["https://bank.example", "https://bank.example:8443", "capacitor://localhost"]
NOT_ORIGINS = [
    "https://bank.example/",
    "https://BANK.example",
    "https://bank.example:443",
    "https://*.bank.example",
    "http://bank.example",
    "http://127.0.0.1:3000",
    "https://bank.example\n",
    "javascript:",
    "javascript://bank.example",
    "null",
    "*",
    "",
]


@pytest.mark.parametrize(
    ("members", "name"),
    [(APP, "redirect_origins"), (APP, "embed_origins"), (FRAMED, "frame_origins")],
    ids=["redirect", "embed", "frame"],
)
def test_an_origin_is_written_as_a_browser_writes_it(members: Mapping[str, Any], name: str) -> None:
    assert client({**members, name: ORIGINS}).origins == tuple(ORIGINS)
    for text in NOT_ORIGINS:
        assert "not an origin as a browser writes it" in refusal(
            {**members, name: [ORIGINS[0], text]}
        )


def test_only_a_redirect_may_lead_to_the_scheme_of_an_app() -> None:
    scheme = "com.example.app:"
    assert client({**APP, "redirect_origins": [scheme]}).origins == (scheme,)
    # Though the same app is registered for redirects.
    assert "not an origin" in refusal(
        {**APP, "redirect_origins": [scheme], "embed_origins": [scheme]}
    )
    assert "not an origin" in refusal({**FRAMED, "frame_origins": [scheme]})


def test_a_frame_key_and_frame_origins_go_together() -> None:
    reason = "a frame key and frame origins go together"
    assert reason in refusal({**SERVER, "frame_key": "testbank01-frame"})
    assert reason in refusal({**SERVER, "frame_origins": ["https://bank.example"]})
    assert reason in refusal({**FRAMED, "frame_origins": []})
    assert client(FRAMED).frame_key == "testbank01-frame"
