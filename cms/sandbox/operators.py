"""The demo's operators and custodians: their keys, the trust file, and what operators sign.

In earnest the operators' keys are on two machines, neither of which serves, and each key has a
passphrase.
"""

import json
import shutil
from pathlib import Path
from typing import Final

from cms.sandbox import files
from cms.sandbox.operator_commands import run, run_apart

NAMES: Final = ("Ann", "Bob")
MINIMUM_VERSIONS: Final = files.CONFIG / "minimum-versions.json"


def make() -> None:
    """Make keys of operators and custodians, this host's trust file, and its minimum versions.

    What an earlier set-up signed counts for nothing and goes.
    """
    shutil.rmtree(files.OPERATORS, ignore_errors=True)
    files.OPERATORS.mkdir(mode=0o700)
    made = [_make_key(name, _key(name)) for name in NAMES]
    trust = {
        "threshold": len(NAMES),
        "sandbox": True,
        "operators": made,
        "custodians": [_make_key(name, key) for name, key in files.CUSTODIANS.items()],
    }
    files.write(files.TRUST, json.dumps(trust, indent=2) + "\n")
    run("hsm", "manifest", "minimum-versions", "--out", files.relative(MINIMUM_VERSIONS))
    sign(MINIMUM_VERSIONS)
    # The vault's log has a writer as long as whoever began it runs.
    run_apart("hsm", "manifest", "begin", files.relative(MINIMUM_VERSIONS))


def sign(file: Path) -> None:
    """Have both operators sign a file."""
    for name in NAMES:
        words = ("manifest", "sign", files.relative(file), "--key", files.relative(_key(name)))
        run("hsm", *words)


def _make_key(name: str, key: Path) -> dict[str, object]:
    """Make a key and return its entry for the trust file."""
    words = ("manifest", "key", files.relative(key), "--name", name, "--no-passphrase")
    entry: dict[str, object] = json.loads(run("hsm", *words))
    return entry


def _key(name: str) -> Path:
    return files.OPERATORS / f"{name.lower()}.pem"
