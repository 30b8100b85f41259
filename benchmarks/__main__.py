"""``python -m benchmarks [NAME …]``: those that are named, or all.

``--vault-workers`` and ``--web-workers`` are for those that run a whole deployment. Each runs in a
process of its own, since a process opens the token once.
"""

import argparse
import subprocess
import sys
from typing import Final

DEPLOYED: Final = ("requests", "hosted", "pincontrol", "reseal")
"""Those that run a whole deployment."""
NAMES: Final = (
    "command_line",
    "pin_blocks",
    "token",
    "transport",
    "cards",
    "rotation",
    "scale",
    "stack",
    "many_cards",
    *DEPLOYED,
)


def main() -> int:
    """Run the benchmarks and return the worst of their exit codes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("name", nargs="*", help=f"{', '.join(NAMES)}; all when none is given")
    for option in ("--vault-workers", "--web-workers"):
        parser.add_argument(option, metavar="N", help="of a whole deployment")
    given = parser.parse_args()
    names = given.name or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    workers = [
        word
        for option, count in (
            ("--vault-workers", given.vault_workers),
            ("--web-workers", given.web_workers),
        )
        if count is not None
        for word in (option, count)
    ]
    commands = [
        (sys.executable, "-m", f"benchmarks.{name}", *(workers if name in DEPLOYED else ()))
        for name in names
    ]
    return max(subprocess.run(command, check=False).returncode for command in commands)


if __name__ == "__main__":
    sys.exit(main())
