"""The trust file: whose signatures count, and for what."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from jwcrypto.jwk import JWK

from crypto.jose import jws_json
from crypto.jose.jws_json import SignedText
from hsm.errors import ManifestRefused
from hsm.manifest.body import canonical_body
from hsm.manifest.signed import GENERATIONS_TYPE, MANIFEST_TYPE, MINIMUM_VERSIONS_TYPE
from hsm.manifest.trust import Trust, read_trust
from tests.operators import OperatorKey, manifest, minimum_versions, signed

ISSUER_ID, OTHER_ISSUER_ID = "testbank01", "testbank02"
ANN, BOB, CAY, DAN = (OperatorKey() for _ in range(4))
#: Ann and Bob for every issuer, Cay for one. Dan is nobody.
TRUST: Mapping[str, Any] = {
    "threshold": 2,
    "sandbox": True,
    "operators": [ANN.entry("Ann"), BOB.entry("Bob"), CAY.entry("Cay", [ISSUER_ID])],
}
MANIFEST, MINIMUM_VERSIONS = manifest(ISSUER_ID), minimum_versions({ISSUER_ID: 3})


def trust(**members: object) -> Trust:
    return Trust.model_validate_json(json.dumps({**TRUST, **members}))


def text(payload: bytes, *operators: OperatorKey, typ: str = MANIFEST_TYPE) -> jws_json.SignedText:
    return jws_json.parse(signed(payload, typ, operators))


def refused(call: Any, document: SignedText) -> str:  # noqa: ANN401 - a method of a trust file
    with pytest.raises(ManifestRefused) as refusal:
        call(document)
    return str(refusal.value)


TOO_FEW = "too few signatures of operators who may sign for this issuer"


@pytest.mark.parametrize("operators", [(ANN, BOB), (CAY, ANN), (ANN, BOB, CAY), (DAN, ANN, CAY)])
def test_a_manifest_that_enough_operators_signed_is_accepted(
    operators: Sequence[OperatorKey],
) -> None:
    assert trust().accept_manifest(text(MANIFEST, *operators)).issuer_id == ISSUER_ID


@pytest.mark.parametrize("operators", [(), (ANN,), (ANN, ANN), (CAY, CAY), (ANN, DAN), (DAN, DAN)])
def test_a_manifest_that_too_few_operators_signed_is_refused(
    operators: Sequence[OperatorKey],
) -> None:
    assert refused(trust().accept_manifest, text(MANIFEST, *operators)) == TOO_FEW


def test_an_operator_signs_for_the_issuers_of_the_trust_file_only() -> None:
    other = manifest(OTHER_ISSUER_ID)
    assert refused(trust().accept_manifest, text(other, ANN, CAY)) == TOO_FEW
    assert trust().accept_manifest(text(other, ANN, BOB)).issuer_id == OTHER_ISSUER_ID
    nobodys = trust(operators=[ANN.entry("Ann"), CAY.entry("Cay", [])])
    assert refused(nobodys.accept_manifest, text(MANIFEST, ANN, CAY)) == TOO_FEW


def test_three_are_needed_where_the_trust_file_says_three() -> None:
    assert refused(trust(threshold=3).accept_manifest, text(MANIFEST, ANN, BOB)) == TOO_FEW
    assert trust(threshold=3).accept_manifest(text(MANIFEST, ANN, BOB, CAY))


def test_a_signature_of_edited_bytes_does_not_count() -> None:
    first, second = text(MANIFEST, ANN, BOB), text(manifest(ISSUER_ID, 2), ANN, BOB)
    assert trust().accept_manifest(second).version == 2
    mixed = SignedText(second.payload, [first.signatures[0], second.signatures[1]])
    assert refused(trust().accept_manifest, mixed) == TOO_FEW
    assert refused(trust().accept_manifest, SignedText(second.payload, first.signatures)) == TOO_FEW


def test_a_signature_of_one_kind_does_not_count_for_the_other() -> None:
    assert (
        refused(trust().accept_manifest, text(MANIFEST, ANN, BOB, typ=MINIMUM_VERSIONS_TYPE))
        == TOO_FEW
    )
    assert (
        refused(
            trust().accept_minimum_versions, text(MINIMUM_VERSIONS, ANN, BOB, typ=MANIFEST_TYPE)
        )
        == TOO_FEW
    )
    assert refused(trust().accept_manifest, text(MANIFEST, ANN, BOB, typ="JWT")) == TOO_FEW


def test_only_who_may_sign_for_every_issuer_signs_minimum_versions() -> None:
    assert trust().accept_minimum_versions(
        text(MINIMUM_VERSIONS, ANN, BOB, typ=MINIMUM_VERSIONS_TYPE)
    ).minimum_versions == {ISSUER_ID: 3}
    assert (
        refused(
            trust().accept_minimum_versions,
            text(MINIMUM_VERSIONS, ANN, CAY, typ=MINIMUM_VERSIONS_TYPE),
        )
        == TOO_FEW
    )


def test_one_is_not_taken_for_the_other_though_it_is_signed_as_such() -> None:
    assert "refused members" in refused(
        trust().accept_manifest, text(MINIMUM_VERSIONS, ANN, BOB, typ=MANIFEST_TYPE)
    )
    assert "refused members" in refused(
        trust().accept_minimum_versions, text(MANIFEST, ANN, BOB, typ=MINIMUM_VERSIONS_TYPE)
    )


@pytest.mark.parametrize(
    ("accept", "typ", "payload"),
    [
        (Trust.accept_manifest, MANIFEST_TYPE, canonical_body({"issuer_id": ISSUER_ID})),
        (Trust.accept_manifest, MANIFEST_TYPE, canonical_body({"issuer_id": 1})),
        (Trust.accept_minimum_versions, MINIMUM_VERSIONS_TYPE, canonical_body({"minimum": 1})),
        (Trust.accept_generations, GENERATIONS_TYPE, canonical_body({"generations": 1})),
    ],
)
def test_what_too_few_signed_is_not_read(
    accept: Callable[[Trust, SignedText], object], typ: str, payload: bytes
) -> None:
    """To read it can take long, and who offers it may be anybody."""
    for operators in ((), (ANN, DAN)):
        assert refused(partial(accept, trust()), text(payload, *operators, typ=typ)) == TOO_FEW
    refusal = refused(partial(accept, trust()), text(payload, ANN, BOB, typ=typ))
    assert refusal.startswith("refused members")


def test_a_manifest_for_trials_is_accepted_where_the_trust_file_is_for_trials() -> None:
    trials = text(manifest(ISSUER_ID, sandbox=True), ANN, BOB)
    assert trust().accept_manifest(trials).sandbox
    assert refused(trust(sandbox=False).accept_manifest, trials) == "a manifest for trials"
    real = text(manifest(ISSUER_ID, sandbox=False), ANN, BOB)
    for sandbox in (True, False):
        assert trust(sandbox=sandbox).accept_manifest(real)


def test_one_signature_is_enough_for_trials_only() -> None:
    assert trust(threshold=1).accept_manifest(text(MANIFEST, CAY))
    with pytest.raises(ValueError, match="one signature is enough in a sandbox only"):
        trust(threshold=1, sandbox=False)


def test_the_operators_whose_signatures_count_are_named() -> None:
    document = text(MANIFEST, DAN, CAY, ANN)
    assert [one.name for one in trust().signers(document, MANIFEST_TYPE, ISSUER_ID)] == [
        *("Ann", "Cay")
    ]
    assert [one.name for one in trust().signers(document, MANIFEST_TYPE, None)] == ["Ann"]


def private_jwk() -> dict[str, Any]:
    exported: dict[str, Any] = JWK.generate(kty="EC", crv="P-256").export(as_dict=True)
    return exported


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"threshold": 0}, "threshold"),
        ({"threshold": 17}, "threshold"),
        ({"threshold": "2"}, "threshold"),
        ({"threshold": True}, "threshold"),
        ({"threshold": 1, "sandbox": False}, "one signature is enough in a sandbox only"),
        ({"threshold": 4}, "more signatures are needed than there are operators"),
        ({"operators": []}, "more signatures are needed than there are operators"),
        ({"sandbox": "true"}, "sandbox"),
        ({"minimum_versions": {}}, "minimum_versions"),
        (
            {"operators": [ANN.entry("Ann"), ANN.entry("Bob")]},
            "two operators or custodians of one key",
        ),
        (
            {"operators": [ANN.entry("Ann"), BOB.entry("Ann")]},
            "two operators, or two custodians, of one name",
        ),
        (
            {"operators": [ANN.entry("Ann"), BOB.entry("Bob")], "custodians": [ANN.entry("Eve")]},
            "two operators or custodians of one key",
        ),
        ({"operators": [ANN.entry("")]}, "operators.0.name"),
        ({"operators": [ANN.entry("Ann", "some")]}, "operators.0.issuers"),
        ({"operators": [ANN.entry("Ann", ["all"])]}, "operators.0.issuers"),
        ({"operators": [{**ANN.entry("Ann"), "jwk": {}}]}, "operators.0 (jwk is not a public"),
        (
            {"operators": [{**ANN.entry("Ann"), "jwk": private_jwk()}]},
            "operators.0 (jwk is not a public",
        ),
        (
            {"operators": [{**ANN.entry("Ann"), "jwk": {**ANN.entry("")["jwk"], "use": "enc"}}]},
            "operators.0 (jwk is not a public",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_what_is_no_trust_file_is_refused_with_the_reason(
    tmp_path: Path, members: Mapping[str, object], message: str
) -> None:
    file = tmp_path / "trust.json"
    file.write_text(json.dumps({**TRUST, **members}))
    with pytest.raises(ManifestRefused) as refusal:
        read_trust(file)
    assert str(refusal.value).startswith("the trust file: refused members: ")
    assert message in str(refusal.value)


def test_a_key_has_its_thumbprint_for_a_name_whatever_the_trust_file_calls_it() -> None:
    named = {**ANN.entry("Ann"), "jwk": {**ANN.entry("Ann")["jwk"], "kid": BOB.public.kid}}
    taken = trust(operators=[named, BOB.entry("Bob")])
    assert [operator.key.kid for operator in taken.operators] == [ANN.public.kid, BOB.public.kid]
    assert taken.accept_manifest(text(MANIFEST, ANN, BOB))
    assert refused(taken.accept_manifest, text(MANIFEST, BOB)) == TOO_FEW


def test_a_trust_file_that_cannot_be_read_or_that_anybody_may_write_is_refused(
    tmp_path: Path,
) -> None:
    file = tmp_path / "trust.json"
    for path in (file, tmp_path):
        with pytest.raises(ManifestRefused, match="the trust file cannot be read"):
            read_trust(path)
    for content in (b"", b"[]", b"\xff", b'{"threshold":2,"threshold":1}'):
        file.write_bytes(content)
        with pytest.raises(ManifestRefused, match="the trust file: not a JSON object"):
            read_trust(file)
    file.write_text(json.dumps(TRUST))
    file.chmod(0o644)
    assert read_trust(file) == trust()
    file.chmod(0o646)
    with pytest.raises(ManifestRefused, match="anybody may write the trust file"):
        read_trust(file)
