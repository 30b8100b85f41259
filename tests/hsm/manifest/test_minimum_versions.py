"""Lists of minimum versions: what is one, and when it is good."""

import json
from collections.abc import Mapping
from datetime import timedelta

import pytest

from hsm.errors import ManifestRefused
from hsm.manifest import minimum_versions
from hsm.manifest.model import VERSION_MAX

LISTED: Mapping[str, object] = {
    "valid_from": "2026-01-01T00:00:00Z",
    "valid_until": "2026-01-08T00:00:00Z",
    "minimum_versions": {"testbank01": 7, "testbank02": 1},
}


def parse(**members: object) -> minimum_versions.MinimumVersions:
    return minimum_versions.parse(json.dumps({**LISTED, **members}).encode())


def test_a_list_is_read_back_from_the_bytes_that_are_signed() -> None:
    listed = parse()
    assert listed.minimum_versions == {"testbank01": 7, "testbank02": 1}
    assert minimum_versions.parse(listed.canonical()) == listed
    assert listed.canonical() == (
        b'{"generations":0,"minimum_versions":{"testbank01":7,"testbank02":1},'
        b'"valid_from":"2026-01-01T00:00:00Z","valid_until":"2026-01-08T00:00:00Z"}'
    )


def test_a_list_of_no_issuer_is_one_for_a_new_deployment() -> None:
    assert parse(minimum_versions={}).minimum_versions == {}


def test_a_list_is_good_from_its_first_moment_until_just_before_its_last() -> None:
    listed, step = parse(), timedelta(microseconds=1)
    assert listed.is_valid_at(listed.valid_from)
    assert listed.is_valid_at(listed.valid_until - step)
    assert not listed.is_valid_at(listed.valid_from - step)
    assert not listed.is_valid_at(listed.valid_until)


@pytest.mark.parametrize(
    "members",
    [
        {"minimum_versions": None},
        {"minimum_versions": []},
        {"minimum_versions": {"testbank0": 1}},
        {"minimum_versions": {"testbank@1": 1}},
        *(
            {"minimum_versions": {"testbank01": version}}
            for version in (0, -1, VERSION_MAX + 1, 1.0, True, "1", None)
        ),
        {"valid_until": LISTED["valid_from"]},
        {"valid_until": "2026-01-08T00:00:00"},
        {"issuer_id": "testbank01"},
    ],
    ids=str,
)
def test_what_is_no_list_is_refused(members: Mapping[str, object]) -> None:
    with pytest.raises(ManifestRefused, match="refused members: "):
        parse(**members)


def test_an_issuer_stands_in_a_list_once() -> None:
    twice = json.dumps(LISTED).replace("testbank02", "testbank01")
    with pytest.raises(ManifestRefused, match="not a JSON object"):
        minimum_versions.parse(twice.encode())
