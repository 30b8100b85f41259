"""Reads the log of a host, every chain of it: what is not as the vault wrote it, or missing?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hsm import directories
from hsm.errors import LogBroken
from hsm.log import files
from hsm.log.chain import Chain, Place
from hsm.log.lines import Action, Line, Mac, digest


@dataclass(slots=True)
class HostLog:
    """What was read of the log of one host, each of whose chains is followed from its first line.

    Where a chain has a fault, what it has behind that is not read; the other chains are.
    """

    directory: Path
    """Of the log: the list of chains is in it, and a directory for each chain."""
    mac: Mac | None = None
    """Makes the MACs to compare with; None: they are not checked."""
    faults: list[str] = field(default_factory=list, init=False)
    """Where something is wrong, and what, a text each."""
    torn: list[Place] = field(default_factory=list, init=False)
    """Lines that are not whole, as when a process ends while it writes."""
    ends: dict[Path, int] = field(default_factory=dict, init=False)
    """How many lines the list, and each chain, have up to their end, or to their fault."""

    def lines(self) -> Iterator[Line]:
        """Read the lines, those of the list of chains first.

        Raises:
            OSError: a file cannot be read, or there is no list of chains.
            VaultUnavailable: the HSM token does not answer, or lacks the key.
        """
        path = files.list_of(self.directory)
        # No chain begins meanwhile.
        with directories.locked(self.directory):
            there = files.chains_of(self.directory)
            listed = list(self._follow(path, [path]))
        if listed and listed[0].event.what is not Action.BEGAN:
            self._fault(path, "it is no list of chains")
        yield from listed
        firsts = {
            line.event.chain: line.event.first for line in listed if line.event.chain is not None
        }
        for number in sorted({*firsts, *there}):
            yield from self._chain(number, firsts)

    def _chain(self, number: int, firsts: Mapping[int, str | None]) -> Iterator[Line]:
        directory = self.directory / str(number)
        if not directory.is_dir():
            self._fault(directory, "this chain is missing")
            return
        paths = files.files_of(directory)
        # A process may have ended before it listed the chain, or before its first line.
        if number not in firsts and not any(path.stat().st_size for path in paths):
            return
        for line in self._follow(directory, paths):
            if line.seq == 1 and not _begins(line, number, firsts):
                self._fault(directory, "it begins as another chain")
            if line.seq > 1 and number not in firsts:
                self._fault(directory, "this chain is not in the list of chains")
                return
            yield line

    def _follow(self, name: Path, paths: list[Path]) -> Iterator[Line]:
        chain = Chain(self.mac)
        try:
            for line in chain.follow(paths):
                self.ends[name] = chain.seq
                yield line
        except LogBroken as fault:
            self._fault(chain.place or name, str(fault))
        self.torn += chain.torn

    def _fault(self, where: Place | Path, what: str) -> None:
        self.faults.append(f"{where}: {what}")


def _begins(line: Line, number: int, firsts: Mapping[int, str | None]) -> bool:
    event = line.event
    is_listed = firsts.get(number, digest(line.text)) == digest(line.text)
    return event.what is Action.CHAIN and event.chain == number and is_listed
