"""Make a certificate authority and certificates for development. Never for production.

One directory (0700), files 0600: ``ca.pem``, ``server.pem``, ``NAME.pem`` of each
client, and beside each its unencrypted PKCS#8 ``.key``. All keys are ECDSA P-256, all
certificates follow RFC 5280 closely enough for OpenSSL's strict mode. A certificate
that exists is kept: for other hosts or names, and after the CA's 5 years, take
another directory.
"""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cms.development import CA_NAME

HOSTS: Final = ("localhost", "127.0.0.1", "::1")
CA_LIFETIME: Final = timedelta(days=5 * 365)
LEAF_LIFETIME: Final = timedelta(days=398)
RENEW_BEFORE: Final = timedelta(days=7)
#: A certificate is valid from a little before now: clocks differ.
BACKDATED: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Credential:
    """A certificate and its private key, both PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Pki:
    """The development CA and the server's credential."""

    ca: Credential
    server: Credential


def create(directory: Path, *, hosts: Sequence[str] = HOSTS) -> Pki:
    """Make the CA and a server certificate for *hosts* (names and addresses), where missing."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    pki = Pki(_credential(directory, "ca"), _credential(directory, "server"))
    if not pki.ca.certificate.exists():
        _issue_ca(pki.ca)
    if not pki.server.certificate.exists():
        subject = _name(hosts[0])
        alternative = x509.SubjectAlternativeName([_host(host) for host in hosts])
        _issue(pki.ca, pki.server, subject, [_usage(ExtendedKeyUsageOID.SERVER_AUTH), alternative])
    return pki


def issue_client(directory: Path, name: str, subject_cn: str, organisation: str) -> Credential:
    """Make the client certificate *name*, where missing; *directory* holds a CA."""
    client = _credential(directory, name)
    if not client.certificate.exists():
        subject = _name(subject_cn, organisation)
        ca = _credential(directory, "ca")
        _issue(ca, client, subject, [_usage(ExtendedKeyUsageOID.CLIENT_AUTH)])
    return client


def revocation_list(directory: Path, *revoked: Path) -> bytes:
    """Sign a revocation list of the CA in *directory*, PEM, with these certificates on it."""
    issuer, issuer_key = _read(_credential(directory, "ca"))
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(_now() - BACKDATED)
        .next_update(_now() + LEAF_LIFETIME)
    )
    for path in revoked:
        serial = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_now())
        builder = builder.add_revoked_certificate(entry.build())
    signed = builder.sign(issuer_key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def ensure(directory: Path, *, hosts: Sequence[str] = HOSTS) -> Pki:
    """Do what :func:`create` does, and renew every leaf that expires within 7 days."""
    pki = create(directory, hosts=hosts)
    for path in directory.glob("*.pem"):
        expires = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        if path != pki.ca.certificate and expires - _now() < RENEW_BEFORE:
            _renew(pki.ca, path)
    return pki


def _issue_ca(ca: Credential) -> None:
    key = _new_key(ca.key)
    subject = _name(CA_NAME)
    builder = (
        _builder(subject, subject, key.public_key(), key.public_key(), CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
    )
    _write(ca.certificate, _pem(builder.sign(key, hashes.SHA256())))


def _issue(
    ca: Credential, leaf: Credential, subject: x509.Name, extensions: list[x509.ExtensionType]
) -> None:
    # The key is written first: a certificate on the disk always has its key.
    public_key = _new_key(leaf.key).public_key()
    _sign(ca, leaf.certificate, subject, public_key, extensions)


def _renew(ca: Credential, certificate: Path) -> None:
    """Sign *certificate* again: same key, same names and usage, new dates and serial number."""
    old = x509.load_pem_x509_certificate(certificate.read_bytes())
    cached = (x509.ExtendedKeyUsage, x509.SubjectAlternativeName)
    extensions = [item.value for item in old.extensions if isinstance(item.value, cached)]
    _sign(ca, certificate, old.subject, old.public_key(), extensions)


def _sign(
    ca: Credential,
    certificate: Path,
    subject: x509.Name,
    public_key: CertificatePublicKeyTypes,
    extensions: Sequence[x509.ExtensionType],
) -> None:
    issuer, issuer_key = _read(ca)
    builder = (
        _builder(subject, issuer.subject, public_key, issuer_key.public_key(), LEAF_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    _write(certificate, _pem(builder.sign(issuer_key, hashes.SHA256())))


def _read(ca: Credential) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = serialization.load_pem_private_key(ca.key.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not the key of this CA")
    return x509.load_pem_x509_certificate(ca.certificate.read_bytes()), key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: CertificatePublicKeyTypes,
    issuer_key: ec.EllipticCurvePublicKey,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    not_before = _now() - BACKDATED
    # Strict verifiers want both key identifiers.
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(authority, critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _usage(purpose: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([purpose])


def _name(common_name: str, organisation: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organisation is not None:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(attributes)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _new_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(path, pem)
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _credential(directory: Path, name: str) -> Credential:
    return Credential(directory / f"{name}.pem", directory / f"{name}.key")


def _write(path: Path, content: bytes) -> None:
    """Put *content* at *path* in one step, readable by its owner alone from the start."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)


def _now() -> datetime:
    return datetime.now(UTC)
