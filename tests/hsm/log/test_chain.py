"""Whoever can write the files of the log, and has no key: what it changes shows."""

import json
import re
from collections.abc import Callable
from datetime import timedelta

import pytest

from hsm.errors import LogBroken
from hsm.log.chain import Chain
from hsm.log.lines import Action, Event, Line, digest, write
from hsm.pkcs11.keys import KeyLabel, KeyRole
from tests.hsm.log.vault_host import LABEL, NOW, VaultHost, hand_out

DAY = timedelta(days=1)
Lines = list[bytes]
MAC_IS_WRONG = "its MAC is wrong"
MISSING = "lines before it are missing"
OUT_OF_ORDER = "it is out of order, or of another log"
ANOTHER_BEFORE = "the line before it is not the one that it followed"


@pytest.fixture
def filled(host: VaultHost) -> VaultHost:
    """Two days of five lines each."""
    for number in range(4):
        host.worker().append(hand_out(number), durable=False)
    host.now += DAY
    for number in range(4, 9):
        host.worker().append(hand_out(number), durable=False)
    return host


def fault(host: VaultHost, *, checks_macs: bool = True) -> tuple[str, int, str] | None:
    chain = Chain(host.hsm_token.mac if checks_macs else None)
    try:
        list(chain.follow(host.paths()))
    except LogBroken as broken:
        assert chain.place is not None
        return chain.place.path.name[8:10], chain.place.number, str(broken)
    return None


def edited(lines: Lines) -> Lines:
    return [*lines[:2], lines[2].replace(b"card-1", b"card-7"), *lines[3:]]


def edited_mac(lines: Lines) -> Lines:
    line = json.loads(lines[2])
    flipped = line["mac"][:-1] + ("0" if line["mac"][-1] != "0" else "1")
    return [*lines[:2], lines[2].replace(line["mac"].encode(), flipped.encode()), *lines[3:]]


def another_key(lines: Lines) -> Lines:
    return [*lines[:2], lines[2].replace(b"log-mac.g1", b"pin-mac.g1"), *lines[3:]]


def removed(lines: Lines) -> Lines:
    return lines[:2] + lines[3:]


def reordered(lines: Lines) -> Lines:
    return [*lines[:2], lines[3], lines[2], *lines[4:]]


def repeated(lines: Lines) -> Lines:
    return [*lines[:3], lines[2], *lines[3:]]


def truncated(lines: Lines) -> Lines:
    return lines[2:]


def put_between(lines: Lines) -> Lines:
    return [*lines[:3], b"rubbish\n", *lines[3:]]


def spaced(lines: Lines) -> Lines:
    return [*lines[:2], lines[2].replace(b'"seq":3', b'"seq": 3'), *lines[3:]]


def renumbered(lines: Lines) -> Lines:
    """Remove a line, and make the rest follow one another again, as far as it goes without keys."""
    made: Lines = lines[:2]
    for text in lines[3:]:
        line = json.loads(text)
        line["seq"] -= 1
        line["before"] = digest(made[-1].removesuffix(b"\n"))
        made.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    return made


@pytest.mark.parametrize(
    ("change", "place", "text"),
    [
        (edited, ("27", 3), MAC_IS_WRONG),
        (edited_mac, ("27", 3), MAC_IS_WRONG),
        (another_key, ("27", 3), MAC_IS_WRONG),
        (renumbered, ("27", 3), MAC_IS_WRONG),
        (removed, ("27", 3), MISSING),
        (reordered, ("27", 3), MISSING),
        (repeated, ("27", 4), OUT_OF_ORDER),
        (truncated, ("27", 1), MISSING),
        (put_between, ("27", 5), ANOTHER_BEFORE),
        (spaced, ("27", 4), MISSING),
        (lambda lines: lines[:-1], ("28", 1), MISSING),
        (lambda _: [], ("28", 1), MISSING),
    ],
)
def test_the_first_line_at_fault_is_named(
    filled: VaultHost, change: Callable[[Lines], Lines], place: tuple[str, int], text: str
) -> None:
    assert fault(filled) is None
    filled.edit(change)
    assert fault(filled) == (*place, text)


def test_a_file_that_is_missing_shows_in_the_next(filled: VaultHost) -> None:
    filled.paths()[0].unlink()
    assert fault(filled) == ("28", 1, MISSING)


def test_what_is_cut_off_at_the_end_does_not_show(filled: VaultHost) -> None:
    filled.edit(lambda lines: lines[:-2], number=1)
    assert fault(filled) is None
    filled.paths()[1].unlink()
    assert fault(filled) is None


def test_a_forged_line_with_a_right_mac_shows_in_the_next_one(filled: VaultHost) -> None:
    """Whoever may make MACs, and forges one line, has to forge all that follow."""
    lines = filled.paths()[0].read_bytes().splitlines()
    old = Line.parse(lines[2])
    event = Event(Action.IMAGE, old.event.issuer_id, "card-7")
    forged = write(event, old.seq, old.at, old.before, old.key, filled.hsm_token.mac)
    filled.edit(lambda texts: [*texts[:2], forged.text + b"\n", *texts[3:]])
    assert fault(filled) == ("27", 4, ANOTHER_BEFORE)


def test_without_a_key_an_edited_line_shows_in_the_next_one(filled: VaultHost) -> None:
    filled.edit(edited)
    assert fault(filled, checks_macs=False) == ("27", 4, ANOTHER_BEFORE)


def test_without_a_key_lines_that_were_made_to_follow_do_not_show(filled: VaultHost) -> None:
    """The control: it is the MAC that holds a line."""
    filled.edit(lambda lines: renumbered([*lines]))
    filled.paths()[1].unlink()
    assert fault(filled, checks_macs=False) is None
    assert fault(filled) is not None


def test_the_bytes_that_a_mac_covers() -> None:
    """Held by hand: a log that was written must be read by later versions."""
    covered = []

    def mac(label: KeyLabel, data: bytes) -> bytes:
        covered.append((str(label), data))
        return bytes(range(16))

    line = write(hand_out(3), 17, NOW, "ab" * 32, LABEL, mac)
    body = (
        b'{"seq":17,"at":"2026-11-27T12:00:00.000000+00:00","what":"pin.image",'
        b'"issuer_id":"testbank01","card_id":"card-3","face":"hosted","client_id":"app",'
        b'"grant_id":"grant","counter":3,"before":"' + b"ab" * 32 + b'","key":"log-mac.g1"}'
    )
    prefixed = b"\0\0\0\3log" + len(body).to_bytes(4) + body
    assert covered == [("log-mac.g1", prefixed)]
    assert line.text == body[:-1] + b',"mac":"000102030405060708090a0b0c0d0e0f"}'
    assert line.receipt == "17.000102030405060708090a0b0c0d0e0f"
    assert Line.parse(line.text) == line
    assert line.has_mac_of(mac)
    assert covered == [("log-mac.g1", prefixed)] * 2


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{}", b"[]", b"x", b"\xff", b"{" * 9999),
        *(b'{"seq":1}', b'{"seq":1,"seq":1}'),
    ],
)
def test_what_is_no_line_is_not_read(text: bytes) -> None:
    with pytest.raises(LogBroken):
        Line.parse(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"seq":1,', b'"seq":"1",'),
        (b'"seq":1,', b'"seq":01,'),
        (b'"seq":1,', b'"seq":1.0,'),
        (b"+00:00", b"Z"),
        (b"+00:00", b""),
        (b'"what":"log.chain"', b'"what":"log.ended"'),
        (b'"what":"log.chain"', b'"what":"log.chain","more":1'),
        (b'"mac":"', b'"mac":"00'),
        (b'"key":"log-mac.g1",', b""),
        (b'"key":"log-mac.g1"', b'"key":"log-mac"'),
    ],
)
def test_a_line_that_was_written_in_another_way_is_not_read(
    host: VaultHost, old: bytes, new: bytes
) -> None:
    text = host.paths()[0].read_bytes().removesuffix(b"\n")
    Line.parse(text)
    with pytest.raises(LogBroken):
        Line.parse(text.replace(old, new))


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: re.sub(b'"at":"[^"]*"', b'"at":"0001-01-01T00:00:00.000000+14:00"', text),
        lambda text: re.sub(b'"mac":"..', '"mac":"éé'.encode(), text),
    ],
)
def test_a_time_or_a_mac_that_cannot_be_is_none(
    host: VaultHost, rewrite: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(LogBroken):
        Line.parse(rewrite(host.paths()[0].read_bytes().removesuffix(b"\n")))


@pytest.mark.parametrize("content", [b"", b"\n", b"rubbish\n" * 9, b"crlf"])
def test_what_has_no_line_is_no_log(filled: VaultHost, content: bytes) -> None:
    for path in filled.paths():
        lines = path.read_bytes().replace(b"\n", b"\r\n")
        path.write_bytes(lines if content == b"crlf" else content)
    found = fault(filled)
    assert found is not None
    assert found[2] == "up to here there is no line"


def test_a_mac_by_a_key_of_another_role_is_none(host: VaultHost) -> None:
    other = KeyLabel(KeyRole.MANIFEST_MAC, 1)
    host.hsm_token.generate(other)
    host.worker(label=other).append(hand_out(1), durable=False)
    assert fault(host) == ("27", 2, MAC_IS_WRONG)
