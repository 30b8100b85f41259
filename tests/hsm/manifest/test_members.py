"""Members of a manifest by their paths: what differs, and how one is set."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from hsm.errors import ManifestRefused
from hsm.manifest.members import differences, with_member

APP = {"kind": "app", "client_id": "testbank01-app", "language": None}
FEED = {"name": "personaliser-1", "jwk": {"kid": "old"}}
D1 = {"kind": "d1", "client_id": "testbank01.d1", "secrets": []}
BODY: Mapping[str, Any] = {
    "version": 1,
    "policy": {"length_max": 8, "refuse_runs": True},
    "wire": {"jwe": {"our_kids": []}},
    "recipient": None,
    "clients": [APP, D1],
    "feeds": [FEED],
}


def written(**members: object) -> bytes:
    return json.dumps({**BODY, **members}).encode()


def compared(**members: object) -> list[str]:
    return [str(difference) for difference in differences(written(), written(**members))]


@pytest.mark.parametrize(
    ("members", "lines"),
    [
        ({}, []),
        ({"version": 2}, ["version: 1 -> 2"]),
        ({"policy": {"length_max": 6, "refuse_runs": True}}, ["policy.length_max: 8 -> 6"]),
        (
            {"policy": {"length_max": 8, "refuse_runs": 1}, "version": 1.0},
            ["policy.refuse_runs: true -> 1", "version: 1 -> 1.0"],
        ),
        (
            {"policy": {"length_max": 8, "refuse_all": True}},
            ["policy.refuse_all: absent -> true", "policy.refuse_runs: true -> absent"],
        ),
        ({"recipient": {"jwk": {"x": "a"}}}, ['recipient: null -> {"jwk": {"x": "a"}}']),
        (
            {"wire": {"jwe": {"our_kids": [{"kid": "a"}]}}},
            ['wire.jwe.our_kids: [] -> [{"kid": "a"}]'],
        ),
        ({"clients": [D1, APP]}, []),
        (
            {"clients": [D1, {**APP, "language": "de"}]},
            ['clients[testbank01-app].language: null -> "de"'],
        ),
        (
            {"feeds": [{**FEED, "jwk": {"kid": "new"}}]},
            ['feeds[personaliser-1].jwk.kid: "old" -> "new"'],
        ),
        (
            {"clients": [APP]},
            [
                'clients[testbank01.d1]: {"client_id": "testbank01.d1", "kind": "d1",'
                ' "secrets": []} -> absent'
            ],
        ),
    ],
    ids=str,
)
def test_what_differs_is_listed_member_by_member(
    members: Mapping[str, object], lines: list[str]
) -> None:
    assert compared(**members) == lines


def test_a_name_that_would_mislead_who_reads_it_is_quoted() -> None:
    style = {"a.b": 1, "\x1b[2K\rversion: 1 -> 2": 1, "]": 1, "é": "\x1b[2K"}
    assert compared(view_style={}) == ["view_style: absent -> {}"]
    lines = [str(one) for one in differences(written(view_style={}), written(view_style=style))]
    assert lines == [
        'view_style["\\u001b[2K\\rversion: 1 -> 2"]: absent -> 1',
        'view_style["]"]: absent -> 1',
        "view_style[a.b]: absent -> 1",
        'view_style["\\u00e9"]: absent -> "\\u001b[2K"',
    ]


@pytest.mark.parametrize(
    ("path", "value", "changed"),
    [
        ("version", 2, {"version": 2}),
        ("policy.length_max", 6, {"policy": {"length_max": 6, "refuse_runs": True}}),
        ("recipient", {"jwk": {}}, {"recipient": {"jwk": {}}}),
        ("wire.jwe.our_kids", [1], {"wire": {"jwe": {"our_kids": [1]}}}),
        ("wire.jwe.new", None, {"wire": {"jwe": {"our_kids": [], "new": None}}}),
        ("clients", [], {"clients": []}),
        ("clients[testbank01-app].language", "de", {"clients": [{**APP, "language": "de"}, D1]}),
        ("feeds[personaliser-1].jwk.kid", "new", {"feeds": [{**FEED, "jwk": {"kid": "new"}}]}),
        ("clients[testbank01.d1].secrets", [1], {"clients": [APP, {**D1, "secrets": [1]}]}),
    ],
    ids=str,
)
def test_a_member_is_set_where_its_path_leads(
    path: str, value: object, changed: Mapping[str, object]
) -> None:
    assert json.loads(with_member(written(), path, value)) == {**BODY, **changed}


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "policy.",
        ".policy",
        "policy..length_max",
        "policy length",
        "clients[]",
        "[a]",
        "clients[a",
        "policy.length-max",
        "é",
    ],
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ManifestRefused, match="not the path of a member"):
        with_member(written(), path, 1)


@pytest.mark.parametrize(
    "path",
    [
        "recipient.jwk",
        "version.major",
        "nothing.there",
        "clients[nobody].language",
        "clients[testbank01-app]",
        "feeds[nobody].jwk",
    ],
)
def test_a_member_of_what_is_not_there_is_refused(path: str) -> None:
    with pytest.raises(ManifestRefused, match="is not there"):
        with_member(written(), path, 1)


@pytest.mark.parametrize("clients", [5, None, [5], [{}], {"a": 1}, [{"client_id": []}]], ids=str)
def test_clients_that_are_none_are_left_to_who_reads_the_manifest(clients: object) -> None:
    changed = with_member(written(), "clients", clients)
    assert json.loads(with_member(changed, "version", 2)) == {
        **BODY,
        "clients": clients,
        "version": 2,
    }
    with pytest.raises(ManifestRefused, match="is not there"):
        with_member(changed, "clients[testbank01-app].language", "de")
