"""The log that a vault writes: one chain, whatever breaks."""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from io import FileIO
from pathlib import Path

import pytest

from hsm.errors import LogUnavailable, VaultUnavailable
from hsm.log import files
from hsm.log.end import End
from hsm.log.lines import Action
from hsm.log.writer import VaultLog
from hsm.pkcs11.keys import KeyLabel, KeyRole
from tests.hsm.log.vault_host import ISSUER_ID, VaultHost, hand_out

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


def test_a_worker_appends_line_after_line(host: VaultHost) -> None:
    worker = host.worker()
    receipts = [worker.append(hand_out(number), durable=True) for number in range(6)]
    lines, chain = host.follow()
    assert [line.receipt for line in lines[1:]] == receipts
    assert [line.seq for line in lines] == list(range(1, 8))
    assert [line.event for line in lines[1:]] == [hand_out(number) for number in range(6)]
    assert {line.at for line in lines} == {host.now}
    assert chain.torn == []


def test_the_end_is_searched_once_and_then_known(
    host: VaultHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []
    find = End.find

    def counted(paths: Sequence[Path]) -> End:
        searched.append(paths[-1].name)
        return find(paths)

    monkeypatch.setattr(End, "find", counted)
    worker = host.worker()
    worker.append(hand_out(1), durable=False)
    assert searched == ["chains.jsonl", "2026-11-27.jsonl"]
    for _ in range(3):
        worker.append(hand_out(1), durable=False)
        host.now += DAY
    assert len(searched) == 2


# Durability


def test_a_line_is_on_the_disk_before_its_receipt_is_given_where_that_is_asked_for(
    host: VaultHost,
) -> None:
    synced = []
    worker = host.worker(to_disk=lambda _: synced.append(host.receipts()[-1]))
    worker.append(hand_out(1), durable=False)
    assert synced == []
    receipt = worker.append(hand_out(2), durable=True)
    assert synced == [receipt]


def test_it_is_the_file_of_the_line_that_goes_to_the_disk(host: VaultHost) -> None:
    synced = []
    worker = host.worker(
        to_disk=lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink())
    )
    for _ in range(2):
        worker.append(hand_out(1), durable=True)
        host.now += DAY
    assert synced == host.paths()


def test_a_disk_that_cannot_write_back_gives_no_receipt(host: VaultHost) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    worker = host.worker(to_disk=broken)
    with pytest.raises(LogUnavailable):
        worker.append(hand_out(1), durable=True)
    worker.append(hand_out(2), durable=False)
    assert len(host.receipts()) == 3


def test_the_file_of_a_day_is_on_the_disk_before_the_next_one_begins(
    host: VaultHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = host.worker(to_disk=lambda _: None)
    worker.append(hand_out(1), durable=False)
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda _: synced.append(len(host.paths())))
    host.now += DAY
    worker.append(hand_out(2), durable=False)
    assert synced == [1]


# Files


def test_each_day_has_a_file_and_the_chain_goes_on(host: VaultHost) -> None:
    worker = host.worker()
    for _ in range(3):
        worker.append(hand_out(1), durable=True)
        host.now += DAY
        worker.append(hand_out(2), durable=True)
    assert [path.name for path in host.paths()] == [
        f"2026-11-{day}.jsonl" for day in (27, 28, 29, 30)
    ]
    assert len(host.receipts()) == 7


def test_a_clock_that_is_put_back_over_midnight_does_not_bring_back_a_file(host: VaultHost) -> None:
    host.now = host.now.replace(hour=0) + DAY + SECOND
    worker = host.worker()
    worker.append(hand_out(1), durable=True)
    host.now -= 3 * SECOND
    worker.append(hand_out(2), durable=True)
    host.worker().append(hand_out(3), durable=True)
    assert len(host.paths()) == 2
    assert host.read()[1] == []


def test_only_the_vaults_user_may_read_the_log(host: VaultHost) -> None:
    umask = os.umask(0)
    try:
        host.now += DAY
        host.worker().append(hand_out(1), durable=True)
    finally:
        os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in host.directory.rglob("*.jsonl")} == {0o600}
    directories = host.directory, host.directory / "0"
    assert {path.stat().st_mode & 0o777 for path in directories} == {0o700}


def test_what_is_made_belongs_to_whom_the_directory_does(
    host: VaultHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever types a command first may be root."""
    given = []
    monkeypatch.setattr(os, "fchown", lambda _, *owner: given.append(owner))
    owner = (host.directory.stat().st_uid, -1)
    host.now += DAY
    worker = host.worker()
    worker.append(hand_out(1), durable=True)
    assert given == [owner]
    # A chain: its directory, and its first file.
    host.worker().append(hand_out(1), durable=True)
    assert given == [owner] * 3
    # A log: its directory, and the list of chains.
    VaultHost(host.directory.parent / "other").worker().begin()
    assert given == [owner] * 5


def test_a_log_begins_once(host: VaultHost) -> None:
    before = host.read()
    host.worker().begin()
    host.now += DAY
    host.worker().begin()
    assert host.read() == before


# What breaks


@contextmanager
def a_full_disk(room_bytes: int) -> Iterator[None]:
    """Let *room_bytes* of the next line be written, and no more."""
    write = FileIO.write

    class Full(FileIO):
        def write(self, text: bytes) -> int:  # type: ignore[override]
            return write(self, text[:room_bytes])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "FileIO", Full)
        yield


@pytest.mark.parametrize("room_bytes", [1, 50, 200])
def test_after_half_a_line_the_next_one_begins_anew_and_names_it(
    host: VaultHost, room_bytes: int
) -> None:
    receipt = host.worker().append(hand_out(1), durable=True)
    with a_full_disk(room_bytes), pytest.raises(LogUnavailable):
        host.worker().append(hand_out(2), durable=True)
    # Each by a new process.
    later = [host.worker().append(hand_out(number), durable=True) for number in (3, 4)]
    lines, chain = host.follow()
    assert [line.receipt for line in lines[1:]] == [receipt, *later]
    assert [line.seq for line in lines] == [1, 2, 3, 4]
    assert [(place.path, place.number) for place in chain.torn] == [(host.paths()[0], 3)]
    assert (host.paths()[0].read_bytes()).count(b"\n") == 5


def test_the_worker_that_failed_goes_on_likewise(host: VaultHost) -> None:
    with a_full_disk(50):
        worker = host.worker()
        worker.check()
        with pytest.raises(LogUnavailable):
            worker.append(hand_out(1), durable=True)
    for number in (2, 3):
        worker.append(hand_out(number), durable=True)
    lines, chain = host.follow()
    assert [line.seq for line in lines] == [1, 2, 3]
    assert len(chain.torn) == 1


def test_the_worker_that_failed_at_midnight_goes_on_likewise(host: VaultHost) -> None:
    worker = host.worker()
    worker.append(hand_out(1), durable=True)
    host.now += DAY
    with a_full_disk(50), pytest.raises(LogUnavailable):
        worker.append(hand_out(2), durable=True)
    worker.append(hand_out(3), durable=True)
    lines, chain = host.follow()
    assert ([line.seq for line in lines], len(chain.torn)) == ([1, 2, 3], 1)


def test_the_worker_that_could_not_finish_the_file_of_a_day_goes_on_with_it(
    host: VaultHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: int) -> None:
        raise OSError(errno.EIO, "broken")

    worker = host.worker()
    worker.append(hand_out(1), durable=True)
    host.now += DAY
    with monkeypatch.context() as patch:
        patch.setattr(os, "fchown", broken)
        with pytest.raises(LogUnavailable):
            worker.append(hand_out(2), durable=True)
    worker.append(hand_out(3), durable=True)
    assert [path.stem for path in host.paths()] == ["2026-11-27", "2026-11-28"]
    assert host.read()[1] == []


def test_a_line_that_lacks_its_line_feed_only_is_whole(host: VaultHost) -> None:
    host.worker().append(hand_out(1), durable=True)
    path = host.paths()[0]
    path.write_bytes(path.read_bytes()[:-1])
    host.worker().append(hand_out(2), durable=True)
    lines, chain = host.follow()
    assert ([line.seq for line in lines], chain.torn) == ([1, 2, 3], [])


@pytest.mark.parametrize("rubbish", [b"\0" * 70_000, b"{}", b"\n\n\n", b'{"seq":9}\nx'])
@pytest.mark.parametrize("days", [0, 1])
def test_rubbish_at_the_end_is_followed_like_half_a_line(
    host: VaultHost, rubbish: bytes, days: int
) -> None:
    host.worker().append(hand_out(1), durable=True)
    with host.paths()[0].open("ab") as file:
        file.write(rubbish)
    host.now += days * DAY
    host.worker().append(hand_out(2), durable=True)
    lines, chain = host.follow()
    assert [line.seq for line in lines] == [1, 2, 3]
    assert chain.torn != []


def test_a_file_that_a_crash_left_empty_is_used(host: VaultHost) -> None:
    (host.directory / "2026-11-28.jsonl").touch()
    for days in (0, 1, 1):
        host.now += days * DAY
        host.worker().append(hand_out(1), durable=True)
    assert len(host.paths()) == 3
    assert len(host.receipts()) == 4


def missing(host: VaultHost) -> None:
    shutil.rmtree(host.directory)


def emptied(host: VaultHost) -> None:
    for path in host.paths():
        path.unlink()


def a_file_in_its_place(host: VaultHost) -> None:
    missing(host)
    host.directory.touch()


def without_its_chain(host: VaultHost) -> None:
    shutil.rmtree(host.directory / "0")


def no_line_is_whole(host: VaultHost) -> None:
    host.paths()[0].write_bytes(b"x" * 100)


@pytest.mark.parametrize(
    "broken", [missing, emptied, a_file_in_its_place, without_its_chain, no_line_is_whole]
)
def test_a_log_that_is_not_there_takes_no_line(host: VaultHost, broken: object) -> None:
    known, new = host.worker(), host.worker()
    known.append(hand_out(1), durable=True)
    assert callable(broken)
    broken(host)
    for worker in (known, new, known):
        with pytest.raises(LogUnavailable):
            worker.append(hand_out(2), durable=True)
        with pytest.raises(LogUnavailable):
            worker.check()


def cut(host: VaultHost) -> None:
    host.edit(lambda lines: lines[:2])


def cut_in_a_line(host: VaultHost) -> None:
    host.edit(lambda lines: [*lines[:-1], lines[-1][:-9]])


@pytest.mark.parametrize("change", [cut, cut_in_a_line])
def test_a_log_that_became_shorter_takes_no_line_of_the_worker_that_wrote_more(
    host: VaultHost, change: object
) -> None:
    worker = host.worker()
    for number in range(3):
        worker.append(hand_out(number), durable=True)
    assert callable(change)
    change(host)
    for _ in range(2):
        with pytest.raises(LogUnavailable, match="shorter"):
            worker.append(hand_out(4), durable=True)


def test_a_file_that_was_replaced_takes_no_line(host: VaultHost) -> None:
    """By one that is as long, of another worker's lines."""
    worker = host.worker()
    worker.append(hand_out(1), durable=True)
    (path,) = host.paths()
    content = path.read_bytes()
    new = path.with_suffix(".new")
    new.write_bytes(content.replace(b"card-1", b"card-7"))
    new.rename(path)
    for _ in range(2):
        with pytest.raises(LogUnavailable, match="changed by others"):
            worker.append(hand_out(2), durable=True)
    # As it was before: a copy that was put back.
    path.write_bytes(content)
    worker.append(hand_out(2), durable=True)
    assert host.read()[1] == []


def test_lines_that_others_appended_are_not_followed(host: VaultHost) -> None:
    worker = host.worker()
    worker.append(hand_out(1), durable=True)
    host.edit(lambda lines: [*lines, lines[-1].replace(b'"seq":2', b'"seq":3')])
    with pytest.raises(LogUnavailable, match="changed by others"):
        worker.append(hand_out(2), durable=True)


def test_a_hsm_token_that_does_not_answer_leaves_no_line(host: VaultHost) -> None:
    def unavailable(*_: object) -> bytes:
        raise VaultUnavailable

    before = host.receipts()
    for durable in (True, False):
        with pytest.raises(VaultUnavailable):
            host.worker(unavailable).append(hand_out(1), durable=durable)
    assert host.receipts() == before


def test_a_new_key_goes_on_with_the_chain(host: VaultHost) -> None:
    second = KeyLabel(KeyRole.LOG_MAC, 2)
    host.hsm_token.generate(second)
    host.worker(label=second).append(hand_out(1), durable=True)
    assert [str(line.key) for line in host.follow()[0]] == ["log-mac.g1", "log-mac.g2"]


# Refusals


def refusals(host: VaultHost) -> list[tuple[str | None, str | None, int | None]]:
    return [
        (line.event.reason, line.event.client_id, line.event.count)
        for line in host.follow()[0]
        if line.event.what is Action.REFUSED
    ]


def refuse(worker: VaultLog, reason: str = "bearer", client: str = "app") -> str | None:
    return worker.refuse(reason, ISSUER_ID, "hosted", client)


def test_refusals_alike_are_one_line_a_minute(host: VaultHost) -> None:
    worker = host.worker()
    first = refuse(worker)
    assert first == host.receipts()[-1]
    assert [refuse(worker) for _ in range(5)] == [None] * 5
    host.now += 59 * SECOND
    assert refuse(worker) is None
    host.now += SECOND
    assert refuse(worker) == host.receipts()[-1]
    assert refusals(host) == [("bearer", "app", 1), ("bearer", "app", 7)]


def test_each_kind_issuer_and_client_has_lines_of_its_own(host: VaultHost) -> None:
    worker = host.worker()
    for client in ("app", "other"):
        for reason in ("bearer", "grant"):
            assert refuse(worker, reason, client) is not None
            assert refuse(worker, reason, client) is None
    assert worker.refuse("bearer", "testbank02", "hosted", "app") is not None
    assert len(refusals(host)) == 5


def test_what_was_counted_is_told_with_the_next_line_of_whatever_kind(host: VaultHost) -> None:
    worker = host.worker()
    for _ in range(4):
        refuse(worker)
    host.now += 60 * SECOND
    receipt = worker.append(hand_out(1), durable=True)
    assert host.receipts()[-1] == receipt
    assert refusals(host) == [("bearer", "app", 1), ("bearer", "app", 3)]
    worker.append(hand_out(2), durable=True)
    assert len(refusals(host)) == 2
    assert refuse(worker) is not None


def test_a_clock_that_is_set_back_does_not_silence_refusals(host: VaultHost) -> None:
    worker = host.worker()
    refuse(worker)
    host.now -= DAY
    with pytest.raises(LogUnavailable):
        refuse(worker)
