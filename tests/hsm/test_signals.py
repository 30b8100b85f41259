"""Signals that end a process while it makes what must not stay half made."""

import signal
from collections.abc import Iterator

import pytest

from hsm import signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in signals.ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("first", signals.ENDING)
def test_the_first_signal_interrupts_and_no_other_comes_between(first: signal.Signals) -> None:
    signals.interrupt_once()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(first)
    for number in signals.ENDING:
        signal.raise_signal(number)


def test_signals_that_are_ignored_do_nothing() -> None:
    signals.interrupt_once()
    signals.ignore()
    for number in signals.ENDING:
        signal.raise_signal(number)
