"""Where no container can run ``make image-test`` fails and says why; ``make test`` goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployment import ROOT
from tests.image import podman

REASON = "OCI runtime error: no cgroups here"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All tools, found first; of these podman has its image, and runs no container."""
    script = f"""#!/bin/sh
[ "$1" = images ] && exec echo 0123456789ab
echo "{REASON}" >&2
exit 126
"""
    for name in podman.TOOLS:
        tool = tmp_path / name
        tool.write_text(script)
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def make_image_test() -> "subprocess.CompletedProcess[str]":
    words = ("image-test", f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/.installed")
    return subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_container_that_does_not_run_is_the_reason(tools: Path) -> None:
    assert podman.why_not().startswith("a container does not run: ")
    assert REASON in podman.why_not()


def test_nothing_is_the_reason_where_one_runs(tools: Path) -> None:
    (tools / "podman").write_text("#!/bin/sh\necho 0123456789ab\n")
    assert podman.why_not() == ""


def test_a_tool_that_is_missing_is_the_reason(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tools / "runc").unlink()
    monkeypatch.setenv("PATH", str(tools))
    assert podman.why_not().startswith("not installed: runc;")


@pytest.mark.slow
@pytest.mark.usefixtures("tools")
def test_make_image_test_fails_where_none_runs() -> None:
    done = make_image_test()
    assert done.returncode == 2
    assert (REASON if os.getuid() == 0 else "need root") in done.stderr
    assert "skipped" not in done.stdout
