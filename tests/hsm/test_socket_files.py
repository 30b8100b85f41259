"""Whoever calls the vault looks first whose its sockets are."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hsm.errors import VaultUnavailable
from hsm.messages import SocketName
from hsm.socket_files import owner_of, path_of, paths_of

D1, CARDHOLDER = SocketName.D1, SocketName.CARDHOLDER


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Two workers' sockets for D1, on which nobody listens."""
    directory = tmp_path / "vault"
    directory.mkdir(0o750)
    with ExitStack() as stack:
        for slot in range(2):
            bound = stack.enter_context(socket.socket(socket.AF_UNIX))
            bound.bind(str(path_of(directory, D1, slot)))
            path_of(directory, D1, slot).chmod(0o660)
        yield directory


def refusal(directory: Path, *names: SocketName) -> str:
    with pytest.raises(VaultUnavailable) as refused:
        owner_of(directory, names)
    return str(refused.value)


def test_each_worker_has_a_socket_of_each_name(directory: Path) -> None:
    assert [path.name for path in paths_of(directory, D1)] == ["d1.0.sock", "d1.1.sock"]
    assert paths_of(directory, CARDHOLDER) == []


def test_the_sockets_of_one_user_are_taken_though_nobody_listens(directory: Path) -> None:
    assert owner_of(directory, [D1]) == os.geteuid()


def test_what_is_missing_is_named(directory: Path) -> None:
    assert refusal(directory, D1, CARDHOLDER) == "cardholder.0.sock: No such file or directory"
    assert refusal(directory / "none", D1) == "none: No such file or directory"


def test_what_is_something_else_is_named(directory: Path) -> None:
    path_of(directory, CARDHOLDER, 0).touch(0o600)
    assert refusal(directory, CARDHOLDER) == "cardholder.0.sock: it is no socket"
    assert refusal(path_of(directory, D1, 0), D1) == "d1.0.sock: it is no directory"


@pytest.mark.parametrize("mode", [0o666, 0o661, 0o664, 0o770])
def test_a_socket_that_is_open_to_others_is_refused(directory: Path, mode: int) -> None:
    path_of(directory, D1, 1).chmod(mode)
    assert refusal(directory, D1) == "d1.1.sock: its mode lets others in"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_directory_in_which_others_may_write_is_refused(directory: Path, mode: int) -> None:
    directory.chmod(mode)
    assert refusal(directory, D1) == "vault: its mode lets others in"


def test_a_directory_and_sockets_of_several_users_are_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = Path.stat

    def owned(uids: dict[str, int]) -> None:
        def of_others(path: Path) -> os.stat_result:
            members = list(stat(path))
            members[4] = uids.get(path.name, 1000)
            return os.stat_result(members)

        monkeypatch.setattr(Path, "stat", of_others)

    owned({"vault": 0})
    assert owner_of(directory, [D1]) == 1000
    owned({"d1.1.sock": 1001})
    assert refusal(directory, D1) == "vault: it and the sockets in it have several owners"
    owned({"vault": 1001})
    assert refusal(directory, D1) == "vault: it and the sockets in it have several owners"


def test_a_socket_to_which_this_user_may_not_connect_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert refusal(directory, D1) == "d1.0.sock: this user may not connect"
