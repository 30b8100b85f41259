import itertools
import os
from collections.abc import Callable

import psec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crypto import keyblock
from crypto.errors import KeyBlockError, KeyPurposeError, KeyStrengthError
from crypto.keyblock import (
    KEY_BYTES,
    STRENGTH_BITS,
    KeyAlgorithm,
    KeyBlockHeader,
    KeyPurpose,
    OptionalBlock,
)
from crypto.secret import Secret
from crypto.types import Mac
from tests.crypto import x9143_reader
from tests.crypto.ciphers import aes_cmac, tdes_cmac, tdes_ecb
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.vectors import Row, rows

OPEN = [
    row
    for row in rows("keyblock.json", "tr31_unwrap")
    if row.values[0]["inputs"]["key_block"][0] in "BD"
]
REFUSED = [row for row in rows("keyblock.json", "tr31_unwrap") if row not in OPEN]

AES_BLOCK = (
    "D0112P0AE00E0000B82679114F470F540165EDFBF7E250FCEA43F810D215F8D2"
    "07E2E417C07156A27E8E31DA05F7425509593D03A457DC34"
)
AES_KBPK = bytes.fromhex("88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6")
TDES_BLOCK = "B0080P0TE00E000094B420079CC80BA3461F86FE26EFC4A3B8E4FA4C5F5341176EED7B727B8A248E"
TDES_KBPK = bytes.fromhex("DD7515F2BFC17F85CE48F3CA25CB21F6")
OPTIONAL_BLOCK = (
    "B0104B0TX12S0100KS1800604B120F9292800000BB68BE8680A400D9"
    "191AD4ECE45B6E6C0D21C4738A52190E248719E24B433627"
)
OPTIONAL_KBPK = bytes.fromhex("1D22BF32387C600AD97F9B97A51311AC")
PUBLISHED = [(AES_BLOCK, AES_KBPK), (TDES_BLOCK, TDES_KBPK), (OPTIONAL_BLOCK, OPTIONAL_KBPK)]


def mac_with(kbpk: bytes, version: str) -> Mac:
    return aes_cmac(kbpk) if version == "D" else tdes_cmac(kbpk)


def any_size(header: KeyBlockHeader) -> KeyPurpose:
    algorithm = KeyAlgorithm(header.algorithm)
    return KeyPurpose(
        algorithm, frozenset({header.usage}), frozenset({header.mode}), KEY_BYTES[algorithm]
    )


def opened(text: str, kbpk: bytes, purpose: KeyPurpose | None = None) -> keyblock.KeyBlock:
    """Open *text* for whatever its header says, unless told for what."""
    header = keyblock.parse_header(text)
    purpose = purpose or any_size(header)
    return keyblock.open_block(text, purpose, mac_with(kbpk, header.version), len(kbpk))


def test_the_vectors_are_split_as_they_should() -> None:
    assert (len(OPEN), len(REFUSED)) == (7, 4)


@pytest.mark.parametrize("row", OPEN)
def test_published_blocks_open(row: Row) -> None:
    block = opened(row["inputs"]["key_block"], bytes.fromhex(row["inputs"]["kbpk"]))

    assert block.key.reveal().hex().upper() == row["expected"]["key"]
    kcv = keyblock.kcv_block(KeyAlgorithm(block.header.algorithm), block.key)
    assert kcv.data[2:].startswith(row["expected"]["kcv"])


@pytest.mark.parametrize("row", REFUSED)
def test_versions_a_and_c_are_refused(row: Row) -> None:
    with pytest.raises(KeyBlockError):
        keyblock.parse_header(row["inputs"]["key_block"])


def test_a_header_is_read_without_a_key() -> None:
    assert keyblock.parse_header(OPTIONAL_BLOCK) == KeyBlockHeader(
        version="B",
        usage="B0",
        algorithm="T",
        mode="X",
        key_version="12",
        exportability="S",
        optional=(OptionalBlock("KS", "00604B120F9292800000"),),
    )


PROTECTED_BY = {"B": KeyAlgorithm.TDES, "D": KeyAlgorithm.AES}
KEYS = [(algorithm, size) for algorithm in KeyAlgorithm for size in sorted(KEY_BYTES[algorithm])]
#: Version, size of the KBPK, algorithm and size of the key.
PAIRS = [
    (version, kbpk_bytes, algorithm, key_bytes)
    for version, protection in PROTECTED_BY.items()
    for kbpk_bytes in sorted(KEY_BYTES[protection])
    for algorithm, key_bytes in KEYS
]
STRONG_ENOUGH = [
    (version, kbpk_bytes, algorithm, key_bytes)
    for version, kbpk_bytes, algorithm, key_bytes in PAIRS
    if STRENGTH_BITS[PROTECTED_BY[version]][kbpk_bytes] >= STRENGTH_BITS[algorithm][key_bytes]
]
upper = st.characters(codec="ascii", categories=["Lu", "Nd"])


@st.composite
def wrapped(draw: st.DrawFn) -> tuple[str, bytes, bytes]:
    """Draw a block of psec's, its block-protection key and its key."""
    version, kbpk_bytes, algorithm, key_bytes = draw(st.sampled_from(STRONG_ENOUGH))
    kbpk, key = (draw(st.binary(min_size=size, max_size=size)) for size in (kbpk_bytes, key_bytes))
    usage, key_version = (draw(st.text(upper, min_size=2, max_size=2)) for _ in range(2))
    mode, exportability = draw(upper), draw(upper)
    header = psec.tr31.Header(version, usage, algorithm.value, mode, key_version, exportability)
    names = st.text(upper, min_size=2, max_size=2).filter(lambda name: name != "PB")
    content = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
    long = st.integers(250, 400).map(lambda size: "X" * size)
    for name, value in draw(st.dictionaries(names, content | long, max_size=3)).items():
        header.blocks[name] = value
    block = psec.tr31.KeyBlock(kbpk, header)
    return block.wrap(key, draw(st.none() | st.integers(0, 64))), kbpk, key


@takes_tdes_the_old_way
@given(wrapped())
def test_what_psec_wraps_opens(drawn: tuple[str, bytes, bytes]) -> None:
    text, kbpk, key = drawn

    block = opened(text, kbpk)

    assert block.key.reveal() == key
    assert text.startswith(block.header.version)
    assert text[5:12] == "".join(
        (
            block.header.usage,
            block.header.algorithm,
            block.header.mode,
            block.header.key_version,
            block.header.exportability,
        )
    )


@takes_tdes_the_old_way
@pytest.mark.parametrize(("version", "kbpk_bytes", "algorithm", "key_bytes"), PAIRS)
def test_a_key_needs_a_block_protection_key_that_is_as_strong(
    version: str, kbpk_bytes: int, algorithm: KeyAlgorithm, key_bytes: int
) -> None:
    kbpk, key = bytes(range(kbpk_bytes)), bytes(range(100, 100 + key_bytes))
    header = psec.tr31.Header(version, "M6", algorithm.value, "C", "00", "E")
    text = psec.tr31.wrap(kbpk, header, key)

    if (version, kbpk_bytes, algorithm, key_bytes) in STRONG_ENOUGH:
        assert opened(text, kbpk).key.reveal() == key
    else:
        with pytest.raises(KeyStrengthError):
            opened(text, kbpk)


def test_no_tdes_key_protects_an_aes_key_and_no_shorter_aes_key_a_longer_one() -> None:
    assert STRONG_ENOUGH == [
        ("B", 16, "T", 16),
        ("B", 24, "T", 16),
        ("B", 24, "T", 24),
        ("D", 16, "T", 16),
        ("D", 16, "T", 24),
        ("D", 16, "A", 16),
        ("D", 24, "T", 16),
        ("D", 24, "T", 24),
        ("D", 24, "A", 16),
        ("D", 24, "A", 24),
        ("D", 32, "T", 16),
        ("D", 32, "T", 24),
        ("D", 32, "A", 16),
        ("D", 32, "A", 24),
        ("D", 32, "A", 32),
    ]


CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
USAGES = frozenset(map("".join, itertools.product(CHARACTERS, repeat=2)))
ANYTHING = [
    KeyPurpose(algorithm, USAGES, frozenset(CHARACTERS), KEY_BYTES[algorithm])
    for algorithm in KeyAlgorithm
]


def refusal_of(text: str, kbpk: bytes, version: str) -> None:
    """Expect the one error, whatever purpose the key is wanted for."""
    for purpose in ANYTHING:
        with pytest.raises(KeyBlockError) as refusal:
            keyblock.open_block(text, purpose, mac_with(kbpk, version), len(kbpk))
        assert type(refusal.value) is KeyBlockError
        assert (refusal.value.args, refusal.value.__context__) == ((), None)


@takes_tdes_the_old_way
@given(drawn=wrapped(), data=st.data())
def test_one_changed_character_is_refused(
    drawn: tuple[str, bytes, bytes], data: st.DataObject
) -> None:
    text, kbpk, _ = drawn
    place = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters(codec="utf-8") | st.sampled_from("0123456789ABCDEFabcdef"))
    assume(character != text[place])

    refusal_of(text[:place] + character + text[place + 1 :], kbpk, text[0])


@pytest.mark.parametrize(("text", "kbpk"), PUBLISHED, ids=["AES", "TDES", "optional"])
def test_no_character_of_a_published_block_can_be_changed(text: str, kbpk: bytes) -> None:
    for place, old in enumerate(text):
        for new in {"0", "A", "B", "D", " ", "\u0661", old.lower()} - {old}:
            refusal_of(text[:place] + new + text[place + 1 :], kbpk, text[0])


@pytest.mark.parametrize(("text", "kbpk"), PUBLISHED, ids=["AES", "TDES", "optional"])
def test_nothing_can_be_added_or_left_out(text: str, kbpk: bytes) -> None:
    changed = [
        "",
        text[:16],
        text[:-1],
        text[:-2],
        text[:-16],
        text + "0",
        text + "00",
        text + "\n",
    ]
    changed += [" " + text, text[:40] + text[48:], text.lower(), text * 2]
    for other in changed:
        refusal_of(other, kbpk, text[0])


@pytest.mark.parametrize(("text", "kbpk"), PUBLISHED, ids=["AES", "TDES", "optional"])
def test_another_key_does_not_open_it(text: str, kbpk: bytes) -> None:
    refusal_of(text, bytes([kbpk[0] ^ 0x10]) + kbpk[1:], text[0])


@pytest.mark.parametrize("size", [0, 8, 15, 17, 32])
def test_version_b_needs_a_tdes_key(size: int) -> None:
    purpose = any_size(keyblock.parse_header(TDES_BLOCK))
    with pytest.raises(KeyBlockError):
        keyblock.open_block(TDES_BLOCK, purpose, never, size)


def never(message: bytes) -> bytes:
    pytest.fail("the key was used")


PIN_KEY = KeyPurpose(
    KeyAlgorithm.AES, frozenset({"P0"}), frozenset({"B", "D", "E"}), frozenset({16})
)


def test_a_key_for_this_purpose_is_taken() -> None:
    assert len(opened(AES_BLOCK, AES_KBPK, PIN_KEY).key.reveal()) == 16


@pytest.mark.parametrize(
    "purpose",
    [
        KeyPurpose(KeyAlgorithm.TDES, PIN_KEY.usages, PIN_KEY.modes, PIN_KEY.key_bytes),
        KeyPurpose(PIN_KEY.algorithm, frozenset({"K0", "M6"}), PIN_KEY.modes, PIN_KEY.key_bytes),
        KeyPurpose(PIN_KEY.algorithm, PIN_KEY.usages, frozenset({"D"}), PIN_KEY.key_bytes),
        KeyPurpose(PIN_KEY.algorithm, PIN_KEY.usages, PIN_KEY.modes, frozenset({32})),
        KeyPurpose(PIN_KEY.algorithm, frozenset(), frozenset(), frozenset()),
    ],
    ids=["algorithm", "usage", "mode", "size", "nothing"],
)
def test_a_key_for_another_purpose_is_refused_by_name(purpose: KeyPurpose) -> None:
    with pytest.raises(KeyPurposeError):
        opened(AES_BLOCK, AES_KBPK, purpose)


@takes_tdes_the_old_way
@pytest.mark.parametrize(
    ("algorithm", "size"), [("T", 8), ("A", 8), ("A", 17), ("T", 0), ("T", 32)]
)
def test_a_key_of_a_size_that_its_algorithm_does_not_have_is_refused(
    algorithm: str, size: int
) -> None:
    header = psec.tr31.Header("D", "P0", algorithm, "B", "00", "E")
    text = psec.tr31.wrap(AES_KBPK, header, bytes(size))
    purpose = KeyPurpose(
        KeyAlgorithm(algorithm), frozenset({"P0"}), frozenset({"B"}), frozenset(range(64))
    )

    with pytest.raises(KeyPurposeError):
        opened(text, AES_KBPK, purpose)


def forged(bits: int) -> str:
    """Seal with the right keys a key of zeros that says it has so many *bits*."""
    head, theirs = "D0112P0AB00E0000", psec.tr31.KeyBlock(AES_KBPK)
    encryption, authentication = theirs._d_derive()
    clear = bits.to_bytes(2) + bytes(30)
    mac = theirs._d_generate_mac(authentication, head, clear)
    enciphered = psec.aes.encrypt_aes_cbc(encryption, mac, clear)
    return head + (enciphered + mac).hex().upper()


@pytest.mark.parametrize("bits", [127, 129, 8 * 31, 0xFFFF])
def test_a_key_length_that_does_not_fit_is_refused(bits: int) -> None:
    assert opened(forged(128), AES_KBPK).key.reveal() == bytes(16)

    refusal_of(forged(bits), AES_KBPK, "D")


def test_a_component_is_no_key() -> None:
    with pytest.raises(KeyBlockError):
        keyblock.parse_header(AES_BLOCK[:9] + "c1" + AES_BLOCK[11:])


def test_an_opened_block_does_not_show_its_key() -> None:
    block = opened(AES_BLOCK, AES_KBPK)

    assert "3F419E1C" not in f"{block!r}".upper()
    assert "***" in f"{block!r}"


def test_a_version_does_not_open_with_the_key_of_the_other() -> None:
    for text, kbpk, mac in [
        (AES_BLOCK, AES_KBPK[:16], tdes_cmac),
        (TDES_BLOCK, TDES_KBPK, aes_cmac),
    ]:
        purpose = any_size(keyblock.parse_header(text))
        with pytest.raises(KeyBlockError):
            keyblock.open_block(text, purpose, mac(kbpk), len(kbpk))


# Writing


@st.composite
def to_be_written(draw: st.DrawFn) -> tuple[KeyBlockHeader, bytes, bytes]:
    """Draw a header with optional blocks, a key, and a block-protection key that is as strong."""
    version, kbpk_bytes, algorithm, key_bytes = draw(st.sampled_from(STRONG_ENOUGH))
    kbpk, key = (draw(st.binary(min_size=size, max_size=size)) for size in (kbpk_bytes, key_bytes))
    usage, key_version = (draw(st.text(upper, min_size=2, max_size=2)) for _ in range(2))
    ids = st.text(upper, min_size=2, max_size=2).filter(lambda name: name not in {"PB", "KC"})
    data = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=251)
    optional = draw(st.dictionaries(ids, data, max_size=4))
    header = KeyBlockHeader(
        *(version, usage, algorithm, draw(upper), key_version, draw(upper)),
        tuple(itertools.starmap(OptionalBlock, optional.items())),
    )
    return header, kbpk, key


def write(header: KeyBlockHeader, kbpk: bytes, key: bytes) -> str:
    mac = mac_with(kbpk, header.version)
    return keyblock.write_block(header, Secret(key), mac, len(kbpk), os.urandom)


@takes_tdes_the_old_way
@given(to_be_written())
def test_what_is_written_is_read_by_psec_by_a_second_reader_and_by_us(
    drawn: tuple[KeyBlockHeader, bytes, bytes],
) -> None:
    header, kbpk, key = drawn
    text = write(header, kbpk, key)
    optional = {block.block_id: block.data for block in header.optional}

    theirs, their_key = psec.tr31.unwrap(kbpk, text)
    assert their_key == key
    assert (theirs.version_id, theirs.key_usage, theirs.algorithm, theirs.mode_of_use) == (
        *(header.version, header.usage, header.algorithm, header.mode),
    )
    assert (theirs.version_num, theirs.exportability) == (header.key_version, header.exportability)
    assert dict(theirs.blocks) == optional

    head, read_optional, read_key = x9143_reader.read(kbpk, text)
    assert read_key == key
    assert {name: data for name, data in read_optional.items() if name != "PB"} == optional
    assert head[5:12] == text[5:12]

    block = opened(text, kbpk)
    assert (block.header, block.key.reveal()) == (header, key)


@pytest.mark.parametrize("row", OPEN)
def test_the_second_reader_reads_what_is_published(row: Row) -> None:
    kbpk = bytes.fromhex(row["inputs"]["kbpk"])
    _, _, key = x9143_reader.read(kbpk, row["inputs"]["key_block"])
    assert key.hex().upper() == row["expected"]["key"]
    with pytest.raises(x9143_reader.ReadError):
        x9143_reader.read(bytes([kbpk[0] ^ 0x10]) + kbpk[1:], row["inputs"]["key_block"])


def a_header(version: str, algorithm: str, *optional: OptionalBlock) -> KeyBlockHeader:
    return KeyBlockHeader(version, "P0", algorithm, "B", "00", "N", optional)


@pytest.mark.parametrize("size", [16, 24])
def test_the_length_of_a_block_does_not_tell_that_of_its_key(size: int) -> None:
    assert len(write(a_header("B", "T"), TDES_KBPK + TDES_KBPK[:8], os.urandom(size))) == 96
    assert len(write(a_header("D", "A"), AES_KBPK, os.urandom(size))) == 144


def test_two_blocks_of_one_key_differ() -> None:
    key = os.urandom(16)
    assert write(a_header("D", "A"), AES_KBPK, key) != write(a_header("D", "A"), AES_KBPK, key)


@pytest.mark.parametrize(
    "optional",
    [
        (OptionalBlock("K", "1"),),
        (OptionalBlock("ks", "1"),),
        (OptionalBlock("PB", "0000"),),
        (OptionalBlock("KS", "\n"),),
        (OptionalBlock("KS", "\u0661"),),
        (OptionalBlock("KS", "0" * 252),),
        (OptionalBlock("KS", "1"), OptionalBlock("KS", "2")),
        tuple(OptionalBlock(f"{number:02}", "0" * 251) for number in range(50)),
    ],
    ids=["short id", "lower case", "padding", "line end", "not ASCII", "long", "twice", "too much"],
)
def test_an_optional_block_that_cannot_be_written_is_refused(
    optional: tuple[OptionalBlock, ...],
) -> None:
    with pytest.raises(KeyBlockError):
        write(a_header("D", "A", *optional), AES_KBPK, os.urandom(16))


@pytest.mark.parametrize(
    ("header", "kbpk", "key_bytes", "error"),
    [
        (a_header("B", "A"), TDES_KBPK, 16, KeyStrengthError),
        (a_header("B", "T"), TDES_KBPK, 24, KeyStrengthError),
        (a_header("D", "A"), AES_KBPK[:16], 32, KeyStrengthError),
        (a_header("D", "A"), AES_KBPK, 17, KeyBlockError),
        (a_header("D", "T"), AES_KBPK, 8, KeyBlockError),
        (a_header("B", "T"), AES_KBPK, 16, KeyBlockError),
        (a_header("A", "T"), TDES_KBPK, 16, KeyBlockError),
        (a_header("D", "R"), AES_KBPK, 16, KeyBlockError),
        (a_header("D", ""), AES_KBPK, 16, KeyBlockError),
        (KeyBlockHeader("D", "p0", "A", "B", "00", "N"), AES_KBPK, 16, KeyBlockError),
        (KeyBlockHeader("D", "P0", "A", "BB", "00", "N"), AES_KBPK, 16, KeyBlockError),
        (KeyBlockHeader("D", "P0", "A", "B", "c1", "N"), AES_KBPK, 16, KeyBlockError),
    ],
)
def test_a_block_that_nobody_should_get_is_not_written(
    header: KeyBlockHeader, kbpk: bytes, key_bytes: int, error: type[Exception]
) -> None:
    with pytest.raises(error) as refusal:
        write(header, kbpk, os.urandom(key_bytes))
    assert refusal.value.args == ()


@pytest.mark.parametrize(("algorithm", "size"), KEYS)
def test_kc_is_the_kcv_of_the_key(algorithm: KeyAlgorithm, size: int) -> None:
    key = os.urandom(size)
    block = keyblock.kcv_block(algorithm, Secret(key))
    whole = aes_cmac(key)(bytes(16))[:5] if algorithm == "A" else tdes_ecb(key)(bytes(8))[:3]
    assert block == OptionalBlock("KC", {"A": "01", "T": "00"}[algorithm] + whole.hex().upper())
    text = write(a_header("D", algorithm, block), AES_KBPK, key)
    assert opened(text, AES_KBPK).key.reveal() == key


@takes_tdes_the_old_way
@pytest.mark.parametrize(
    ("algorithm", "right", "wrong"),
    [
        ("T", lambda key: "00" + tdes_ecb(key)(bytes(8))[:3].hex().upper(), "00000000"),
        ("T", lambda key: "01" + tdes_cmac(key)(bytes(8))[:5].hex().upper(), "010000000000"),
        ("A", lambda key: "01" + aes_cmac(key)(bytes(16))[:5].hex().upper(), "010000000000"),
    ],
)
def test_a_kc_that_is_not_of_the_key_is_refused(
    algorithm: str, right: Callable[[bytes], str], wrong: str
) -> None:
    key = os.urandom(16)
    for data, fits in ((right(key), True), (wrong, False), ("0012", True), ("", True)):
        header = psec.tr31.Header("D", "P0", algorithm, "B", "00", "N")
        header.blocks["KC"] = data
        text = psec.tr31.wrap(AES_KBPK, header, key)
        if fits:
            assert opened(text, AES_KBPK).header.optional == (OptionalBlock("KC", data),)
        else:
            with pytest.raises(KeyBlockError):
                opened(text, AES_KBPK)


def test_the_five_optional_blocks_of_a_ceremony_come_back_as_they_were() -> None:
    optional = (
        OptionalBlock("KS", "00604B120F9292800000"),
        OptionalBlock("KP", "0152B5B6D2E1"),
        OptionalBlock("TS", "20261127101112Z"),
        OptionalBlock("HM", "21"),
    )
    key = os.urandom(32)
    kc = keyblock.kcv_block(KeyAlgorithm.AES, Secret(key))
    text = write(a_header("D", "A", *optional, kc), AES_KBPK, key)
    assert opened(text, AES_KBPK).header.optional == (*optional, kc)
    assert [*psec.tr31.unwrap(AES_KBPK, text)[0].blocks] == ["KS", "KP", "TS", "HM", "KC"]
