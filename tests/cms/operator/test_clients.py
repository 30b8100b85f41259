"""``python -m cms clients``: what an operator types and gets back."""

import re
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cms.services.credentials import hash_secret
from tests.cms.operator.operator_at_work import Operator
from tests.issuer_records import SampleIssuer, certificate, run_sql


def test_a_client_gets_a_secret_that_only_its_owner_can_read(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    client = ("testbank01", "testbank01-d1")
    assert (
        operator.must("clients", "add", *client, "--subject", "CN=d1", "--secret-file", file) == ""
    )
    secret = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    ((stored,),) = run_sql(
        database_url, "SELECT secret_hash FROM clients WHERE client_id = 'testbank01-d1'"
    )
    assert len(secret) >= 43  # 256 bits
    assert stored == hash_secret(secret)
    shown = operator.must("clients", "show", *client) + operator.must("clients", "list", client[0])
    assert re.search(r"auth +oauth", shown)
    assert secret not in shown
    assert stored.hex() not in shown


def test_two_clients_get_different_secrets(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    secrets = []
    for name in ("a", "b"):
        client = ("testbank01", f"testbank01-{name}")
        file = tmp_path / name
        operator.must("clients", "add", *client, "--subject", "CN=d1", "--secret-file", file)
        secrets.append(file.read_text())
    assert secrets[0] != secrets[1]


def test_a_client_is_named_by_its_certificates(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    pem = tmp_path / "client.pem"
    loaded = x509.load_der_x509_certificate(certificate("d1 of a bank").der)
    pem.write_bytes(loaded.public_bytes(serialization.Encoding.PEM))
    client = ("testbank01", "testbank01-d1")
    operator.must("clients", "add", *client, "--certificate", pem, "--subject", "dns:d1.test")
    shown = operator.must("clients", "show", *client)
    assert re.search(r"auth +certificate", shown)
    assert "['dns:d1.test', 'CN=d1 of a bank']" in shown


def test_a_client_is_disabled_and_enabled(operator: Operator, sample_issuer: SampleIssuer) -> None:
    client = (sample_issuer.issuer_id, sample_issuer.client_id)
    operator.must("clients", "disable", *client)
    assert re.search("state +disabled", operator.must("clients", "show", *client))
    operator.must("clients", "enable", *client)
    assert re.search("state +active", operator.must("clients", "show", *client))
    seen = operator.must("audit", "list", sample_issuer.issuer_id)
    assert seen.index("client.disabled") < seen.index("client.active")
    disabled = next(line for line in seen.splitlines() if "client.disabled" in line)
    assert f"reason={sample_issuer.client_id}" in disabled


@pytest.mark.parametrize(
    ("client", "more", "refusal"),
    [
        ("testbank02-d1", ["--subject", "CN=d1"], "a client id starts with the id of its issuer"),
        ("testbank01-d1", [], "a client needs --subject or --certificate"),
        ("testbank01", ["--subject", "CN=d1"], "duplicate client"),
        *(
            (
                f"testbank01{rest}",
                ["--subject", "CN=d1"],
                "a client id is up to 40 letters, digits, '-', '_' and '.'",
            )
            for rest in ("x" * 31, ":d1", " d1", "+d1", "%3A", "\n", "\x7f", "ä")
        ),
    ],
)
def test_a_client_that_is_refused_leaves_neither_a_row_nor_a_file(
    operator: Operator,
    sample_issuer: SampleIssuer,
    tmp_path: Path,
    client: str,
    more: list[str],
    refusal: str,
) -> None:
    file = tmp_path / "secret"
    before = operator.must("clients", "list", sample_issuer.issuer_id)
    adding = ("clients", "add", sample_issuer.issuer_id, client, "--secret-file", file, *more)
    assert operator.refused(*adding) == refusal
    assert not file.exists()
    assert operator.must("clients", "list", sample_issuer.issuer_id) == before


def test_a_client_of_an_unknown_issuer_is_refused(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    adding = ("clients", "add", "testbank02", "testbank02", "--subject", "CN=d1")
    assert operator.refused(*adding, "--secret-file", file) == "unknown issuer"
    assert not file.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("add", "testbank01", "testbank01-x", "--subject", "CN=d1", "--secret-file"),
        ("add-backend", "testbank01", "testbank01-x", "--password-file"),
    ],
)
def test_a_secret_file_is_never_overwritten(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path, words: tuple[str, ...]
) -> None:
    file = tmp_path / "secret"
    file.write_text("of somebody else")
    assert operator.refused("clients", *words, file) == f"{file}: File exists"
    assert file.read_text() == "of somebody else"
    assert operator.refused("clients", "show", "testbank01", "testbank01-x") == "no such client"


def test_a_file_that_is_no_certificate_is_refused(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    pem = tmp_path / "client.pem"
    pem.write_text("junk")
    adding = ("clients", "add", "testbank01", "testbank01-d1", "--certificate", pem)
    assert operator.refused(*adding) == "not a PEM certificate"


def test_an_unknown_client_cannot_be_changed(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    for verb in ("show", "enable", "disable"):
        assert (
            operator.refused("clients", verb, sample_issuer.issuer_id, "nobody") == "no such client"
        )


# Apps


def test_an_app_is_registered_with_its_origins_and_without_a_secret(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    app = ("testbank01", "testbank01-app")
    origins = (
        *("--redirect-origin", "https://app.example", "--redirect-origin", "com.example.app:"),
        *("--embed-origin", "https://web.example:8443", "--embed-origin", "http://localhost:3000"),
    )
    operator.must("clients", "add-app", *app, *origins, "--sandbox")
    shown = operator.must("clients", "show", *app)
    assert re.search(r"auth +public\n", shown)
    assert re.search(r"redirect_origins +\['https://app.example', 'com.example.app:'\]\n", shown)
    assert re.search(
        r"embed_origins +\['https://web.example:8443', 'http://localhost:3000'\]\n", shown
    )
    assert re.search(r"failure_image_status +410\n", shown)
    assert "event=client.added" in operator.must("audit", "list", "testbank01")


@pytest.mark.parametrize(
    "origin", ["capacitor://localhost", "ionic://localhost", "capacitor://app.example"]
)
def test_an_app_whose_pages_have_a_scheme_of_their_own_is_registered(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path, origin: str
) -> None:
    app, server = ("testbank01", "testbank01-app"), ("testbank01", "testbank01-server")
    operator.must("clients", "add-app", *app, "--redirect-origin", origin, "--embed-origin", origin)
    shown = operator.must("clients", "show", *app)
    for kind in ("redirect", "embed"):
        assert re.search(rf"{kind}_origins +\['{origin}'\]\n", shown)
    password = ("--password-file", tmp_path / "password")
    operator.must("clients", "add-backend", *server, *password, "--frame-origin", origin)
    assert f"['{origin}']" in operator.must("clients", "show", *server)


def test_the_pages_of_a_client_may_have_a_language(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    app, server = ("testbank01", "testbank01-app"), ("testbank01", "testbank01-server")
    operator.must("clients", "add-app", *app, "--language", "fi")
    password = ("--password-file", tmp_path / "password")
    operator.must("clients", "add-backend", *server, *password, "--language", "sv")
    for client, language in ((app, "fi"), (server, "sv")):
        assert re.search(rf"language +{language}\n", operator.must("clients", "show", *client))


def test_an_apps_failure_images_may_come_with_200(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    app = ("testbank01", "testbank01-app")
    operator.must("clients", "add-app", *app, "--failure-image-status", "200")
    assert re.search(r"failure_image_status +200\n", operator.must("clients", "show", *app))


ORIGIN_REFUSED = "an origin is written as a browser does"
KEY_REFUSED = "a client key is up to 40 letters, digits, '-', '_' and '.'"


@pytest.mark.parametrize(
    ("key", "more", "refusal"),
    [
        ("testbank02-app", (), "a client key starts with the id of its issuer"),
        ("testbank01:app", (), KEY_REFUSED),
        ("testbank01\tapp", (), KEY_REFUSED),
        ("testbank01 app", (), KEY_REFUSED),
        ("testbank01-äpp", (), KEY_REFUSED),
        ("testbank01" + "x" * 31, (), KEY_REFUSED),
        ("testbank01", (), "duplicate client"),
        ("testbank01-app", ("--redirect-origin", "https://app.example/"), ORIGIN_REFUSED),
        ("testbank01-app", ("--redirect-origin", "javascript:"), ORIGIN_REFUSED),
        ("testbank01-app", ("--redirect-origin", "http://localhost:3000"), ORIGIN_REFUSED),
        ("testbank01-app", ("--embed-origin", "com.example.app:"), ORIGIN_REFUSED),
        ("testbank01-app", ("--embed-origin", "*"), ORIGIN_REFUSED),
        ("testbank01-app", ("--embed-origin", "capacitor://"), ORIGIN_REFUSED),
        ("testbank01-app", ("--embed-origin", "file://localhost"), ORIGIN_REFUSED),
    ],
)
def test_an_app_that_is_refused_leaves_no_row(
    operator: Operator, sample_issuer: SampleIssuer, key: str, more: tuple[str, ...], refusal: str
) -> None:
    before = operator.must("clients", "list", sample_issuer.issuer_id)
    assert operator.refused("clients", "add-app", sample_issuer.issuer_id, key, *more).startswith(
        refusal
    )
    assert operator.must("clients", "list", sample_issuer.issuer_id) == before


# Servers


def add_backend(operator: Operator, file: Path, *more: object, user: str = "testbank01-x") -> str:
    return operator.must(
        "clients", "add-backend", "testbank01", user, "--password-file", file, *more
    )


def test_a_server_gets_a_password_that_only_its_owner_can_read_and_a_frame_key(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    origins = ("https://desk.example", "https://desk.example:8443")
    framed = (word for origin in origins for word in ("--frame-origin", origin))
    key = add_backend(operator, file, *framed).strip()
    assert re.fullmatch("testbank01-[A-Za-z0-9_-]{16}", key)
    assert file.stat().st_mode & 0o777 == 0o600
    password = file.read_text().strip()
    assert len(password) >= 43  # 256 bits
    ((auth, hashed, frame_key, frames, button, seconds, style),) = run_sql(
        database_url,
        "SELECT auth, secret_hash, frame_key, embed_origins, show_button, hide_seconds, view_style"
        " FROM clients WHERE client_id = 'testbank01-x'",
    )
    assert (auth, frame_key, frames) == ("basic", key, [*origins])
    assert (button, seconds, style) == (True, 30, {})
    assert hashed == hash_secret(password)
    shown = operator.must("clients", "show", "testbank01", "testbank01-x")
    assert password not in shown
    assert hashed.hex() not in shown
    assert "event=client.added" in operator.must("audit", "list", "testbank01")


def test_a_server_without_frames_has_no_frame_key(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    assert add_backend(operator, tmp_path / "password") == ""


def test_what_a_server_wants_of_its_page_is_stored(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str, tmp_path: Path
) -> None:
    style = tmp_path / "style.json"
    style.write_text('{"digitColor": "#123", "widthPx": 600}')
    wishes = ("--no-button", "--hide-seconds", "5", "--style", style, "--sandbox")
    frame = ("--frame-origin", "http://localhost:3000", "--frame-key", "testbank01.our_key")
    assert add_backend(operator, tmp_path / "p", *wishes, *frame) == "testbank01.our_key\n"
    ((button, seconds, stored),) = run_sql(
        database_url, "SELECT show_button, hide_seconds, view_style FROM clients WHERE auth='basic'"
    )
    assert (button, seconds) == (False, 5)
    colours = {"digitColor": "#112233", "backgroundColor": "#ffffff", "frameColor": "#000000"}
    assert stored == {**colours, "widthPx": 600}


USER_REFUSED = "a user name is up to 40 letters, digits, '-', '_' and '.'"
FRAME_KEY_REFUSED = "a frame key is up to 64"
FRAMED = ("--frame-origin", "https://desk.example", "--frame-key")


@pytest.mark.parametrize(
    ("user", "more", "style", "refusal"),
    [
        ("testbank02-x", (), None, "a user name starts with the id of its issuer"),
        ("testbank01:x", (), None, USER_REFUSED),
        ("testbank01 x", (), None, USER_REFUSED),
        ("testbank01-ä", (), None, USER_REFUSED),
        ("testbank01" + "x" * 31, (), None, USER_REFUSED),
        ("testbank01", (), None, "duplicate client"),
        ("testbank01-x", ("--frame-origin", "https://desk.example/"), None, ORIGIN_REFUSED),
        ("testbank01-x", ("--frame-origin", "*"), None, ORIGIN_REFUSED),
        ("testbank01-x", ("--frame-origin", "com.example.app:"), None, ORIGIN_REFUSED),
        ("testbank01-x", ("--frame-origin", "http://localhost:3000"), None, ORIGIN_REFUSED),
        (
            "testbank01-x",
            ("--frame-key", "testbank01-key"),
            None,
            "a frame key needs --frame-origin",
        ),
        ("testbank01-x", (*FRAMED, "testbank02-key"), None, FRAME_KEY_REFUSED),
        ("testbank01-x", (*FRAMED, "testbank01&key"), None, FRAME_KEY_REFUSED),
        ("testbank01-x", (*FRAMED, "testbank01" + "x" * 55), None, FRAME_KEY_REFUSED),
        ("testbank01-x", (), "[]", "a style is a JSON object"),
        ("testbank01-x", (), "junk", "a style is a JSON object"),
        ("testbank01-x", (), '{"digitColor": "red"}', "digitColor: "),
        ("testbank01-x", (), '{"widthPx": 119}', "widthPx: "),
        ("testbank01-x", (), '{"digitColor": "#fff"}', ""),  # as the background
    ],
)
def test_a_server_that_is_refused_leaves_neither_a_row_nor_a_file(
    operator: Operator,
    sample_issuer: SampleIssuer,
    tmp_path: Path,
    user: str,
    more: tuple[str, ...],
    style: str | None,
    refusal: str,
) -> None:
    file, before = tmp_path / "password", operator.must("clients", "list", sample_issuer.issuer_id)
    words: tuple[object, ...] = ("--password-file", file, *more)
    if style is not None:
        (tmp_path / "style").write_text(style)
        words = (*words, "--style", tmp_path / "style")
    refused = operator.refused("clients", "add-backend", "testbank01", user, *words)
    assert refused.startswith(refusal)
    assert not file.exists()
    assert operator.must("clients", "list", sample_issuer.issuer_id) == before


def test_a_frame_key_is_one_servers(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    key = (*FRAMED, "testbank01-key")
    add_backend(operator, tmp_path / "a", *key)
    file = tmp_path / "b"
    adding = ("clients", "add-backend", "testbank01", "testbank01-y", "--password-file", file)
    assert "frame" in operator.refused(*adding, *key)
    assert not file.exists()
