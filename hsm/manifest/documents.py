"""Files of operators: manifests, lists of minimum versions, key generations; drafts or signed.

A draft is JSON without signatures, and may leave out what has a default. Every default is written
into what is signed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from crypto.errors import JoseError
from crypto.jose import json_object
from crypto.jose.jws_json import SignedText
from hsm.errors import ManifestRefused
from hsm.manifest import generation_table, minimum_versions, model, signed
from hsm.manifest.body import indented
from hsm.manifest.generation_table import GenerationTable
from hsm.manifest.minimum_versions import MinimumVersions
from hsm.manifest.model import Manifest
from hsm.manifest.operator_key import OperatorKey
from hsm.manifest.signed import GENERATIONS_TYPE, MANIFEST_TYPE, MINIMUM_VERSIONS_TYPE

Content: TypeAlias = Manifest | MinimumVersions | GenerationTable
TYPES: Final[Mapping[type[Content], str]] = {
    Manifest: MANIFEST_TYPE,
    MinimumVersions: MINIMUM_VERSIONS_TYPE,
    GenerationTable: GENERATIONS_TYPE,
}
BYTE_ORDER_MARK: Final = "\N{BYTE ORDER MARK}"
"""What some editors put before the text of a file."""


def read_text(path: Path) -> str:
    """Read a file.

    Raises:
        ManifestRefused: it cannot be read, or is not text.
    """
    try:
        return path.read_text("utf-8").removeprefix(BYTE_ORDER_MARK)
    except (OSError, UnicodeDecodeError):
        raise ManifestRefused("the file cannot be read") from None


def read(path: Path) -> SignedText:
    """Read a draft or a signed text; no signature is checked, and a draft has none.

    Raises:
        ManifestRefused: the file cannot be read, or is neither.
    """
    text = read_text(path)
    members = _object(text.encode())
    if "signatures" in members:
        document = signed.parse(text)
        content(document)
        return document
    return SignedText(_body(text.encode()).canonical(), ())


def content(document: SignedText) -> Content:
    """Read the payload.

    Raises:
        ManifestRefused: it is none of what operators sign.
    """
    return _body(document.payload)


def type_of(body: Content) -> str:
    """Return the ``typ`` with which it is signed."""
    return TYPES[type(body)]


def read_manifest(path: Path) -> Manifest:
    """Read a draft of a manifest, or a signed one whose signatures are not checked.

    Raises:
        ManifestRefused: the file cannot be read, or is neither.
    """
    body = content(read(path))
    if not isinstance(body, Manifest):
        raise ManifestRefused("not a manifest")
    return body


def with_signatures(document: SignedText, keys: Sequence[OperatorKey]) -> SignedText:
    """Add a signature of each of *keys*; one that a key has made before is replaced.

    Raises:
        ManifestRefused: a default is not written into the payload.
    """
    body = content(document)
    if body.canonical() != document.payload:
        raise ManifestRefused("not every member is written out: sign a draft of it")
    ours = {key.public.kid for key in keys}
    others = [one for one in document.signatures if one.header.get("kid") not in ours]
    made = [key.sign(document.payload, type_of(body)) for key in keys]
    return SignedText(document.payload, (*others, *made))


def write(path: Path, document: SignedText) -> None:
    """Write a signed text, or a draft where it has no signature, over what is there.

    Raises:
        ManifestRefused: the file cannot be written.
    """
    text = f"{document}\n" if document.signatures else indented(document.payload)
    try:
        path.write_text(text, "ascii")
    except OSError:
        raise ManifestRefused("the file cannot be written") from None


def _body(text: bytes) -> Content:
    members = _object(text)
    if "minimum_versions" in members:
        return minimum_versions.parse(text)
    if "generations" in members:
        return generation_table.parse(text)
    return model.parse(text)


def _object(text: bytes) -> dict[str, object]:
    try:
        return json_object.parse(text)
    except JoseError:
        raise ManifestRefused("not a JSON object") from None
