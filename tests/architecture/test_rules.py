"""Rules of the code that an import linter cannot see."""

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from hsm.messages import VERBS, SocketName, Verb

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cms", "crypto", "hsm")
MESSAGES: Mapping[str, type[Verb[object]]] = {verb.__name__: verb for verb in VERBS.values()}
WEB = {SocketName.D1, SocketName.CARDHOLDER}
#: The sockets of the processes in which a part of the service may run, WEB unless it stands here:
#: each must take all that it sends.
SENDERS: Mapping[str, set[SocketName]] = {
    "cms/services/d1/": {SocketName.D1},
    "cms/services/cardholder/": {SocketName.CARDHOLDER},
    "cms/faces/d1/": {SocketName.D1},
    "cms/faces/cardholder/": {SocketName.CARDHOLDER},
    "cms/operator/": {SocketName.ADMIN},
}
#: What the import linter's rules for all of cms leave out, by their names.
LEFT_OUT: Mapping[str, set[str]] = {
    "no SQL outside cms.persistence": {"cms.persistence", "cms.sandbox"},
    "cms opens no vault: it calls one over its sockets": {"cms.sandbox"},
    "what serves loads nothing that the vault works with": {
        *("cms.__main__", "cms.operator", "cms.sandbox"),
    },
    "the product does not know the sandbox, nor what only that needs": {"cms.sandbox"},
    "those who simulate a partner share no code with the service": {"cms.sandbox"},
}


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
        module = node.module or ""
        return [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return []


def reveals(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == "reveal" for node in ast.walk(tree))


def names_var(tree: ast.Module) -> bool:
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return any(isinstance(text, str) and re.search(r"\bvar(/|$)", text) for text in strings)


def f_string_raises(tree: ast.Module) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        for part in ast.walk(node)
        if isinstance(part, ast.JoinedStr)
    ]


def hides_input(model: ast.ClassDef) -> bool:
    return any(
        isinstance(node, ast.keyword)
        and node.arg == "hide_input_in_errors"
        and isinstance(node.value, ast.Constant)
        and node.value.value is True
        for node in ast.walk(model)
    )


def sent(trees: Iterable[tuple[str, ast.Module]]) -> Iterator[tuple[str, type[Verb[object]]]]:
    """The messages to the vault that a module names: those it may send."""
    for path, tree in trees:
        nodes = list(ast.walk(tree))
        if not any(name.startswith("hsm.messages") for node in nodes for name in imported(node)):
            continue
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        for name in sorted(names & MESSAGES.keys()):
            yield path, MESSAGES[name]


def not_taken(trees: Iterable[tuple[str, ast.Module]]) -> list[str]:
    """Messages that are sent by a part of the service whose sockets do not take them."""
    return [
        f"{path}: {message.name()}"
        for path, message in sent(trees)
        for part in [max((each for each in SENDERS if path.startswith(each)), key=len, default="")]
        if not SENDERS.get(part, WEB) <= message.sockets
    ]


def test_no_model_shows_what_it_refuses() -> None:
    models = {
        f"{path}: {node.name}": node
        for path, tree in sources("cms", "hsm")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and {"BaseModel", "BaseSettings"} & {ast.unparse(base) for base in node.bases}
    }
    assert "hsm/settings.py: HsmTokenSettings" in models
    assert [name for name, model in models.items() if not hides_input(model)] == []


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
        for library in ("sqlalchemy", "psycopg", "alembic")
        for path in importers(library, *PACKAGES)
    }
    # The sandbox's Postgres runner asks the server it started whether it is up.
    assert {path for path in modules if not path.startswith("cms/persistence/")} == {
        "cms/sandbox/machine/postgres.py"
    }


@pytest.mark.parametrize("name", ["cms.sandbox", "jwcrypto", "psec"])
def test_the_product_imports_neither_the_sandbox_nor_what_only_that_needs(name: str) -> None:
    found = importers(name, *PACKAGES, "migrations")
    assert {path for path in found if path.startswith("cms/sandbox/")} == found != set()


def test_the_product_does_not_know_where_the_demo_keeps_its_files() -> None:
    paths = {path for path, tree in sources(*PACKAGES, "migrations") if names_var(tree)}
    assert {path for path in paths if path.startswith("cms/sandbox/")} == paths != set()


def test_a_partner_imports_nothing_of_ours_but_other_partners() -> None:
    ours = {
        (path, name)
        for path, tree in sources("cms/sandbox/partners")
        for node in ast.walk(tree)
        for name in imported(node)
        if name.partition(".")[0] in {*PACKAGES, "", "benchmarks", "migrations", "tests"}
    }
    assert ours != set()
    assert {each for each in ours if not each[1].startswith("cms.sandbox.partners")} == set()


def test_each_part_of_the_service_sends_only_what_its_sockets_take() -> None:
    assert {path.split("/")[1] for path, _ in sent(sources("cms"))} >= {"operator", "services"}
    assert not_taken(sources("cms")) == []


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_rule_for_all_of_cms_forgets_no_module(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {each["name"]: each for each in project["tool"]["importlinter"]["contracts"]}
    sources, forbidden = contracts[name]["source_modules"], contracts[name]["forbidden_modules"]
    named = {*(forbidden if sources == ["cms.sandbox.partners"] else sources)}
    modules = {
        f"cms.{path.stem}"
        for path in (ROOT / "cms").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert {each for each in named if each.startswith("cms.")} == (
        modules - LEFT_OUT[name] - {"cms.__init__"}
    )


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
    for line in ("from hsm.messages import RenderImage", "from hsm import messages"):
        stray = ast.parse(f"{line}\ncall(Health())\ncall(messages.RenderImage())\nRenderImage()")
        assert not_taken([("cms/services/d1/pins.py", stray)]) == [
            "cms/services/d1/pins.py: render_image"
        ]
        assert not_taken([("cms/services/cardholder/pin_view.py", stray)]) == []


def test_no_file_of_the_packages_is_empty() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert [path for path in files if not path.read_text(encoding="utf-8").strip()] == []
