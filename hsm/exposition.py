"""What several processes of a program count together, as Prometheus reads it.

prometheus-client in its multiprocess form: each process counts in files of its own in one
directory, and any of them shows the sum. A file belongs to a slot and not to a process: whoever
takes over a slot counts on from what it finds, so that no sum falls when a process is replaced, and
there are never more files than processes at one time. Without a directory a process counts for
itself.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Names the directory to the processes that are started."""
SLOTS_MAX: Final = 1000
KINDS: Final = ("counter", "histogram")
FILE_BYTES: Final = 1 << 20
"""More than what is counted takes; a file that is full grows."""
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
registry: Final = CollectorRegistry()
"""Of everything that is counted here; each process of a program has all of it."""


@contextmanager
def shared_directory(prefix: str) -> Iterator[None]:
    """Make a directory that nobody else may enter for the processes that are started meanwhile."""
    with TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as directory:
        os.environ[VARIABLE] = directory
        try:
            yield
        finally:
            del os.environ[VARIABLE]


def directory() -> Path | None:
    """Return the directory that this process shares with others."""
    name = os.environ.get(VARIABLE)
    return None if name is None else Path(name)


def count_in(slot: str) -> None:
    """Count in the files of *slot*, if there is a directory.

    Called before anything is counted: what has a value by then keeps it for itself. Where the disk
    has no room, a process counts for itself alone.
    """
    shared = directory()
    if shared is not None:
        with suppress(OSError):
            files = {kind: _file(shared / f"{kind}_{slot}.db") for kind in KINDS}
            values.ValueClass = _value_class(files)


def free_slot() -> str:
    """Take the first slot that no living process has; the kernel gives it back with this process.

    Raises:
        OSError: there is none.
    """
    shared = directory()
    if shared is None:
        return "0"
    for number in range(SLOTS_MAX):
        descriptor = os.open(shared / f"slot-{number}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return str(number)
    raise OSError("no slot is free")


def text(*others: Collector) -> str:
    """Show what all processes counted, and what *others* know, in Prometheus's text format."""
    source = registry
    if directory() is not None:
        source = CollectorRegistry()
        MultiProcessCollector(source)  # type: ignore[no-untyped-call]
    shown = generate_latest(source).decode()
    for other in others:
        beside = CollectorRegistry()
        beside.register(other)
        shown += generate_latest(beside).decode()
    return shown


def _value_class(files: Mapping[str, MmapedDict]) -> Any:  # noqa: ANN401 - as it is called
    """Make the class of numbers that lie in *files*, by kind.

    That of prometheus-client takes a lock and asks for the process each time, which together cost
    more than a request's other counting: here one thread counts.
    """

    class Value:
        _multiprocess = True

        def __init__(
            self,
            typ: str,
            metric_name: str,
            name: str,
            labelnames: Any,  # noqa: ANN401 - as prometheus-client has them
            labelvalues: Any,  # noqa: ANN401 - as above
            help_text: str,
            **_: object,
        ) -> None:
            self._file = files[typ]
            self._key = mmap_key(metric_name, name, labelnames, labelvalues, help_text)
            self._value: float = self._file.read_value(self._key)[0]  # type: ignore[no-untyped-call]

        def inc(self, amount: float) -> None:
            self._value += amount
            self._file.write_value(self._key, self._value, 0.0)  # type: ignore[no-untyped-call]

        def get(self) -> float:
            return self._value

        def get_exemplar(self) -> None:
            return None

    return Value


def _file(path: Path) -> MmapedDict:
    """Open a file of numbers.

    Raises:
        OSError: there is no room for it. Without that, a process would be killed as it counts.
    """
    with path.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
    return MmapedDict(str(path))  # type: ignore[no-untyped-call]
