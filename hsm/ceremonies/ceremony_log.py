"""The lines of the vault's log that name the records of key ceremonies."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from hsm import generations
from hsm.ceremonies.ceremony_record import CeremonyRecord
from hsm.log.files import DIRECTORY
from hsm.log.lines import Action, Event
from hsm.log.writer import VaultLog
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import KeyRole
from hsm.settings import VaultSettings


@dataclass(frozen=True, slots=True)
class CeremonyLog:
    """The log of this host, which the process of a ceremony appends to as a worker does."""

    log: VaultLog

    @classmethod
    def of_host(cls, hsm_token: HsmToken, settings: VaultSettings) -> Self:
        """Find the log.

        Raises:
            VaultUnavailable: a role of our own has no key.
            ManifestRefused: the table of key generations of this host cannot be used.
        """
        keyring = Keyring(hsm_token, generations.of_host(settings.state_directory, hsm_token))
        _ = keyring.active
        return cls(
            VaultLog(
                *(settings.state_directory / DIRECTORY, keyring.mac),
                lambda: keyring.active[KeyRole.LOG_MAC],
                lambda: datetime.now(UTC),
            )
        )

    def check(self) -> None:
        """Look whether there is a log that can be appended to.

        Raises:
            LogUnavailable: there is none.
        """
        self.log.check()

    def tell(self, record: CeremonyRecord) -> str:
        """Name a record; return the receipt of the line, which is then on the disk.

        Raises:
            LogUnavailable: the log is missing, or cannot be written.
            VaultUnavailable: the HSM token does not answer.
        """
        event = Event(Action.CEREMONY, record.issuer_id, record=record.sha256)
        return self.log.append(event, durable=True)
