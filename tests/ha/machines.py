"""Three machines for a database: on this one's loopback, or on a network of their own.

On the network each machine is a network namespace with a cable to a bridge, and a cable that is
pulled is silence: nobody hears that a connection ended, on either side.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from cms.sandbox import HANG_SECONDS

COUNT: Final = 3
LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True)
class Machine:
    """Where a process can run."""

    address: str
    inside: tuple[str, ...] = ()
    """What a command begins with to run there."""
    cable: str = ""
    """This machine's end of it; empty: it has none that could be pulled."""

    def pull_cable(self) -> None:
        _ip("link", "set", "dev", self.cable, "down")

    def plug_cable(self) -> None:
        _ip("link", "set", "dev", self.cable, "up")


@contextmanager
def machines() -> Iterator[Sequence[Machine]]:
    """Three machines on a network of their own where that can be made, else on the loopback."""
    if not _can_make_a_network():
        yield [Machine(LOOPBACK)] * COUNT
        return
    name = f"ha{secrets.token_hex(3)}"
    # Of the addresses for tests of networks (RFC 2544), which lead nowhere else.
    subnet = f"198.18.{secrets.randbelow(256)}"
    with ExitStack() as stack:
        _ip("link", "add", name, "type", "bridge")
        stack.callback(_ip, "link", "del", name)
        _ip("addr", "add", f"{subnet}.1/24", "dev", name)
        _ip("link", "set", "dev", name, "up")
        yield [
            stack.enter_context(_machine(f"{name}n{each}", name, f"{subnet}.{10 + each}"))
            for each in range(1, COUNT + 1)
        ]


@contextmanager
def _machine(name: str, bridge: str, address: str) -> Iterator[Machine]:
    inside = ("ip", "netns", "exec", name)
    _ip("netns", "add", name)
    try:
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", "dev", name, "master", bridge, "up")
        for words in (
            ("link", "set", "dev", "lo", "up"),
            ("addr", "add", f"{address}/24", "dev", "eth0"),
            ("link", "set", "dev", "eth0", "up"),
        ):
            _run(*inside, "ip", *words)
        yield Machine(address, inside, name)
    finally:
        _ip("netns", "del", name)  # and the cable with it


def _can_make_a_network() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"ha{secrets.token_hex(3)}"
    try:
        with _machine_alone(name):
            return True
    except subprocess.CalledProcessError:
        return False


@contextmanager
def _machine_alone(name: str) -> Iterator[None]:
    _ip("link", "add", name, "type", "bridge")
    try:
        with _machine(f"{name}n", name, "198.18.0.2"):
            yield
    finally:
        _ip("link", "del", name)


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=HANG_SECONDS)
