"""Key blocks of TR-31 and ANSI X9.143, versions B (TDES) and D (AES): read and written.

Source: ASC X9 TR-31:2018 and ANSI X9.143-2021. One letter below is one character of the text::

    V LLLL UU A M NN E OO RR    version, length of the whole text, usage, algorithm, mode of
                                use, key version, exportability, optional blocks, reserved
    optional blocks             II LL data; or II 00 length of length, length, data
    key                         hex of CBC( key length in bits, 2 bytes ‖ key ‖ random fill ); the
                                fill makes all keys of an algorithm equally long
    MAC                         hex of CMAC( all before it, the key part in clear ): 8, 16 bytes

The MAC is also the IV, and it is made over the clear key: a block must be deciphered before its
MAC can be checked. The two keys for that are derived with CMAC from the key block protection key
(KBPK), which may stay in a token; the derived keys and the key inside the block are in the memory
of this process. Versions A and C, whose keys are variants of the KBPK, are refused. So are
components of keys.

Optional blocks (X9.143-2021, 6.3.6) are kept as they came: KS is the key set identifier of a
derivation, KC and KP are the KCVs of the key and of the KBPK, TS says when the block was made, HM
names the hash of an HMAC key. Of these only KC tells something that can be checked here. PB pads
the others to a whole block, and is none of them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
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
    aes_encrypt_cbc,
    tdes_cmac,
    tdes_decrypt_cbc,
    tdes_encrypt_cbc,
    tdes_encrypt_ecb,
)
from crypto.types import Mac, Random

HEADER_CHARS: Final = 16
LENGTH_BYTES: Final = 2
EXTENDED: Final = 0
PADDING: Final = "PB"
KCV_OF_KEY: Final = "KC"
KCV_OF_KBPK: Final = "KP"
TIME_STAMP: Final = "TS"
LEGACY_KCV: Final = "00"
"""Before a KCV in KC or KP: TDES of zeros (X9.143-2021, table 15)."""
CMAC_KCV: Final = "01"
"""The same: a CMAC."""
AES_KCV_BYTES: Final = 5
_PREFIX_CHARS: Final = 4
_BLOCK_CHARS_MAX: Final = 255
_TEXT_CHARS_MAX: Final = 9999
_HEADER: Final = re.compile(
    "(?P<version>[BD])(?P<length>[0-9]{4})(?P<usage>[0-9A-Z]{2})(?P<algorithm>[0-9A-Z])"
    "(?P<mode>[0-9A-Z])(?P<key_version>[0-9A-Z]{2})(?P<exportability>[0-9A-Z])"
    "(?P<blocks>[0-9]{2})[0-9A-Z]{2}"
)
_TEXT: Final = re.compile("[ -~]*")
_BLOCK_ID: Final = re.compile("[0-9A-Z]{2}")
_KCV: Final = re.compile("0[01](?:[0-9A-F]{2}){2,5}")
_RESERVED: Final = "00"
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
class OptionalBlock:
    """An optional block: two letters or digits, and printable ASCII."""

    block_id: str
    data: str

    def __str__(self) -> str:
        return f"{self.block_id} {self.data}"


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
    """E: may be exported under a trusted key, S: also in other ways, N: may not."""
    optional: Sequence[OptionalBlock] = ()
    """In their order, without the one that pads."""


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


@dataclass(frozen=True, slots=True)
class _Binding:
    """The ciphers of a version, and its code for each size of KBPK in bytes."""

    algorithm: KeyAlgorithm
    block_bytes: int
    codes: Mapping[int, int]
    encrypt: Callable[[Secret[bytes], bytes, bytes], bytes]
    decrypt: Callable[[Secret[bytes], bytes, bytes], bytes]
    cmac: Callable[[Secret[bytes], bytes], bytes]


_BINDINGS: Final[Mapping[str, _Binding]] = {
    "B": _Binding(
        *(KeyAlgorithm.TDES, 8, {16: 0, 24: 1}),
        *(tdes_encrypt_cbc, tdes_decrypt_cbc, tdes_cmac),
    ),
    "D": _Binding(
        *(KeyAlgorithm.AES, 16, {16: 2, 24: 3, 32: 4}),
        *(aes_encrypt_cbc, aes_decrypt_cbc, aes_cmac),
    ),
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
        KeyBlockError: *text* has another form, *kbpk_bytes* is not a size of this version, the MAC
            is wrong, or the KCV in KC is not that of the key.
    """
    header, head, enciphered, mac = _split(text)
    binding = _BINDINGS[header.version]
    if kbpk_bytes not in binding.codes:
        raise KeyBlockError
    encryption, authentication = _keys(binding, mac_with_kbpk, kbpk_bytes)
    clear = binding.decrypt(encryption, mac, enciphered)
    if not compare_digest(binding.cmac(authentication, head.encode("ascii") + clear), mac):
        raise KeyBlockError
    key = _key(clear)
    _check(header, key, purpose)
    _check_strength(purpose.algorithm, key, binding, kbpk_bytes)
    _check_kcv(header, key)
    return KeyBlock(header, key)


def write_block(
    header: KeyBlockHeader,
    key: Secret[bytes],
    mac_with_kbpk: Mac,
    kbpk_bytes: int,
    random: Random,
) -> str:
    """Write *key* as a key block.

    Args:
        header: what the block says of the key. The time in TS is the caller's.
        key: of a size that its algorithm has.
        mac_with_kbpk: as for :func:`open_block`.
        kbpk_bytes: the size of the KBPK.
        random: draws the fill behind the key.

    Raises:
        KeyStrengthError: the key is stronger than the KBPK.
        KeyBlockError: the header, the key or the KBPK is not one of this version, or an optional
            block is malformed, there twice, or longer than 251 characters.
    """
    binding = _BINDINGS.get(header.version)
    if binding is None or kbpk_bytes not in binding.codes:
        raise KeyBlockError
    if header.algorithm not in set(KeyAlgorithm):
        raise KeyBlockError
    algorithm = KeyAlgorithm(header.algorithm)
    size_bytes = len(key.reveal())
    if size_bytes not in KEY_BYTES[algorithm]:
        raise KeyBlockError
    _check_strength(algorithm, key, binding, kbpk_bytes)
    length = (8 * size_bytes).to_bytes(LENGTH_BYTES)
    filled_bytes = LENGTH_BYTES + max(KEY_BYTES[algorithm])
    filled_bytes += -filled_bytes % binding.block_bytes
    clear = length + key.reveal() + random(filled_bytes - LENGTH_BYTES - size_bytes)
    head = _head(header, binding, 2 * (filled_bytes + binding.block_bytes))
    encryption, authentication = _keys(binding, mac_with_kbpk, kbpk_bytes)
    mac = binding.cmac(authentication, head.encode("ascii") + clear)
    return head + (binding.encrypt(encryption, mac, clear) + mac).hex().upper()


def kcv_block(algorithm: KeyAlgorithm, key: Secret[bytes]) -> OptionalBlock:
    """Return the optional block KC of *key*: 3 bytes of a TDES key, 5 of an AES key."""
    if algorithm is KeyAlgorithm.AES:
        method, value = CMAC_KCV, kcv.aes(partial(aes_cmac, key), AES_KCV_BYTES)
    else:
        method, value = LEGACY_KCV, kcv.tdes(partial(tdes_encrypt_ecb, key))
    return OptionalBlock(KCV_OF_KEY, method + value.hex().upper())


def _check_kcv(header: KeyBlockHeader, key: Secret[bytes]) -> None:
    """Compare KC with the key, where it has the form of a KCV."""
    algorithm = KeyAlgorithm(header.algorithm)
    for block in header.optional:
        if block.block_id != KCV_OF_KEY or not _KCV.fullmatch(block.data):
            continue
        method, digits = block.data[: len(CMAC_KCV)], block.data[len(CMAC_KCV) :]
        if algorithm is KeyAlgorithm.AES:
            if method == LEGACY_KCV:
                continue  # there is none of an AES key
            whole = aes_cmac(key, bytes(16))
        else:
            make = tdes_cmac if method == CMAC_KCV else tdes_encrypt_ecb
            whole = make(key, bytes(8))
        if not whole.hex().upper().startswith(digits):
            raise KeyBlockError


def _check_strength(
    algorithm: KeyAlgorithm, key: Secret[bytes], binding: _Binding, kbpk_bytes: int
) -> None:
    strength_bits = STRENGTH_BITS[algorithm][len(key.reveal())]
    if strength_bits > STRENGTH_BITS[binding.algorithm][kbpk_bytes]:
        raise KeyStrengthError


def _keys(binding: _Binding, mac: Mac, kbpk_bytes: int) -> tuple[Secret[bytes], Secret[bytes]]:
    """Derive the key that enciphers and the one that makes the MAC."""
    return (
        _derive(binding, ENCRYPTION, mac, kbpk_bytes),
        _derive(binding, AUTHENTICATION, mac, kbpk_bytes),
    )


def _head(header: KeyBlockHeader, binding: _Binding, tail_chars: int) -> str:
    """Write all before the enciphered key, whose text with the MAC is *tail_chars* long."""
    texts = [_optional_text(block) for block in header.optional]
    chars = sum(map(len, texts))
    if chars % binding.block_bytes:
        fill = -(chars + _PREFIX_CHARS) % binding.block_bytes
        texts.append(f"{PADDING}{_PREFIX_CHARS + fill:02X}{'0' * fill}")
    optional = "".join(texts)
    total_chars = HEADER_CHARS + len(optional) + tail_chars
    head = (
        f"{header.version}{total_chars:04}{header.usage}{header.algorithm}{header.mode}"
        f"{header.key_version}{header.exportability}{len(texts):02}{_RESERVED}"
    )
    ids = [block.block_id for block in header.optional]
    if (
        total_chars > _TEXT_CHARS_MAX
        or not _HEADER.fullmatch(head)
        or len(set(ids)) != len(ids)
        or PADDING in ids
    ):
        raise KeyBlockError
    return head + optional


def _optional_text(block: OptionalBlock) -> str:
    chars = _PREFIX_CHARS + len(block.data)
    if (
        chars > _BLOCK_CHARS_MAX
        or not _BLOCK_ID.fullmatch(block.block_id)
        or not _TEXT.fullmatch(block.data)
    ):
        raise KeyBlockError
    return f"{block.block_id}{chars:02X}{block.data}"


def _split(text: str) -> tuple[KeyBlockHeader, str, bytes, bytes]:
    """Return the header, the text before the enciphered key, the enciphered key, and the MAC."""
    match = _HEADER.match(text)
    if match is None or int(match["length"]) != len(text) or not _TEXT.fullmatch(text):
        raise KeyBlockError
    optional, end = _optional_blocks(text, int(match["blocks"]))
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
        optional=tuple(optional),
    )
    return header, text[:end], tail[:-block_bytes], tail[-block_bytes:]


def _optional_blocks(text: str, count: int) -> tuple[list[OptionalBlock], int]:
    """Return *count* optional blocks without the one that pads, and the index after all."""
    found, place = [], HEADER_CHARS
    for _ in range(count):
        prefix_chars, chars = _PREFIX_CHARS, _number(text, place + 2, 2)
        if chars == EXTENDED:
            length_chars = 2 * _number(text, place + 4, 2)
            prefix_chars = 6 + length_chars
            chars = _number(text, place + 6, length_chars)
        if not _BLOCK_ID.match(text, place) or chars < prefix_chars:
            raise KeyBlockError
        found.append(
            OptionalBlock(text[place : place + 2], text[place + prefix_chars : place + chars])
        )
        place += chars
    return [block for block in found if block.block_id != PADDING], place


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
