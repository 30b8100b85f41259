"""What a configuration says of which the issuer sets nothing, with every member, by its kind."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

DEFAULTS: Final[Mapping[str, dict[str, Any]]] = json.loads(
    Path(__file__).with_suffix(".json").read_text("utf-8")
)
