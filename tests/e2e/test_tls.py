"""Who gets through the TLS handshake, and what is left behind by those who do not."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine import pki
from cms.sandbox.partners.d1 import D1Client, D1Error
from cms.sandbox.partners.transcript import transcript
from tests.deployment import ORGANISATION, Service, Shared, wait_for

DAY = timedelta(days=1)
VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True)
class Forger:
    """Makes certificates that carry the first client's own name, each wrong in one way."""

    directory: Path
    subject: x509.Name
    ca: Path

    def signed(
        self,
        *,
        by: Path | None = None,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        expires_in: timedelta = DAY,
    ) -> dict[str, Path]:
        """A certificate signed by the CA in *by*, or by itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer, issuer_key = self.subject, key
        if by is not None:
            issuer = x509.load_pem_x509_certificate((by / "ca.pem").read_bytes()).subject
            loaded = serialization.load_pem_private_key((by / "ca.key").read_bytes(), None)
            assert isinstance(loaded, ec.EllipticCurvePrivateKey)
            issuer_key = loaded
        until = datetime.now(UTC) + expires_in
        built = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - 30 * DAY)
            .not_valid_after(until)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(issuer_key, hashes.SHA256())
        )
        files = {"certificate": self.directory / "forged.pem", "key": self.directory / "forged.key"}
        files["certificate"].write_bytes(built.public_bytes(serialization.Encoding.PEM))
        files["key"].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def another_ca(self) -> Path:
        pki.create(self.directory / "other")
        return self.directory / "other"


@pytest.fixture
def forger(shared: Shared, tmp_path: Path) -> Forger:
    own = x509.load_pem_x509_certificate(shared.first.config.client_cert.read_bytes())
    return Forger(tmp_path, own.subject, shared.service.deployment.pki)


def only(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = version
    return context


def call(shared: Shared, context: ssl.SSLContext) -> httpx.Response:
    with httpx.Client(
        verify=context, base_url=shared.first.config.base_url, timeout=HANG_SECONDS
    ) as http:
        return http.get("/anything")


def assert_handshake_refused(shared: Shared, context: ssl.SSLContext) -> str:
    """Connect, be turned away, and return the reason that the service logged."""
    service = shared.service
    before, lines = service.refused("handshake"), len(service.lines("handshake"))
    with pytest.raises((httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)):
        call(shared, context)
    wait_for(lambda: service.refused("handshake") > before)
    assert service.refused("handshake") == before + 1
    (line,) = service.lines("handshake")[lines:]
    assert (line["level"], line["count"]) == ("warning", before + 1)
    return str(line["reason"])


@pytest.mark.parametrize("version", VERSIONS)
def test_d1_converses_over(shared: Shared, version: str) -> None:
    context = only(shared.first.tls(), VERSIONS[version])
    card = "card-1" if version == "TLSv1.2" else "card-2"
    with shared.first.client(context) as client:
        steps = list(
            transcript(client, card, shared.first.sample_issuer.pans[card], ("4071", "9382"))
        )
    assert [step.status for step in steps].count(403) == 1
    assert {step.status for step in steps} == {200, 204, 403}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_resumed_session_is_the_same_client(shared: Shared, version: str) -> None:
    context = only(shared.first.tls(), VERSIONS[version])
    with shared.first.client() as client:
        bearer = client.access_token()
    issuer_id = shared.first.sample_issuer.issuer_id
    request = (
        f"GET /cms/api/v1/issuers/{issuer_id}/cards/card-3/pin/changeCounter"
        f" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\n\r\n"
    ).encode()
    session: ssl.SSLSession | None = None
    for resumed in (False, True):
        with shared.service.tls_socket(context, session) as connection:
            connection.sendall(request)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert connection.session_reused is resumed
            session = connection.session


def test_tls_1_1_is_refused(shared: Shared) -> None:
    context = shared.first.tls()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # OpenSSL would not even offer it otherwise
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        only(context, ssl.TLSVersion.TLSv1_1)
    assert assert_handshake_refused(shared, context) == "UNSUPPORTED_PROTOCOL"


@pytest.mark.parametrize("version", VERSIONS)
def test_no_certificate_is_refused(shared: Shared, version: str) -> None:
    context = only(ssl.create_default_context(cafile=shared.first.config.ca), VERSIONS[version])
    assert assert_handshake_refused(shared, context) == "PEER_DID_NOT_RETURN_A_CERTIFICATE"


FORGERIES: dict[str, Callable[[Forger], dict[str, Path]]] = {
    "signed by itself": lambda forger: forger.signed(),
    "of another CA": lambda forger: forger.signed(by=forger.another_ca()),
    "expired": lambda forger: forger.signed(by=forger.ca, expires_in=-DAY),
    "for servers only": lambda forger: forger.signed(
        by=forger.ca, usage=ExtendedKeyUsageOID.SERVER_AUTH
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_certificate_is_refused_that_is(shared: Shared, forger: Forger, forgery: str) -> None:
    files = FORGERIES[forgery](forger)
    reason = assert_handshake_refused(shared, shared.first.tls(**files))
    assert reason == "CERTIFICATE_VERIFY_FAILED"


def test_the_same_name_newly_signed_by_the_ca_is_the_client(shared: Shared, forger: Forger) -> None:
    # Shows that each forgery above fails for what is wrong with it alone.
    context = shared.first.tls(**forger.signed(by=forger.ca))
    with shared.first.client(context) as client:
        assert client.counter("card-4") == 0


@pytest.fixture
def stranger(shared: Shared) -> ssl.SSLContext:
    """TLS with a certificate of the same CA and usage, that nobody registered."""
    directory = shared.service.deployment.pki
    other = pki.issue_client(directory, "stranger", "d1-stranger", ORGANISATION)
    return shared.first.tls(certificate=other.certificate, key=other.key)


def refusals(service: Service) -> tuple[int, int]:
    return service.refused("unauthorized"), len(service.lines("unauthorized"))


def test_another_subject_of_the_same_ca_gets_no_token(
    shared: Shared, stranger: ssl.SSLContext
) -> None:
    counted, logged = refusals(shared.service)
    with shared.first.client(stranger) as client, pytest.raises(D1Error) as refused:
        client.new_access_token()
    assert refused.value.status == 401
    assert refusals(shared.service) == (counted + 1, logged + 1)


CALLS: dict[str, Callable[[D1Client, str], httpx.Response]] = {
    "GET pin": lambda client, cards: client.request("GET", f"{cards}/card-4/pin"),
    "PUT pin": lambda client, cards: client.request("PUT", f"{cards}/card-4/pin", json={}),
    "GET changeCounter": lambda client, cards: client.request(
        "GET", f"{cards}/card-4/pin/changeCounter"
    ),
    "POST activate": lambda client, cards: client.request(
        "POST", f"{cards.replace('/cards', '/physicalCards')}/card-4/activate"
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_another_subject_of_the_same_ca_with_a_stolen_token_is_refused(
    shared: Shared, stranger: ssl.SSLContext, name: str
) -> None:
    with shared.first.client() as client:
        stolen = client.access_token()
    counted, logged = refusals(shared.service)
    with shared.first.client(stranger) as thief:
        thief._access_token, thief._access_token_until_s = stolen, float("inf")
        answer = CALLS[name](
            thief, f"/cms/api/v1/issuers/{shared.first.sample_issuer.issuer_id}/cards"
        )
    assert answer.status_code == 401
    assert answer.json() == {"errorCode": "AUTHORIZER_UNAUTHORIZED", "error": "Unauthorized"}
    assert refusals(shared.service) == (counted + 1, logged + 1)


def test_a_stolen_token_does_not_fit_another_certificate_of_the_same_name(
    shared: Shared, forger: Forger
) -> None:
    with shared.first.client() as client:
        stolen = client.access_token()
    with shared.first.client(shared.first.tls(**forger.signed(by=forger.ca))) as thief:
        thief._access_token, thief._access_token_until_s = stolen, float("inf")
        with pytest.raises(D1Error) as refused:
            thief.counter("card-4")
    assert refused.value.status == 401


def test_a_registered_client_of_another_issuer_cannot_use_a_stolen_token(shared: Shared) -> None:
    with shared.first.client() as client:
        stolen = client.access_token()
    counted, logged = refusals(shared.service)
    with shared.first.client(shared.second.tls()) as thief:
        thief._access_token, thief._access_token_until_s = stolen, float("inf")
        with pytest.raises(D1Error) as refused:
            thief.counter("card-4")
    assert refused.value.status == 401
    assert refusals(shared.service) == (counted + 1, logged + 1)
