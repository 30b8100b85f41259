"""Run the tests of opencryptoki in a container: ``python -m tests.image.opencryptoki``.

Its daemon, its state and its configuration have one place on a machine, which there is the
container's own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.deployment import ROOT
from tests.image.podman import TRUST, podman, why_not

BASE: Final = "localhost/pins-base-trixie"
IMAGE: Final = "localhost/pins-opencryptoki"
#: What is of the module in the suites; which of them run on it, tests/modules.py says.
PYTEST: Final = (
    "pytest",
    "-p",
    "no:cacheprovider",
    "-k",
    "opencryptoki",
    "tests/contracts",
    "tests/hsm",
)


def main(words: Sequence[str]) -> int:
    """Build the image, and run pytest in it, with more *words* for it."""
    reason = why_not()
    if reason:
        sys.stderr.write(f"{reason}\n")
        return 2
    with podman() as engine, tempfile.TemporaryDirectory() as made:
        engine.make_base(BASE, "trixie")
        for file in (Path(__file__).with_name("Dockerfile"), ROOT / "requirements-dev.lock"):
            shutil.copy(file, made)
        engine.build(IMAGE, Path(made), *TRUST, base=BASE)
        options = (
            *(
                "--rm",
                "--init",
                "--cap-add=IPC_LOCK",
                "--network=none",
                f"--volume={ROOT}:/src:ro",
                "--workdir=/src",
            ),
            "--env=HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis",
        )
        environment = {**os.environ, **engine.environment}
        command = ["podman", "run", *options, IMAGE, *PYTEST, *words]
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
