"""The catalogue of errors: nothing is missing in it, and nothing is stale."""

import inspect
import re

import pytest

from cms import protocol
from cms.faces.cardholder.hosted import problems as hosted
from cms.faces.cardholder.pincontrol import problems as pincontrol
from cms.faces.d1 import problems as d1
from cms.faces.refusals import CALLER_DOES, meaning_of
from cms.services.vault import MEANINGS
from tests.cms.faces import catalogue


def test_the_page_is_what_the_code_says() -> None:
    assert catalogue.PAGE.read_text(encoding="utf-8") == catalogue.page()


def test_every_error_of_the_domain_has_a_meaning_and_something_to_do() -> None:
    errors = catalogue.domain_errors()
    assert CALLER_DOES.keys() == {*errors}
    assert all(meaning_of(error) for error in errors)


def test_every_error_of_the_domain_is_answered_by_a_face() -> None:
    answered = {refusal.error for refusals in catalogue.by_face().values() for refusal in refusals}
    assert {*catalogue.domain_errors()} <= answered


@pytest.mark.parametrize(
    ("face", "table"),
    [
        ("d1", d1.WIRE),
        ("hosted", hosted.WIRE),
        ("pincontrol", pincontrol.OF_OPERATIONS),
    ],
)
def test_a_face_documents_all_that_it_has_an_answer_to(face: str, table: object) -> None:
    documented = {refusal.error for refusal in catalogue.by_face()[face]}
    assert isinstance(table, dict)
    assert documented - {None} == table.keys()


def test_every_error_of_the_vault_is_listed_with_what_it_becomes() -> None:
    lines = [*catalogue.of_the_vault()]
    assert len(lines) == len(catalogue.vault_errors()) > len(MEANINGS)
    assert "| `GrantRefused` | A grant is not for what is asked, or no longer." in "\n".join(lines)


def test_every_text_for_what_cannot_be_read_is_listed() -> None:
    source = inspect.getsource(protocol)
    texts = {*re.findall(r'(?:Malformed\(|, )"([A-Z][^"]+\.)"', source)}
    listed = "\n".join(catalogue.unreadable())
    assert texts
    assert all(text in listed for text in texts)
