import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from pydantic import BaseModel, ValidationError

from crypto.errors import CounterExhaustedError
from crypto.seccos.profile import CounterProfile, SeccosProfile
from tests.crypto.seccos.profiles import KEYS_OF_ALL_CARDS, Body, bodies, profile
from tests.manifest_defaults import DEFAULTS


def paths(body: Body) -> set[str]:
    """Return the paths at which a profile is refused."""
    with pytest.raises(ValidationError) as refusal:
        profile(body)
    return {".".join(map(str, error["loc"])) for error in refusal.value.errors()}


def test_the_example_of_the_design_is_the_default() -> None:
    assert profile(DEFAULTS["seccos"]) == profile({}) == SeccosProfile()


@given(bodies())
def test_what_is_sound_is_accepted_and_written_as_it_is_read(body: Body) -> None:
    accepted = profile(body)

    assert profile(accepted.model_dump(mode="json")) == accepted
    assert hash(accepted) == hash(profile(body))


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections(field.annotation)


@pytest.mark.parametrize("section", list(sections(SeccosProfile)))
def test_every_knob_is_documented(section: type[BaseModel]) -> None:
    leaves = {
        name: field.description
        for name, field in section.model_fields.items()
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    }

    assert leaves
    assert all(leaves.values())
    assert section.__doc__


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"pin_block": {"session_key": "emv_csk_arqc"}}, "pin_block.session_key"),
        ({"pin_block": {"session_key": "visa_xor"}}, "pin_block.session_key"),
        ({"mac": {"session_key": "visa_xor"}}, "mac.session_key"),
        ({"verify": "opaque"}, "verify"),
        ({"verify": True}, "verify"),
        ({"prw_source": "sample_issuer"}, "prw_source"),
        ({"errors": {"conflict": 403}}, "errors.conflict"),
        ({"errors": {"conflict": 409}}, "errors.conflict"),
        ({"pin_block": {"clear_format": "iso4"}}, "pin_block.clear_format"),
        ({"pin_block": {"clear_format": "ISO2"}}, "pin_block.clear_format"),
        ({"pin_block": {"cipher": "aes-cbc"}}, "pin_block.cipher"),
        ({"pin_block": {"padding": "iso9797-1"}}, "pin_block.padding"),
        ({"pin_block": {"selfenc": "yes"}}, "pin_block.selfenc"),
        ({"pin_block": {"cipher": "tdes-cbc", "iv": "00"}}, "pin_block.iv"),
        ({"pin_block": {"cipher": "tdes-cbc", "iv": "000000000000000G"}}, "pin_block.iv"),
        ({"pin_block": {"cipher": "tdes-cbc", "iv": "0000000000000000\n"}}, "pin_block.iv"),
        ({"pin_block": {"key_label": "D1 SPE"}}, "pin_block.key_label"),
        ({"pin_block": {"colour": "red"}}, "pin_block.colour"),
        ({"pin_block": []}, "pin_block"),
        ({"prw": {"alg": "hmac"}}, "prw.alg"),
        ({"prw": {"encoding": "asn1"}}, "prw.encoding"),
        ({"prw": {"pan": "none"}}, "prw.pan"),
        ({"prw": {"cdp": ""}}, "prw.cdp"),
        ({"prw": {"cdp": "{psn:u64}"}}, "prw.cdp"),
        ({"prw": {"cdp": "ABC"}}, "prw.cdp"),
        ({"prw": {"cdt": "{expiry}"}}, "prw.cdt"),
        ({"prw": {"counter_binding": "iv"}}, "prw.counter_binding"),
        ({"prw": {"random": "counter"}}, "prw.random"),
        ({"prw": {"encoding": "template", "template": ["pin", "age"]}}, "prw.template.1"),
        ({"mac": {"alg": "hmac"}}, "mac.alg"),
        ({"mac": {"length": 3}}, "mac.length"),
        ({"mac": {"length": 17}}, "mac.length"),
        ({"mac": {"length": 8.0}}, "mac.length"),
        ({"mac": {"length": "8"}}, "mac.length"),
        ({"mac": {"length": True}}, "mac.length"),
        ({"mac": {"input": []}}, "mac.input"),
        ({"mac": {"input": "pinBlock"}}, "mac.input"),
        ({"mac": {"input": ["pinBlock", "pin"]}}, "mac.input.1"),
        ({"mac": {"input": ["hex:842", "pinBlock"]}}, "mac.input.0"),
        ({"mac": {"input": ["hex:", "pinBlock"]}}, "mac.input.0"),
        ({"counter": {"width": 3}}, "counter.width"),
        ({"counter": {"rule": "previous"}}, "counter.rule"),
        ({"counter": {"start": 1}}, "counter.start"),
        ({"counter": {"max": 0}}, "counter.max"),
        ({"counter": {"max": -1}}, "counter.max"),
        ({"counter": {"max": 1e3}}, "counter.max"),
        ({"counter": {"increment": "always"}}, "counter.increment"),
        ({"payload": {"prw": []}}, "payload.prw"),
        ({"payload": {"prw": ["prw", "a b"]}}, "payload.prw.1"),
        ({"payload": {"counter_text": "octal"}}, "payload.counter_text"),
        (
            {"payload": {"key_ids": [{"name": "A", "generation": 0}]}},
            "payload.key_ids.0.generation",
        ),
        ({"payload": {"key_ids": [{"name": "", "generation": 1}]}}, "payload.key_ids.0.name"),
        ({"version": ""}, "version"),
        ({"seccos": {}}, "seccos"),
    ],
)
def test_a_value_that_is_not_offered_is_refused_with_its_path(body: Body, path: str) -> None:
    assert paths(body) == {path}


CBC = {"cipher": "tdes-cbc"}
ALL_BUT_CDT = ["pan", "cdp", "pinField", "random"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"pin_block": {"selfenc": "replace"}}, "verify"),
        ({"pin_block": {"iv": "counter"}}, "pin_block.iv"),
        ({"pin_block": {"iv": "0000000000000001"}}, "pin_block.iv"),
        ({"verify": "mac_only", "prw_source": "issuer"}, "prw_source"),
        ({"prw": {"random": "issuer"}}, "prw.random"),
        (
            {
                "prw_source": "issuer",
                "prw": {"random": "issuer", "counter_binding": "replace_random"},
            },
            "prw.random",
        ),
        ({"pin_block": {"session_key": "none"}}, "pin_block.same_on_every_card"),
        ({"pin_block": {"same_on_every_card": True}}, "pin_block.same_on_every_card"),
        *(
            (
                {
                    "pin_block": {
                        "session_key": "none",
                        "clear_format": clear_format,
                        "same_on_every_card": True,
                    }
                },
                "pin_block.same_on_every_card",
            )
            for clear_format in ("iso0", "iso1", "iso3")
        ),
        ({"prw": {"cdp": "{psn:u8}"}}, "prw.cdp"),
        ({"prw": {"cdt": "00" * 257}}, "prw.cdt"),
        ({"prw": {"encoding": "template"}}, "prw.template"),
        ({"prw": {"template": ["pin", "random", "cdt"]}}, "prw.template"),
        ({"prw": {"encoding": "template", "template": ["cdt", "random"]}}, "prw.template"),
        ({"prw": {"encoding": "template", "template": ["cdt", "pin"]}}, "prw.template"),
        ({"prw": {"encoding": "template", "template": ALL_BUT_CDT}}, "prw.template"),
        (
            {
                "prw": {
                    "encoding": "template",
                    "template": ["cdt", "pin", "random"],
                    "random": "none",
                }
            },
            "prw.template",
        ),
        (
            {"prw": {"encoding": "template", "template": ["cdt", "pin", "random", "counter:u8"]}},
            "prw.template",
        ),
        ({"mac": {"length": 9}}, "mac.length"),
        ({"mac": {"alg": "tdes-cmac", "length": 16}}, "mac.length"),
        ({"mac": {"alg": "aes-cmac", "session_key": "emv_csk"}}, "mac.session_key"),
        ({"mac": {"input": ["counter:u16be", "prw"]}}, "mac.input"),
        ({"mac": {"input": ["counter:u8", "pinBlock"]}}, "mac.input"),
        ({"mac": {"input": ["pinBlock", "random"]}, "prw": {"random": "none"}}, "mac.input"),
        (
            {
                "mac": {"input": ["pinBlock", "random"]},
                "prw": {"counter_binding": "replace_random"},
            },
            "mac.input",
        ),
        (
            {
                "mac": {"input": ["pinBlock", "prw", "counter:u16be"]},
                "prw": {"random": "issuer"},
                "prw_source": "issuer",
            },
            "mac.input",
        ),
        ({"counter": {"width": 1}}, "counter.max"),
        ({"counter": {"width": 2, "max": 65536}, "mac": {"input": ["pinBlock"]}}, "counter.max"),
        (
            {
                "counter": {"width": 4, "max": 65536},
                "pin_block": {"session_key": "emv_csk"},
                "mac": {"input": ["pinBlock"]},
            },
            "counter.max",
        ),
        (
            {
                "prw": {"counter_binding": "none"},
                "mac": {"input": ["pinBlock", "cdt"], "session_key": "none"},
            },
            "prw.counter_binding",
        ),
        (
            {"verify": "mac_only", "mac": {"input": ["pinBlock"], "session_key": "none"}},
            "prw.counter_binding",
        ),
        (
            {
                "prw": {"random": "issuer"},
                "prw_source": "issuer",
                "mac": {"input": ["pinBlock"], "session_key": "none"},
            },
            "prw.counter_binding",
        ),
        ({"payload": {"mac": ["prw"]}}, "payload"),
        ({"payload": {"mac": ["m", "m"]}}, "payload"),
        (
            {
                "payload": {
                    "key_ids": [
                        {"name": "A", "generation": 1},
                        {"name": "A", "generation": 2},
                    ]
                }
            },
            "payload.key_ids",
        ),
    ],
)
def test_a_combination_that_makes_no_sense_is_refused_with_its_path(body: Body, path: str) -> None:
    assert paths(body) == {path}


@pytest.mark.parametrize(
    "body",
    [
        {"pin_block": {"selfenc": "replace"}, "verify": "mac_only"},
        {"pin_block": CBC | {"iv": "counter"}},
        {"pin_block": CBC},
        {"prw": {"counter_binding": "replace_random"}},
        {"prw": {"counter_binding": "replace_random", "random": "none"}},
        {"prw": {"counter_binding": "none"}},
        {"prw": {"random": "issuer"}, "prw_source": "issuer"},
        {"mac": {"input": ["pinBlock", "cdp"], "alg": "aes-cmac", "session_key": "none"}},
        KEYS_OF_ALL_CARDS,
        {"pin_block": {"session_key": "none", "clear_format": "iso0"}},
        {"mac": {"input": ["pinBlock"], "session_key": "emv_csk"}, "verify": "mac_only"},
        {"mac": {"input": ["pinBlock", "cdt"]}, "verify": "mac_only"},
        {"counter": {"width": 1, "max": 255}},
        {"payload": {"key_ids": [{"name": "2026A", "generation": 1}]}},
    ],
)
def test_these_are_accepted(body: Body) -> None:
    assert profile(body) == profile(json.loads(profile(body).model_dump_json()))


def test_two_faults_are_both_named() -> None:
    assert paths({"mac": {"length": 9, "input": ["counter:u16be"]}}) == {"mac.length", "mac.input"}


def test_a_profile_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        profile({}).prw.alg = "tdes-cmac"  # type: ignore[misc]  # frozen: what mypy sees too


@pytest.mark.parametrize(("rule", "expected"), [("current", 65535), ("next", 65535)])
def test_the_counter_ends_at_its_maximum(rule: str, expected: int) -> None:
    counter = CounterProfile.model_validate({"rule": rule})
    step = 1 if rule == "next" else 0

    assert counter.expected(0) == step
    assert counter.expected(expected - step) == expected
    with pytest.raises(CounterExhaustedError):
        counter.expected(expected - step + 1)
