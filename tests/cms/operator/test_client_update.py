"""``python -m cms clients update``: what changes, of which clients, and what stays."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cms.persistence.store import Store
from cms.services.credentials import hash_secret
from tests.cms.operator.operator_at_work import Operator
from tests.issuer_records import Certificate, SampleIssuer, certificate, run_sql

ISSUER = "testbank01"
D1 = (ISSUER, ISSUER)
APP = (ISSUER, "testbank01-app")
SERVER = (ISSUER, "testbank01-x")


@pytest.fixture
def app(operator: Operator, sample_issuer: SampleIssuer) -> None:
    origins = ("--redirect-origin", "https://a.example", "--embed-origin", "https://a.example")
    operator.must("clients", "add-app", *APP, *origins)


@pytest.fixture
def server(operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path) -> Path:
    """The file of the server's first password."""
    password = tmp_path / "first"
    operator.must("clients", "add-backend", *SERVER, "--password-file", password)
    return password


def stored(url: str, client_id: str) -> dict[str, object]:
    ((row,),) = run_sql(
        url, "SELECT to_jsonb(clients) FROM clients WHERE client_id = %s", client_id
    )
    members: dict[str, object] = row
    return members


def changed(before: dict[str, object], after: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in after.items() if value != before[name]}


def pem(directory: Path, presented: Certificate) -> Path:
    file = directory / "certificate.pem"
    loaded = x509.load_der_x509_certificate(presented.der)
    file.write_bytes(loaded.public_bytes(serialization.Encoding.PEM))
    return file


def test_certificates_replace_those_until_now(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str, tmp_path: Path
) -> None:
    before = stored(database_url, D1[1])
    file = pem(tmp_path, certificate("d1 of a bank"))
    operator.must("clients", "update", *D1, "--subject", "DNS:D1.Test", "--certificate", file)
    names = ["dns:d1.test", "CN=d1 of a bank"]
    assert changed(before, stored(database_url, D1[1])) == {"certificate_subjects": names}
    events = operator.must("audit", "list", ISSUER)
    assert "event=client.updated.certificate_subjects  card_id=-  actor=operator" in events
    assert f"reason={ISSUER}" in events.splitlines()[-1]


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
    sample_issuer: SampleIssuer,
    database_url: str,
    tmp_path: Path,
    presented: Certificate,
    names: list[str] | None,
) -> None:
    operator.must("clients", "update", *D1, "--certificate", pem(tmp_path, presented))
    digest = hashlib.sha256(presented.der)
    expected = names or [f"sha256:{digest.hexdigest()}"]
    assert stored(database_url, D1[1])["certificate_subjects"] == expected


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
    sample_issuer: SampleIssuer,
    database_url: str,
    subject: str,
    refusal: str,
) -> None:
    before = stored(database_url, D1[1])
    for words in (
        ("clients", "update", *D1, "--subject", subject),
        ("clients", "add", ISSUER, "testbank01-new", "--subject", subject),
    ):
        said = operator.refused(*words)
        assert refusal in said or (subject == "\udcff" and "one line" in said)
    assert stored(database_url, D1[1]) == before


async def valid_hashes(url: str, client_id: str) -> list[bytes]:
    """Every secret hash that the service takes now."""
    store = Store.connect(url)
    await store.open()
    record = await store.read_issuer(ISSUER)
    await store.close()
    assert record is not None
    (client,) = (client for client in record.clients if client.client_id == client_id)
    return list(client.secret_hashes)


@pytest.mark.anyio
async def test_an_old_secret_is_valid_beside_the_new_one_for_a_while(
    operator: Operator, server: Path, database_url: str, tmp_path: Path
) -> None:
    files = [server, tmp_path / "second", tmp_path / "third", tmp_path / "fourth"]
    rotate = ("clients", "update", *SERVER, "--new-secret-file")
    operator.must(*rotate, files[1])
    hashes = [hash_secret(file.read_text().strip()) for file in files[:2]]
    assert await valid_hashes(database_url, SERVER[1]) == [hashes[1], hashes[0]]
    assert files[1].stat().st_mode & 0o777 == 0o600
    until = datetime.fromisoformat(str(stored(database_url, SERVER[1])["previous_secret_until"]))
    assert abs(until - datetime.now(UTC) - timedelta(minutes=60)) < timedelta(minutes=1)

    # Two at most: the oldest is over, whatever it was promised.
    operator.must(*rotate, files[2], "--old-secret-valid-minutes", "5")
    hashes.append(hash_secret(files[2].read_text().strip()))
    assert await valid_hashes(database_url, SERVER[1]) == [hashes[2], hashes[1]]

    run_sql(
        database_url,
        "UPDATE clients SET previous_secret_until = now() - interval '1 second'"
        " WHERE client_id = 'testbank01-x'",
    )
    assert await valid_hashes(database_url, SERVER[1]) == [hashes[2]]

    operator.must(*rotate, files[3], "--old-secret-valid-minutes", "0")
    assert await valid_hashes(database_url, SERVER[1]) == [
        hash_secret(files[3].read_text().strip())
    ]
    events = operator.must("audit", "list", ISSUER, "--event", "client.updated.secret")
    assert events.count(f"reason={SERVER[1]}") == 3
    seen = events + operator.must("clients", "show", *SERVER, "--json")
    for file in files:
        assert file.read_text().strip() not in seen
        assert hash_secret(file.read_text().strip()).hex() not in seen


def test_a_secret_file_is_never_overwritten_and_then_the_old_secret_stays(
    operator: Operator, server: Path, database_url: str
) -> None:
    before = stored(database_url, SERVER[1])
    words = ("--new-secret-file", server, "--hide-seconds", "9")
    assert operator.refused("clients", "update", *SERVER, *words) == f"{server}: File exists"
    assert stored(database_url, SERVER[1]) == before


@pytest.mark.usefixtures("app")
def test_an_apps_origins_and_settings_change(operator: Operator, database_url: str) -> None:
    before = stored(database_url, APP[1])
    words = ("--redirect-origin", "https://b.example", "--redirect-origin", "com.example.app:")
    operator.must("clients", "update", *APP, *words, "--failure-image-status", "200")
    after = stored(database_url, APP[1])
    assert changed(before, after) == {
        "redirect_origins": ["https://b.example", "com.example.app:"],
        "failure_image_status": 200,
    }
    operator.must("clients", "update", *APP, "--redirect-origin", "", "--embed-origin", "")
    emptied: dict[str, object] = {"redirect_origins": [], "embed_origins": []}
    assert changed(after, stored(database_url, APP[1])) == emptied
    events = operator.must("audit", "list", ISSUER, "--json")
    for name in ("redirect_origins", "embed_origins", "failure_image_status"):
        assert f'"client.updated.{name}"' in events


@pytest.mark.usefixtures("server")
def test_a_servers_settings_change(operator: Operator, database_url: str, tmp_path: Path) -> None:
    style = tmp_path / "style.json"
    style.write_bytes(b'\xef\xbb\xbf{"widthPx": 600}')
    before = stored(database_url, SERVER[1])
    words = ("--no-button", "--hide-seconds", "9", "--style", style)
    assert operator.must("clients", "update", *SERVER, *words) == ""
    after = stored(database_url, SERVER[1])
    assert changed(before, after).keys() == {"show_button", "hide_seconds", "view_style"}

    frames = ("--frame-origin", "http://localhost:3000", "--sandbox")
    key = operator.must("clients", "update", *SERVER, *frames).strip()
    framed = stored(database_url, SERVER[1])
    assert changed(after, framed) == {
        "embed_origins": ["http://localhost:3000"],
        "frame_key": key,
    }
    assert operator.must("clients", "update", *SERVER, "--frame-origin", "https://b.example") == ""
    assert stored(database_url, SERVER[1])["frame_key"] == key
    own = ("--frame-key", "testbank01.own", "--button")
    assert operator.must("clients", "update", *SERVER, *own) == ""
    now = stored(database_url, SERVER[1])
    assert (now["frame_key"], now["show_button"]) == ("testbank01.own", True)


@pytest.mark.usefixtures("app", "server")
@pytest.mark.parametrize("client", [APP, SERVER])
def test_the_language_of_a_clients_pages_changes_and_goes(
    operator: Operator, database_url: str, client: tuple[str, str]
) -> None:
    before = stored(database_url, client[1])
    for given, language in (("sv", "sv"), ("fi", "fi"), ("", None)):
        operator.must("clients", "update", *client, "--language", given)
        now = stored(database_url, client[1])
        assert now["language"] == language
        assert changed(before, now).keys() <= {"language"}


@pytest.mark.usefixtures("app", "server")
@pytest.mark.parametrize(
    ("client", "words", "refusal"),
    [
        (D1, (), "nothing to change: see --help"),
        (D1, ("--sandbox", "--old-secret-valid-minutes", "5"), "nothing to change: see --help"),
        (
            D1,
            ("--subject", "CN=b", "--old-secret-valid-minutes", "0"),
            "--old-secret-valid-minutes goes with --new-secret-file",
        ),
        (D1, ("--redirect-origin", "https://b.example"), "--redirect-origin is not for a client"),
        (D1, ("--hide-seconds", "9"), "--hide-seconds is not for a client of this kind"),
        (D1, ("--language", "fi"), "--language is not for a client of this kind"),
        (APP, ("--new-secret-file", "none"), "--new-secret-file is not for a client of this kind"),
        (APP, ("--subject", "CN=d1"), "--subject is not for a client of this kind"),
        (APP, ("--frame-origin", "https://b.example"), "--frame-origin is not for a client"),
        (APP, ("--redirect-origin", "https://b.example/"), "an origin is written"),
        (APP, ("--embed-origin", "com.example.app:"), "an origin is written"),
        (APP, ("--embed-origin", "", "--embed-origin", "https://b.example"), "an origin is"),
        (SERVER, ("--embed-origin", "https://b.example"), "--embed-origin is not for a client"),
        (SERVER, ("--frame-key", "testbank01-key"), "a frame key needs --frame-origin"),
        (SERVER, ("--frame-origin", "http://localhost:1"), "an origin is written"),
        ((ISSUER, "testbank01-y"), ("--no-button",), "no such client"),
        (("testbank02", "testbank02"), ("--no-button",), "no such client"),
    ],
)
def test_what_is_refused_changes_nothing(
    operator: Operator,
    database_url: str,
    client: tuple[str, str],
    words: tuple[str, ...],
    refusal: str,
) -> None:
    rows = "SELECT to_jsonb(clients) FROM clients ORDER BY client_id"
    before = run_sql(database_url, rows)
    assert operator.refused("clients", "update", *client, *words).startswith(refusal)
    assert run_sql(database_url, rows) == before


def test_a_client_without_a_secret_gets_none(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    bare = (ISSUER, "testbank01-bare")
    operator.must("clients", "add", *bare, "--subject", "CN=d1")
    words = ("clients", "update", *bare, "--new-secret-file", tmp_path / "secret")
    assert operator.refused(*words) == "--new-secret-file is not for a client of this kind"
    assert not (tmp_path / "secret").exists()


@pytest.mark.usefixtures("server")
def test_a_frame_key_is_one_servers(operator: Operator, tmp_path: Path) -> None:
    other = (ISSUER, "testbank01-y")
    frame = ("--frame-origin", "https://b.example", "--frame-key", "testbank01-key")
    operator.must("clients", "add-backend", *other, "--password-file", tmp_path / "b", *frame)
    assert "frame" in operator.refused("clients", "update", *SERVER, *frame)
