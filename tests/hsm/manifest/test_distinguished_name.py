"""Subjects as people write them: what OpenSSL prints of a certificate is that certificate's."""

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from cms.services.d1.access import read_certificate
from hsm.manifest.distinguished_name import NameRefused, canonical, is_canonical, parse


def name(*rdns: Sequence[x509.NameAttribute[str | bytes]]) -> x509.Name:
    return x509.Name([x509.RelativeDistinguishedName(rdn) for rdn in rdns])


def attribute(oid: x509.ObjectIdentifier, value: str) -> x509.NameAttribute[str | bytes]:
    return x509.NameAttribute(oid, value)


COUNTRY = [attribute(NameOID.COUNTRY_NAME, "DE")]
ORGANISATION = [attribute(NameOID.ORGANIZATION_NAME, "Example")]
COMMON_NAME = [attribute(NameOID.COMMON_NAME, "d1")]
NAMES = {
    "usual": name(COUNTRY, ORGANISATION, COMMON_NAME),
    "one attribute": name(COMMON_NAME),
    "special characters": name(
        COUNTRY,
        [attribute(NameOID.ORGANIZATION_NAME, 'Exämple, "Inc." + <x>; \\ = # /CN=x')],
        [attribute(NameOID.COMMON_NAME, " #d1 ")],
    ),
    "two attributes in one RDN": name(
        ORGANISATION, [*COMMON_NAME, attribute(NameOID.SERIAL_NUMBER, "12")]
    ),
    "types that OpenSSL does not know": name(
        [attribute(x509.ObjectIdentifier("1.2.3.4"), "own")], ORGANISATION, COMMON_NAME
    ),
    "types that RFC 4514 does not know": name(
        [attribute(NameOID.JURISDICTION_COUNTRY_NAME, "DE")],
        [attribute(NameOID.BUSINESS_CATEGORY, "Private Organization")],
        COUNTRY,
        ORGANISATION,
        [attribute(NameOID.ORGANIZATION_IDENTIFIER, "PSDDE-BAFIN-1")],
        COMMON_NAME,
        [attribute(NameOID.EMAIL_ADDRESS, "d1@example.test")],
    ),
    "domain components": name(
        [attribute(NameOID.DOMAIN_COMPONENT, "test")],
        [attribute(NameOID.DOMAIN_COMPONENT, "example")],
        [attribute(NameOID.USER_ID, "d1")],
    ),
    "two of a type": name(
        [attribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "a")],
        [attribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "b")],
    ),
    "other string types": name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Ünit", _ASN1Type.BMPString)],
        [x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\0\1\2", _ASN1Type.BitString)],
        COMMON_NAME,
    ),
    "characters that do not print": name(
        ORGANISATION, [attribute(NameOID.COMMON_NAME, "d1\n\N{NO-BREAK SPACE}x\0")]
    ),
    "the particular first": name(COMMON_NAME, ORGANISATION, COUNTRY),
}
#: How somebody may ask OpenSSL for a subject.
FORMS = {
    "default": [],
    "RFC 2253": ["-nameopt", "RFC2253"],
    "oneline": ["-nameopt", "oneline"],
    "compat": ["-nameopt", "compat"],
    "multiline": ["-nameopt", "multiline"],
    "as OpenSSL 3.2 on does": ["-nameopt", "oneline,-space_eq"],
    "long names": ["-nameopt", "oneline,lname"],
    "OIDs": ["-nameopt", "RFC2253,oid"],
    "octets": ["-nameopt", "RFC2253,dump_der,dump_all"],
    "types shown": ["-nameopt", "RFC2253,show_type"],
    "UTF-8": ["-nameopt", "oneline,utf8,-esc_msb"],
}
#: These are taken of nearly every certificate.
SURE_FORMS = ("default", "RFC 2253", "oneline", "OIDs", "octets")


@pytest.fixture(scope="module", params=NAMES)
def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str, Path]:
    """The name of a name, its canonical text by way of a certificate, and the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(NAMES[request.param])
        .issuer_name(NAMES["usual"])
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("subject") / "certificate.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    der = certificate.public_bytes(serialization.Encoding.DER)
    return request.param, read_certificate(der).subject, file


@pytest.mark.parametrize("form", FORMS)
def test_what_openssl_prints_is_that_subject_or_refused(
    subject: tuple[str, str, Path], form: str
) -> None:
    which, expected, file = subject
    command = ["openssl", "x509", "-noout", "-subject", "-in", str(file), *FORMS[form]]
    printed = subprocess.run(command, capture_output=True, check=True).stdout.decode(
        errors="surrogateescape"
    )
    try:
        read: str | None = parse(printed.removesuffix("\n"))
    except NameRefused:
        read = None
    assert read in (expected, None)
    if form in SURE_FORMS and which != "the particular first":
        assert read == expected


@pytest.mark.parametrize(
    "text",
    [
        "CN=d1,O=Example,C=DE",
        "subject=CN=d1,O=Example,C=DE",
        "cn=d1,o=Example,c=DE",
        "C = DE, O = Example, CN = d1",
        "subject=C = DE, O = Example, CN = d1",
        "Subject: C = DE, O = Example, CN = d1",
        "C=DE, O=Example, CN=d1",
        "commonName=d1,organizationName=Example,countryName=DE",
        "2.5.4.3=#0c026431,2.5.4.10=Example,2.5.4.6=#13024445",
        'CN="d1",O="Example",C="DE"',
        "CN=\\64\\31,O=E\\78ample,C=DE",
        " CN=d1,O=Example,C=DE ",
    ],
)
def test_forms_of_one_subject(text: str) -> None:
    assert parse(text) == "CN=d1,O=Example,C=DE"
    assert is_canonical(text) == (text == "CN=d1,O=Example,C=DE")


@pytest.mark.parametrize(
    "text",
    [
        "C=DE,O=Example,CN=d1",
        "CN = d1, O = Example, C = DE",
        "CN=d1, O=Example, C=DE",
        "OU=a, OU=b",
        "DC=test,DC=example,UID=d1",
    ],
)
def test_a_subject_whose_order_may_be_the_other_one_is_refused(text: str) -> None:
    with pytest.raises(NameRefused, match=r"order .* is not certain: take it from 'openssl x509"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/C=DE/O=Example/CN=d1", "with slashes"),
        ("subject= /C=DE/CN=d1", "with slashes"),
        ("subject=\n    commonName = d1", "one line"),
        ("CN=d1\0", "one line"),
        ("CN=\udcff", "one line"),
        ("", "not a subject"),
        ("subject=", "not a subject"),
        ("d1", "not a subject"),
        ("=d1", "not a subject"),
        ("CN=d1,", "not a subject"),
        ("CN=d1;O=Example", "not a subject"),
        ('CN="d1', "not a subject"),
        ('CN="d1"x', "not a subject"),
        ("CN=<d1>", "not a subject"),
        ("email:d1@example.test", "not a subject"),
        ("CN=", "is empty"),
        ('CN=""', "is empty"),
        ("CN=d1,O=", "is empty"),
        ("X=1,CN=d1", "unknown type"),
        ("SERIAL=1", "unknown type"),
        ("CN=UTF8STRING:d1", "shows the types"),
        ("CN=a\\Ltd", "escapes nothing"),
        ("CN=\\ff", "not UTF-8"),
        ("CN=#0c", "not the encoding"),
        ("CN=#0c0364", "not the encoding"),
        ("CN=#0c01", "not the encoding"),
        ("CN=#0201ff", "not the encoding"),
        ("CN=#0c01ff", "not the encoding"),
    ],
)
def test_what_is_no_subject_is_refused_and_not_shown(text: str, why: str) -> None:
    with pytest.raises(NameRefused, match=why) as refused:
        parse(text)
    assert "d1" not in str(refused.value)


def test_upper_and_lower_case_differ_and_spellings_of_a_letter_do_not() -> None:
    assert parse("CN=D1") != parse("CN=d1")
    assert parse("CN=a\N{COMBINING DIAERESIS}") == parse("CN=ä") == "CN=ä"


def test_the_order_of_the_attributes_of_an_rdn_does_not_count() -> None:
    assert parse("CN=d1+OU=a,O=x") == parse("OU=a+CN=d1,O=x") != parse("CN=d1,OU=a,O=x")


def test_a_canonical_text_is_read_as_itself() -> None:
    for each in NAMES.values():
        text = canonical([[(a.oid.dotted_string, a.value) for a in rdn] for rdn in each.rdns])
        assert is_canonical(text)
        if each is not NAMES["the particular first"]:
            assert parse(text) == text


def test_a_certificates_own_subject_is_canonical_whatever_is_in_it() -> None:
    for value in ("", " ", "#0c", "UTF8STRING:d1", "a\0b", "ä", 'a,"+;<>=\\', b"\0", b""):
        assert is_canonical(canonical([[("2.5.4.3", value)], [("1.2.3", "x"), ("2.5.4.6", "DE")]]))


def test_a_value_of_a_bit_string_is_not_the_text_that_looks_like_it() -> None:
    assert canonical([[("2.5.4.3", b"\0")]]) != canonical([[("2.5.4.3", "#030100")]])


def test_a_name_without_attributes_is_empty() -> None:
    assert canonical([]) == ""
