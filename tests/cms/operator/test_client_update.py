"""``python -m cms clients update``: what changes, of which clients, and what stays."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from crypto.secret import Secret
from hsm.manifest.client_secrets import hash_secret, is_secret
from hsm.manifest.clients import AppClient
from hsm.manifest.model import parse
from tests.cms.operator.operator_at_work import Operator
from tests.issuer_records import Certificate, certificate

ISSUER = "testbank01"
APP = "testbank01-app"
SERVER = "testbank01-x"


@pytest.fixture
def app(operator: Operator, draft: Path) -> None:
    origins = ("--redirect-origin", "https://a.example", "--embed-origin", "https://a.example")
    operator.must("clients", "add-app", draft, APP, *origins)


@pytest.fixture
def server(operator: Operator, draft: Path, tmp_path: Path) -> Path:
    """The file of the server's first password."""
    password = tmp_path / "first"
    operator.must("clients", "add-backend", draft, SERVER, "--password-file", password)
    return password


def stored(draft: Path, client_id: str) -> dict[str, Any]:
    """Return a client as the draft has it, which is one of a manifest."""
    clients = parse(draft.read_bytes()).by_client_id
    return clients[client_id].model_dump(mode="json")


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if value != before[name]}


def pem(directory: Path, presented: Certificate) -> Path:
    file = directory / "certificate.pem"
    loaded = x509.load_der_x509_certificate(presented.der)
    file.write_bytes(loaded.public_bytes(serialization.Encoding.PEM))
    return file


def test_certificates_replace_those_until_now(
    operator: Operator, draft: Path, tmp_path: Path
) -> None:
    before = stored(draft, ISSUER)
    file = pem(tmp_path, certificate("d1 of a bank"))
    operator.must(
        "clients", "update", draft, ISSUER, "--subject", "DNS:D1.Test", "--certificate", file
    )
    names = ["dns:d1.test", "CN=d1 of a bank"]
    assert changed(before, stored(draft, ISSUER)) == {"certificates": names}


@pytest.mark.parametrize(
    ("presented", "names"),
    [
        (certificate("d1", x509.DNSName("d1.test")), ["CN=d1"]),
        (
            certificate("", x509.DNSName("D1.test"), x509.UniformResourceIdentifier("urn:d1")),
            ["dns:d1.test", "uri:urn:d1"],
        ),
        (certificate("", x509.RFC822Name("d1@test")), None),
        (certificate(""), None),
    ],
)
def test_a_certificate_without_a_subject_is_registered_by_its_other_names(
    operator: Operator,
    draft: Path,
    tmp_path: Path,
    presented: Certificate,
    names: list[str] | None,
) -> None:
    operator.must("clients", "update", draft, ISSUER, "--certificate", pem(tmp_path, presented))
    digest = hashlib.sha256(presented.der)
    expected = names or [f"sha256:{digest.hexdigest()}"]
    assert stored(draft, ISSUER)["certificates"] == expected


@pytest.mark.parametrize(
    ("subject", "refusal"),
    [
        ("", "not a subject"),
        ("/C=DE/CN=d1", "a subject written with slashes can be read in two ways"),
        ("C=DE,CN=d1", "the order of the subject's attributes is not certain"),
        ("X=d1", "the subject has an attribute of an unknown type"),
        ("dns:", "not a DNS name"),
        ("sha256:00", "a SHA-256 is 64 hexadecimal digits"),
        ("\udcff", "not a subject"),
    ],
)
def test_a_name_that_would_match_nothing_is_refused_and_nothing_changes(
    operator: Operator,
    draft: Path,
    subject: str,
    refusal: str,
) -> None:
    before = stored(draft, ISSUER)
    for words in (
        ("clients", "update", draft, ISSUER, "--subject", subject),
        ("clients", "add", draft, "testbank01-new", "--subject", subject),
    ):
        said = operator.refused(*words)
        assert refusal in said or (subject == "\udcff" and "one line" in said)
    assert stored(draft, ISSUER) == before


def taken(draft: Path, files: list[Path], at: datetime) -> list[bool]:
    """Tell of the secret in each file whether the server may sign in with it then."""
    server = parse(draft.read_bytes()).by_client_id[SERVER]
    assert not isinstance(server, AppClient)
    secrets = [file.read_text().strip() for file in files]
    return [is_secret(Secret(secret), server.secrets, at.timestamp()) for secret in secrets]


def test_an_old_secret_is_valid_beside_the_new_one_for_a_while(
    operator: Operator, server: Path, draft: Path, tmp_path: Path
) -> None:
    files = [server, tmp_path / "second", tmp_path / "third", tmp_path / "fourth"]
    now, minute = datetime.now(UTC), timedelta(minutes=1)
    rotate = ("clients", "update", draft, SERVER, "--new-secret-file")
    operator.must(*rotate, files[1])
    assert files[1].stat().st_mode & 0o777 == 0o600
    assert taken(draft, files[:2], now + timedelta(days=7) - minute) == [True, True]
    assert taken(draft, files[:2], now + timedelta(days=7) + minute) == [False, True]

    # Two at most: the oldest is over, whatever it was promised.
    operator.must(*rotate, files[2], "--old-secret-valid-minutes", "5")
    assert taken(draft, files[:3], now + 4 * minute) == [False, True, True]
    assert taken(draft, files[:3], now + 6 * minute) == [False, False, True]

    operator.must(*rotate, files[3], "--old-secret-valid-minutes", "0")
    assert taken(draft, files, now) == [False, False, False, True]
    seen = operator.must("clients", "show", draft, SERVER, "--json")
    for file in files:
        assert file.read_text().strip() not in seen + draft.read_text()
        assert hash_secret(file.read_text().strip()) not in seen


def test_an_old_secret_is_never_valid_for_longer_than_it_was(
    operator: Operator, server: Path, draft: Path, tmp_path: Path
) -> None:
    body = json.loads(draft.read_bytes())
    end = datetime.now(UTC) + timedelta(minutes=3)
    body["clients"][-1]["secrets"][0]["valid_until"] = end.isoformat()
    draft.write_text(json.dumps(body))
    second = tmp_path / "second"
    operator.must("clients", "update", draft, SERVER, "--new-secret-file", second)
    assert taken(draft, [server, second], end - timedelta(seconds=1)) == [True, True]
    assert taken(draft, [server, second], end) == [False, True]


def test_a_secret_file_is_never_overwritten_and_then_the_old_secret_stays(
    operator: Operator, server: Path, draft: Path
) -> None:
    before = draft.read_bytes()
    words = ("--new-secret-file", server, "--hide-seconds", "9")
    assert operator.refused("clients", "update", draft, SERVER, *words) == f"{server}: File exists"
    assert draft.read_bytes() == before


@pytest.mark.usefixtures("app")
def test_an_apps_origins_and_settings_change(operator: Operator, draft: Path) -> None:
    before = stored(draft, APP)
    words = ("--redirect-origin", "https://b.example", "--redirect-origin", "com.example.app:")
    operator.must("clients", "update", draft, APP, *words, "--failure-image-status", "200")
    after = stored(draft, APP)
    assert changed(before, after) == {
        "redirect_origins": ["https://b.example", "com.example.app:"],
        "failure_image_status": 200,
    }
    operator.must("clients", "update", draft, APP, "--redirect-origin", "", "--embed-origin", "")
    emptied: dict[str, object] = {"redirect_origins": [], "embed_origins": []}
    assert changed(after, stored(draft, APP)) == emptied


@pytest.mark.usefixtures("server")
def test_a_servers_settings_change(operator: Operator, draft: Path, tmp_path: Path) -> None:
    style = tmp_path / "style.json"
    style.write_bytes(b'\xef\xbb\xbf{"widthPx": 600}')
    before = stored(draft, SERVER)
    words = ("--no-button", "--hide-seconds", "9", "--style", style)
    assert operator.must("clients", "update", draft, SERVER, *words) == ""
    after = stored(draft, SERVER)
    assert changed(before, after).keys() == {"show_button", "hide_seconds", "view_style"}

    frames = ("--frame-origin", "http://localhost:3000")
    key = operator.must("clients", "update", draft, SERVER, *frames).strip()
    framed = stored(draft, SERVER)
    assert changed(after, framed) == {
        "frame_origins": ["http://localhost:3000"],
        "frame_key": key,
    }
    assert (
        operator.must("clients", "update", draft, SERVER, "--frame-origin", "https://b.example")
        == ""
    )
    assert stored(draft, SERVER)["frame_key"] == key
    own = ("--frame-key", "testbank01.own", "--button")
    assert operator.must("clients", "update", draft, SERVER, *own) == ""
    now = stored(draft, SERVER)
    assert (now["frame_key"], now["show_button"]) == ("testbank01.own", True)
    # Whose pages nobody may frame has no key.
    assert operator.must("clients", "update", draft, SERVER, "--frame-origin", "") == ""
    gone: dict[str, object] = {"frame_origins": [], "frame_key": None}
    assert changed(now, stored(draft, SERVER)) == gone


@pytest.mark.usefixtures("app", "server")
@pytest.mark.parametrize("client", [APP, SERVER])
def test_the_language_of_a_clients_pages_changes_and_goes(
    operator: Operator, draft: Path, client: str
) -> None:
    before = stored(draft, client)
    for given, language in (("sv", "sv"), ("fi", "fi"), ("", None)):
        operator.must("clients", "update", draft, client, "--language", given)
        now = stored(draft, client)
        assert now["language"] == language
        assert changed(before, now).keys() <= {"language"}


@pytest.mark.usefixtures("app", "server")
@pytest.mark.parametrize(
    ("client", "words", "refusal"),
    [
        (ISSUER, (), "nothing to change: see --help"),
        (ISSUER, ("--old-secret-valid-minutes", "5"), "nothing to change: see --help"),
        (
            ISSUER,
            ("--subject", "CN=b", "--old-secret-valid-minutes", "0"),
            "--old-secret-valid-minutes goes with --new-secret-file",
        ),
        (
            ISSUER,
            ("--redirect-origin", "https://b.example"),
            "--redirect-origin is not for a client",
        ),
        (ISSUER, ("--hide-seconds", "9"), "--hide-seconds is not for a client of this kind"),
        (ISSUER, ("--language", "fi"), "--language is not for a client of this kind"),
        (APP, ("--new-secret-file", "none"), "--new-secret-file is not for a client of this kind"),
        (APP, ("--subject", "CN=d1"), "--subject is not for a client of this kind"),
        (APP, ("--frame-origin", "https://b.example"), "--frame-origin is not for a client"),
        (APP, ("--redirect-origin", "https://b.example/"), "an origin is written"),
        (APP, ("--embed-origin", "com.example.app:"), "an origin is written"),
        (APP, ("--embed-origin", "", "--embed-origin", "https://b.example"), "an origin is"),
        (SERVER, ("--embed-origin", "https://b.example"), "--embed-origin is not for a client"),
        (SERVER, ("--frame-key", "testbank01-key"), "a frame key needs --frame-origin"),
        (SERVER, ("--frame-origin", "http://localhost"), "an origin is written"),
        ("testbank01-y", ("--no-button",), "no such client"),
    ],
)
def test_what_is_refused_changes_nothing(
    operator: Operator,
    draft: Path,
    client: str,
    words: tuple[str, ...],
    refusal: str,
) -> None:
    before = draft.read_bytes()
    assert operator.refused("clients", "update", draft, client, *words).startswith(refusal)
    assert draft.read_bytes() == before


def test_a_client_without_a_secret_gets_none(
    operator: Operator, draft: Path, tmp_path: Path
) -> None:
    bare = (draft, "testbank01-bare")
    operator.must("clients", "add", *bare, "--subject", "CN=d1")
    words = ("clients", "update", *bare, "--new-secret-file", tmp_path / "secret")
    assert operator.refused(*words) == "--new-secret-file is not for a client of this kind"
    assert not (tmp_path / "secret").exists()


@pytest.mark.usefixtures("server")
def test_a_frame_key_is_one_servers(operator: Operator, draft: Path, tmp_path: Path) -> None:
    other = (draft, "testbank01-y")
    frame = ("--frame-origin", "https://b.example", "--frame-key", "testbank01-key")
    operator.must("clients", "add-backend", *other, "--password-file", tmp_path / "b", *frame)
    assert "frame" in operator.refused("clients", "update", draft, SERVER, *frame)
