"""The development certificates: accepted by a strict TLS 1.2 and 1.3, kept, renewed, private."""

import os
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cms.sandbox.machine import pki
from cms.sandbox.machine.pki import Credential, Pki

HANDSHAKE_ROUNDS_MAX = 10


@pytest.fixture(name="directory")
def _directory(tmp_path: Path) -> Path:
    return tmp_path / "var" / "pki"


@pytest.fixture(name="made")
def _made(directory: Path) -> Pki:
    return pki.create(directory)


@pytest.fixture(name="client")
def _client(directory: Path, made: Pki) -> Credential:
    return pki.issue_client(directory, "d1", "d1.sandbox.test", "Thales D1 sandbox")


@pytest.fixture(name="_wide_umask")
def _umask() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _context(purpose: ssl.Purpose, ca: Path, own: Credential | None) -> ssl.SSLContext:
    context = ssl.create_default_context(purpose, cafile=ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> ssl.SSLObject:
    """Let the two contexts shake hands in memory; returns the server's end."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname=host),
        server.wrap_bio(up, down, server_side=True),
    ]
    open_ends = list(ends)
    for _ in range(HANDSHAKE_ROUNDS_MAX):
        for end in list(open_ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            open_ends.remove(end)
        if not open_ends:
            return ends[1]
    raise AssertionError("the handshake does not end")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_strict_mutual_tls(
    made: Pki, client: Credential, version: ssl.TLSVersion, host: str
) -> None:
    server_side = _context(ssl.Purpose.CLIENT_AUTH, made.ca.certificate, made.server)
    client_side = _context(ssl.Purpose.SERVER_AUTH, made.ca.certificate, client)
    client_side.minimum_version = client_side.maximum_version = version

    peer = _handshake(server_side, client_side, host).getpeercert()

    assert peer is not None
    assert peer["subject"] == (
        (("organizationName", "Thales D1 sandbox"),),
        (("commonName", "d1.sandbox.test"),),
    )


def test_client_without_certificate_is_refused(made: Pki) -> None:
    server_side = _context(ssl.Purpose.CLIENT_AUTH, made.ca.certificate, made.server)
    client_side = _context(ssl.Purpose.SERVER_AUTH, made.ca.certificate, None)

    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        _handshake(server_side, client_side, "localhost")


@pytest.mark.parametrize("role", ["server", "client"])
def test_certificate_does_not_serve_in_the_other_role(
    made: Pki, client: Credential, role: str
) -> None:
    server_own, client_own = (client, client) if role == "server" else (made.server, made.server)
    server_side = _context(ssl.Purpose.CLIENT_AUTH, made.ca.certificate, server_own)
    client_side = _context(ssl.Purpose.SERVER_AUTH, made.ca.certificate, client_own)

    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(server_side, client_side, "localhost")


def test_other_host_is_refused(made: Pki, client: Credential) -> None:
    server_side = _context(ssl.Purpose.CLIENT_AUTH, made.ca.certificate, made.server)
    client_side = _context(ssl.Purpose.SERVER_AUTH, made.ca.certificate, client)

    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        _handshake(server_side, client_side, "issuer.example")


def test_other_ca_is_refused(made: Pki, tmp_path: Path) -> None:
    other = pki.create(tmp_path / "other")
    stranger = pki.issue_client(tmp_path / "other", "d1", "d1.sandbox.test", "Thales D1 sandbox")
    server_side = _context(ssl.Purpose.CLIENT_AUTH, made.ca.certificate, made.server)
    client_side = _context(ssl.Purpose.SERVER_AUTH, made.ca.certificate, stranger)

    assert other.ca.certificate.read_bytes() != made.ca.certificate.read_bytes()
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(server_side, client_side, "localhost")


def test_ca_says_what_it_is(made: Pki) -> None:
    ca = _certificate(made.ca.certificate)
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)

    assert ca.subject.rfc4514_string() == "CN=Development CA\\, not for production"
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert ca.not_valid_after_utc - ca.not_valid_before_utc == timedelta(days=5 * 365)


def test_leaf_is_short_lived_and_for_clients_only(client: Credential) -> None:
    leaf = _certificate(client.certificate)
    extensions = leaf.extensions

    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=398)
    assert datetime.now(UTC) - leaf.not_valid_before_utc >= timedelta(hours=1)
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert extensions.get_extension_for_class(x509.BasicConstraints).critical
    assert extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature


@pytest.mark.usefixtures("_wide_umask")
def test_only_the_owner_reads(directory: Path) -> None:
    pki.create(directory)
    pki.issue_client(directory, "d1", "d1.sandbox.test", "Thales D1 sandbox")

    assert directory.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert modes == dict.fromkeys(
        ["ca.pem", "ca.key", "server.pem", "server.key", "d1.pem", "d1.key"], 0o600
    )


def test_private_key_is_pkcs8(client: Credential) -> None:
    assert client.key.read_text().startswith("-----BEGIN PRIVATE KEY-----")


def test_everything_is_kept(directory: Path, made: Pki, client: Credential) -> None:
    before = {path: path.read_bytes() for path in directory.iterdir()}

    assert pki.create(directory) == made
    assert pki.ensure(directory) == made
    assert pki.issue_client(directory, "d1", "another.name", "Another") == client
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


def test_interrupted_issue_is_repeated(directory: Path, made: Pki, client: Credential) -> None:
    client.certificate.unlink()
    client.key.with_name("d1.key.new").write_text("half a key")

    pki.issue_client(directory, "d1", "d1.sandbox.test", "Thales D1 sandbox")

    _context(ssl.Purpose.SERVER_AUTH, made.ca.certificate, client)


@pytest.mark.parametrize(("days_left", "renewed"), [(6, True), (8, False)])
def test_leaves_are_renewed_before_they_expire(
    directory: Path,
    made: Pki,
    client: Credential,
    monkeypatch: pytest.MonkeyPatch,
    *,
    days_left: int,
    renewed: bool,
) -> None:
    leaves = [made.server.certificate, client.certificate]
    old = [_certificate(path) for path in leaves]
    ca_before, key_before = made.ca.certificate.read_bytes(), client.key.read_bytes()
    later = datetime.now(UTC) + timedelta(days=397 - days_left, hours=23)
    monkeypatch.setattr(pki, "_now", lambda: later)

    pki.ensure(directory)

    new = [_certificate(path) for path in leaves]
    assert [before != after for before, after in zip(old, new, strict=True)] == [renewed, renewed]
    assert made.ca.certificate.read_bytes() == ca_before
    assert client.key.read_bytes() == key_before
    for before, after in zip(old, new, strict=True):
        assert after.subject == before.subject
        assert after.public_key() == before.public_key()
        # Everything but the dates and the serial number stays, order apart.
        assert {item.oid: item for item in after.extensions} == {
            item.oid: item for item in before.extensions
        }
        assert (after.serial_number != before.serial_number) is renewed


def test_renewed_certificate_is_accepted(
    directory: Path, made: Pki, client: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    client.certificate.unlink()
    monkeypatch.setattr(pki, "_now", lambda: now - timedelta(days=400))
    pki.issue_client(directory, "d1", "d1.sandbox.test", "Thales D1 sandbox")
    monkeypatch.setattr(pki, "_now", lambda: now)
    server_side = _context(ssl.Purpose.CLIENT_AUTH, made.ca.certificate, made.server)

    expired = _context(ssl.Purpose.SERVER_AUTH, made.ca.certificate, client)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        _handshake(server_side, expired, "localhost")

    pki.ensure(directory)
    renewed = _context(ssl.Purpose.SERVER_AUTH, made.ca.certificate, client)
    assert _handshake(server_side, renewed, "localhost").getpeercert()


def test_hosts_become_alternative_names(directory: Path) -> None:
    made = pki.create(directory, hosts=["pin.issuer.example", "192.0.2.7"])
    server = _certificate(made.server.certificate)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert names.get_values_for_type(x509.DNSName) == ["pin.issuer.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]
    (common_name,) = server.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert common_name.value == "pin.issuer.example"
