"""Rules of the code that an import linter cannot see."""

import ast
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cms", "crypto", "hsm")


def sources(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def importers(module: str, *packages: str) -> set[str]:
    return {
        path
        for path, tree in sources(*packages)
        for node in ast.walk(tree)
        for name in imported(node)
        if name == module or name.startswith(f"{module}.")
    }


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []


def reveals(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == "reveal" for node in ast.walk(tree))


def f_string_raises(tree: ast.Module) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        for part in ast.walk(node)
        if isinstance(part, ast.JoinedStr)
    ]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_name_is_ours_whatever_else_is_installed(name: str) -> None:
    module = import_module(name)
    assert name not in packages_distributions()
    assert Path(str(module.__file__)).is_relative_to(ROOT)


def test_only_one_package_imports_the_pkcs11_binding() -> None:
    paths = importers("pkcs11", *PACKAGES)
    assert {path.rpartition("/")[0] for path in paths} == {"hsm/pkcs11"}


def test_sql_is_written_in_persistence_only() -> None:
    modules = {
        path
        for library in ("sqlalchemy", "psycopg", "psycopg_pool", "alembic")
        for path in importers(library, *PACKAGES)
    }
    # The sandbox's Postgres runner asks the server it started whether it is up.
    assert {path for path in modules if not path.startswith("cms/persistence/")} == {
        "cms/sandbox/machine/postgres.py"
    }


def test_a_clear_value_is_revealed_only_in_crypto_and_in_the_vault() -> None:
    assert [path for path, tree in sources("cms") if reveals(tree)] == []


def test_no_value_is_formatted_into_an_error_of_crypto_or_the_vault() -> None:
    found = {
        path: lines for path, tree in sources("crypto", "hsm") if (lines := f_string_raises(tree))
    }
    assert found == {}


def test_the_rules_find_what_they_forbid() -> None:
    broken = ast.parse('raise ValueError(f"{pin}")\nprint(pan.reveal())')
    assert f_string_raises(broken) == [1]
    assert reveals(broken)


def test_no_file_of_the_packages_is_empty() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert [path for path in files if not path.read_text(encoding="utf-8").strip()] == []
