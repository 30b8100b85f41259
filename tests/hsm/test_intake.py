"""A PAN typed at a prompt becomes a JWE."""

import json

import pytest
from jwcrypto.jwk import JWK

from cms.sandbox.partners.jwe import decrypt
from hsm import intake
from hsm.errors import PanRejected

PAN = "4111111111111111"
KEY = JWK.generate(kty="EC", crv="P-256", kid="intake-1", use="enc", alg="ECDH-ES")
PUBLIC = json.loads(KEY.export_public())


def type_in(monkeypatch: pytest.MonkeyPatch, typed: str) -> list[str]:
    """Type *typed* at the next prompts; returns the list of what they showed."""
    prompts: list[str] = []

    def getpass(prompt: str) -> str:
        prompts.append(prompt)
        return typed

    monkeypatch.setattr(intake, "getpass", getpass)
    return prompts


@pytest.mark.parametrize("typed", [PAN, "4111 1111 1111 1111", " 4111111111111111 "])
def test_what_was_typed_opens_with_the_intake_key_alone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], typed: str
) -> None:
    prompts = type_in(monkeypatch, typed)
    jwe = intake.prompt_pan(PUBLIC)
    assert decrypt(jwe, KEY) == {"pan": PAN}
    assert prompts == ["PAN (not shown): "]
    assert PAN not in jwe
    assert capfd.readouterr() == ("", "")


def test_no_two_jwes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, PAN)
    one, other = (intake.prompt_pan(PUBLIC).split(".") for _ in range(2))
    assert all(one[part] != other[part] for part in (0, 2, 3, 4))


@pytest.mark.parametrize("typed", ["", "4111", "4111-1111-1111-1111", "4" * 20, "４" * 16, "pan"])  # noqa: RUF001
def test_what_is_not_a_pan_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], typed: str
) -> None:
    type_in(monkeypatch, typed)
    with pytest.raises(PanRejected) as refusal:
        intake.prompt_pan(PUBLIC)
    assert refusal.value.args == ()
    assert refusal.value.__suppress_context__
    assert capfd.readouterr() == ("", "")
