import pytest

from crypto.errors import SeccosError
from crypto.seccos.payload import parse
from tests.crypto.seccos.profiles import profile

GOOD: dict[str, object] = {
    "pinBlock": "1AFE25C0EFA69708",
    "prw": "0D3B97939FE5EBB9383777D6BD216973",
    "prwRandom": "DEADBEEF",
    "mac": "3FD1F2D89839AE64",
    "pinChangeCounter": 7,
}
PROFILE = profile({"payload": {"key_ids": [{"name": "2026A", "generation": 3}]}})


def test_a_payload_is_read() -> None:
    payload = parse(GOOD, PROFILE)

    assert payload.block.hex().upper() == GOOD["pinBlock"]
    assert payload.prw.hex().upper() == GOOD["prw"]
    assert payload.random.hex().upper() == GOOD["prwRandom"]
    assert payload.mac.hex().upper() == GOOD["mac"]
    assert (payload.counter, payload.key_generation) == (7, None)


def test_names_are_those_of_the_profile_and_hex_has_either_case() -> None:
    renamed = {"epb": "1afe25c0efa69708", "pinReferenceWord": GOOD["prw"], "rnd": "deadBEEF"}
    others = {"scriptMac": GOOD["mac"], "keyRef": "2026A", "somethingElse": {"a": [1.5]}}

    payload = parse({**renamed, **others}, PROFILE)

    assert payload.block.hex() == renamed["epb"]
    assert payload.random.hex() == "deadbeef"
    assert (payload.counter, payload.key_generation) == (None, 3)


def test_a_payload_does_not_show_what_it_holds() -> None:
    assert "1afe25" not in repr(parse(GOOD, PROFILE)).lower()


@pytest.mark.parametrize("counter", [0, 7, 65535, "0", "7", "0007", "65535", None])
def test_a_counter_is_a_number_or_text_or_missing(counter: object) -> None:
    read = parse(GOOD | {"pinChangeCounter": counter}, PROFILE).counter

    assert read == (None if counter is None else int(str(counter)))


@pytest.mark.parametrize(("text", "counter"), [("0", 0), ("00ff", 255), ("FFFF", 65535)])
def test_a_counter_in_text_may_be_hexadecimal(text: str, counter: int) -> None:
    settings = profile({"payload": {"counter_text": "hex"}})

    assert parse(GOOD | {"pinChangeCounter": text}, settings).counter == counter


@pytest.mark.parametrize(
    "changes",
    [
        {"pinBlock": None},
        {"pinBlock": ""},
        {"pinBlock": "1AFE25C0EFA6970"},
        {"pinBlock": "1AFE25C0EFA69708F"},
        {"pinBlock": "1AFE25C0EFA6970G"},
        {"pinBlock": "1AFE25C0EFA697081AFE25C0EFA69708"},
        {"pinBlock": "1AFE25C0 FA69708"},
        {"pinBlock": "1AFE25C0EFA6970\n"},
        {"pinBlock": "0x1AFE25C0EFA697"},
        {"pinBlock": "\u06611AFE25C0EFA6970"},
        {"pinBlock": 1234567890123456},
        {"pinBlock": ["1AFE25C0EFA69708"]},
        {"pinBlock": "00" * 100_000},
        {"block": "1AFE25C0EFA69708"},
        {"block": None},
        {"pinReferenceValue": GOOD["prw"]},
        {"prw": None},
        {"prw": "0D3B97939FE5EBB9"},
        {"prwRandom": None},
        {"prwRandom": "DEADBE"},
        {"prwRandom": 3735928559},
        {"mac": None},
        {"mac": "3FD1F2D8"},
        {"mac": {}},
        {"pinChangeCounter": -1},
        {"pinChangeCounter": 65536},
        {"pinChangeCounter": 7.0},
        {"pinChangeCounter": True},
        {"pinChangeCounter": False},
        {"pinChangeCounter": "-1"},
        {"pinChangeCounter": "+7"},
        {"pinChangeCounter": " 7"},
        {"pinChangeCounter": "7.0"},
        {"pinChangeCounter": "0x7"},
        {"pinChangeCounter": "A"},
        {"pinChangeCounter": "1_0"},
        {"pinChangeCounter": ""},
        {"pinChangeCounter": "65536"},
        {"pinChangeCounter": "9" * 5000},
        {"pinChangeCounter": "\u0667"},
        {"pinChangeCounter": [7]},
        {"changeCounter": 7},
        {"keyId": "2025Z"},
        {"keyId": ""},
        {"keyId": 3},
        {"keyId": ["2026A"]},
        {"keyId": "2026A", "keyVersion": "2026A"},
    ],
)
def test_anything_else_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(SeccosError) as refusal:
        parse(GOOD | changes, PROFILE)
    assert (refusal.value.args, refusal.value.__context__) == ((), None)


def test_without_known_keys_no_key_may_be_named() -> None:
    with pytest.raises(SeccosError):
        parse(GOOD | {"keyId": "2026A"}, profile({}))


@pytest.mark.parametrize("name", ["pinBlock", "prw", "prwRandom", "mac"])
def test_a_member_may_not_be_missing(name: str) -> None:
    with pytest.raises(SeccosError):
        parse({key: value for key, value in GOOD.items() if key != name}, PROFILE)


def test_a_prw_that_only_the_issuer_makes_is_not_read() -> None:
    settings = profile({"prw": {"random": "issuer"}, "prw_source": "issuer"})

    payload = parse(GOOD | {"prw": "junk", "prwRandom": 5}, settings)

    assert (payload.prw, payload.random) == (b"", b"")


@pytest.mark.parametrize("random", ["none", "payload"])
def test_a_random_that_the_counter_replaces_may_be_missing(random: str) -> None:
    settings = profile({"prw": {"counter_binding": "replace_random", "random": random}})

    assert parse(GOOD | {"prwRandom": None}, settings).random == b""
    assert parse(GOOD | {"prwRandom": "00000007"}, settings).random == bytes.fromhex("00000007")
    with pytest.raises(SeccosError):
        parse(GOOD | {"prwRandom": "07"}, settings)


def test_sizes_are_those_of_the_profile() -> None:
    settings = profile(
        {
            "pin_block": {"selfenc": "append", "padding": "iso9797-2"},
            "prw": {"alg": "tdes-cmac", "random": "none"},
            "mac": {"length": 4},
        }
    )

    payload = parse({"pinBlock": "AB" * 24, "prw": "CD" * 8, "mac": "EF" * 4}, settings)

    assert (len(payload.block), len(payload.prw), len(payload.mac)) == (24, 8, 4)
    assert payload.random == b""


@pytest.mark.parametrize(
    "mac", [{"input": ["pinBlock", "cdp"]}, {"input": ["hex:84", "pinBlock", "pan"]}]
)
def test_a_counter_that_the_mac_does_not_bind_must_be_sent(mac: dict[str, object]) -> None:
    unbound = profile({"mac": {**mac, "session_key": "none"}})
    with pytest.raises(SeccosError):
        parse(GOOD | {"pinChangeCounter": None}, unbound)
    assert parse(GOOD, unbound).counter == 7
