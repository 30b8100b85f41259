"""Key blocks of TR-31 and ANSI X9.143, versions B (TDES) and D (AES): read, never written.

Source: ASC X9 TR-31:2018 and ANSI X9.143-2021. One letter below is one character of the text::

    V LLLL UU A M NN E OO RR    version, length of the whole text, usage, algorithm, mode of
                                use, key version, exportability, optional blocks, reserved
    optional blocks             II LL data; or II 00 length of length, length, data
    key                         hex of CBC( key length in bits, 2 bytes ‖ key ‖ random fill )
    MAC                         hex of CMAC( all before it, the key part in clear ): 8, 16 bytes

The MAC is also the IV, and it is made over the clear key: a block must be deciphered before its
MAC can be checked. The two keys for that are derived with CMAC from the key block protection key
(KBPK), which may stay in a token; the derived keys and the key inside the block are in the memory
of this process. Versions A and C, whose keys are variants of the KBPK, are refused. So are
components of keys.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from hmac import compare_digest
from typing import Final

from crypto import kcv
from crypto.errors import KeyBlockError, KeyPurposeError, KeyStrengthError
from crypto.secret import Secret
from crypto.software import (
    aes_cmac,
    aes_decrypt_cbc,
    tdes_cmac,
    tdes_decrypt_cbc,
    tdes_encrypt_ecb,
)
from crypto.types import Mac

HEADER_CHARS: Final = 16
LENGTH_BYTES: Final = 2
EXTENDED: Final = 0
_HEADER: Final = re.compile(
    "(?P<version>[BD])(?P<length>[0-9]{4})(?P<usage>[0-9A-Z]{2})(?P<algorithm>[0-9A-Z])"
    "(?P<mode>[0-9A-Z])(?P<key_version>[0-9A-Z]{2})(?P<exportability>[0-9A-Z])"
    "(?P<blocks>[0-9]{2})[0-9A-Z]{2}"
)
_TEXT: Final = re.compile("[ -~]*")
_BLOCK_ID: Final = re.compile("[0-9A-Z]{2}")
# Upper case only, so that no two texts are the same block.
_HEX: Final = re.compile("(?:[0-9A-F]{2})+")


class KeyAlgorithm(StrEnum):
    """The algorithm that a key is for, by its letter in a key block (X9.143-2021, table 3)."""

    TDES = "T"
    AES = "A"


STRENGTH_BITS: Final[Mapping[KeyAlgorithm, Mapping[int, int]]] = {
    KeyAlgorithm.TDES: {16: 80, 24: 112},
    KeyAlgorithm.AES: {16: 128, 24: 192, 32: 256},
}
"""The security strength of a key by its size in bytes (NIST SP 800-57, part 1, table 2)."""
KEY_BYTES: Final[Mapping[KeyAlgorithm, frozenset[int]]] = {
    algorithm: frozenset(strengths) for algorithm, strengths in STRENGTH_BITS.items()
}
"""The sizes that a key can have."""


@dataclass(frozen=True, slots=True)
class KeyBlockHeader:
    """What a key block says of its key. It is proved only when the block has been opened."""

    version: str
    """B or D."""
    usage: str
    """Two characters (X9.143-2021, table 2), such as P0: PIN encryption, M6: CMAC."""
    algorithm: str
    mode: str
    """One character (X9.143-2021, table 4), such as B: encipher and decipher, G: make MACs."""
    key_version: str
    exportability: str


@dataclass(frozen=True, slots=True)
class KeyPurpose:
    """What the key in a block must be for, so that the block is accepted."""

    algorithm: KeyAlgorithm
    usages: frozenset[str]
    modes: frozenset[str]
    key_bytes: frozenset[int]


@dataclass(frozen=True, slots=True)
class KeyBlock:
    """A key block that has been opened: its header is proved, and its key is clear."""

    header: KeyBlockHeader
    key: Secret[bytes]

    @property
    def kcv(self) -> bytes:
        """The key check value of the key, 3 bytes (:mod:`crypto.kcv`)."""
        if self.header.algorithm == KeyAlgorithm.AES:
            return kcv.aes(partial(aes_cmac, self.key))
        return kcv.tdes(partial(tdes_encrypt_ecb, self.key))


@dataclass(frozen=True, slots=True)
class _Binding:
    """The ciphers of a version, and its code for each size of KBPK in bytes."""

    algorithm: KeyAlgorithm
    block_bytes: int
    codes: Mapping[int, int]
    decrypt: Callable[[Secret[bytes], bytes, bytes], bytes]
    cmac: Callable[[Secret[bytes], bytes], bytes]


_BINDINGS: Final[Mapping[str, _Binding]] = {
    "B": _Binding(KeyAlgorithm.TDES, 8, {16: 0, 24: 1}, tdes_decrypt_cbc, tdes_cmac),
    "D": _Binding(KeyAlgorithm.AES, 16, {16: 2, 24: 3, 32: 4}, aes_decrypt_cbc, aes_cmac),
}
ENCRYPTION: Final = 0
AUTHENTICATION: Final = 1


def parse_header(text: str) -> KeyBlockHeader:
    """Read the header of a whole key block; no key is needed, and nothing is proved.

    The example is a block from TR-31:2018.

    >>> parse_header(
    ...     "D0112P0AE00E0000B82679114F470F540165EDFBF7E250FCEA43F810D215F8D2"
    ...     "07E2E417C07156A27E8E31DA05F7425509593D03A457DC34"
    ... ).usage
    'P0'

    Raises:
        KeyBlockError: *text* does not have the form of a block of version B or D.
    """
    return _split(text)[0]


def open_block(text: str, purpose: KeyPurpose, mac_with_kbpk: Mac, kbpk_bytes: int) -> KeyBlock:
    """Check a key block and return its key.

    Args:
        text: the whole block, without spaces or line ends around it.
        purpose: what its key must be for.
        mac_with_kbpk: TDES-CMAC for version B, AES-CMAC for version D, under the KBPK. Its
            exceptions pass through unchanged.
        kbpk_bytes: the size of the KBPK.

    Raises:
        KeyPurposeError: the block is genuine, but its key does not fit *purpose*.
        KeyStrengthError: the block is genuine, but its key is stronger than the KBPK (X9.143
            asks for a KBPK that is at least as strong as the key).
        KeyBlockError: *text* has another form, *kbpk_bytes* is not a size of this version, or
            the MAC is wrong.
    """
    header, head, enciphered, mac = _split(text)
    binding = _BINDINGS[header.version]
    if kbpk_bytes not in binding.codes:
        raise KeyBlockError
    encryption, authentication = (
        _derive(binding, use, mac_with_kbpk, kbpk_bytes) for use in (ENCRYPTION, AUTHENTICATION)
    )
    clear = binding.decrypt(encryption, mac, enciphered)
    if not compare_digest(binding.cmac(authentication, head.encode("ascii") + clear), mac):
        raise KeyBlockError
    key = _key(clear)
    _check(header, key, purpose)
    strength_bits = STRENGTH_BITS[purpose.algorithm][len(key.reveal())]
    if strength_bits > STRENGTH_BITS[binding.algorithm][kbpk_bytes]:
        raise KeyStrengthError
    return KeyBlock(header, key)


def _split(text: str) -> tuple[KeyBlockHeader, str, bytes, bytes]:
    """Return the header, the text before the enciphered key, the enciphered key, and the MAC."""
    match = _HEADER.match(text)
    if match is None or int(match["length"]) != len(text) or not _TEXT.fullmatch(text):
        raise KeyBlockError
    end = _optional_blocks_end(text, int(match["blocks"]))
    block_bytes = _BINDINGS[match["version"]].block_bytes
    if not _HEX.fullmatch(text, end):
        raise KeyBlockError
    tail = bytes.fromhex(text[end:])
    # The key part is at least one block, and the MAC is one.
    if len(tail) % block_bytes or len(tail) < 2 * block_bytes or len(text) % block_bytes:
        raise KeyBlockError
    header = KeyBlockHeader(
        version=match["version"],
        usage=match["usage"],
        algorithm=match["algorithm"],
        mode=match["mode"],
        key_version=match["key_version"],
        exportability=match["exportability"],
    )
    return header, text[:end], tail[:-block_bytes], tail[-block_bytes:]


def _optional_blocks_end(text: str, count: int) -> int:
    """Return the index after *count* optional blocks; their content is not read."""
    place = HEADER_CHARS
    for _ in range(count):
        prefix_chars, chars = 4, _number(text, place + 2, 2)
        if chars == EXTENDED:
            length_chars = 2 * _number(text, place + 4, 2)
            prefix_chars = 6 + length_chars
            chars = _number(text, place + 6, length_chars)
        if not _BLOCK_ID.match(text, place) or chars < prefix_chars:
            raise KeyBlockError
        place += chars
    return place


def _number(text: str, start: int, chars: int) -> int:
    digits = text[start : start + chars]
    if len(digits) != chars or not _HEX.fullmatch(digits):
        raise KeyBlockError
    return int(digits, 16)


def _derive(binding: _Binding, use: int, mac: Mac, key_bytes: int) -> Secret[bytes]:
    """Derive a key as long as the KBPK (TR-31:2018, 5.3.2.1 and 5.3.2.3).

    Each CMAC is over 8 bytes: counter (1), use (2), 00, code of the KBPK (2), its bits (2).
    """
    code = binding.codes[key_bytes].to_bytes(2)
    tail = use.to_bytes(2) + b"\0" + code + (8 * key_bytes).to_bytes(2)
    rounds = -(-key_bytes // binding.block_bytes)
    stream = b"".join(mac(bytes([counter + 1]) + tail) for counter in range(rounds))
    # The text chose the version. With a KBPK of the other version, a CMAC has another size.
    if len(stream) != rounds * binding.block_bytes:
        raise KeyBlockError
    return Secret(stream[:key_bytes])


def _key(clear: bytes) -> Secret[bytes]:
    bits = int.from_bytes(clear[:LENGTH_BYTES])
    key = clear[LENGTH_BYTES : LENGTH_BYTES + bits // 8]
    if bits % 8 or len(key) != bits // 8:
        raise KeyBlockError
    return Secret(key)


def _check(header: KeyBlockHeader, key: Secret[bytes], purpose: KeyPurpose) -> None:
    checks = (
        header.algorithm == purpose.algorithm,
        header.usage in purpose.usages,
        header.mode in purpose.modes,
        len(key.reveal()) in purpose.key_bytes & KEY_BYTES[purpose.algorithm],
    )
    if not all(checks):
        raise KeyPurposeError
