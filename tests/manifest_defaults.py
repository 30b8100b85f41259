"""What a manifest says where its issuer sets nothing, with every default, by member."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

DEFAULTS: Final[Mapping[str, dict[str, Any]]] = json.loads(
    Path(__file__).with_suffix(".json").read_text("utf-8")
)
