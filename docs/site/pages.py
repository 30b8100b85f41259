"""What the site has beside the files of docs/, for MkDocs (its "hooks").

Pages at the top of the tree are pages of the site too, and links are written as GitHub wants them,
from file to file. A link to a file that is no page stays as its text.
"""

import posixpath
import re
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[2]
BESIDE: Final = {
    "ARCHITECTURE.md": "architecture.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Files of the tree, by what they are called on the site; of the first page docs/ has its own."""
DECISIONS: Final = "adr/*"
LINK: Final = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> None:
    """Name every decision in the navigation, in their order."""
    names = sorted(f"adr/{path.name}" for path in (ROOT / "docs/adr").glob("[0-9]*.md"))
    config.nav = _with_decisions(config.nav, names)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that are not in docs/."""
    for source, name in BESIDE.items():
        if files.get_file_from_path(name) is None:
            files.append(File.generated(config, name, content=(ROOT / source).read_text()))


def on_page_markdown(
    markdown: str,
    page: Page,
    config: MkDocsConfig,  # noqa: ARG001 - MkDocs names it
    files: Files,
) -> str:
    """Have each link lead to where its file is on the site."""
    own = page.file.src_uri
    sources = {name: source for source, name in BESIDE.items() if name != "index.md"}
    source = sources.get(own, f"docs/{own}")

    def led(link: re.Match[str]) -> str:
        text, target, anchor = link.groups(default="")
        if ":" in target:
            return link[0]
        found = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if (ROOT / found / "README.md").exists():
            found += "/README.md"
        name = BESIDE.get(found, found.removeprefix("docs/"))
        if files.get_file_from_path(name) is None and (ROOT / found).exists():
            return text
        return f"[{text}]({posixpath.relpath(name, posixpath.dirname(own) or '.')}{anchor})"

    return LINK.sub(led, markdown)


def _with_decisions(nav: object, names: list[str]) -> object:
    if isinstance(nav, dict):
        return {title: _with_decisions(inner, names) for title, inner in nav.items()}
    if isinstance(nav, list):
        flat = [names if item == DECISIONS else [item] for item in nav]
        return [_with_decisions(item, names) for items in flat for item in items]
    return nav
