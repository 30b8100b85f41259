"""Threads, processes, ceremonies and other applications at one PKCS#11 token."""

from typing import Any

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.softhsm import SoftHsm
from tests.hsm.own_process import FIRST, OPERATIONS, ROUNDS, THREADS, run, start


def test_the_module_locks_for_itself_so_that_threads_do_not_crash_it(own_softhsm: SoftHsm) -> None:
    assert run("threads", own_softhsm) == THREADS * OPERATIONS


def test_processes_that_start_at_once_all_open_the_hsm_token(
    softhsm: SoftHsm, hsm_token: object
) -> None:
    processes = [start("open_in_rounds", softhsm) for _ in range(8)]
    try:
        assert [line(process) for process in processes] == ["ready"] * 8
        for _ in range(ROUNDS):
            for process in processes:
                assert process.stdin
                process.stdin.write("\n")
                process.stdin.flush()
            assert [line(process) for process in processes] == ["open"] * 8
    finally:
        for process in processes:
            process.communicate(timeout=HANG_SECONDS)
    assert [process.returncode for process in processes] == [0] * 8


def line(process: Any) -> str:  # noqa: ANN401 - Popen of text
    return str(process.stdout.readline().strip())


def test_a_wrong_setting_is_told_from_a_wrong_pin(own_softhsm: SoftHsm) -> None:
    assert run("login_and_files", own_softhsm) == {
        "no module": "VaultUnavailable",
        "module is no library": "VaultUnavailable",
        "library is no module": "VaultUnavailable",
        "no token": "VaultUnavailable",
        "no PIN file": "VaultUnavailable",
        "PIN file is a directory": "VaultUnavailable",
        "PIN file is not text": "VaultUnavailable",
        "empty PIN": "LoginRefused",
        "wrong PIN": "LoginRefused",
        "as Windows writes it": "open",
        "nothing wrong": "open",
    }


def test_an_hsm_token_that_was_unavailable_works_again_after_a_new_opening(
    own_softhsm: SoftHsm,
) -> None:
    assert run("hsm_token_taken_away", own_softhsm) == {
        "a call": "VaultUnavailable",
        "an opening": "VaultUnavailable",
        "back": "the same key",
    }


def test_after_a_second_ceremony_new_values_use_the_new_keys_and_old_ones_still_open(
    own_softhsm: SoftHsm,
) -> None:
    assert run("generations", own_softhsm) == {
        "sealed under": ["record.g1", "pin.g1", "record.g2", "pin.g2"],
        "old PIN": True,
        "new PIN": True,
        "first keys as before": True,
    }


def test_keys_of_other_applications_are_ignored(own_softhsm: SoftHsm) -> None:
    assert run("foreign_objects", own_softhsm) == sorted(map(str, FIRST))


def test_an_hsm_token_with_two_keys_of_one_label_is_not_opened(own_softhsm: SoftHsm) -> None:
    assert run("two_keys_of_one_label", own_softhsm) == "VaultUnavailable"
