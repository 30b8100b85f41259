"""A vault that is opened again when its HSM token was away."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from hsm import metrics
from hsm.errors import (
    CountsUnavailable,
    KeyMissing,
    KeyNotInUse,
    KeyUsedUp,
    LoginRefused,
    LogUnavailable,
    VaultUnavailable,
)
from hsm.verbs import PinVault

LOOK_AGAIN_SECONDS: Final = 10.0
T = TypeVar("T")


class ReopenedVault:
    """Runs verbs on a vault. Used from one thread only.

    Args:
        open_vault: opens a new vault.
        reopen_seconds: how long to wait after a failed opening before the next one.
    """

    def __init__(self, open_vault: Callable[[], PinVault], reopen_seconds: float) -> None:
        self._open_vault = open_vault
        self._reopen_seconds = reopen_seconds
        self._vault: PinVault | None = None
        self._login_refused = False
        self._next_opening = 0.0
        self._next_look = 0.0

    @property
    def is_open(self) -> bool:
        """Whether a verb would run without opening a vault first."""
        return self._vault is not None

    def run(self, verb: Callable[[PinVault], T]) -> T:
        """Run *verb*.

        Raises:
            HsmError: as :meth:`open` or *verb* raise it.
        """
        vault = self._vault or self.open()
        try:
            return verb(vault)
        except KeyMissing:
            # The key may have been made since: a new vault finds it. Opening one delays every
            # request, so a database row that names no key at all must not cause it each time.
            if time.monotonic() >= self._next_look:
                self._next_look = time.monotonic() + LOOK_AGAIN_SECONDS
                self._vault = None
            raise
        except (CountsUnavailable, KeyNotInUse, KeyUsedUp, LogUnavailable):
            # The HSM token answers: opening it anew would not help.
            raise
        except VaultUnavailable:
            # A broken link heals only by initialising the module again.
            self._vault = None
            raise

    def open(self) -> PinVault:
        """Open the vault.

        Raises:
            LoginRefused: the HSM token refused the login; this process does not try again.
            VaultUnavailable: it is unavailable, or it is too early to try again.
        """
        if self._login_refused or time.monotonic() < self._next_opening:
            raise VaultUnavailable("the HSM token is unavailable")
        self._next_opening = time.monotonic() + self._reopen_seconds
        try:
            self._vault = self._open_vault()
        except LoginRefused:
            self._login_refused = True
            metrics.opened(metrics.Opening.LOGIN_REFUSED)
            raise
        except VaultUnavailable:
            metrics.opened(metrics.Opening.UNAVAILABLE)
            raise
        metrics.opened(metrics.Opening.OPENED)
        self._next_opening = 0.0
        return self._vault
