"""``python -m benchmarks [NAME …]``: those that are named, or all.

Each runs in a process of its own, since a process opens the token once.
"""

import argparse
import subprocess
import sys
from typing import Final

NAMES: Final = ("command_line", "pin_blocks", "token", "cards", "requests", "hosted", "pincontrol")


def main() -> int:
    """Run the benchmarks and return the worst of their exit codes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("name", nargs="*", help=f"{', '.join(NAMES)}; all when none is given")
    names = parser.parse_args().name or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    commands = [(sys.executable, "-m", f"benchmarks.{name}") for name in names]
    return max(subprocess.run(command, check=False).returncode for command in commands)


if __name__ == "__main__":
    sys.exit(main())
