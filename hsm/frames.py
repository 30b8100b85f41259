"""Frames on a stream: a length of 4 bytes, big-endian, and as many bytes behind it."""

from collections.abc import Iterator
from typing import Final

from hsm.errors import MessageRefused

LENGTH_BYTES: Final = 4


def frame(data: bytes) -> bytes:
    """Put the length before *data*."""
    return len(data).to_bytes(LENGTH_BYTES) + data


class Frames:
    """The frames of a stream that comes in parts.

    Args:
        bytes_max: how long a frame may be, without its length.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._received = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add what came and yield each frame that is complete.

        Raises:
            MessageRefused: a frame is too long. What came before it was yielded.
        """
        self._received += data
        start = 0
        try:
            while (body := start + LENGTH_BYTES) <= len(self._received):
                length = int.from_bytes(self._received[start:body])
                if length > self._bytes_max:
                    raise MessageRefused("a message is too long")
                if body + length > len(self._received):
                    break
                start = body + length
                yield bytes(self._received[body:start])
        finally:
            del self._received[:start]
