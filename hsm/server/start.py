"""``python -m hsm.server.start MODE PARENT CELL NAME=DESCRIPTOR …``: a worker of a supervisor.

Descriptors are inherited. The exit code tells the supervisor what to do (:mod:`hsm.server.exits`).
"""

import gc
import logging
import sys
from datetime import UTC, datetime
from functools import partial
from socket import socket
from typing import Any

from crypto import pin_image
from hsm import exposition, metrics
from hsm.counts import Counts
from hsm.errors import HsmError, LoginRefused, NotForProduction, VaultUnavailable
from hsm.hardening import end_with, harden_for_secrets
from hsm.key_budgets import KeyBudgets
from hsm.kid_uses import KidUses
from hsm.messages import Metrics, SocketName, Verb
from hsm.pkcs11.token import Pkcs11Token
from hsm.reopened import ReopenedVault
from hsm.server import logs, sockets
from hsm.server.busy import Cell
from hsm.server.disk import Disk
from hsm.server.exits import Exit
from hsm.server.worker import Held, Worker, run_until_told
from hsm.setting_faults import with_page
from hsm.settings import ServerSettings, VaultSettings
from hsm.vault import Vault

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Open the vault and serve; return an exit code."""
    logs.configure()
    harden_for_secrets()
    if not end_with(int(arguments[1])):
        return Exit.TOLD
    sandbox, cell = arguments[0] == "sandbox", Cell(int(arguments[2]))
    metrics.begin(exposition.free_slot())
    settings = ServerSettings()
    listeners = {
        SocketName(name): socket(fileno=int(descriptor))
        for name, _, descriptor in (argument.partition("=") for argument in arguments[3:])
    }
    disk = Disk[Held]()
    # Those of the process: an HSM token that is opened anew goes on with them.
    counts = Counts(VaultSettings().state_directory, _now)
    key_budgets, kid_uses = KeyBudgets(counts), KidUses(counts, _now)
    opening = partial(_open_vault, settings, disk, key_budgets, kid_uses, sandbox)
    vault = ReopenedVault(opening, settings.reopen_seconds)
    try:
        vault.open()
    except NotForProduction as error:
        log.error("vault.refused", extra={"reason": with_page(str(error))})  # noqa: TRY400 - no traceback
        return Exit.NOT_FOR_PRODUCTION
    except LoginRefused:
        return Exit.LOGIN_REFUSED
    except HsmError as error:
        log.warning("vault.unavailable", extra={"reason": str(error)})

    login_refused = False

    def perform(message: Verb[Any]) -> object:
        nonlocal login_refused
        if isinstance(message, Metrics) and not vault.is_open:
            return exposition.text()  # most wanted when the HSM token cannot be opened
        try:
            return vault.run(message.perform)
        except LoginRefused:
            # The supervisor counts them: a device locks after a few.
            login_refused = True
            worker.stop()
            raise

    if SocketName.CARDHOLDER in listeners:
        pin_image.warm()
    # Nothing that is there now becomes garbage: no need to look through it again and again.
    gc.collect()
    gc.freeze()
    uids, tidy = sockets.uids(settings), partial(_flush_if_due, key_budgets, kid_uses)
    worker = Worker(listeners, uids, perform, cell, disk, tidy)
    run_until_told(worker)
    key_budgets.flush()
    kid_uses.flush()
    if worker.disk_failed:
        log.error("vault.disk_failed")
        return Exit.DISK_FAILED
    return Exit.LOGIN_REFUSED if login_refused else Exit.TOLD


def _flush_if_due(*counters: KeyBudgets | KidUses) -> float | None:
    waits = [one.flush_if_due() for one in counters]
    return min((seconds for seconds in waits if seconds is not None), default=None)


def _open_vault(
    settings: ServerSettings,
    disk: Disk[Held],
    key_budgets: KeyBudgets,
    kid_uses: KidUses,
    sandbox: bool,
) -> Vault:
    """Open the HSM token and the vault on it.

    Raises:
        VaultUnavailable: a key is not as its role wants it, or the HSM token does not answer.
        LoginRefused: it refused the PIN.
        NotForProduction: it is for development only.
    """
    vault_settings = VaultSettings()
    hsm_token = Pkcs11Token.open(
        vault_settings, production=not sandbox, count_uses=key_budgets.count
    )
    labels = hsm_token.labels()
    if unlike := [label for label in labels if not hsm_token.is_as_expected(label)]:
        log.error("vault.keys_refused", extra={"keys": [*map(str, unlike)]})
        raise VaultUnavailable("keys are not as their roles want them: hsm check says how")
    return Vault(
        *(hsm_token, vault_settings.state_directory, vault_settings.trust_file),
        _now,
        settings.token_issuer,
        disk.note,
        key_budgets,
        kid_uses,
    )


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
