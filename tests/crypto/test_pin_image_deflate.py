"""Streams are read back by zlib."""

import random
import zlib

import pytest

from crypto.pin_image_deflate import encode, write_stream

BACKGROUND = b"\x33"
PAIRS = [16 * a + b for a in range(3, 16) for b in range(3, 16)]
PAIRS += [16 * a + b for a in range(4) for b in range(4)]


def read(stream: bytes) -> bytes:
    reader = zlib.decompressobj()
    data = reader.decompress(stream)
    assert reader.eof
    assert reader.unused_data == b""
    return data


@pytest.mark.parametrize("size", [*range(1, 80), 257, 258, 259, 260, 261, 516, 517, 518, 1000])
def test_a_run_of_any_size_is_read_back(size: int) -> None:
    data = BACKGROUND * size
    assert read(write_stream(encode(data), zlib.adler32(data))) == data


def test_two_pixels_of_any_ink_and_of_any_edge_are_read_back() -> None:
    data = bytes(PAIRS)
    assert read(write_stream(encode(data), zlib.adler32(data))) == data


def test_pieces_are_put_side_by_side() -> None:
    chance = random.Random(1)
    pieces = [bytes(chance.choices(PAIRS, k=3)) + BACKGROUND * n for n in range(200)]
    data = b"".join(pieces)
    assert read(write_stream(b"".join(map(encode, pieces)), zlib.adler32(data))) == data


def test_a_stream_has_the_size_asked_for() -> None:
    data = BACKGROUND * 600
    encoded, adler = encode(data), zlib.adler32(data)
    least = len(write_stream(encoded, adler))
    for size in range(least + 24, least + 64):
        stream = write_stream(encoded, adler, size)
        assert len(stream) == size
        assert read(stream) == data


@pytest.mark.parametrize("more", [-1, 1, 4])
def test_a_stream_that_cannot_have_its_size_is_refused(more: int) -> None:
    encoded = encode(BACKGROUND)
    size = len(write_stream(encoded, 0)) + more
    with pytest.raises(ValueError, match="no room for the image"):
        write_stream(encoded, 0, size)
