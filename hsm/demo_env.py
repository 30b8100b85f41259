"""``var/demo.env``: the settings of the demo, used by a command that was given none."""

import os
from pathlib import Path
from typing import Final

DEMO_ENV: Final = Path(__file__).resolve().parents[1] / "var" / "demo.env"


def load(prefix: str) -> None:
    """Set the demo's variables, if it ran and no variable that starts with *prefix* is set."""
    if any(name.startswith(prefix) for name in os.environ) or not DEMO_ENV.exists():
        return
    for line in DEMO_ENV.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        os.environ.setdefault(name, value)
