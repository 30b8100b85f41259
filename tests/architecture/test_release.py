"""What a release holds beside the tree."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_list_of_parts_names_every_locked_package_with_its_hashes(tmp_path: Path) -> None:
    file = tmp_path / "parts.json"
    subprocess.run(
        [
            *(Path(sys.executable).with_name("cyclonedx-py"), "requirements", "requirements.lock"),
            *("--pyproject", "pyproject.toml", "--output-reproducible", "--output-file", file),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    parts = json.loads(file.read_text())
    locked = re.findall(
        r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE
    )
    assert parts["bomFormat"] == "CycloneDX"
    assert [(part["name"], part["version"]) for part in parts["components"]] == locked
    for part in parts["components"]:
        assert part["externalReferences"][0]["hashes"]
    assert parts["metadata"]["component"]["name"] == "issuer-pin-service"
