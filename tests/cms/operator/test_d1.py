"""``python -m cms d1 explain``: why a PUT is refused, without a key."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cms.sandbox.partners.jwe import encrypt
from cms.sandbox.partners.pin_blocks import iso0_block
from hsm.jose_keys import JoseKeys
from hsm.vault import Vault
from tests.cms.operator.operator_at_work import NEW_PAN, PIN, Answer, Operator
from tests.crypto.jose.software import forge, header
from tests.issuer_records import SampleIssuer, open_issuer

Explain = Callable[[str], Answer]
BODY = '{"type": "ISO0", "encryptedPinBlock": "%s"}'


@pytest.fixture
def explain(operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path) -> Explain:
    def explain(text: str) -> Answer:
        file = tmp_path / "put.json"
        file.write_text(text)
        return operator("d1", "explain", sample_issuer.issuer_id, file)

    return explain


def wrong(answer: Answer) -> list[str]:
    assert (answer.code, answer.err) == (2, "")
    return [line[7:] for line in answer.out.splitlines() if line.startswith("WRONG")]


def test_a_good_put_is_found_right_step_by_step(
    explain: Explain, sample_issuer: SampleIssuer
) -> None:
    jwe = sample_issuer.pin_jwe(PIN, "new-1")
    answer = explain(BODY % jwe)
    assert (answer.code, answer.err) == (0, "")
    *steps, last = answer.out.splitlines()
    assert [step[7:] for step in steps] == [
        "body: a JSON object",
        "type: ISO0, a PIN block of type ISO0",
        f"5 parts, {len(jwe)} characters",
        f"header: {len(jwe.split('.')[0]) * 3 // 4} bytes",
        "header: a JSON object",
        "alg: ECDH-ES",
        "enc: A256GCM",
        f"kid: {sample_issuer.d1_jwk['kid']}",
        "epk: a point of P-256",
        "encrypted key: 0 bytes",
        "IV: 12 bytes",
        "ciphertext: 32 bytes",
        "tag: 16 bytes",
        "kid: the thumbprint of a key of role d1",
    ]
    assert all(step.startswith("ok     ") for step in steps)
    assert last.startswith("The form is right.")
    assert explain(jwe).code == 0


def test_the_steps_are_told_as_json(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "put.json"
    file.write_text('{"type": "ISO9"}')
    answer = operator("d1", "explain", sample_issuer.issuer_id, file, "--json")
    steps = json.loads(answer.out)
    assert (answer.code, [step["ok"] for step in steps]) == (2, [True, False, False])
    assert steps[0]["what"] == "body: a JSON object"


def test_nothing_is_opened(
    explain: Explain, sample_issuer: SampleIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a private key was used")

    monkeypatch.setattr(JoseKeys, "open_jwe", refuse)
    right = explain(sample_issuer.pin_jwe(PIN, "new-1"))
    weak = explain(sample_issuer.pin_jwe("1111", "new-1"))
    altered = explain(sample_issuer.pin_jwe(PIN, "new-1")[:-4] + "AAAA")
    assert right.code == weak.code == altered.code == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["parts: 1, not 5: no compact JWE"]),
        ("{", ["body: not a JSON object, or a member stands twice"]),
        (
            '{"type": "ISO9"}',
            [
                "type: ISO9, no literal of the wire profile's put_pin",
                "encryptedPinBlock: missing, or not a text",
            ],
        ),
        (
            BODY % forge(header(alg="RSA-OAEP", iat=1)),
            [
                "alg: RSA-OAEP, not ECDH-ES",
                "member iat: not allowed",
                "kid: no key of ours; see python -m hsm jwks d1, and jwe.our_kids",
            ],
        ),
        (
            json.dumps(dict.fromkeys(("type", "encryptedPinBlock"), iso0_block(PIN, NEW_PAN))),
            [
                "type: (like a PIN block), no literal of the wire profile's put_pin",
                "parts: 1, not 5: no compact JWE",
            ],
        ),
        (
            forge(header(kid=f"2{len(PIN)}{PIN}ffffff")),
            ["kid: no key of ours; see python -m hsm jwks d1, and jwe.our_kids"],
        ),
        (
            forge(header(kid=NEW_PAN)),
            ["kid: no key of ours; see python -m hsm jwks d1, and jwe.our_kids"],
        ),
    ],
)
def test_what_is_wrong_is_said(explain: Explain, text: str, found: list[str]) -> None:
    assert wrong(explain(text)) == found


def test_a_key_of_another_role_is_named(explain: Explain, sample_issuer: SampleIssuer) -> None:
    jwe = encrypt({"pinBlock": PIN}, sample_issuer.intake_jwk)
    assert wrong(explain(jwe)) == ["kid: the thumbprint of a key of role intake, not d1"]


def test_the_wire_profile_of_the_issuer_counts(
    operator: Operator,
    vault: Vault,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire: dict[str, object] = {
        "put_pin": {"iso0": ["block zero"]},
        "jwe": {"extra_header_members": ["iat"], "our_kids": [{"kid": "bank-2026"}]},
    }
    named = open_issuer(database_url, vault, "namedbank1", wire=wire)
    body = {
        "type": "Block Zero",
        "encryptedPinBlock": forge(header(kid="bank-2026", iat=1)),
    }
    file = tmp_path / "put.json"
    file.write_text(json.dumps(body))
    said = operator.must("d1", "explain", named.issuer_id, file)
    assert "kid: the wire profile's name of d1.g1" in said
    assert "member iat: allowed by the wire profile" in said
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    assert operator.must("d1", "explain", named.issuer_id, "-") == said


@pytest.mark.parametrize("form", ["%s", BODY])
def test_a_byte_order_mark_is_no_part_of_it(
    explain: Explain, sample_issuer: SampleIssuer, form: str
) -> None:
    text = form % sample_issuer.pin_jwe(PIN, "new-1")
    assert explain(f"\N{BYTE ORDER MARK}{text}") == explain(text)
    assert explain(text).code == 0


def test_an_issuer_that_is_not_there_is_refused(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "put.json"
    file.write_text("{}")
    assert operator.refused("d1", "explain", "nobodybank", file)


def test_a_file_that_is_not_text_is_no_crash(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "put.json"
    for data in (b"\xff\xfe" * 100, b"{\xff}", bytes(range(256)), b"." * 100_000):
        file.write_bytes(data)
        assert wrong(operator("d1", "explain", sample_issuer.issuer_id, file))
