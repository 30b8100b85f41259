"""Whose client certificates get through the handshake of the D1 listener."""

import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cms import tls
from tests.service import settings

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Signed:
    """A certificate and its key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def by(cls, issuer: Self | None, name: str, *, is_ca: bool) -> Self:
        """Make one that *issuer* signs; None: it signs itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        signer = issuer.key if issuer else key
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - DAY)
            .not_valid_after(datetime.now(UTC) + DAY)
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
            .add_extension(names, critical=False)
            .sign(signer, hashes.SHA256())
        )
        return cls(key, certificate)


ROOT = Signed.by(None, "root", is_ca=True)
OURS = Signed.by(ROOT, "issuing CA of one partner", is_ca=True)
OTHER = Signed.by(ROOT, "issuing CA of another partner", is_ca=True)
CLIENT = Signed.by(OURS, "d1", is_ca=False)
OF_OTHER = Signed.by(OTHER, "d1", is_ca=False)
OF_ROOT = Signed.by(ROOT, "d1", is_ca=False)
SERVER = Signed.by(ROOT, "localhost", is_ca=False)


@pytest.mark.parametrize(
    ("trusted", "client", "sent"),
    [
        ([ROOT], CLIENT, [OURS]),
        ([ROOT, OURS], CLIENT, []),
        ([OURS], CLIENT, []),
        ([OURS], CLIENT, [OURS]),
        ([OURS], CLIENT, [OURS, ROOT]),
        ([OURS, OTHER], OF_OTHER, []),
    ],
)
def test_a_chain_that_leads_to_the_configured_ca_gets_through(
    tmp_path: Path, trusted: Sequence[Signed], client: Signed, sent: Sequence[Signed]
) -> None:
    assert shake_hands(tmp_path, trusted, client, sent) == ""


@pytest.mark.parametrize(
    ("client", "sent"),
    [
        (OF_OTHER, []),
        (OF_OTHER, [OTHER]),
        (OF_OTHER, [OTHER, ROOT]),
        (OF_OTHER, [OURS]),
        (OF_ROOT, []),
        (OF_ROOT, [ROOT]),
        (OTHER, [ROOT]),
    ],
)
def test_where_an_issuing_ca_is_configured_nobody_else_under_its_root_gets_through(
    tmp_path: Path, client: Signed, sent: Sequence[Signed]
) -> None:
    assert shake_hands(tmp_path, [OURS], client, sent) == "CERTIFICATE_VERIFY_FAILED"


def shake_hands(
    directory: Path, trusted: Sequence[Signed], client: Signed, sent: Sequence[Signed]
) -> str:
    """Shake hands in memory and return why the server refused, or nothing."""
    context = tls.tls_context(
        settings(
            "",
            directory,
            d1_certificate_file=write(directory / "server.pem", [SERVER]),
            d1_key_file=write_key(directory / "server.key", SERVER),
            d1_client_ca_file=write(directory / "ca.pem", trusted),
        )
    )
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.load_verify_locations(write(directory / "root.pem", [ROOT]))
    chain = write(directory / "client.pem", [client, *sent])
    theirs.load_cert_chain(chain, write_key(directory / "client.key", client))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    caller = theirs.wrap_bio(to_client, to_server, server_hostname="localhost")
    for _ in range(4):
        with suppress(ssl.SSLWantReadError):
            caller.do_handshake()
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as error:
            return str(error.reason)
        return ""
    raise AssertionError("the handshake did not come to an end")


def write(file: Path, signed: Sequence[Signed]) -> Path:
    pem = serialization.Encoding.PEM
    file.write_bytes(b"".join(each.certificate.public_bytes(pem) for each in signed))
    return file


def write_key(file: Path, signed: Signed) -> Path:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    file.write_bytes(signed.key.private_bytes(encoding, form, serialization.NoEncryption()))
    return file
