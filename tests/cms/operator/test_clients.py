"""``python -m cms clients``: what an operator types and gets back."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from hsm.manifest.client_secrets import hash_secret
from hsm.manifest.model import parse
from tests.cms.operator.operator_at_work import Operator
from tests.issuer_records import certificate
from tests.operators import manifest, signed


def stored(draft: Path, client_id: str) -> dict[str, Any]:
    """Return a client as the draft has it, which is one of a manifest."""
    clients = parse(draft.read_bytes()).by_client_id
    return clients[client_id].model_dump(mode="json")


def test_a_client_gets_a_secret_that_only_its_owner_can_read(
    operator: Operator, draft: Path, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    client = (draft, "testbank01-d1")
    assert (
        operator.must("clients", "add", *client, "--subject", "CN=d1", "--secret-file", file) == ""
    )
    secret = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(secret) >= 43  # 256 bits
    hashed = {"sha256": hash_secret(secret), "valid_until": None}
    assert stored(draft, "testbank01-d1")["secrets"] == [hashed]
    for words in (("show", *client), ("list", draft)):
        shown = operator.must("clients", *words) + operator.must("clients", *words, "--json")
        assert re.search(r"kind[ =]+d1", shown)
        assert "valid_until" in shown
        assert secret not in shown
        assert hash_secret(secret) not in shown
    assert secret not in draft.read_text()


def test_a_draft_changes_in_its_clients_only(operator: Operator, draft: Path) -> None:
    before = json.loads(draft.read_bytes())
    operator.must("clients", "add-app", draft, "testbank01-app")
    after = json.loads(draft.read_bytes())
    assert {name for name in after if after[name] != before[name]} == {"clients"}
    assert after["clients"][:-1] == before["clients"]
    operator.must("clients", "remove", draft, "testbank01-app")
    assert json.loads(draft.read_bytes()) == before


def test_a_draft_need_not_say_what_has_a_default(operator: Operator, draft: Path) -> None:
    body = json.loads(draft.read_bytes())
    members = ("issuer_id", "version", "valid_from", "valid_until")
    draft.write_text(json.dumps({name: body[name] for name in members}))
    operator.must("clients", "add-app", draft, "testbank01-app")
    assert stored(draft, "testbank01-app")["failure_image_status"] == 410


def test_two_clients_get_different_secrets(operator: Operator, draft: Path, tmp_path: Path) -> None:
    secrets = []
    for name in ("a", "b"):
        file = tmp_path / name
        words = ("--subject", "CN=d1", "--secret-file", file)
        operator.must("clients", "add", draft, f"testbank01-{name}", *words)
        secrets.append(file.read_text())
    assert secrets[0] != secrets[1]


def test_a_client_is_named_by_its_certificates(
    operator: Operator, draft: Path, tmp_path: Path
) -> None:
    pem = tmp_path / "client.pem"
    loaded = x509.load_der_x509_certificate(certificate("d1 of a bank").der)
    pem.write_bytes(loaded.public_bytes(serialization.Encoding.PEM))
    client = (draft, "testbank01-d1")
    operator.must("clients", "add", *client, "--certificate", pem, "--subject", "dns:d1.test")
    shown = operator.must("clients", "show", *client)
    assert re.search(r"kind +d1", shown)
    assert re.search(r"secrets +-\n", shown)
    assert "['dns:d1.test', 'CN=d1 of a bank']" in shown


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
def test_a_client_that_is_refused_leaves_the_draft_and_no_file(
    operator: Operator,
    draft: Path,
    tmp_path: Path,
    client: str,
    more: list[str],
    refusal: str,
) -> None:
    file, before = tmp_path / "secret", draft.read_bytes()
    adding = ("clients", "add", draft, client, "--secret-file", file, *more)
    assert operator.refused(*adding) == refusal
    assert not file.exists()
    assert draft.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        ("junk", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("{}", "refused members: issuer_id, valid_from, valid_until, version"),
        (signed(manifest("testbank01")), "a signed manifest: make the next draft of it"),
        (None, "the file cannot be read"),
    ],
)
def test_a_file_that_is_no_draft_is_refused_and_left_as_it_is(
    operator: Operator, draft: Path, tmp_path: Path, content: str | None, refusal: str
) -> None:
    draft.unlink()
    if content is not None:
        draft.write_text(content)
    secret = ("--subject", "CN=d1", "--secret-file", tmp_path / "secret")
    for words in (
        ("add", draft, "testbank01-d1", *secret),
        ("remove", draft, "testbank01"),
        ("list", draft),
    ):
        assert operator.refused("clients", *words).startswith(refusal)
    assert not (tmp_path / "secret").exists()
    if content is not None:
        assert draft.read_text() == content


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("add", ("--subject", "CN=d1", "--secret-file")),
        ("add-backend", ("--password-file",)),
    ],
)
def test_a_secret_file_is_never_overwritten(
    operator: Operator, draft: Path, tmp_path: Path, verb: str, words: tuple[str, ...]
) -> None:
    file, client = tmp_path / "secret", (draft, "testbank01-x")
    file.write_text("of somebody else")
    assert operator.refused("clients", verb, *client, *words, file) == f"{file}: File exists"
    assert file.read_text() == "of somebody else"
    assert operator.refused("clients", "show", *client) == "no such client"


def test_a_file_that_is_no_certificate_is_refused(
    operator: Operator, draft: Path, tmp_path: Path
) -> None:
    pem = tmp_path / "client.pem"
    pem.write_text("junk")
    adding = ("clients", "add", draft, "testbank01-d1", "--certificate", pem)
    assert operator.refused(*adding) == "not a PEM certificate"


def test_an_unknown_client_cannot_be_shown_or_removed(operator: Operator, draft: Path) -> None:
    for verb in ("show", "remove"):
        assert operator.refused("clients", verb, draft, "nobody") == "no such client"


# Apps


def test_an_app_is_registered_with_its_origins_and_without_a_secret(
    operator: Operator, draft: Path
) -> None:
    app = (draft, "testbank01-app")
    origins = (
        *("--redirect-origin", "https://app.example", "--redirect-origin", "com.example.app:"),
        *("--embed-origin", "https://web.example:8443", "--embed-origin", "http://localhost:3000"),
    )
    operator.must("clients", "add-app", *app, *origins)
    shown = operator.must("clients", "show", *app)
    assert re.search(r"kind +app\n", shown)
    assert re.search(r"redirect_origins +\['https://app.example', 'com.example.app:'\]\n", shown)
    assert re.search(
        r"embed_origins +\['https://web.example:8443', 'http://localhost:3000'\]\n", shown
    )
    assert re.search(r"failure_image_status +410\n", shown)


@pytest.mark.parametrize(
    "origin", ["capacitor://localhost", "ionic://localhost", "capacitor://app.example"]
)
def test_an_app_whose_pages_have_a_scheme_of_their_own_is_registered(
    operator: Operator, draft: Path, tmp_path: Path, origin: str
) -> None:
    app, server = (draft, "testbank01-app"), (draft, "testbank01-server")
    operator.must("clients", "add-app", *app, "--redirect-origin", origin, "--embed-origin", origin)
    shown = operator.must("clients", "show", *app)
    for kind in ("redirect", "embed"):
        assert re.search(rf"{kind}_origins +\['{origin}'\]\n", shown)
    password = ("--password-file", tmp_path / "password")
    operator.must("clients", "add-backend", *server, *password, "--frame-origin", origin)
    assert f"['{origin}']" in operator.must("clients", "show", *server)


def test_the_key_of_frames_that_was_made_is_told_as_json(
    operator: Operator, draft: Path, tmp_path: Path
) -> None:
    server, password = (draft, "testbank01-server"), ("--password-file", tmp_path / "password")
    origin = "https://bank.example"
    printed = operator.must(
        *("clients", "add-backend", *server, *password, "--frame-origin", origin, "--json")
    )
    key = json.loads(printed)["frame_key"]
    assert key in operator.must("clients", "show", *server)
    (tmp_path / "password").unlink()
    changed = ("clients", "update", *server, "--language", "fi", "--json")
    assert json.loads(operator.must(*changed)) == {"frame_key": None}


def test_the_pages_of_a_client_may_have_a_language(
    operator: Operator, draft: Path, tmp_path: Path
) -> None:
    app, server = (draft, "testbank01-app"), (draft, "testbank01-server")
    operator.must("clients", "add-app", *app, "--language", "fi")
    password = ("--password-file", tmp_path / "password")
    operator.must("clients", "add-backend", *server, *password, "--language", "sv")
    for client, language in ((app, "fi"), (server, "sv")):
        assert re.search(rf"language +{language}\n", operator.must("clients", "show", *client))


def test_an_apps_failure_images_may_come_with_200(operator: Operator, draft: Path) -> None:
    app = (draft, "testbank01-app")
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
        ("testbank01-app", ("--redirect-origin", "http://localhost"), ORIGIN_REFUSED),
        ("testbank01-app", ("--embed-origin", "com.example.app:"), ORIGIN_REFUSED),
        ("testbank01-app", ("--embed-origin", "*"), ORIGIN_REFUSED),
        ("testbank01-app", ("--embed-origin", "capacitor://"), ORIGIN_REFUSED),
        ("testbank01-app", ("--embed-origin", "file://localhost"), ORIGIN_REFUSED),
    ],
)
def test_an_app_that_is_refused_leaves_the_draft_as_it_was(
    operator: Operator, draft: Path, key: str, more: tuple[str, ...], refusal: str
) -> None:
    before = draft.read_bytes()
    assert operator.refused("clients", "add-app", draft, key, *more).startswith(refusal)
    assert draft.read_bytes() == before


def test_only_a_manifest_for_trials_has_an_origin_of_this_machine(
    operator: Operator, draft: Path, tmp_path: Path
) -> None:
    body = json.loads(draft.read_bytes())
    draft.write_text(json.dumps({**body, "sandbox": False}))
    here = "http://localhost:3000"
    password = ("--password-file", tmp_path / "password")
    for words in (
        ("add-app", draft, "testbank01-app", "--redirect-origin", here),
        ("add-app", draft, "testbank01-app", "--embed-origin", here),
        ("add-backend", draft, "testbank01-x", *password, "--frame-origin", here),
    ):
        assert operator.refused("clients", *words).startswith(ORIGIN_REFUSED)


# Servers


def add_backend(operator: Operator, draft: Path, file: Path, *more: object) -> str:
    return operator.must(
        "clients", "add-backend", draft, "testbank01-x", "--password-file", file, *more
    )


def test_a_server_gets_a_password_that_only_its_owner_can_read_and_a_frame_key(
    operator: Operator, draft: Path, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    origins = ("https://desk.example", "https://desk.example:8443")
    framed = (word for origin in origins for word in ("--frame-origin", origin))
    key = add_backend(operator, draft, file, *framed).strip()
    assert re.fullmatch("testbank01-[A-Za-z0-9_-]{16}", key)
    assert file.stat().st_mode & 0o777 == 0o600
    password = file.read_text().strip()
    assert len(password) >= 43  # 256 bits
    assert stored(draft, "testbank01-x") == {
        "kind": "server",
        "client_id": "testbank01-x",
        "secrets": [{"sha256": hash_secret(password), "valid_until": None}],
        "frame_key": key,
        "frame_origins": [*origins],
        "show_button": True,
        "hide_seconds": 30,
        "view_style": {},
        "language": None,
    }
    shown = operator.must("clients", "show", draft, "testbank01-x")
    assert password not in shown
    assert hash_secret(password) not in shown


def test_a_server_without_frames_has_no_frame_key(
    operator: Operator, draft: Path, tmp_path: Path
) -> None:
    assert add_backend(operator, draft, tmp_path / "password") == ""


def test_what_a_server_wants_of_its_page_is_stored(
    operator: Operator, draft: Path, tmp_path: Path
) -> None:
    style = tmp_path / "style.json"
    style.write_text('{"digitColor": "#123", "widthPx": 600}')
    wishes = ("--no-button", "--hide-seconds", "5", "--style", style)
    frame = ("--frame-origin", "http://localhost:3000", "--frame-key", "testbank01.our_key")
    assert add_backend(operator, draft, tmp_path / "p", *wishes, *frame) == "testbank01.our_key\n"
    server = stored(draft, "testbank01-x")
    assert (server["show_button"], server["hide_seconds"]) == (False, 5)
    colours = {"digitColor": "#112233", "backgroundColor": "#ffffff", "frameColor": "#000000"}
    assert server["view_style"] == {**colours, "widthPx": 600}


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
        ("testbank01-x", ("--frame-origin", "http://localhost"), None, ORIGIN_REFUSED),
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
def test_a_server_that_is_refused_leaves_the_draft_and_no_file(
    operator: Operator,
    draft: Path,
    tmp_path: Path,
    user: str,
    more: tuple[str, ...],
    style: str | None,
    refusal: str,
) -> None:
    file, before = tmp_path / "password", draft.read_bytes()
    words: tuple[object, ...] = ("--password-file", file, *more)
    if style is not None:
        (tmp_path / "style").write_text(style)
        words = (*words, "--style", tmp_path / "style")
    refused = operator.refused("clients", "add-backend", draft, user, *words)
    assert refused.startswith(refusal)
    assert not file.exists()
    assert draft.read_bytes() == before


def test_a_frame_key_is_one_servers(operator: Operator, draft: Path, tmp_path: Path) -> None:
    key = (*FRAMED, "testbank01-key")
    add_backend(operator, draft, tmp_path / "a", *key)
    file = tmp_path / "b"
    adding = ("clients", "add-backend", draft, "testbank01-y", "--password-file", file)
    assert "frame" in operator.refused(*adding, *key)
    assert not file.exists()
