"""Distinguished names: the subject of a certificate, and the texts in which people write it.

A name is a sequence of RDNs, each a set of attributes: a type, which is an OID, and a value. A
certificate holds it from the general to the particular. RFC 4514 writes it backwards::

    in the certificate              C, O, CN
    RFC 4514, RFC 2253              CN=d1,O=Example,C=DE
    openssl x509 -subject           subject=C = DE, O = Example, CN = d1
    the same, OpenSSL 3.2 on        subject=C=DE, O=Example, CN=d1

Two names are the same when their canonical texts are: RFC 4514, with the short names of its section
3 and otherwise OIDs, each value in Unicode's form C, the attributes of an RDN ordered. Upper and
lower case differ, though RFC 5280 (section 7.1) would let them pass: authorities that many share do
not all compare so.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Attribute: TypeAlias = tuple[str, str | bytes]
"""Dotted OID, and a value; of a BIT STRING its content octets."""

Rdn: TypeAlias = Collection[Attribute]

#: What RFC 4514, section 3, writes for a type.
SHORT_NAMES: Final[Mapping[str, str]] = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
#: What else is read for a type, in lower case: short and long names of OpenSSL.
_LONG_NAMES: Final[Mapping[str, str]] = {
    "commonname": "2.5.4.3",
    "sn": "2.5.4.4",
    "surname": "2.5.4.4",
    "serialnumber": "2.5.4.5",
    "countryname": "2.5.4.6",
    "localityname": "2.5.4.7",
    "stateorprovincename": "2.5.4.8",
    "streetaddress": "2.5.4.9",
    "organizationname": "2.5.4.10",
    "organizationalunitname": "2.5.4.11",
    "title": "2.5.4.12",
    "description": "2.5.4.13",
    "businesscategory": "2.5.4.15",
    "postalcode": "2.5.4.17",
    "name": "2.5.4.41",
    "gn": "2.5.4.42",
    "givenname": "2.5.4.42",
    "initials": "2.5.4.43",
    "generationqualifier": "2.5.4.44",
    "x500uniqueidentifier": "2.5.4.45",
    "dnqualifier": "2.5.4.46",
    "pseudonym": "2.5.4.65",
    "organizationidentifier": "2.5.4.97",
    "userid": "0.9.2342.19200300.100.1.1",
    "domaincomponent": "0.9.2342.19200300.100.1.25",
    "emailaddress": "1.2.840.113549.1.9.1",
    "unstructuredname": "1.2.840.113549.1.9.2",
    "jurisdictionl": "1.3.6.1.4.1.311.60.2.1.1",
    "jurisdictionlocalityname": "1.3.6.1.4.1.311.60.2.1.1",
    "jurisdictionst": "1.3.6.1.4.1.311.60.2.1.2",
    "jurisdictionstateorprovincename": "1.3.6.1.4.1.311.60.2.1.2",
    "jurisdictionc": "1.3.6.1.4.1.311.60.2.1.3",
    "jurisdictioncountryname": "1.3.6.1.4.1.311.60.2.1.3",
}
_OIDS: Final = {**{name.lower(): oid for oid, name in SHORT_NAMES.items()}, **_LONG_NAMES}

#: From the general to the particular, as nearly every certificate has them: C and DC, ST, L, …
_RANKS: Final[Mapping[str, int]] = {
    "2.5.4.6": 0,
    "0.9.2342.19200300.100.1.25": 0,
    "2.5.4.8": 1,
    "2.5.4.7": 2,
    "2.5.4.10": 3,
    "2.5.4.11": 4,
    "2.5.4.3": 5,
    "0.9.2342.19200300.100.1.1": 5,
    "1.2.840.113549.1.9.1": 5,
}

_PREFIX: Final = re.compile("subject *[=:] *", re.IGNORECASE)
_END: Final = re.compile(r"(?<!\\) +\Z")
_TYPE: Final = re.compile(r" *([A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)( *= *)")
_HEX_VALUE: Final = re.compile(r"#((?:[0-9A-Fa-f]{2})+)")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
#: Spaces behind it are none of it. Each is looked at once, however many there are.
_PLAIN: Final = re.compile(r'(?:[^"\\,;+<> ]|\\.| ++(?![,+]|\Z))*+(?= *(?:[,+]|\Z))')
_ESCAPE: Final = re.compile(r'((?:\\[0-9A-Fa-f]{2})+)|\\([ "#+,;<=>\\])|\\')
_SEPARATOR: Final = re.compile(" *[,+] *")
#: What ``-nameopt show_type`` writes before a value, and is no part of it.
_SHOWN_TYPE: Final = re.compile("[A-Z0-9]*STRING:")
_SPECIAL: Final = re.compile(r'[\\"+,;<>]|^[ #]| \Z')

#: Tags of ASN.1 strings, and how their octets are text.
_ENCODINGS: Final[Mapping[int, str]] = {
    0x0C: "utf-8",
    0x12: "ascii",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
_BIT_STRING: Final = 0x03
_ONE_OCTET_LENGTH: Final = 0x81

FORMS: Final = (
    "take it from 'openssl x509 -noout -subject -nameopt RFC2253', or give the certificate"
)


class NameRefused(ValueError):
    """A text that names no certificate for sure; the message says why and shows no value."""


@dataclass(frozen=True, slots=True)
class _Written:
    """What a text holds: RDNs as they stand there, and how it sets them apart."""

    rdns: Sequence[Sequence[Attribute]]
    spaces_around_equals: bool
    spaces_after_commas: bool


def canonical(rdns: Sequence[Rdn]) -> str:
    """Write a name, its RDNs in the order of the certificate; one without any is empty."""
    return ",".join("+".join(sorted(map(_attribute, rdn))) for rdn in reversed(rdns))


def is_canonical(text: str) -> bool:
    """Tell whether *text* is what :func:`canonical` makes of a name: then its order is certain."""
    try:
        return canonical([*reversed(_read(text).rdns)]) == text
    except NameRefused:
        return False


def parse(text: str) -> str:
    """Read a name that somebody wrote, and return its canonical text.

    Which end comes first is told by the form, and has to agree with the attributes: no certificate
    is expected to name a country inside an organisation. A name that is written the other way round
    would be registered and match nothing.

    Raises:
        NameRefused: it is none, its order is not certain, or an attribute is unknown or empty.
    """
    bare = _END.sub("", _PREFIX.sub("", text.lstrip(" "), count=1))
    if bare.startswith("/"):
        # Nothing sets a slash inside a value apart from one between two.
        raise NameRefused("a subject written with slashes can be read in two ways: " + FORMS)
    if not bare.isprintable():
        raise NameRefused("a subject is one line: " + FORMS)
    written = _read(bare)
    rdns = list(written.rdns)
    for value in (value for rdn in rdns for _, value in rdn):
        if not value:
            raise NameRefused("an attribute of the subject is empty")
        if isinstance(value, str) and _SHOWN_TYPE.match(value):
            raise NameRefused("the subject shows the types of its values: " + FORMS)
    if _is_reversed(written):
        rdns.reverse()
    return canonical(rdns)


def _is_reversed(written: _Written) -> bool:
    """Tell whether the most particular RDN comes first, as RFC 4514 has it."""
    if len(written.rdns) == 1:
        return False
    ranks = [_RANKS[oid] for rdn in written.rdns for oid, _ in rdn if oid in _RANKS]
    looks = ranks[0] - ranks[-1] if ranks else 0  # above 0: reversed; below: not; 0: who knows
    says_reversed = not (written.spaces_around_equals or written.spaces_after_commas)
    # With spaces after commas only it is OpenSSL's, or RFC 4514 with spaces, as Java writes it.
    is_sure = looks < 0 or written.spaces_around_equals or not written.spaces_after_commas
    if not is_sure or (looks > 0 and not says_reversed) or (looks < 0 and says_reversed):
        raise NameRefused("the order of the subject's attributes is not certain: " + FORMS)
    return says_reversed


def _read(text: str) -> _Written:
    rdns: list[list[Attribute]] = [[]]
    equals, commas, at = [], [], 0
    while True:
        found = _TYPE.match(text, at)
        if found is None:
            raise NameRefused("not a subject: " + FORMS)
        oid = _OIDS.get(found[1].lower(), found[1])
        if not oid[0].isdigit():
            raise NameRefused("the subject has an attribute of an unknown type: " + FORMS)
        value, at = _read_value(text, found.end())
        rdns[-1].append((oid, value))
        equals.append(found[2])
        if at == len(text):
            break
        separator = _SEPARATOR.match(text, at)
        if separator is None:
            raise NameRefused("not a subject: " + FORMS)
        at = separator.end()
        if "," in separator[0]:
            commas.append(separator[0])
            rdns.append([])
    return _Written(
        rdns, any(" " in equal for equal in equals), any(comma != "," for comma in commas)
    )


def _read_value(text: str, at: int) -> tuple[str | bytes, int]:
    value: str | bytes
    if found := _HEX_VALUE.match(text, at):
        value = _from_der(bytes.fromhex(found[1]))
    elif found := _QUOTED.match(text, at) or _PLAIN.match(text, at):
        value = _unescape(found[1] if found.re is _QUOTED else found[0])
    else:
        raise NameRefused("not a subject: " + FORMS)
    return value, found.end()


def _unescape(text: str) -> str:
    def plain(found: re.Match[str]) -> str:
        if found[1] is not None:
            return bytes.fromhex(found[1].replace("\\", "")).decode()
        if found[2] is None:
            raise NameRefused("the subject has a backslash that escapes nothing")
        return found[2]

    try:
        return _ESCAPE.sub(plain, text)
    except UnicodeDecodeError:
        raise NameRefused("an attribute of the subject is not UTF-8") from None


def _from_der(der: bytes) -> str | bytes:
    """Read a value that is written as the octets of its encoding (RFC 4514, section 2.4)."""
    at = 3 if der[1:2] == bytes([_ONE_OCTET_LENGTH]) else 2
    tag, content = der[0], der[at:]
    if der[at - 1 : at] != bytes([min(len(content), 255)]):
        raise NameRefused("a value of the subject is not the encoding of a string")
    if tag == _BIT_STRING:
        return content
    try:
        return content.decode(_ENCODINGS[tag])
    except (KeyError, UnicodeDecodeError):
        raise NameRefused("a value of the subject is not the encoding of a string") from None


def _attribute(attribute: Attribute) -> str:
    oid, value = attribute
    return f"{SHORT_NAMES.get(oid, oid)}={''.join(_escaped(value))}"


def _escaped(value: str | bytes) -> Iterator[str]:
    if isinstance(value, bytes):
        yield f"#{bytes([_BIT_STRING, len(value)]).hex()}{value.hex()}"
        return
    text = _SPECIAL.sub(r"\\\g<0>", unicodedata.normalize("NFC", value))
    for character in text:
        yield character if character.isprintable() else _hex_escaped(character)


def _hex_escaped(character: str) -> str:
    return "".join(f"\\{octet:02x}" for octet in character.encode(errors="surrogatepass"))
