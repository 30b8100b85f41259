"""Vault configuration: what is refused, what is sealed, and how it is written."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto.jwk import JWK

from hsm.config.json_file import from_json, to_json
from hsm.config.kinds import parse_body
from hsm.config.policy import PolicyBody
from hsm.config.sealing import ConfigReader, with_cmac
from hsm.config.wire import WireProfile
from hsm.errors import ConfigRefused
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import ConfigKind, PinBlockType, SealedConfig
from tests.contracts.software_token import SoftwareToken
from tests.issuer_records import VALID_FROM, VALID_UNTIL, config

ISSUER_ID = "testbank01"
LABEL = KeyLabel(KeyRole.CONFIG_MAC, 1)
SECRET_LOOKING = "4111111111111111"
TABLE = "0123456701234567"

# As text

scalars = st.none() | st.booleans() | st.text(max_size=20)
numbers = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    scalars | numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
moments = st.datetimes(
    min_value=datetime(1990, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    timezones=st.just(UTC) | st.integers(-720, 720).map(lambda m: timezone(timedelta(minutes=m))),
)
configs = st.builds(
    config,
    st.text(min_size=10, max_size=10),
    st.sampled_from(ConfigKind),
    st.dictionaries(st.text(max_size=8), json_values, max_size=4),
    st.integers(1, 2**31),
    moments,
    moments,
)


@given(configs, st.text(max_size=20), st.binary(max_size=16))
def test_a_configuration_is_read_as_it_was_written(
    written: SealedConfig, label: str, cmac: bytes
) -> None:
    text = json.loads(to_json(written)) | {"key_label": label, "cmac": cmac.hex()}
    read = from_json(json.dumps(text))
    assert read == from_json(to_json(read))
    assert (read.key_label, read.cmac) == (label, cmac)
    for name in ("issuer_id", "kind", "version", "valid_from", "valid_until", "body"):
        assert getattr(read, name) == getattr(written, name)


def text_with(**changes: object) -> str:
    good = {
        "issuer_id": ISSUER_ID,
        "kind": "policy",
        "version": 1,
        "valid_from": "2026-01-01T00:00:00Z",
        "valid_until": "2027-01-01T01:00:00+01:00",
        "body": {},
    }
    return json.dumps({name: value for name, value in (good | changes).items() if value != "gone"})


def test_a_configuration_is_written_by_hand_without_label_and_cmac() -> None:
    assert from_json(text_with()) == SealedConfig(
        ISSUER_ID,
        ConfigKind.POLICY,
        1,
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
        "",
        b"{}",
        b"",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"issuer_id": "a", "issuer_id": "b"}',
        "[" * 100_000,
        "\ud800",
        text_with(issuer_id="gone"),
        text_with(kind="gone"),
        text_with(version="gone"),
        text_with(valid_from="gone"),
        text_with(valid_until="gone"),
        text_with(body="gone"),
        text_with(kind="policies"),
        text_with(version="one"),
        text_with(version=1.5),
        text_with(version=True),
        text_with(valid_from="2026-01-01"),
        text_with(valid_from="2026-01-01T00:00:00"),
        text_with(valid_from="yesterday"),
        text_with(valid_from="0001-01-01T00:00:00+12:00"),
        text_with(valid_until="9999-12-31T23:59:59-12:00"),
        text_with(cmac="xyz"),
    ],
    ids=lambda text: text[:60],
)
def test_what_is_not_a_configuration_is_refused(text: str) -> None:
    with pytest.raises(ConfigRefused, match=r"^not a configuration$"):
        from_json(text)


# Bodies


@pytest.mark.parametrize(
    ("kind", "body", "path"),
    [
        (ConfigKind.POLICY, {"length": 4}, "length"),
        (ConfigKind.POLICY, {"length_min": "4"}, "length_min"),
        (ConfigKind.POLICY, {"length_min": 4.0}, "length_min"),
        (ConfigKind.POLICY, {"length_min": True}, "length_min"),
        (ConfigKind.POLICY, {"length_min": None}, "length_min"),
        (ConfigKind.POLICY, {"length_min": 3}, "length_min"),
        (ConfigKind.POLICY, {"length_max": 13}, "length_max"),
        (ConfigKind.POLICY, {"length_min": 8, "length_max": 6}, "body"),
        (ConfigKind.POLICY, {"page_length_max": 9}, "page_length_max"),
        (ConfigKind.POLICY, {"length_min": 6, "page_length_max": 5}, "page_length_max"),
        (ConfigKind.POLICY, {"page_length_max": None}, "page_length_max"),
        (ConfigKind.POLICY, {"page_length_max": True}, "page_length_max"),
        (ConfigKind.POLICY, {"text_reveal": 1}, "text_reveal"),
        (ConfigKind.POLICY, {"text_reveal": "true"}, "text_reveal"),
        (ConfigKind.POLICY, {"refuse_runs": 1}, "refuse_runs"),
        (ConfigKind.WIRE, {"iso1": {}}, "iso1"),
        (ConfigKind.WIRE, {"iso0": {"feild": "a"}}, "iso0.feild"),
        (ConfigKind.WIRE, {"iso0": {"field": ""}}, "iso0.field"),
        (ConfigKind.WIRE, {"iso0": {"field": 'a":"b'}}, "iso0.field"),
        (ConfigKind.WIRE, {"iso0": {"field": "9a"}}, "iso0.field"),
        (ConfigKind.WIRE, {"iso0": {"field": "a\n"}}, "iso0.field"),
        (ConfigKind.WIRE, {"iso0": {"aliases": ["a", "b c"]}}, "iso0.aliases.1"),
        (ConfigKind.WIRE, {"iso0": {"hex_case": "mixed"}}, "iso0.hex_case"),
        (ConfigKind.WIRE, {"iso0": {"pan_field": "block"}}, "iso0"),
        (ConfigKind.WIRE, {"iso0": []}, "iso0"),
        (ConfigKind.WIRE, {"token": {"ttl_seconds": 901}}, "token.ttl_seconds"),
        (ConfigKind.WIRE, {"token": {"ttl_seconds": 29}}, "token.ttl_seconds"),
        (ConfigKind.WIRE, {"token": {"bearer_binding": "name"}}, "token.bearer_binding"),
        (ConfigKind.WIRE, {"counter": {"as_string": "true"}}, "counter.as_string"),
        (ConfigKind.WIRE, {"put_pin": {"iso0": []}}, "put_pin.iso0"),
        (ConfigKind.WIRE, {"put_pin": {"iso0": ["A", ""]}}, "put_pin.iso0.1"),
        (ConfigKind.WIRE, {"put_pin": {"iso0": ["A", "A"]}}, "body"),
        (ConfigKind.WIRE, {"put_pin": {"iso0": ["iso0", "ISO0"]}}, "body"),
        (ConfigKind.WIRE, {"put_pin": {"iso0": ["A"], "seccos": ["B", "a"]}}, "body"),
        (ConfigKind.RECIPIENT, {}, "jwk"),
        (ConfigKind.RECIPIENT, {"jwk": SECRET_LOOKING}, "jwk"),
        (ConfigKind.RECIPIENT, {"jwk": {"kty": "EC", "x": SECRET_LOOKING}}, "body"),
        (ConfigKind.RECIPIENT, {"jwk": {"kty": "oct", "k": SECRET_LOOKING}}, "body"),
        (ConfigKind.VERIFICATION_HOST, {}, "jwk"),
        (ConfigKind.VERIFICATION_HOST, {"jwk": {"kty": "EC", "x": SECRET_LOOKING}}, "body"),
        (ConfigKind.VERIFICATION, {"cvv": {}}, "cvv"),
        (ConfigKind.VERIFICATION, {"prw": 1}, "prw"),
        (ConfigKind.VERIFICATION, {"prw_key_generation": 0}, "prw_key_generation"),
        (ConfigKind.VERIFICATION, {"pvv": True}, "pvv"),
        (ConfigKind.VERIFICATION, {"pvv": {}}, "pvv.key_index"),
        *(
            (ConfigKind.VERIFICATION, {"pvv": {"key_index": index}}, "pvv.key_index")
            for index in (-1, 0, 7, True, 1.0, "1", None)
        ),
        (ConfigKind.VERIFICATION, {"pvv": {"key_index": 1, "pvk": "00" * 16}}, "pvv.pvk"),
        *(
            (
                ConfigKind.VERIFICATION,
                {"pvv": {"key_index": 1, "key_generation": generation}},
                "pvv.key_generation",
            )
            for generation in (0, 1_000_000, True, "1")
        ),
        (ConfigKind.VERIFICATION, {"offset_3624": {}}, "offset_3624.table"),
        *(
            (ConfigKind.VERIFICATION, {"offset_3624": {"table": table}}, "offset_3624.table")
            for table in (
                "",
                "0123456701234567"[:15],
                "01234567012345670",
                "0123456012345601",
                "0" * 16,
                "012345670123456F",
                "0123456701234567\n",
                "012345670123456\u0667",
                123456701234567,
                list("0123456701234567"),
            )
        ),
        *(
            (
                ConfigKind.VERIFICATION,
                {"offset_3624": {"table": TABLE, name: value}},
                f"offset_3624.{name}",
            )
            for name, value in (
                ("start", -1),
                ("start", 19),
                ("length", 0),
                ("length", 17),
                ("pad", "f"),
                ("pad", "FF"),
                ("pad", ""),
                ("check_digits", 4),
            )
        ),
        (ConfigKind.SECCOS, {"cipher": "aes"}, "cipher"),
        (ConfigKind.SECCOS, {"verify": "opaque"}, "verify"),
        (ConfigKind.SECCOS, {"errors": {"conflict": 409}}, "errors.conflict"),
        (ConfigKind.SECCOS, {"pin_block": {"selfenc": "replace"}}, "verify"),
        *(
            (ConfigKind.SECCOS, {section: {"session_key": name}}, f"{section}.session_key")
            for section in ("pin_block", "mac")
            for name in ("emv_csk_arqc", "visa_xor")
        ),
        (ConfigKind.SECCOS, {"pin_block": {"key_label": "d1.prw.ver"}}, "pin_block.key_label"),
        (ConfigKind.SECCOS, {"prw": {"key_label": "pin.g1"}}, "prw.key_label"),
        (ConfigKind.SECCOS, {"mac": {"key_label": "d1.smi.g0"}}, "mac.key_label"),
        (ConfigKind.SECCOS, {"mac": {"input": ["pinBlock", SECRET_LOOKING]}}, "mac.input.1"),
        (ConfigKind.SECCOS, {"mac": {"length": 9}}, "mac.length"),
        (ConfigKind.SECCOS, {"counter": {"max": 65536}}, "counter.max, mac.input"),
        (
            ConfigKind.SECCOS,
            {"payload": {"key_ids": [{"name": "a", "generation": 0}]}},
            "payload.key_ids.0.generation",
        ),
        (ConfigKind.SECCOS, {"payload": {"mac": ["prw"]}}, "payload"),
    ],
    ids=str,
)
def test_a_body_is_refused_by_path_and_without_a_value(
    kind: ConfigKind, body: Mapping[str, object], path: str
) -> None:
    with pytest.raises(ConfigRefused) as refusal:
        parse_body(kind, json.dumps(body).encode())
    assert str(refusal.value) == f"refused members: {path}"


def test_all_refused_members_are_named_at_once() -> None:
    body = {"length_min": SECRET_LOOKING, "length_max": SECRET_LOOKING, "words": SECRET_LOOKING}
    with pytest.raises(ConfigRefused) as refusal:
        parse_body(ConfigKind.POLICY, json.dumps(body).encode())
    assert str(refusal.value) == "refused members: length_max, length_min, words"


@pytest.mark.parametrize(
    "body", [b"", b"junk", b"[]", b"null", b'{"a":1,"a":1}', b"[" * 100_000, b"\xff", b"{}{}"]
)
@pytest.mark.parametrize("kind", ConfigKind)
def test_a_body_is_one_json_object(kind: ConfigKind, body: bytes) -> None:
    with pytest.raises(ConfigRefused, match=r"^the body is not a JSON object$"):
        parse_body(kind, body)


@pytest.mark.parametrize(
    ("literal", "block_type"),
    [
        ("ISO0", PinBlockType.ISO0),
        ("iso-0", PinBlockType.ISO0),
        ("Pin_Block_Iso0", PinBlockType.ISO0),
        ("3DES_SECCOS", PinBlockType.SECCOS),
        ("ISO1", None),
        ("", None),
        ("ISO0 ", None),
    ],
)
def test_a_literal_of_type_names_a_block_type_in_any_case(
    literal: str, block_type: PinBlockType | None
) -> None:
    assert WireProfile().block_type(literal) is block_type


# Sealing

WIRE_DEFAULTS = {
    "token": {
        "ttl_seconds": 900,
        "expires_in_as_string": True,
        "emit_expires_at": True,
        "bearer_binding": "certificate",
    },
    "put_pin": {
        "iso0": ["ISO0", "ISO_0", "ISO-0", "PIN_ISO0", "PIN_BLOCK_ISO0", "PINBLOCK_ISO0"],
        "seccos": [
            "3DES_SECCOS",
            "SECCOS",
            "SECCOS_3DES",
            "PIN_3DES_SECCOS",
            "PIN_BLOCK_3DES_SECCOS",
        ],
    },
    "get_pin": {"field": "encryptedPinBlock", "type_literal": "ISO0", "include_type": True},
    "iso0": {
        "inner": "clear",
        "field": "pinBlock",
        "aliases": ["pinblock", "block", "value"],
        "hex_case": "upper",
        "pan_field": "pan",
    },
    "jwe": {"extra_header_members": []},
    "counter": {"field": "changeCounter", "as_string": False},
    "errors": {"code_field": "errorCode", "error_field": "error"},
}
POLICY_DEFAULTS = {
    "length_min": 4,
    "length_max": 8,
    "page_length_max": 4,
    "refuse_repeated": True,
    "refuse_runs": True,
    "text_reveal": False,
}
VERIFICATION_DEFAULTS = {
    "pvv": None,
    "offset_3624": None,
    "prw": False,
    "prw_key_generation": 1,
}
SECCOS_DEFAULTS = {
    "version": "design-default",
    "pin_block": {
        "clear_format": "iso2",
        "selfenc": "none",
        "cipher": "tdes-ecb",
        "iv": "0000000000000000",
        "padding": "none",
        "session_key": "none",
        "key_label": "d1.spe",
    },
    "prw": {
        "alg": "aes-cmac",
        "encoding": "lv",
        "template": [],
        "pan": "full",
        "cdp": "{psn:u16}",
        "cdt": "{expiry:yymm}",
        "counter_binding": "cdt_suffix",
        "random": "payload",
        "key_label": "d1.prw.ver",
    },
    "mac": {
        "alg": "iso9797-alg3-pad2",
        "length": 8,
        "input": ["hex:8424000210", "counter:u16be", "pinBlock"],
        "session_key": "none",
        "key_label": "d1.smi",
    },
    "counter": {
        "width": 2,
        "rule": "current",
        "start": 0,
        "max": 65535,
        "increment": "on_success",
    },
    "payload": {
        "pin_block": ["pinBlock", "pinblock", "block", "encryptedPinBlock", "epb", "value"],
        "prw": ["prw", "pinReferenceWord", "pinReferenceValue"],
        "prw_random": ["prwRandom", "random", "rnd", "prwRnd"],
        "mac": ["mac", "scriptMac", "pinBlockMac"],
        "counter": ["pinChangeCounter", "changeCounter", "counter", "pcc"],
        "counter_text": "decimal",
        "key_id": ["keyId", "keyVersion", "keyRef", "kcv"],
        "key_ids": [],
    },
    "verify": "full",
    "prw_source": "d1",
    "errors": {"conflict": 400},
}


@pytest.fixture(scope="module")
def hsm_token() -> SoftwareToken:
    return SoftwareToken()


@pytest.mark.parametrize(
    ("kind", "defaults"),
    [
        (ConfigKind.WIRE, WIRE_DEFAULTS),
        (ConfigKind.POLICY, POLICY_DEFAULTS),
        (ConfigKind.VERIFICATION, VERIFICATION_DEFAULTS),
        (ConfigKind.SECCOS, SECCOS_DEFAULTS),
    ],
)
def test_every_default_is_written_out_when_a_configuration_is_sealed(
    hsm_token: SoftwareToken, kind: ConfigKind, defaults: Mapping[str, object]
) -> None:
    sealed = with_cmac(config(ISSUER_ID, kind, {}), LABEL, hsm_token.mac)
    assert json.loads(sealed.body) == defaults


def test_the_defaults_of_the_values_that_are_asked_for_are_written_out_too(
    hsm_token: SoftwareToken,
) -> None:
    body = {"pvv": {"key_index": 6}, "offset_3624": {"table": TABLE}}
    sealed = with_cmac(config(ISSUER_ID, ConfigKind.VERIFICATION, body), LABEL, hsm_token.mac)
    written = json.loads(sealed.body)
    assert written["pvv"] == {"key_index": 6, "key_generation": 1}
    assert written["offset_3624"] == {
        "table": TABLE,
        "start": 0,
        "length": 16,
        "pad": "F",
        "key_generation": 1,
    }


def test_a_recipient_is_sealed_with_every_member_it_came_with(hsm_token: SoftwareToken) -> None:
    jwk = json.loads(JWK.generate(kty="EC", crv="P-256", kid="d1", use="enc").export_public())
    body = {"jwk": {**jwk, "x5t": "abc"}}
    sealed = with_cmac(config(ISSUER_ID, ConfigKind.RECIPIENT, body), LABEL, hsm_token.mac)
    assert json.loads(sealed.body) == body


def test_the_same_settings_are_sealed_as_the_same_bytes(hsm_token: SoftwareToken) -> None:
    first = {"length_max": 6, "length_min": 4}
    second = {"length_min": 4, "refuse_runs": True, "length_max": 6}
    one, other = (
        with_cmac(config(ISSUER_ID, ConfigKind.POLICY, body), LABEL, hsm_token.mac)
        for body in (first, second)
    )
    assert one == other
    assert one.key_label == "config-mac.g1"


def test_a_page_takes_the_shortest_length_only_unless_the_issuer_sets_more() -> None:
    for body, most in (({}, 4), ({"length_min": 6}, 6), ({"page_length_max": 8}, 8)):
        policy = parse_body(ConfigKind.POLICY, json.dumps(body).encode())
        assert isinstance(policy, PolicyBody)
        assert policy.page_length_max == most


def test_a_policy_from_before_it_knew_of_pages_is_read_with_their_defaults(
    hsm_token: SoftwareToken,
) -> None:
    today = with_cmac(config(ISSUER_ID, ConfigKind.POLICY, {}), LABEL, lambda _, data: data)
    body = b'{"length_max":8,"length_min":5,"refuse_repeated":true,"refuse_runs":true}'
    mac_input = today.cmac.removesuffix(today.body)[:-4] + len(body).to_bytes(4) + body
    old = replace(today, body=body, cmac=hsm_token.mac(LABEL, mac_input))
    policy = read(ConfigReader(hsm_token.mac, Clock()), old)
    assert (policy.page_length_max, policy.text_reveal) == (5, False)


def test_the_cmac_covers_every_field() -> None:
    # It is in databases: none of these bytes may move.
    policy = config(ISSUER_ID, ConfigKind.POLICY, {}, 3)
    sealed = with_cmac(policy, LABEL, lambda _, data: data)
    assert sealed.cmac == b"".join(
        len(part).to_bytes(4) + part
        for part in (
            b"config",
            b"testbank01",
            b"policy",
            b"3",
            b"2020-01-01T00:00:00+00:00",
            b"2050-01-01T00:00:00+00:00",
            b"config-mac.g1",
            b'{"length_max":8,"length_min":4,"page_length_max":4,"refuse_repeated":true,'
            b'"refuse_runs":true,"text_reveal":false}',
        )
    )


@pytest.mark.parametrize("version", [0, -1])
def test_versions_count_from_1(hsm_token: SoftwareToken, version: int) -> None:
    with pytest.raises(ConfigRefused, match="version"):
        with_cmac(config(ISSUER_ID, ConfigKind.POLICY, {}, version), LABEL, hsm_token.mac)


# Reading


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = VALID_FROM

    def __call__(self) -> datetime:
        return self.now


def read(reader: ConfigReader, sealed: SealedConfig) -> PolicyBody:
    return reader.read(ConfigKind.POLICY, PolicyBody, {ConfigKind.POLICY: sealed}, ISSUER_ID)


def test_a_configuration_is_verified_once_and_its_dates_every_time(
    hsm_token: SoftwareToken,
) -> None:
    macs: list[KeyLabel] = []

    def mac(label: KeyLabel, data: bytes) -> bytes:
        macs.append(label)
        return hsm_token.mac(label, data)

    clock = Clock()
    reader = ConfigReader(mac, clock)
    sealed = with_cmac(
        config(ISSUER_ID, ConfigKind.POLICY, {"length_max": 6}), LABEL, hsm_token.mac
    )
    second = timedelta(seconds=1)
    for clock.now in (VALID_FROM, VALID_FROM + second, VALID_UNTIL - second):
        assert read(reader, sealed).length_max == 6
    assert macs == [LABEL]
    for clock.now in (VALID_FROM - second, VALID_UNTIL, VALID_UNTIL + second):
        with pytest.raises(ConfigRefused, match="not valid now"):
            read(reader, sealed)
    clock.now = VALID_FROM
    assert read(reader, sealed).length_max == 6
    assert macs == [LABEL]


def test_dates_mean_the_same_in_every_zone(hsm_token: SoftwareToken) -> None:
    sealed = with_cmac(config(ISSUER_ID, ConfigKind.POLICY, {}), LABEL, hsm_token.mac)
    east = timezone(timedelta(hours=9))
    # A database session may give its own zone back.
    moved = SealedConfig(
        sealed.issuer_id,
        sealed.kind,
        sealed.version,
        sealed.valid_from.astimezone(east),
        sealed.valid_until.astimezone(east),
        sealed.key_label,
        sealed.body,
        sealed.cmac,
    )
    assert read(ConfigReader(hsm_token.mac, Clock()), moved) == PolicyBody()


@pytest.mark.parametrize("role", [KeyRole.PIN_MAC, KeyRole.PAN_MAC, KeyRole.PIN])
def test_a_right_cmac_of_another_key_does_not_count(
    hsm_token: SoftwareToken, role: KeyRole
) -> None:
    sealed = with_cmac(config(ISSUER_ID, ConfigKind.POLICY, {}), KeyLabel(role, 1), hsm_token.mac)
    with pytest.raises(ConfigRefused, match="not sealed"):
        read(ConfigReader(hsm_token.mac, Clock()), sealed)


def test_a_configuration_that_was_refused_once_is_refused_again(hsm_token: SoftwareToken) -> None:
    reader = ConfigReader(hsm_token.mac, Clock())
    unsealed = config(ISSUER_ID, ConfigKind.POLICY, {"length_max": 12})
    for _ in range(2):
        with pytest.raises(ConfigRefused, match="not sealed"):
            read(reader, unsealed)


def test_what_an_issuer_need_not_have_is_found_or_not(hsm_token: SoftwareToken) -> None:
    reader = ConfigReader(hsm_token.mac, Clock())
    sealed = with_cmac(
        config(ISSUER_ID, ConfigKind.POLICY, {"length_max": 6}), LABEL, hsm_token.mac
    )
    assert reader.find(ConfigKind.POLICY, PolicyBody, {}, ISSUER_ID) is None
    found = reader.find(ConfigKind.POLICY, PolicyBody, {ConfigKind.POLICY: sealed}, ISSUER_ID)
    assert found == PolicyBody(length_max=6)


def test_what_is_there_and_is_refused_does_not_pass_for_missing(hsm_token: SoftwareToken) -> None:
    reader = ConfigReader(hsm_token.mac, Clock())
    unsealed = {ConfigKind.POLICY: config(ISSUER_ID, ConfigKind.POLICY, {})}
    with pytest.raises(ConfigRefused, match="not sealed"):
        reader.find(ConfigKind.POLICY, PolicyBody, unsealed, ISSUER_ID)
