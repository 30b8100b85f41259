"""The images and the trial deployment, with podman, on a base made of Debian packages.

No registry is asked: stand-ins have the names that docker-compose.yml would fetch.
``python -m tests.image.podman`` says why no container can run here, with exit code 1.
"""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from ruamel.yaml import YAML

from cms.sandbox import HANG_SECONDS
from tests.deployment import ROOT, end, wait_for

TOOLS: Final = ("podman", "docker-compose", "mmdebstrap", "runc")
BASE: Final = "localhost/pins-base"
IMAGE: Final = "localhost/issuer-pin-service"
STAND_INS: Final = {
    "POSTGRES_IMAGE": "localhost/pins-postgres",
    "HAPROXY_IMAGE": "localhost/pins-haproxy",
    "PROMETHEUS_IMAGE": "localhost/pins-prometheus",
}
HEALTH_RETRIES: Final = 120
"""More than of a deployment: a machine may be slow."""
BASE_PACKAGES: Final = "ca-certificates,python3,python3-venv,python3-pip"
#: crun of Debian 12 fails on a hybrid hierarchy of cgroups, and there is no systemd to ask.
CONTAINERS: Final = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""
LIMITS: Final = {"nofile": 20_000, "nproc": 20_000}
CERTIFICATES: Final = Path("/etc/ssl/certs")
"""Of this machine: pip trusts what this machine trusts."""
TRUST: Final = ("--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro")


def why_not() -> str:
    """Say why no container can run here, which one tries; empty: they can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}; make image-test installs them"
    if os.geteuid() != 0:
        return "containers with uids of their own need root here"
    with tempfile.TemporaryDirectory() as made:
        engine = Podman.of(Path(made))
        try:
            engine.make_base(BASE, "bookworm")
            engine.run("podman", "run", "--rm", "--network=none", BASE, "true")
        except (AssertionError, subprocess.TimeoutExpired) as error:
            return f"a container does not run: {error}"
    return ""


@dataclass(frozen=True)
class Podman:
    """Podman with settings and a socket of its own."""

    directory: Path
    environment: Mapping[str, str]

    @classmethod
    def of(cls, directory: Path) -> Self:
        """Put its settings into a directory."""
        settings = directory / "containers.conf"
        settings.write_text(CONTAINERS)
        found = {"CONTAINERS_CONF": str(settings), "DOCKER_HOST": f"unix://{directory}/podman.sock"}
        return cls(directory, found | STAND_INS)

    def run(self, *words: str | Path, typed: str = "") -> str:
        """Run a command and return what it prints."""
        done = subprocess.run(
            words,
            env={**os.environ, **self.environment},
            cwd=self.directory,
            input=typed,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout

    def build(self, tag: str, context: Path, *words: str, base: str = BASE) -> None:
        options = ("--build-arg", f"BASE={base}", "--network", "host", "--pull=never")
        self.run("podman", "build", "--quiet", *options, *words, "--tag", tag, context)

    def make_base(self, tag: str, release: str) -> None:
        """Make an image of the packages of a release of Debian, unless it is there."""
        if self.run("podman", "images", "--quiet", tag):
            return
        with tempfile.TemporaryDirectory() as made:
            tar = Path(made, "base.tar")
            self.run(
                *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={BASE_PACKAGES}"),
                *(release, tar),
            )
            self.run("podman", "import", "--quiet", tar, tag)

    def make_images(self) -> None:
        """Build the base, ours, and those that stand in for others."""
        self.make_base(BASE, "bookworm")
        for tag in STAND_INS.values():
            self.build(tag, ROOT / "tests/image/stand_ins" / tag.rpartition("-")[2])
        self.build(IMAGE, ROOT, *TRUST)


@contextmanager
def podman() -> Iterator[Podman]:
    """Offer podman's socket to docker-compose until the block ends."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        engine = Podman.of(directory)
        with (directory / "log").open("wb") as log:
            service = subprocess.Popen(
                ["podman", "system", "service", "--time=0", engine.environment["DOCKER_HOST"]],
                env={**os.environ, **engine.environment},
                stdout=log,
                stderr=log,
            )
        try:
            wait_for((directory / "podman.sock").exists)
            yield engine
        finally:
            end(service)


@dataclass(frozen=True)
class Compose:
    """The trial deployment as a project of its own."""

    engine: Podman
    directory: Path

    @property
    def secrets(self) -> Path:
        return self.directory / "deploy" / "secrets"

    @property
    def manifests(self) -> Path:
        return self.directory / "deploy" / "manifests"

    def compose(self, *words: str, typed: str = "") -> str:
        file = ("--file", str(self.directory / "docker-compose.yml"))
        return self.engine.run("docker-compose", "--ansi", "never", *file, *words, typed=typed)

    def operator(
        self, name: str, *words: str, typed: str = "", without: Collection[str] = ()
    ) -> str:
        """Run a command of an operator: ``docker compose run --rm NAME …``.

        *without*: volumes of the service that are not there.

        By podman itself, from what the file says of the service: docker-compose of version 1 cannot
        attach to a container of podman's.
        """
        service = self.services[name]
        network = service.get("network_mode", f"{self.directory.name}_default")
        work = service.get("working_dir", "/app")
        entrypoint = service.get("entrypoint", [])
        options = [
            *("--rm", "--interactive", f"--user={service['user']}", f"--network={network}"),
            *("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"),
            *(
                "--security-opt=no-new-privileges",
                f"--workdir={work}",
            ),
            *(f"--env={key}={value}" for key, value in service.get("environment", {}).items()),
            *(
                f"--volume={self._volume(each)}"
                for each in service.get("volumes", ())
                if each.partition(":")[0] not in without
            ),
            *(f"--volume={self._secret(each)}" for each in service.get("secrets", ())),
        ]
        # podman takes one word for an entrypoint, or a list as JSON.
        options += [f"--entrypoint={json.dumps(entrypoint)}"] if entrypoint else []
        given = words or tuple(each.replace("$$", "$") for each in service["command"])
        command = (*options, service["image"], *given)
        return self.engine.run("podman", "run", *command, typed=typed)

    @property
    def services(self) -> dict[str, Any]:
        """What the file says of each service."""
        services: dict[str, Any] = self._content["services"]
        return services

    @property
    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.directory / "docker-compose.yml").read_text())
        return content

    def _volume(self, text: str) -> str:
        source, rest = text.split(":", 1)
        if source.startswith("."):
            return f"{self.directory / source}:{rest}"
        return f"{self.directory.name}_{source}:{rest}"

    def _secret(self, name: str) -> str:
        file = self._content["secrets"][name]["file"]
        return f"{self.directory / file}:/run/secrets/{name}:ro"

    def container(self, service: str) -> str:
        return f"{self.directory.name}_{service}_1"

    def inside(self, service: str, *words: str) -> str:
        return self.engine.run("podman", "exec", self.container(service), *words)

    def is_healthy(self, service: str) -> bool:
        """Ask once: without systemd nobody asks again and again."""
        with contextlib.suppress(AssertionError):
            self.engine.run("podman", "healthcheck", "run", self.container(service))
            return True
        return False


def _name_database(content: dict[str, Any]) -> None:
    """Give the database an address, and the web, which is in two networks, its name.

    Podman has a name server a network, and a container asks the first only, whichever that is.
    """
    network = f"10.{1 + secrets.randbelow(127)}.{secrets.randbelow(256)}"
    content["networks"]["default"] = {"ipam": {"config": [{"subnet": f"{network}.0/24"}]}}
    content["services"]["db"]["networks"] = {"default": {"ipv4_address": f"{network}.10"}}
    content["services"]["web"]["extra_hosts"] = [f"db:{network}.10"]


@contextmanager
def project(engine: Podman, given: Mapping[str, str]) -> Iterator[Compose]:
    """Put the compose file and what it mounts into a directory; take everything down at the end.

    *given*: texts of the file and what is put in their place, as an operator edits it.
    """
    with tempfile.TemporaryDirectory(prefix="pins") as made:
        directory = Path(made)
        text = (ROOT / "docker-compose.yml").read_text()
        for old, new in given.items():
            assert old in text, old
            text = text.replace(old, new)
        content = YAML(typ="safe").load(text)
        # Debian's docker-compose is of version 1, which does not know it.
        del content["name"]
        for service in content["services"].values():
            if service.pop("build", None) is not None:
                service["image"] = IMAGE
                # Podman's own are higher than a container within a container may set.
                service["ulimits"] |= LIMITS
                service["ulimits"].pop("memlock", None)
            if "healthcheck" in service:
                service["healthcheck"]["retries"] = HEALTH_RETRIES
        _name_database(content)
        (directory / "docker-compose.yml").write_text(json.dumps(content))
        shutil.copytree(
            ROOT / "deploy",
            directory / "deploy",
            ignore=shutil.ignore_patterns("secrets", "manifests"),
        )
        made_compose = Compose(engine, directory)
        made_compose.secrets.mkdir()
        made_compose.manifests.mkdir(mode=0o755)
        directory.chmod(0o755)
        try:
            yield made_compose
        finally:
            made_compose.compose("down", "--volumes", "--timeout", "5", "--remove-orphans")


if __name__ == "__main__":
    sys.exit(why_not() or None)
