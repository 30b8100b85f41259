"""A host whose vault writes a log, by several workers, and whoever can write its files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from hsm.log.chain import Chain
from hsm.log.lines import Action, Event, Line, Mac
from hsm.log.writer import VaultLog, files_of
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

    def worker(self, mac: Mac | None = None, label: KeyLabel = LABEL) -> VaultLog:
        """Start a worker, which has not seen the log yet."""
        return VaultLog(self.directory, mac or self.hsm_token.mac, label, lambda: self.now)

    def paths(self) -> Sequence[Path]:
        return files_of(self.directory)

    def follow(self, mac: Mac | None = None) -> tuple[list[Line], Chain]:
        """Read the log, and its MACs."""
        chain = Chain(mac or self.hsm_token.mac)
        return list(chain.follow(self.paths())), chain

    def receipts(self) -> list[str]:
        return [line.receipt for line in self.follow()[0]]

    def edit(self, change: Callable[[list[bytes]], list[bytes]], number: int = 0) -> None:
        """Change the lines of a file, as somebody may who can write it."""
        path = self.paths()[number]
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
