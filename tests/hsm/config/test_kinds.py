"""Bodies of each kind of configuration: what is refused, and how it is said."""

import json
from collections.abc import Mapping

import pytest

from hsm.config.kinds import parse_body
from hsm.config.wire import WireProfile
from hsm.errors import ConfigRefused
from hsm.port import ConfigKind, PinBlockType

SECRET_LOOKING = "4111111111111111"
TABLE = "0123456701234567"


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
        *(
            (ConfigKind.WIRE, {"token": {"scope": scope}}, "token.scope")
            for scope in ("", " pin", "pin  read", 'p"in', "p\\in", "pin\n", "é", "x" * 257)
        ),
        *(
            (ConfigKind.WIRE, {"jwe": {"our_kids": [{"kid": kid}]}}, "jwe.our_kids.0.kid")
            for kid in ("", "a b", "a\n", "é", "x" * 129)
        ),
        (ConfigKind.WIRE, {"iso0": {"key_generation": 0}}, "iso0.key_generation"),
        (ConfigKind.WIRE, {"iso0": {"inner": "clear"}}, "iso0.inner"),
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
                ("validation_data", ""),
                ("validation_data", "{left:0:12}"),
                ("validation_data", "0123456789012345"),
                ("validation_data", "{left:8:12}FFFF"),
                ("validation_data", "{right:16:4}FFFFFFFFFFFF"),
                ("validation_data", ["{left:0:16}"]),
                # Members of an older version, which validation_data replaces.
                ("start", 0),
                ("length", 16),
                ("pad", "F"),
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
        ("PIN Block ISO0", PinBlockType.ISO0),
        ("3DES_SECCOS", PinBlockType.SECCOS),
        ("PIN Block 3DES Seccos", PinBlockType.SECCOS),
        ("ISO1", None),
        ("", None),
        ("ISO0 ", None),
    ],
)
def test_a_literal_of_type_names_a_block_type_in_any_case(
    literal: str, block_type: PinBlockType | None
) -> None:
    assert WireProfile().block_type(literal) is block_type
