"""The manifest: its defaults, what is refused and how that is said, and the bytes to sign."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from jwcrypto.jwk import JWK

from hsm.errors import ManifestRefused
from hsm.manifest.model import VERSION_MAX, Manifest, parse
from hsm.manifest.wire import WireProfile
from hsm.port import PinBlockType
from tests.manifest_defaults import DEFAULTS

SECRET_LOOKING = "4111111111111111"
TABLE = "0123456701234567"
SMALLEST: Mapping[str, object] = {
    "issuer_id": "testbank01",
    "version": 1,
    "valid_from": "2026-01-01T00:00:00Z",
    "valid_until": "2027-01-01T00:00:00Z",
}
APP: Mapping[str, object] = {"kind": "app", "client_id": "testbank01-app"}


def manifest(**members: object) -> Manifest:
    return parse(json.dumps({**SMALLEST, **members}).encode())


def refusal(**members: object) -> str:
    with pytest.raises(ManifestRefused) as refused:
        manifest(**members)
    return str(refused.value)


def faults(message: str) -> list[str]:
    """The paths that a refusal names, without the reasons."""
    return re.sub(r" \([^)]*\)", "", message.removeprefix("refused members: ")).split(", ")


def test_every_default_is_written_out() -> None:
    written = json.loads(manifest(recipient=None).canonical())
    assert written == {
        **SMALLEST,
        "name": None,
        "sandbox": False,
        "wire": DEFAULTS["wire"],
        "policy": DEFAULTS["policy"],
        "limits": DEFAULTS["limits"],
        "recipient": None,
        "seccos": None,
        "verification": DEFAULTS["verification"],
        "verification_host": None,
        "bureau": None,
        "identity_provider": None,
        "clients": [],
        "feeds": [],
        "scripts": None,
        "pin_operations": {"pki": False, "pre_shared_keys": []},
    }
    scripts = json.loads(manifest(scripts={"scheme": "ccd"}).canonical())["scripts"]
    assert scripts == DEFAULTS["scripts"] | {"scheme": "ccd"}
    assert json.loads(manifest(seccos={}).canonical())["seccos"] == DEFAULTS["seccos"]
    assert json.loads(manifest(bureau={}).canonical())["bureau"] == DEFAULTS["bureau"]


@pytest.mark.parametrize(
    "members", [{}, {"policy": {"length_max": 6}}, {"seccos": {}}, {"clients": [APP]}], ids=str
)
def test_what_is_signed_is_sorted_ascii_without_spaces_and_reads_back(
    members: Mapping[str, Any],
) -> None:
    signed = manifest(**members).canonical()
    written = json.dumps(json.loads(signed), sort_keys=True, separators=(",", ":"))
    assert signed.decode("ascii") == written
    assert parse(signed) == manifest(**members)
    assert parse(manifest(**members).indented().encode()).canonical() == signed


@pytest.mark.parametrize(
    ("members", "paths"),
    [
        ({"issuer_id": "testbank0"}, ["issuer_id"]),
        ({"issuer_id": "testbank012"}, ["issuer_id"]),
        ({"issuer_id": "testbank@1"}, ["issuer_id"]),
        ({"issuer_id": "testbank01\n"}, ["issuer_id"]),
        ({"issuer_id": None}, ["issuer_id"]),
        *(
            ({"version": version}, ["version"])
            for version in (0, -1, VERSION_MAX + 1, 1.0, True, "1", None)
        ),
        *(
            ({"valid_until": moment}, ["valid_until"])
            for moment in ("2027-01-01T00:00:00", "2027-01-01", "soon", 1_800_000_000, None)
        ),
        ({"sandbox": "true"}, ["sandbox"]),
        ({"sandbox": 1}, ["sandbox"]),
        ({"clients": {}}, ["clients"]),
        ({"clients": [{"kind": "person"}]}, ["clients.0"]),
        ({"words": SECRET_LOOKING}, ["words"]),
        ({"wire": None, "policy": None}, ["policy", "wire"]),
    ],
    ids=str,
)
def test_a_member_is_refused_by_its_path(members: Mapping[str, Any], paths: list[str]) -> None:
    assert faults(refusal(**members)) == paths


def test_members_that_contradict_one_another_are_refused_with_the_reason() -> None:
    until = {"valid_until": SMALLEST["valid_from"]}
    assert refusal(**until) == "refused members: valid_until is not after valid_from"
    refused = refusal(recipient={"jwk": {"kty": "EC"}}, policy={"length_min": 8, "length_max": 6})
    assert refused == (
        "refused members: policy (PIN lengths must satisfy 4 <= min <= max <= 12),"
        " recipient (jwk is not a public P-256 key)"
    )


def test_a_recipient_is_a_public_key() -> None:
    key = JWK.generate(kty="EC", crv="P-256", kid="d1-2026")
    for member in ("recipient", "verification_host"):
        assert manifest(**{member: {"jwk": key.export_public(as_dict=True)}})
        private = refusal(**{member: {"jwk": key.export_private(as_dict=True)}})
        assert private == f"refused members: {member} (jwk is not a public P-256 key)"


def test_it_is_in_force_from_its_first_moment_until_just_before_its_last() -> None:
    valid_from, valid_until = (datetime(year, 1, 1, tzinfo=UTC) for year in (2026, 2027))
    step = timedelta(microseconds=1)
    assert manifest().is_valid_at(valid_from)
    assert manifest().is_valid_at(valid_until - step)
    assert not manifest().is_valid_at(valid_from - step)
    assert not manifest().is_valid_at(valid_until)


def test_a_time_of_another_zone_is_the_moment_that_it_is() -> None:
    east = manifest(valid_from="2026-01-01T02:00:00+02:00")
    assert east.valid_from == manifest().valid_from


# Clients of one issuer (what one of them may be is in test_clients)

SECRET = {"sha256": "0" * 64}
D1 = {"kind": "d1", "client_id": "testbank01-d1", "certificates": ["CN=d1"]}
SERVER = {"kind": "server", "client_id": "testbank01-server", "secrets": [SECRET]}
FRAMED = {**SERVER, "frame_key": "testbank01-frame", "frame_origins": ["https://bank.example"]}


def test_clients_are_found_by_their_ids() -> None:
    taken = manifest(clients=[D1, APP, SERVER])
    assert list(taken.by_client_id) == ["testbank01-d1", "testbank01-app", "testbank01-server"]
    assert [client.kind for client in taken.by_client_id.values()] == ["d1", "app", "server"]
    assert [client.client_id for client in taken.servers] == ["testbank01-server"]


@pytest.mark.parametrize(
    ("clients", "reason"),
    [
        ([APP, APP], "two clients of one id, or of one frame key"),
        ([APP, {**D1, "client_id": "testbank01-app"}], "two clients of one id"),
        ([FRAMED, {**FRAMED, "client_id": "testbank01-other"}], "two clients of one id"),
        ([{**APP, "client_id": "testbank02-app"}], "start with the issuer's id"),
        ([{**APP, "client_id": "app"}], "start with the issuer's id"),
        ([{**FRAMED, "frame_key": "testbank02-frame"}], "start with the issuer's id"),
    ],
    ids=str,
)
def test_clients_have_names_of_their_own_and_of_their_issuer(
    clients: list[object], reason: str
) -> None:
    assert reason in refusal(clients=clients)
    assert reason in refusal(clients=clients, sandbox=True)


@pytest.mark.parametrize(
    "client",
    [
        {**APP, "redirect_origins": ["http://localhost:3000"]},
        {**APP, "embed_origins": ["http://localhost:3000"]},
        {**FRAMED, "frame_origins": ["https://bank.example", "http://localhost:3000"]},
    ],
    ids=str,
)
def test_an_origin_of_this_machine_is_for_a_sandbox_only(client: object) -> None:
    assert manifest(clients=[client], sandbox=True)
    assert "for a sandbox only" in refusal(clients=[client])


# Feeds


def feed(name: str, kid: str = "key-1", **key: str) -> dict[str, object]:
    public = JWK.generate(kty="EC", crv="P-256", kid=kid).export_public(as_dict=True)
    return {"name": name, "jwk": {**public, **key}}


def test_a_feed_has_a_name_and_a_key_that_signs() -> None:
    (taken,) = manifest(feeds=[feed("personaliser", use="sig", alg="ES256")]).feeds
    assert (taken.name, taken.key.kid) == ("personaliser", "key-1")


@pytest.mark.parametrize(
    "members", [{"use": "enc"}, {"x": SECRET_LOOKING}, {"d": SECRET_LOOKING}, {"kid": ""}], ids=str
)
def test_the_key_of_a_feed_is_public_and_for_signatures(members: Mapping[str, str]) -> None:
    message = refusal(feeds=[feed("personaliser", **members)])
    assert message == "refused members: feeds.0 (jwk is not a public P-256 key for signatures)"


@pytest.mark.parametrize("name", ["", "two words", "a" * 65, "a\n", "é", None], ids=repr)
def test_the_name_of_a_feed_is_short_and_plain(name: str) -> None:
    assert faults(refusal(feeds=[feed(name)])) == ["feeds.0.name"]


def test_feeds_are_told_apart_by_name_and_by_kid() -> None:
    assert manifest(feeds=[feed("one", "key-1"), feed("two", "key-2")])
    for other in (feed("one", "key-2"), feed("two", "key-1")):
        assert "two feeds of one name, or of one kid" in refusal(
            feeds=[feed("one", "key-1"), other]
        )


# Its parts


@pytest.mark.parametrize(
    ("part", "body", "paths"),
    [
        ("policy", {"length": 4}, "length"),
        ("policy", {"length_min": "4"}, "length_min"),
        ("policy", {"length_min": 4.0}, "length_min"),
        ("policy", {"length_min": True}, "length_min"),
        ("policy", {"length_min": None}, "length_min"),
        ("policy", {"length_min": 3}, "length_min"),
        ("policy", {"length_max": 13}, "length_max"),
        ("policy", {"length_min": 8, "length_max": 6}, ""),
        ("policy", {"page_length_max": 9}, "page_length_max"),
        ("policy", {"length_min": 6, "page_length_max": 5}, "page_length_max"),
        ("policy", {"page_length_max": None}, "page_length_max"),
        ("policy", {"page_length_max": True}, "page_length_max"),
        ("policy", {"text_reveal": 1}, "text_reveal"),
        ("policy", {"text_reveal": "true"}, "text_reveal"),
        ("policy", {"refuse_runs": 1}, "refuse_runs"),
        ("limits", {"handouts_day_max": 4}, "handouts_day_max"),
        ("limits", {"handouts_card_day_max": 0}, "handouts_card_day_max"),
        ("limits", {"handouts_client_day_max": "9"}, "handouts_client_day_max"),
        ("limits", {"handouts_issuer_day_max": None}, "handouts_issuer_day_max"),
        ("wire", {"iso1": {}}, "iso1"),
        ("wire", {"iso0": {"feild": "a"}}, "iso0.feild"),
        ("wire", {"iso0": {"field": ""}}, "iso0.field"),
        ("wire", {"iso0": {"field": 'a":"b'}}, "iso0.field"),
        ("wire", {"iso0": {"field": "9a"}}, "iso0.field"),
        ("wire", {"iso0": {"field": "a\n"}}, "iso0.field"),
        ("wire", {"iso0": {"aliases": ["a", "b c"]}}, "iso0.aliases.1"),
        ("wire", {"iso0": {"hex_case": "mixed"}}, "iso0.hex_case"),
        ("wire", {"iso0": {"pan_field": "block"}}, "iso0"),
        ("wire", {"iso0": []}, "iso0"),
        ("wire", {"token": {"ttl_seconds": 901}}, "token.ttl_seconds"),
        ("wire", {"token": {"ttl_seconds": 29}}, "token.ttl_seconds"),
        ("wire", {"token": {"bearer_binding": "name"}}, "token.bearer_binding"),
        *(
            ("wire", {"token": {"scope": scope}}, "token.scope")
            for scope in ("", " pin", "pin  read", 'p"in', "p\\in", "pin\n", "é", "x" * 257)
        ),
        *(
            ("wire", {"jwe": {"our_kids": [{"kid": kid}]}}, "jwe.our_kids.0.kid")
            for kid in ("", "a b", "a\n", "é", "x" * 129)
        ),
        ("wire", {"iso0": {"key_generation": 0}}, "iso0.key_generation"),
        ("wire", {"iso0": {"inner": "clear"}}, "iso0.inner"),
        ("wire", {"counter": {"as_string": "true"}}, "counter.as_string"),
        ("wire", {"put_pin": {"iso0": []}}, "put_pin.iso0"),
        ("wire", {"put_pin": {"iso0": ["A", ""]}}, "put_pin.iso0.1"),
        ("wire", {"put_pin": {"iso0": ["A", "A"]}}, ""),
        ("wire", {"put_pin": {"iso0": ["iso0", "ISO0"]}}, ""),
        ("wire", {"put_pin": {"iso0": ["A"], "seccos": ["B", "a"]}}, ""),
        ("recipient", {}, "jwk"),
        ("recipient", {"jwk": SECRET_LOOKING}, "jwk"),
        ("recipient", {"jwk": {"kty": "EC", "x": SECRET_LOOKING}}, ""),
        ("recipient", {"jwk": {"kty": "oct", "k": SECRET_LOOKING}}, ""),
        ("verification_host", {}, "jwk"),
        ("verification_host", {"jwk": {"kty": "EC", "x": SECRET_LOOKING}}, ""),
        ("verification", {"cvv": {}}, "cvv"),
        ("verification", {"prw": 1}, "prw"),
        ("verification", {"prw_key_generation": 0}, "prw_key_generation"),
        ("verification", {"pvv": True}, "pvv"),
        ("verification", {"pvv": {}}, "pvv.key_index"),
        *(
            ("verification", {"pvv": {"key_index": index}}, "pvv.key_index")
            for index in (-1, 0, 7, True, 1.0, "1", None)
        ),
        ("verification", {"pvv": {"key_index": 1, "pvk": "00" * 16}}, "pvv.pvk"),
        *(
            (
                "verification",
                {"pvv": {"key_index": 1, "key_generation": generation}},
                "pvv.key_generation",
            )
            for generation in (0, 1_000_000, True, "1")
        ),
        ("verification", {"offset_3624": {}}, "offset_3624.table"),
        *(
            ("verification", {"offset_3624": {"table": table}}, "offset_3624.table")
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
                "verification",
                {"offset_3624": {"table": TABLE, name: value}},
                f"offset_3624.{name}",
            )
            for name, value in (
                ("validation_data", ""),
                ("validation_data", "{left:0:12}"),
                ("validation_data", "0123456789012345"),
                ("validation_data", ["{left:0:16}"]),
                # Members of an older version, which validation_data replaces.
                ("start", 0),
                ("length", 16),
                ("pad", "F"),
                ("check_digits", 4),
            )
        ),
        ("seccos", {"cipher": "aes"}, "cipher"),
        ("seccos", {"verify": "opaque"}, "verify"),
        ("seccos", {"errors": {"conflict": 409}}, "errors.conflict"),
        ("seccos", {"pin_block": {"selfenc": "replace"}}, "verify"),
        *(
            ("seccos", {section: {"session_key": name}}, f"{section}.session_key")
            for section in ("pin_block", "mac")
            for name in ("emv_csk_arqc", "visa_xor")
        ),
        ("seccos", {"pin_block": {"key_label": "d1.prw.ver"}}, "pin_block.key_label"),
        ("seccos", {"prw": {"key_label": "pin.g1"}}, "prw.key_label"),
        ("seccos", {"mac": {"key_label": "d1.smi.g0"}}, "mac.key_label"),
        ("seccos", {"mac": {"input": ["pinBlock", SECRET_LOOKING]}}, "mac.input.1"),
        ("seccos", {"mac": {"length": 9}}, "mac.length"),
        ("seccos", {"counter": {"max": 65536}}, "counter.max, mac.input"),
        (
            "seccos",
            {"payload": {"key_ids": [{"name": "a", "generation": 0}]}},
            "payload.key_ids.0.generation",
        ),
        ("seccos", {"payload": {"mac": ["prw"]}}, "payload"),
    ],
    ids=str,
)
def test_a_part_is_refused_by_path_and_without_a_value(
    part: str, body: Mapping[str, object], paths: str
) -> None:
    message = refusal(**{part: body})
    assert faults(message) == [f"{part}.{path}".rstrip(".") for path in paths.split(", ")]
    assert SECRET_LOOKING not in message


def test_all_refused_members_are_named_at_once() -> None:
    policy = {"length_min": SECRET_LOOKING, "length_max": SECRET_LOOKING, "words": SECRET_LOOKING}
    named = "policy.length_max, policy.length_min, policy.words"
    assert refusal(policy=policy, sandbox=SECRET_LOOKING) == f"refused members: {named}, sandbox"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"junk",
        b"[]",
        b"null",
        b'{"version":1,"version":1}',
        b'{"wire":{"iso0":1,"iso0":1}}',
        b'{"version":NaN}',
        b"[" * 100_000,
        b"\xff",
        b"{}{}",
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda text: str(text[:20]),
)
def test_a_manifest_is_one_json_object(text: bytes) -> None:
    with pytest.raises(ManifestRefused, match=r"^not a JSON object$"):
        parse(text)


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
