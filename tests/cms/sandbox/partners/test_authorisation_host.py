"""What the demo's authorisation host makes of an export."""

import json
from pathlib import Path

import pytest
from jwcrypto.jwk import JWK

from cms.sandbox.partners.authorisation_host import ExportError, kinds_by_card
from cms.sandbox.partners.jwe import encrypt
from tests.cms.sandbox.issuer import D1_KEY, ISSUER_ID, ISSUER_KEY, public

ABOUT = {"issuerId": ISSUER_ID, "cardId": "card-1", "counter": 7}
VALUES = {"pvv": {"pvv": "1234"}, "offset-3624": {"offset": "5678"}}


@pytest.fixture(name="key")
def _key(tmp_path: Path) -> Path:
    file = tmp_path / "private.jwk"
    file.write_text(ISSUER_KEY.export_private())
    return file


def exported(recipient: JWK = ISSUER_KEY, **changed: object) -> str:
    """One line, for a key; *changed* stands on the line and not in the JWE."""
    line = {**ABOUT, "jwe": encrypt(ABOUT | VALUES, public(recipient)), **changed}
    return json.dumps(line) + "\n"


def test_the_kinds_of_each_card(key: Path) -> None:
    assert kinds_by_card(exported(), key) == {"card-1": ["offset-3624", "pvv"]}


def test_an_empty_export(key: Path) -> None:
    assert kinds_by_card("", key) == {}


@pytest.mark.parametrize("changed", [{"cardId": "card-2"}, {"counter": 8}, {"issuerId": "x"}])
def test_a_line_about_another_card_than_its_jwe(key: Path, changed: dict[str, object]) -> None:
    with pytest.raises(ExportError, match="about another card"):
        kinds_by_card(exported() + exported(**changed), key)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(exported(D1_KEY), id="for another key"),
        pytest.param(encrypt(ABOUT | VALUES, public(ISSUER_KEY)), id="a bare JWE"),
        pytest.param(json.dumps(ABOUT), id="no JWE"),
    ],
)
def test_a_line_that_does_not_open(key: Path, line: str) -> None:
    with pytest.raises(ExportError, match="cannot open"):
        kinds_by_card(line, key)
