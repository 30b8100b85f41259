"""What a release holds: ``make dist`` of a small tree, as of any."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LOCKS = {"": "requirements.lock", "-tracing": "requirements-tracing.lock"}
FILES = {"Makefile", "pyproject.toml", "LICENSE", *LOCKS.values()}
VERSION = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]  # type: ignore[index] # there is one
NAME = f"issuer-pin-service-{VERSION}"
GIT = {
    **{f"GIT_{who}_NAME": "a test" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "test@example.com" for who in ("AUTHOR", "COMMITTER")},
    "GIT_CONFIG_GLOBAL": os.devnull,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one commit, of the files that ``make dist`` reads."""
    tree = tmp_path_factory.mktemp("tree")
    for name in FILES:
        shutil.copy(ROOT / name, tree)
    (tree / ".gitignore").write_text("dist/\n")
    for words in ("init", "add .", "commit -m first"):
        git(tree, *words.split())
    return tree


def git(tree: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=tree, env=os.environ | GIT, check=True, capture_output=True)


def make_dist(tree: Path) -> "subprocess.CompletedProcess[str]":
    """Run it with the virtual environment of these tests."""
    words = ("dist", f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/.installed")
    return subprocess.run(["make", *words], cwd=tree, capture_output=True, text=True, check=False)


def dist(tree: Path) -> dict[str, bytes]:
    """The files of a release, made anew."""
    done = make_dist(tree)
    assert (done.returncode, done.stderr) == (0, "")
    return {path.name: path.read_bytes() for path in (tree / "dist").iterdir()}


@pytest.fixture(scope="module")
def made(tree: Path) -> dict[str, bytes]:
    return dist(tree)


def test_a_release_is_an_archive_two_lists_of_parts_and_their_checksums(
    tree: Path, made: dict[str, bytes]
) -> None:
    assert made.keys() == {
        *(f"{NAME}.tar.gz", "SHA256SUMS"),
        *(f"{NAME}{packages}.cdx.json" for packages in LOCKS),
    }
    with tarfile.open(fileobj=io.BytesIO(made[f"{NAME}.tar.gz"])) as archive:
        assert {member.name for member in archive if member.isfile()} == {
            f"{NAME}/{name}" for name in (*FILES, ".gitignore")
        }
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    checked = subprocess.run(command, cwd=tree / "dist", capture_output=True, text=True, check=True)
    assert checked.stdout.count(": OK") == len(made) - 1


def test_the_same_commit_makes_the_same_bytes(tree: Path, made: dict[str, bytes]) -> None:
    assert dist(tree) == made


def test_what_is_not_committed_is_in_no_release(tree: Path) -> None:
    project = tree / "pyproject.toml"
    text = project.read_text()
    project.write_text(f"{text}\n")
    done = make_dist(tree)
    project.write_text(text)
    assert done.returncode != 0
    assert "Commit first" in done.stdout


def test_a_list_of_parts_that_cannot_be_made_ends_it(tree: Path) -> None:
    (tree / "requirements-tracing.lock").unlink()
    git(tree, "commit", "--all", "--message=second")
    ended = make_dist(tree).returncode
    git(tree, "reset", "--hard", "HEAD~")
    assert ended != 0
    assert not (tree / "dist" / "SHA256SUMS").exists()


@pytest.mark.parametrize("packages", LOCKS)
def test_a_list_of_parts_names_every_locked_package_with_its_hashes(
    made: dict[str, bytes], packages: str
) -> None:
    parts = json.loads(made[f"{NAME}{packages}.cdx.json"])
    text = (ROOT / LOCKS[packages]).read_text()
    locked = re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE)
    assert parts["bomFormat"] == "CycloneDX"
    assert [(part["name"], part["version"]) for part in parts["components"]] == locked
    for part in parts["components"]:
        assert part["externalReferences"][0]["hashes"]
    assert parts["metadata"]["component"]["name"] == "issuer-pin-service"
