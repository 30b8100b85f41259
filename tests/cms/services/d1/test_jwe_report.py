"""The report on a JWE says what is wrong with it, and agrees with the reader that refuses it."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies

from cms.domain.errors import JweFault
from cms.services.d1.jwe_report import first_fault, loggable, report
from crypto.errors import JweError
from crypto.jose import jwe
from tests.crypto.jose.software import epk, forge, header

GOOD = forge(header())
EXTRA = frozenset({"iat", "zip"})
LONG = "A" * 4 * 512
HEAD, KEY, IV, CIPHERTEXT, TAG = GOOD.split(".")
WRONG = {
    "too long": (GOOD + "A" * 8192, JweFault.JWE_TOO_LONG),
    "empty": ("", JweFault.JWE_PARTS),
    "four parts": (GOOD.rpartition(".")[0], JweFault.JWE_PARTS),
    "a JWS": ("a.b.c", JweFault.JWE_PARTS),
    "padded": (GOOD + "=", JweFault.JWE_BASE64URL),
    "not ASCII": (GOOD[:-1] + "é", JweFault.JWE_BASE64URL),
    "header of no base64url": ("+" + GOOD[1:], JweFault.JWE_BASE64URL),
    "a wrapped key": (f"{HEAD}.AA.{IV}.{CIPHERTEXT}.{TAG}", JweFault.JWE_SIZES),
    "an IV of 16": (forge(header(), iv=bytes(16)), JweFault.JWE_SIZES),
    "a tag of 8": (f"{HEAD}.{KEY}.{IV}.{CIPHERTEXT}.{TAG[:11]}", JweFault.JWE_BASE64URL),
    "a short tag": (f"{HEAD}.{KEY}.{IV}.{CIPHERTEXT}.AAAA", JweFault.JWE_SIZES),
    "a header that is an array": (forge(b"[]"), JweFault.JWE_HEADER),
    "a member twice": (forge(b'{"alg":"a","alg":"b"}'), JweFault.JWE_HEADER),
    "an empty header": (forge(b"{}"), JweFault.JWE_ALG),
    "another alg": (forge(header(alg="RSA-OAEP")), JweFault.JWE_ALG),
    "an alg in a list": (forge(header(alg=["ECDH-ES"])), JweFault.JWE_ALG),
    "another enc": (forge(header(enc="A128GCM")), JweFault.JWE_ENC),
    "no kid": (forge(header(kid=None)), JweFault.JWE_KID),
    "an empty kid": (forge(header(kid="")), JweFault.JWE_KID),
    "a kid of 129": (forge(header(kid="k" * 129)), JweFault.JWE_KID),
    "no epk": (forge(header(epk=None)), JweFault.JWE_EPK),
    "an epk off the curve": (forge(header(epk=epk(y=epk()["x"]))), JweFault.JWE_EPK),
    "an epk with a private half": (forge(header(epk=epk(d="AA"))), JweFault.JWE_EPK),
    "an epk that is text": (forge(header(epk="x")), JweFault.JWE_EPK),
    "typ a number": (forge(header(typ=1)), JweFault.JWE_HEADER_VALUE),
    "apu no base64url": (forge(header(apu="=")), JweFault.JWE_HEADER_VALUE),
    "apv too long": (forge(header(apv=LONG)), JweFault.JWE_HEADER_VALUE),
    "an unknown member": (forge(header(x5t="AA")), JweFault.JWE_HEADER_MEMBER),
    "a member that nobody may allow": (forge(header(zip="DEF")), JweFault.JWE_HEADER_MEMBER),
}


@pytest.mark.parametrize(("text", "fault"), WRONG.values(), ids=WRONG)
def test_the_first_fault_is_named(text: str, fault: JweFault) -> None:
    assert first_fault(text, EXTRA) is fault
    with pytest.raises(JweError):
        jwe.parse(text, EXTRA)


def test_every_fault_has_an_example() -> None:
    assert {fault for _, fault in WRONG.values()} == {*JweFault}


@pytest.mark.parametrize(
    "text", [GOOD, forge(header(typ="JWE", cty="json", apu="QQ", apv="")), forge(header(iat=1))]
)
def test_what_the_reader_takes_has_no_fault(text: str) -> None:
    assert jwe.parse(text, EXTRA)
    assert first_fault(text, EXTRA) is None


VALUES: strategies.SearchStrategy[Any] = strategies.sampled_from(
    ["ECDH-ES", "A256GCM", "", "x", None, 1, [], {}, epk(), epk(x="AA"), epk(kid=1), LONG, "QQ"]
)
NAMES = strategies.sampled_from(["alg", "enc", "kid", "epk", "typ", "apu", "zip", "iat", "exp"])


@given(strategies.dictionaries(NAMES, VALUES), strategies.integers(0, 400), strategies.booleans())
def test_report_and_reader_agree(changes: dict[str, object], place: int, cut: bool) -> None:
    text = forge(header(**changes))
    if cut:
        text = text[:place] + text[place + 1 :]
    try:
        jwe.parse(text, EXTRA)
    except JweError:
        assert first_fault(text, EXTRA) is not None
    else:
        assert first_fault(text, EXTRA) is None


def test_all_faults_are_found_and_not_only_the_first() -> None:
    found = report(forge(header(alg="none", kid=None, epk={}, x5t="AA")), frozenset())
    assert [finding.fault for finding in found if finding.fault] == [
        JweFault.JWE_ALG,
        JweFault.JWE_KID,
        JweFault.JWE_EPK,
        JweFault.JWE_HEADER_MEMBER,
    ]
    assert "alg: none, not ECDH-ES" in [finding.text for finding in found]


def test_a_log_gets_names_of_members_and_three_values() -> None:
    secret = "4071"
    text = forge(header(iat=secret, pinBlock=secret, crit=[secret], epk=epk(kid=secret)))
    shown = loggable(text, EXTRA)
    assert shown == {
        "jwe_alg": "ECDH-ES",
        "jwe_enc": "A256GCM",
        "jwe_kid": "wire-1",
        "jwe_unknown": "crit pinBlock",
    }
    assert secret not in json.dumps(shown)
    assert loggable("junk", EXTRA) == loggable("A" * 10_000, EXTRA) == {}
