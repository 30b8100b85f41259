"""The pages of reference that are made from the code are current, and whole."""

import re
from collections import Counter
from pathlib import Path

import pytest

from docs.site import references
from hsm.manifest.model import Manifest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", references.PAGES)
def test_a_page_of_reference_is_what_the_code_says(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == references.PAGES[name]()


def members() -> list[str]:
    """Every member of a manifest and of what is below it, as pydantic's own JSON schema has it."""
    schema = Manifest.model_json_schema()
    models = (schema, *schema["$defs"].values())
    return [name for each in models for name in each.get("properties", {})]


def test_every_member_of_a_manifest_is_in_a_table_with_its_meaning() -> None:
    text = "".join(
        (ROOT / "docs" / name).read_text() for name in ("manifest.md", "wire-defaults.md")
    )
    rows = re.findall(r"^\| `(\w+)` \| .+ \| .+ \| (.*) \|$", text, re.MULTILINE)
    found = Counter(members())
    assert found.total() > 100
    assert found <= Counter(name for name, _ in rows)
    assert found.keys() == {name for name, _ in rows}
    assert [name for name, meaning in rows if not meaning.strip()] == []
