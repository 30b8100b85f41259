"""Pages of reference, made from the code: ``python -m docs.site.references`` writes them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from docs.site import manifest_pages, metrics_page

DOCS: Final = Path(__file__).parents[1]
PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "manifest.md": manifest_pages.manifest,
    "wire-defaults.md": manifest_pages.wire_defaults,
    "metrics.md": metrics_page.metrics,
}

if __name__ == "__main__":
    for name, made in PAGES.items():
        (DOCS / name).write_text(made())
