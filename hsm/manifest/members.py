"""The members of a manifest by their paths, as ``wire.iso0.field``.

A client is named by its id and a feed by its name, whatever its place in the list:
``clients[demobank01-app].language``.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hsm.errors import ManifestRefused

ABSENT: Final = object()
#: The lists, and by which member what is in them is named.
NAMES: Final[Mapping[str, str]] = {"clients": "client_id", "feeds": "name"}
_NAME: Final = re.compile(r"\w+", re.ASCII)
_STEP: Final = re.compile(r"(\w+)|\[([A-Za-z0-9._-]+)\]", re.ASCII)
_PATH: Final = re.compile(r"\w+(?:\.\w+|\[[A-Za-z0-9._-]+\])*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Difference:
    """A member that two manifests do not have alike. A value is its JSON, or ``absent``."""

    path: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.path}: {self.old} -> {self.new}"


def differences(old: bytes, new: bytes) -> Iterator[Difference]:
    """Compare two manifests in JSON, member by member; the order of clients means nothing."""
    return _differences(_by_name(json.loads(old)), _by_name(json.loads(new)), ())


def with_member(manifest: bytes, path: str, value: object) -> bytes:
    """Set a member; whether it may have that value is not checked.

    Raises:
        ManifestRefused: *path* is none, or what the member would be in is not there.
    """
    if not _PATH.fullmatch(path):
        raise ManifestRefused("not the path of a member, as policy.length_max")
    *parents, name = (match[1] or match[2] for match in _STEP.finditer(path))
    body = inner = json.loads(manifest)
    for parent in parents:
        inner = _inside(inner, parent)
    if not isinstance(inner, dict):
        raise ManifestRefused("what that member would be in is not there")
    inner[name] = value
    return json.dumps(body).encode()


def _inside(value: object, name: str) -> object:
    """Return the member *name* of an object, or of a list what is so named; else None."""
    if isinstance(value, list):
        named = (
            one
            for one in value
            if isinstance(one, dict) and name in (one.get(member) for member in NAMES.values())
        )
        return next(named, None)
    return value.get(name) if isinstance(value, dict) else None


def _by_name(body: dict[str, Any]) -> dict[str, Any]:
    lists = {
        members: {one[name]: one for one in body.get(members, ())}
        for members, name in NAMES.items()
    }
    return {**body, **lists}


def _differences(old: object, new: object, path: Sequence[str]) -> Iterator[Difference]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            yield from _differences(old.get(name, ABSENT), new.get(name, ABSENT), (*path, name))
    elif _shown(old) != _shown(new):
        yield Difference(_path(path), _shown(old), _shown(new))


def _shown(value: object) -> str:
    return "absent" if value is ABSENT else json.dumps(value, sort_keys=True)


def _path(names: Sequence[str]) -> str:
    """Write a path; a name that could be read as something else, or move the cursor, is quoted."""
    steps = (f".{name}" if _NAME.fullmatch(name) else f"[{_bracketed(name)}]" for name in names)
    return "".join(steps).removeprefix(".")


def _bracketed(name: str) -> str:
    return name if _STEP.fullmatch(f"[{name}]") else json.dumps(name)
