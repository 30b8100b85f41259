"""What is in the memory of a process."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 1 << 24
ENCODINGS: Final = ("ascii", "utf-16-le", "utf-16-be", "utf-32-le")


def text_forms(text: str) -> Mapping[str, bytes]:
    """Every form in which a text may lie in memory."""
    return {encoding: text.encode(encoding) for encoding in ENCODINGS}


def digit_forms(digits: str) -> Mapping[str, bytes]:
    """Every form in which *digits*, decimal or hexadecimal, may lie in memory."""
    packed = digits + "F" * (len(digits) % 2)
    return {
        **text_forms(digits),
        "lower case": digits.lower().encode(),
        "packed": bytes.fromhex(packed),
        "packed, hexadecimal of its characters": digits.encode().hex().encode(),
        "a byte a digit": bytes(int(digit, 16) for digit in digits),
    }


def found_in(pid: int, needles: Mapping[str, bytes]) -> set[str]:
    """Name the needles that are in the memory of a process."""
    longest = max(map(len, needles.values()))
    found: set[str] = set()
    for data in _memory(pid, longest):
        found |= {name for name, needle in needles.items() if needle in data}
    return found


def _memory(pid: int, overlap: int) -> Iterator[bytes]:
    maps = Path(f"/proc/{pid}/maps").read_text()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) r", maps, re.MULTILINE):
            position, last = int(start, 16), int(end, 16)
            while position < last:
                try:
                    memory.seek(position)
                    data = memory.read(min(CHUNK_BYTES, last - position))
                except (OSError, ValueError, OverflowError):
                    break  # of a device, or of the kernel
                if not data:
                    break
                yield data
                position += len(data)
                if position < last:
                    position -= overlap
