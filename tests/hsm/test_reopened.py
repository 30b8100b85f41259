"""A vault is opened again when its HSM token was away, and not more often than that helps."""

import time
from collections.abc import Callable
from unittest.mock import create_autospec

import pytest

from hsm.errors import (
    CountsUnavailable,
    HsmError,
    KeyMissing,
    KeyUsedUp,
    LoginRefused,
    LogUnavailable,
    PinRejected,
    VaultUnavailable,
)
from hsm.reopened import LOOK_AGAIN_SECONDS, ReopenedVault
from hsm.verbs import PinVault

REOPEN_SECONDS = 5.0


class Opener:
    """Opens a new vault each time, or fails."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.opened = 0

    def __call__(self) -> PinVault:
        self.opened += 1
        if self.error is not None:
            raise self.error
        vault: PinVault = create_autospec(PinVault, instance=True)
        return vault


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def vault(opener: Opener) -> ReopenedVault:
    return ReopenedVault(opener, REOPEN_SECONDS)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("hsm.reopened.time.monotonic", lambda: now[0])
    assert time.monotonic() == now[0]
    return now


def failing(error: Exception) -> Callable[[PinVault], None]:
    def verb(_: PinVault) -> None:
        raise error

    return verb


def fail(vault: ReopenedVault, error: Exception) -> None:
    with pytest.raises(type(error)):
        vault.run(failing(error))


def test_it_is_opened_once_and_only_when_it_is_needed(opener: Opener, vault: ReopenedVault) -> None:
    assert opener.opened == 0
    was_open = vault.is_open
    assert vault.run(lambda _: 1) + vault.run(lambda _: 2) == 3
    assert (was_open, vault.is_open) == (False, True)
    assert opener.opened == 1


def test_one_that_was_unavailable_is_opened_again_for_the_next_verb(
    opener: Opener, vault: ReopenedVault
) -> None:
    fail(vault, VaultUnavailable("the HSM token is gone"))
    assert vault.run(lambda _: "answer") == "answer"
    assert opener.opened == 2


@pytest.mark.parametrize(
    "error",
    [CountsUnavailable(), KeyUsedUp(), LogUnavailable(), PinRejected(), RuntimeError("a defect")],
)
def test_what_the_hsm_token_is_not_the_cause_of_leaves_it_open(
    opener: Opener, vault: ReopenedVault, error: Exception
) -> None:
    fail(vault, error)
    vault.run(lambda _: None)
    assert opener.opened == 1


def test_a_missing_key_is_looked_for_now_and_then(
    opener: Opener, vault: ReopenedVault, now: list[float]
) -> None:
    for _ in range(3):
        fail(vault, KeyMissing())
    vault.run(lambda _: None)
    assert opener.opened == 2
    now[0] += LOOK_AGAIN_SECONDS
    fail(vault, KeyMissing())
    vault.run(lambda _: None)
    assert opener.opened == 3


def test_a_failed_opening_is_not_repeated_before_its_time(
    opener: Opener, vault: ReopenedVault, now: list[float]
) -> None:
    opener.error = VaultUnavailable("the HSM token is gone")
    for _ in range(3):
        with pytest.raises(VaultUnavailable):
            vault.run(lambda _: None)
    assert opener.opened == 1
    opener.error = None
    now[0] += REOPEN_SECONDS
    vault.run(lambda _: None)
    assert opener.opened == 2


def test_a_login_that_was_refused_is_never_tried_again(
    opener: Opener, vault: ReopenedVault, now: list[float]
) -> None:
    opener.error = LoginRefused("no")
    with pytest.raises(LoginRefused):
        vault.run(lambda _: None)
    now[0] += 1000 * REOPEN_SECONDS
    with pytest.raises(HsmError):
        vault.run(lambda _: None)
    assert opener.opened == 1
