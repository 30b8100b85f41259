"""Configurations as files: what is written, what is read back, what is refused."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies

from hsm.config.json_file import from_json, to_json
from hsm.errors import ConfigRefused
from hsm.port import ConfigKind, SealedConfig
from tests.issuer_records import config

ISSUER_ID = "testbank01"

scalars = strategies.none() | strategies.booleans() | strategies.text(max_size=20)
numbers = strategies.integers(-(10**30), 10**30) | strategies.floats(
    allow_nan=False, allow_infinity=False
)
json_values = strategies.recursive(
    scalars | numbers,
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.text(max_size=8), inner)
    ),
    max_leaves=8,
)
moments = strategies.datetimes(
    min_value=datetime(1990, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    timezones=strategies.just(UTC)
    | strategies.integers(-720, 720).map(lambda m: timezone(timedelta(minutes=m))),
)
configs = strategies.builds(
    config,
    strategies.text(min_size=10, max_size=10),
    strategies.sampled_from(ConfigKind),
    strategies.dictionaries(strategies.text(max_size=8), json_values, max_size=4),
    strategies.integers(1, 2**31),
    moments,
    moments,
)


@given(configs, strategies.text(max_size=20), strategies.binary(max_size=16))
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
        *(
            text_with(**{member: "gone"})
            for member in ("issuer_id", "kind", "version", "valid_from", "valid_until", "body")
        ),
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


def test_a_byte_order_mark_may_begin_the_file_once() -> None:
    assert from_json("\ufeff" + text_with()) == from_json(text_with())
    with pytest.raises(ConfigRefused):
        from_json("\ufeff\ufeff" + text_with())
