"""D1's side of SECCOS: the vectors of the design, and what our own reader makes of it."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cms.sandbox.partners import d1_command, d1_seccos
from cms.sandbox.partners.d1 import D1Client, D1Error
from cms.sandbox.partners.d1_seccos import Card, Keys, LayoutError, Seccos
from cms.sandbox.partners.transcript import TranscriptError, seccos_transcript
from crypto.emv.key_derivation import odd_parity
from crypto.seccos.verify import Verdict
from crypto.secret import Secret
from tests.cms.sandbox.issuer import CARD_ID, ISSUER_ID, ISSUER_KEY, PINS, Issuer, opened
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.seccos.d1_side import Card as TheirCard
from tests.crypto.seccos.d1_side import SharedKeys, Writer
from tests.crypto.seccos.profiles import profile
from tests.crypto.seccos.vault_side import card_data, received
from tests.crypto.vectors import Row, rows

PIN_BLOCK_KEY = bytes.fromhex("1F2F3D4C5B6B79890123456789ABCDEF")
KEYS = Keys(PIN_BLOCK_KEY, bytes(range(32)), bytes.fromhex("A1B3C2D5E5F70719FEDCBA9876543210"))
CARD = Card("6725901234567890125", 1, "2912")
NAMES = {
    "pin_block": "pinBlock",
    "prw": "prw",
    "prw_random": "prwRandom",
    "mac": "mac",
    "counter": "pinChangeCounter",
}
SECCOS = Seccos("digibank01", "card-3", CARD, KEYS, "SECCOS", NAMES)
RANDOM = bytes.fromhex("DEADBEEF")


@pytest.fixture(name="seccos")
def _seccos(sandbox: Path) -> Seccos:
    return d1_seccos.load(sandbox)


@pytest.mark.parametrize("row", rows("seccos.json", "seccos_pin_block"))
def test_block_of_the_design(row: Row) -> None:
    made = d1_seccos.pin_block(row["inputs"]["pin"], bytes.fromhex(row["inputs"]["k_spe"]))

    assert made.hex().upper() == row["expected"]


@pytest.mark.parametrize(
    ("pin", "expected"),
    [
        ("1234", "0D3B97939FE5EBB9383777D6BD216973"),
        ("583920", "E7CA5E560FFF7FE3E333025F154ACCA0"),
    ],
)
def test_prw_of_the_design(pin: str, expected: str) -> None:
    assert d1_seccos.prw(pin, CARD, 7, RANDOM, KEYS.prw).hex().upper() == expected


@pytest.mark.parametrize("row", rows("seccos.json", "seccos_script_mac"))
def test_mac_of_the_design(row: Row) -> None:
    block = bytes.fromhex(row["inputs"]["message"])[-8:]
    made = d1_seccos.mac(block, 7, bytes.fromhex(row["inputs"]["k_mac"]))

    assert made.hex().upper() == row["expected"]


@pytest.mark.parametrize("row", rows("seccos.json", "seccos_session_key_emv_csk"))
def test_session_key_of_the_design(row: Row) -> None:
    given = row["inputs"]
    card = Card(given["pan"], int(given["psn"]), "2912")
    made = d1_seccos.session_key(bytes.fromhex(given["k_spe_master"]), card, given["counter"])

    # The bits of parity are ours to leave; no cipher reads them.
    assert odd_parity(Secret(made)).reveal().hex().upper() == row["expected"]["session_key"]


@takes_tdes_the_old_way
def test_whole_payload_is_what_psec_and_pyemv_make_of_the_text() -> None:
    shared = SharedKeys(KEYS.pin_block, KEYS.prw, KEYS.mac)
    theirs = TheirCard(CARD.pan, CARD.psn, CARD.expiry)
    writer = Writer(profile({}), shared, theirs, 7, lambda _: RANDOM)
    made = SECCOS.payload("1234", 7, RANDOM)
    block, prw = writer.block("1234"), writer.prw("1234", RANDOM.hex())

    assert made == {
        "pinBlock": block.upper(),
        "prw": prw.upper(),
        "prwRandom": "DEADBEEF",
        "mac": writer.mac(block, prw, RANDOM.hex()).upper(),
        "pinChangeCounter": 7,
    }


@given(
    pin=st.from_regex("[0-9]{4,12}", fullmatch=True),
    pan=st.from_regex("[0-9]{13,19}", fullmatch=True),
    psn=st.integers(0, 99),
    expiry=st.from_regex("[0-9]{2}(0[1-9]|1[0-2])", fullmatch=True),
    counter=st.integers(0, 0xFFFF),
    keys=st.tuples(*(st.binary(min_size=size, max_size=size) for size in (16, 32, 16))),
)
def test_our_reader_takes_what_d1_writes(
    *,
    pin: str,
    pan: str,
    psn: int,
    expiry: str,
    counter: int,
    keys: tuple[bytes, bytes, bytes],
) -> None:
    seccos = replace(SECCOS, card=Card(pan, psn, expiry), keys=Keys(*keys))
    card = card_data(TheirCard(pan, psn, expiry))
    outcome = received(seccos.payload(pin, counter), profile({}), SharedKeys(*keys), card, counter)

    assert outcome.verdict is Verdict.ACCEPTED
    assert outcome.pin is not None
    assert outcome.pin.reveal() == pin


def test_the_same_pin_is_never_the_same_payload() -> None:
    first, second = (SECCOS.payload("7392", 0) for _ in range(2))

    assert first["prwRandom"] != second["prwRandom"]
    assert first["prw"] != second["prw"]


@pytest.mark.parametrize("pin", ["", "123", "1234567890123", "12a4", "1234\n"])
def test_no_payload_for_what_is_no_pin(pin: str) -> None:
    with pytest.raises(ValueError, match="4 to 12 digits"):
        SECCOS.payload(pin, 0)


def test_keys_are_not_shown() -> None:
    assert KEYS.mac.hex() not in repr(SECCOS).lower()
    assert "\\x" not in repr(SECCOS)


def test_load(seccos: Seccos) -> None:
    assert seccos == SECCOS


def change(sandbox: Path, alter: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(sandbox.read_text())
    alter(content["seccos"]["profile"])
    sandbox.write_text(json.dumps(content))


def test_names_come_from_the_profile(sandbox: Path) -> None:
    change(sandbox, lambda body: body["payload"].update(pin_block=["epb", "pinBlock"]))

    assert "epb" in d1_seccos.load(sandbox).payload("7392", 0)


@pytest.mark.parametrize(
    ("section", "member", "value"),
    [
        ("pin_block", "clear_format", "iso0"),
        ("pin_block", "cipher", "tdes-cbc"),
        ("prw", "encoding", "ibm-literal"),
        ("prw", "cdp", "{psn:bcd}00"),
        ("mac", "input", ["pinBlock", "cdp"]),
        ("mac", "session_key", "none"),
        ("counter", "rule", "next"),
    ],
)
def test_another_layout_is_refused_by_name(
    sandbox: Path, section: str, member: str, value: object
) -> None:
    change(sandbox, lambda body: body[section].update({member: value}))

    with pytest.raises(LayoutError, match=rf"default SECCOS layout only; .*: {section}\.{member}$"):
        d1_seccos.load(sandbox)


def test_set_pin(client: D1Client, issuer: Issuer, seccos: Seccos) -> None:
    payload = seccos.payload("7392", 0)
    jwe = client.set_pin_seccos("card-3", payload, seccos.type_literal)

    assert opened(jwe, ISSUER_KEY) == payload
    body = json.loads(issuer.requests[-1].content)
    assert body == {"type": "SECCOS", "encryptedPinBlock": jwe}
    assert issuer.counter == 1


def test_a_refusal_is_raised(client: D1Client, seccos: Seccos) -> None:
    with pytest.raises(D1Error, match="400 FIELD_INVALID_VALUE"):
        client.set_pin_seccos("card-3", seccos.payload("7392", 1), seccos.type_literal)


def test_transcript(client: D1Client, issuer: Issuer, seccos: Seccos) -> None:
    issuer.counter = 6
    steps = list(seccos_transcript(client, seccos, PINS))

    assert [(step.call, step.shows, step.status) for step in steps] == [
        ("GET changeCounter", "6", 200),
        ("PUT pin, SECCOS", "a PIN is set", 204),
        ("GET changeCounter", "7", 200),
        ("PUT pin, SECCOS, stale counter", "refused, FIELD_INVALID_VALUE", 400),
        ("PUT pin, SECCOS, same JWE", "accepted again", 204),
        ("GET changeCounter", "7", 200),
        ("GET pin", "refused, PIN_NOT_AVAILABLE", 403),
    ]
    shown = repr([replace(step, milliseconds=0) for step in steps])
    assert not any(secret in shown for secret in (*PINS, CARD.pan))


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ("counts_replays", "GET changeCounter: not 1"),
        ("counts_twice", "GET changeCounter: not 1"),
        ("accepts_stale_counters", "PUT pin, SECCOS, stale counter: accepted"),
        ("hands_out_seccos", "GET pin: accepted"),
    ],
)
def test_transcript_finds(
    client: D1Client, issuer: Issuer, seccos: Seccos, switch: str, message: str
) -> None:
    setattr(issuer, switch, True)

    with pytest.raises(TranscriptError, match=f"^{message}$"):
        list(seccos_transcript(client, seccos, PINS))


def test_transcript_stops_at_another_refusal(
    client: D1Client, issuer: Issuer, seccos: Seccos
) -> None:
    issuer.answers["GET", "pin"] = httpx.Response(404, json={"errorCode": "X", "error": "no"})

    with pytest.raises(D1Error, match="404 X"):
        list(seccos_transcript(client, seccos, PINS))


@pytest.mark.usefixtures("_stubbed")
def test_command(sandbox: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("7392\n8405\n"))
    words = ["set-pin", "card-3", "--seccos", "--sandbox", str(sandbox), "--issuer", ISSUER_ID]

    assert d1_command.main(words) == 0
    assert d1_command.main(words[:-2]) == 0
    assert issuer.counter == 2
    assert json.loads(issuer.requests[-1].content)["type"] == "SECCOS"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["get-pin", "card-3"], "d1: --seccos goes with set-pin\n"),
        (["set-pin", CARD_ID], "d1: the SECCOS card of the sandbox is card-3\n"),
        (
            ["set-pin", "card-2", "--issuer", "digibank02"],
            "d1: the SECCOS card of the sandbox is card-3\n",
        ),
    ],
)
def test_failed_command_says_one_line(
    sandbox: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert d1_command.main([*words, "--seccos", "--sandbox", str(sandbox)]) == 1
    assert capsys.readouterr() == ("", line)


def test_command_refuses_another_layout(sandbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(sandbox, lambda body: body["mac"].update(alg="tdes-cmac"))

    assert d1_command.main(["set-pin", "card-3", "--seccos", "--sandbox", str(sandbox)]) == 1
    said = "d1: this client knows the default SECCOS layout only; different: mac.alg\n"
    assert capsys.readouterr() == ("", said)
