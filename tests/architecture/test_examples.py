"""The examples in docstrings do what they show."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import crypto
import hsm

MODULES = {
    found.name
    for package in (crypto, hsm)
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
}
# They hold types or constants, or need a key agreement to do anything.
WITHOUT_EXAMPLES = {
    "crypto.emv",
    "crypto.errors",
    "crypto.jose",
    "crypto.pin_image_strokes",
    "crypto.pinblock",
    "crypto.seccos",
    "crypto.seccos.payload",
    "crypto.seccos.verify",
    "crypto.verification",
}


def examples(module: str) -> list[doctest.DocTest]:
    return [
        found for found in doctest.DocTestFinder().find(import_module(module)) if found.examples
    ]


@pytest.mark.parametrize("module", sorted(filter(examples, MODULES)))
def test_the_examples_of_a_module_hold(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    results = doctest.testmod(import_module(module), raise_on_error=False)

    assert results.failed == 0, capsys.readouterr().out


def test_every_codec_and_pure_function_shows_an_example() -> None:
    pure = {name for name in MODULES if name.startswith("crypto.")}
    assert {name for name in pure if not examples(name)} == WITHOUT_EXAMPLES
