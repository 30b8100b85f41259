"""A host whose vault writes a log, by several workers, and whoever can write its files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hsm.log import files
from hsm.log.chain import Chain
from hsm.log.host_log import HostLog
from hsm.log.lines import Action, Event, Line, Mac
from hsm.log.writer import VaultLog
from hsm.pkcs11.keys import KeyLabel, KeyRole
from tests.contracts.software_token import SoftwareToken

LABEL = KeyLabel(KeyRole.LOG_MAC, 1)
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
ISSUER_ID = "testbank01"


def hand_out(number: int) -> Event:
    """What a line says of the image of a card."""
    return Event(Action.IMAGE, ISSUER_ID, f"card-{number}", "hosted", "app", "grant", number)


@dataclass
class VaultHost:
    """A host: the directory of its log, its HSM token, its clock."""

    directory: Path
    hsm_token: SoftwareToken = field(default_factory=lambda: SoftwareToken([LABEL]))
    now: datetime = NOW

    def worker(self, mac: Mac | None = None, label: KeyLabel = LABEL, **more: Any) -> VaultLog:  # noqa: ANN401 - as VaultLog has them
        """Start a worker, which has not seen the log yet. It ends when nobody has it any more."""
        return VaultLog(
            self.directory, mac or self.hsm_token.mac, lambda: label, lambda: self.now, **more
        )

    def paths(self, chain: int = 0) -> Sequence[Path]:
        return files.files_of(self.directory / str(chain))

    def follow(self, mac: Mac | None = None, chain: int = 0) -> tuple[list[Line], Chain]:
        """Read a chain, and its MACs."""
        followed = Chain(mac or self.hsm_token.mac)
        return list(followed.follow(self.paths(chain))), followed

    def receipts(self, chain: int = 0) -> list[str]:
        return [line.receipt for line in self.follow(chain=chain)[0]]

    def read(self) -> tuple[list[Line], list[str]]:
        """Read the whole log; return its lines, and what is wrong with it."""
        host_log = HostLog(self.directory, self.hsm_token.mac)
        return list(host_log.lines()), host_log.faults

    def edit(self, change: Callable[[list[bytes]], list[bytes]], number: int = 0) -> None:
        """Change the lines of a file, as somebody may who can write it."""
        edit(self.paths()[number], change)


def edit(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of a file."""
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
