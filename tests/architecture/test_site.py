"""The documentation site: it has every page, leads nowhere wrong, and fetches nothing."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = Path("docs") / "site" / "mkdocs.yml"
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


def build(tree: Path, site: Path) -> subprocess.CompletedProcess[str]:
    words = ("build", "--strict", "--config-file", tree / CONFIGURATION, "--site-dir", site)
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", *words],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    done = build(ROOT, site)
    assert done.returncode == 0, done.stdout + done.stderr
    return site


class Fetched(HTMLParser):
    """What a browser fetches for a page without being asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("rel") not in {"canonical", "next", "prev"} and tag in FETCHED:
            self.addresses.append(given.get(FETCHED[tag]) or "")


def test_every_page_of_the_tree_is_on_the_site(site: Path) -> None:
    sources = {path.stem for path in (ROOT / "docs").glob("*.md")}
    sources |= {"architecture", "security", "contributing", "changelog", "benchmarks"}
    assert {path.stem for path in site.glob("*.html")} == {*sources, "404", "host-page"}
    decisions = {path.stem for path in (ROOT / "docs" / "adr").glob("0*.md")}
    assert decisions < {path.stem for path in (site / "adr").glob("*.html")}


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = [path for path in site.rglob("*.html") if path.name != "host-page.html"]
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text())
        assert len(parser.addresses) > 2
        assert [each for each in parser.addresses if re.match(r"(\w+:)?//", each)] == []


def test_a_diagram_is_a_table(site: Path) -> None:
    source = (ROOT / "ARCHITECTURE.md").read_text()
    text = (site / "architecture.html").read_text()
    assert "sequenceDiagram" in source
    assert not re.search("sequenceDiagram|mermaid", text)
    # Each message, and each note, is a row.
    steps = len(re.findall(r"^ +(\w+--?>>\w+|Note over [\w,]+): ", source, re.MULTILINE))
    tables = re.findall("<th>from</th>.*?</table>", text, re.DOTALL)
    assert sum(table.count("<tr>") for table in tables) == steps
    assert "<td>PUT …/pin over mutual TLS, bearer, {type, encryptedPinBlock}</td>" in text


def test_no_style_fetches_anything_from_elsewhere(site: Path) -> None:
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the tree's prose."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=ignored)
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=ignored)
    for page in ROOT.glob("*.md"):
        shutil.copy(page, tmp_path)
    for package in ("crypto", "hsm"):
        (tmp_path / package).symlink_to(ROOT / package)
    return tmp_path


@pytest.mark.parametrize(
    ("page", "added", "complaint"),
    [
        ("docs/demo.md", "", None),
        ("docs/demo.md", "[x](no-such-page.md)", "no-such-page.md"),
        ("docs/demo.md", "[x](glossary.md#no-such-word)", "no-such-word"),
        ("SECURITY.md", "[x](docs/glossary.md#no-such-word)", "no-such-word"),
        ("SECURITY.md", "[x](hsm/no_such_module.py)", "no_such_module.py"),
        ("docs/forgotten.md", "# In no menu", "forgotten.md"),
    ],
)
def test_a_link_that_leads_nowhere_and_a_page_without_a_menu_end_the_build(
    copy: Path, tmp_path: Path, page: str, added: str, complaint: str | None
) -> None:
    with (copy / page).open("a") as file:
        file.write(f"\n{added}\n")
    done = build(copy, tmp_path / "site")
    assert (done.returncode == 0) == (complaint is None), done.stderr
    assert (complaint or "built") in done.stderr
