"""``python -m cms issuers``: what an operator types and gets back."""

import re

import pytest

from tests.cms.operator.operator_at_work import Operator
from tests.issuer_records import SampleIssuer


def test_an_issuer_is_added_and_shown(operator: Operator) -> None:
    operator.must("issuers", "add", "newbank001", "--name", "New Bank")
    assert re.search(r"state +active", operator.must("issuers", "show", "newbank001"))
    assert "issuer_id=newbank001  name=New Bank  state=active" in operator.must("issuers", "list")
    assert "event=issuer.added" in operator.must("audit", "list", "newbank001")


def test_an_issuer_is_suspended_and_resumed(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    operator.must("issuers", "suspend", sample_issuer.issuer_id)
    assert re.search(r"state +suspended", operator.must("issuers", "show", sample_issuer.issuer_id))
    operator.must("issuers", "resume", sample_issuer.issuer_id)
    assert re.search(r"state +active", operator.must("issuers", "show", sample_issuer.issuer_id))
    seen = operator.must("audit", "list", sample_issuer.issuer_id)
    assert seen.index("issuer.suspended") < seen.index("issuer.active")


def test_an_issuer_is_added_once(operator: Operator, sample_issuer: SampleIssuer) -> None:
    adding = ("issuers", "add", sample_issuer.issuer_id, "--name", "x")
    assert operator.refused(*adding) == "duplicate issuer"
    assert "A test bank" in operator.must("issuers", "show", sample_issuer.issuer_id)


@pytest.mark.parametrize("issuer", ["", "newbank01", "newbank0001"])
def test_an_issuer_id_has_ten_characters(operator: Operator, issuer: str) -> None:
    refusal = operator.refused("issuers", "add", issuer, "--name", "x")
    assert refusal == "an issuer id has exactly 10 characters"
    assert operator.must("issuers", "list") == ""


def test_an_unknown_issuer_cannot_be_shown_or_changed(operator: Operator) -> None:
    for verb in ("show", "suspend", "resume"):
        assert operator.refused("issuers", verb, "newbank001") == "no such issuer"
