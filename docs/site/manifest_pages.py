"""Two pages of reference, made from the models of a manifest: its members, and each face's wire."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs.site.written import Written
from hsm.manifest.clients import AppClient, ServerClient
from hsm.manifest.model import Manifest
from hsm.manifest.pin_operations import PinOperationsBody
from hsm.manifest.wire import WireProfile

COLUMNS: Final = 118
MANIFEST, WIRE = "manifest.md", "wire-defaults.md"
FACES: Final[Mapping[type[BaseModel], str]] = {
    WireProfile: "D1",
    AppClient: "The hosted face",
    ServerClient: "The pincontrol face",
    PinOperationsBody: "PIN operations without pages",
}
"""What says how a face speaks, with all below it, and the title of its part of the page."""
MANIFEST_HEAD: Final = """\
# Members of a manifest

Made from the code by `python -m docs.site.references`. What a manifest is, and how it is changed
and signed, is in [onboarding](onboarding.md#a-manifest); what is absent in a draft has its default,
which is written out before it is signed. The layout of SECCOS is not public: what stands here of it
is [a profile of ours](seccos.md).

Members that no section has are refused, and so is a value of another type: `"4"` is not taken for
`4`. A refusal names the member, and never shows a value.
"""
WIRE_HEAD: Final = """\
# Defaults of the wire

Made from the code by `python -m docs.site.references`: what an issuer may decide of the wire of
each face, in its [manifest](manifest.md), and what holds unless it does. All else is as the partner
published it, and fixed: [D1](d1-face.md), [the faces for cardholders](cardholder-faces.md). The
layout of SECCOS is not public: [ours](seccos.md) is a profile.
"""
NAMES: Final = {str: "text", int: "number", bool: "true or false", datetime: "time (RFC 3339)"}


@dataclass(frozen=True)
class Section:
    """A model, and the paths at which manifests have it."""

    model: type[BaseModel]
    paths: list[str]

    @property
    def title(self) -> str:
        """Its heading."""
        return ", ".join(self.paths)

    @property
    def anchor(self) -> str:
        """Its heading as a part of an address, as GitHub makes it."""
        return re.sub(r"[^\w -]", "", self.title.lower()).replace(" ", "-")


def manifest() -> str:
    """Write the page of all members but those of faces."""
    sections = _on_page(MANIFEST).values()
    return MANIFEST_HEAD + "".join(_written(each, MANIFEST) for each in sections)


def wire_defaults() -> str:
    """Write the page of what each face's wire has as its default."""
    text = WIRE_HEAD
    for model, section in _on_page(WIRE).items():
        text += f"\n## {FACES[model]}\n" if model in FACES else ""
        text += _written(section, WIRE, "###")
    return text


def _on_page(page: str) -> dict[type[BaseModel], Section]:
    """Find the sections of a page, in their order."""
    if page == MANIFEST:
        return _sections(Manifest, "manifest", until=FACES)
    paths = _sections(Manifest, "manifest")
    sections: dict[type[BaseModel], Section] = {}
    for face in FACES:
        sections |= _sections(face, paths[face].title)
    return sections


def _sections(
    model: type[BaseModel], path: str, until: Mapping[type[BaseModel], str] | None = None
) -> dict[type[BaseModel], Section]:
    """Find a model, and those below it, in the order in which they are read."""
    found: dict[type[BaseModel], Section] = {}
    _find(model, path, found, until or {})
    return found


def _find(
    model: type[BaseModel],
    path: str,
    found: dict[type[BaseModel], Section],
    until: Mapping[type[BaseModel], str],
) -> None:
    if model in found:
        found[model].paths.append(path)
        return
    found[model] = Section(model, [path])
    for name, field in model.model_fields.items():
        inner = [each for each in _models(field.annotation) if each not in until]
        for each in inner:
            kind = f" ({_kind(each)})" if len([*_models(field.annotation)]) > 1 else ""
            below = name if path == "manifest" else f"{path}.{name}"
            _find(each, below + kind, found, until)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401 - any annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _kind(model: type[BaseModel]) -> str:
    (kind,) = get_args(model.model_fields["kind"].annotation)
    return str(kind)


def _written(section: Section, page: str, level: str = "##") -> str:
    written = Written.of(section.model)
    rows = "".join(
        f"| `{name}` | {_default(field)} | {_type(field.annotation, field.metadata, page)} |"
        f" {_cell(written.members.get(name) or _of_its_model(field))} |\n"
        for name, field in section.model.model_fields.items()
    )
    refused = "".join(f"* {each}\n" for each in written.refusals)
    return (
        f"\n{level} {section.title}\n\n{_paragraph(written.about)}\n\n"
        f"| member | default | what it takes | meaning |\n|---|---|---|---|\n{rows}"
        + (f"\nRefused, beside what is not in the third column:\n\n{refused}" if refused else "")
    )


def _of_its_model(field: FieldInfo) -> str:
    """Say of a member that is a model what that is for, in its first sentence."""
    (model,) = _models(field.annotation)
    return re.split(r"(?<=\.) ", Written.of(model).about)[0]


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "see there" if field.default_factory_takes_validated_data else "`{}`"
    if field.default is PydanticUndefined:
        return "must be given"
    if isinstance(field.default, BaseModel):
        return "its defaults"
    if isinstance(field.default, tuple) and len(field.default) > 1:
        return ", ".join(f"`{json.dumps(each)}`" for each in field.default)
    return f"`{json.dumps(field.default)}`"


def _type(  # noqa: PLR0911 - a line a kind
    annotation: Any,  # noqa: ANN401 - as above
    metadata: Sequence[Any],
    page: str,
) -> str:
    """Say in words what an annotation takes."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0], inner[1:], page)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(each)}`" for each in inner)
    if origin in {Union, UnionType}:
        return " or ".join(
            "`null`" if each is NoneType else _type(each, (), page) for each in inner
        )
    if origin is tuple:
        return f"list{_bounds(metadata)} of: {_type(inner[0], (), page)}"
    if origin is dict:
        return "object"
    if issubclass(annotation, BaseModel):
        return _link(annotation, page)
    return NAMES.get(annotation, "time (RFC 3339)") + _bounds(metadata)


def _link(model: type[BaseModel], page: str) -> str:
    own, other = _on_page(page), MANIFEST if page == WIRE else WIRE
    section = own[model] if model in own else _on_page(other)[model]
    target = f"#{section.anchor}" if model in own else f"{other}#{section.anchor}"
    return f"[{section.title}]({target})"


def _bounds(metadata: Sequence[Any]) -> str:
    """Say of a number, a text or a list how much it may be, or what it must match."""
    flat = [inner for each in metadata for inner in getattr(each, "metadata", [each])]
    ends: dict[type, object] = {}
    words = ""
    for each in flat:
        match each:
            case Ge(least) | MinLen(least) if least:
                ends[Ge] = least
            case Le(most) | MaxLen(most):
                ends[Le] = most
        if pattern := getattr(each, "pattern", None):
            # A cell cannot hold a bar, and one that has some is better said in words.
            words = " as its meaning says" if "|" in pattern else f" that matches `{pattern}`"
    if ends.keys() == {Ge, Le}:
        return f" ({ends[Ge]} to {ends[Le]}){words}"
    if ends:
        return f" (at {'least' if Ge in ends else 'most'} {next(iter(ends.values()))}){words}"
    return words


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _paragraph(text: str) -> str:
    return textwrap.fill(text, COLUMNS, break_long_words=False, break_on_hyphens=False)
