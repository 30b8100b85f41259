"""By what a certificate is registered."""

import pytest

from hsm.manifest import certificate_names
from hsm.manifest.certificate_names import NAME_CHARS_MAX, is_canonical, parse_name
from hsm.manifest.distinguished_name import NameRefused

DIGEST = bytes(range(32))
HEX = DIGEST.hex()


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("CN=d1", "CN=d1"),
        ("dns:d1.example", "dns:d1.example"),
        ("DNS:D1.Example.", "dns:d1.example"),
        ("dns:bücher.example", "dns:xn--bcher-kva.example"),
        ("dns:BÜCHER.example", "dns:xn--bcher-kva.example"),
        ("dns:XN--BCHER-KVA.example", "dns:xn--bcher-kva.example"),
        ("dns:faß.example", "dns:xn--fa-hia.example"),
        ("dns:*.d1.example", "dns:*.d1.example"),
        ("uri:spiffe://Bank.EXAMPLE/D1", "uri:spiffe://bank.example/D1"),
        ("URI:SPIFFE://bank.example/D1", "uri:spiffe://bank.example/D1"),
        ("uri:https://User@Bücher.example:443/x", "uri:https://User@xn--bcher-kva.example:443/x"),
        ("uri:URN:uuid:0A", "uri:urn:uuid:0A"),
        ("uri:https://[2001:DB8::1]/x", "uri:https://[2001:db8::1]/x"),
        (f"sha256:{HEX}", f"sha256:{HEX}"),
        (f"SHA256:{HEX.upper()}", f"sha256:{HEX}"),
        (f"sha256:{DIGEST.hex(':').upper()}", f"sha256:{HEX}"),
        ("sha256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", f"sha256:{HEX}"),
        ("sha256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", f"sha256:{HEX}"),
    ],
)
def test_a_name_is_stored_as_it_is_compared(written: str, stored: str) -> None:
    assert parse_name(written) == stored
    assert parse_name(stored) == stored
    assert is_canonical(stored)
    assert is_canonical(written) == (written == stored)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "dns:",
        "dns:d1 .example",
        "dns:d1..example",
        "dns:d1.example/",
        "dns:d1:443",
        "dns:xn--ü.example",
        f"dns:{'x' * 64}.example",
        f"dns:{'x.' * 127}x",
        "dns:\udcff",
        "uri:",
        "uri:d1.example",
        "uri:https://d1.example/ü",
        "uri:https://d1.example/ x",
        "uri:https://ü ber.example/",
        "sha256:",
        f"sha256:{HEX[2:]}",
        f"sha256:{HEX}00",
        f"sha256:{'x' * 64}",
        f"sha1:{HEX[:40]}",
        "ip:127.0.0.1",
    ],
)
def test_what_no_certificate_can_match_is_refused(written: str) -> None:
    with pytest.raises(NameRefused):
        parse_name(written)
    assert not is_canonical(written)


@pytest.mark.parametrize(
    ("in_certificate", "written"),
    [
        (certificate_names.dns("D1.Example"), "dns:d1.example"),
        (certificate_names.dns("xn--Bcher-kva.example"), "dns:bücher.example"),
        (certificate_names.uri("SPIFFE://Bank.example/D1"), "uri:spiffe://bank.example/D1"),
        (certificate_names.uri("urn:x:Y"), "uri:urn:x:Y"),
        (certificate_names.sha256(DIGEST), f"sha256:{HEX}"),
    ],
)
def test_a_certificates_name_is_the_one_that_is_registered(
    in_certificate: str, written: str
) -> None:
    assert in_certificate == parse_name(written)


def test_paths_differ_by_their_case() -> None:
    assert parse_name("uri:spiffe://bank/D1") != parse_name("uri:spiffe://bank/d1")


def test_what_stands_in_a_certificate_and_is_no_uri_is_no_registered_name() -> None:
    assert certificate_names.uri("d1.example") == "uri:d1.example"


@pytest.mark.parametrize("name", ["CN={}", "dns:d1.{}", "uri:a://b/{}", "sha256:{}"])
def test_a_name_that_takes_long_to_read_is_not_read(name: str) -> None:
    too_long = name.format("a" * NAME_CHARS_MAX)
    with pytest.raises(NameRefused, match="at most 4096 characters"):
        parse_name(too_long)
    assert not is_canonical(too_long)


def test_a_subject_may_have_spaces_in_it_and_be_as_long_as_a_name() -> None:
    longest = "CN=a" + " " * (NAME_CHARS_MAX - len("CN=ab")) + "b"
    assert parse_name(longest) == longest
    assert is_canonical(longest)
