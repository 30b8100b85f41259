"""Drafts of manifests: the files in which clients are registered, until operators sign them.

A draft is what ``python -m hsm manifest new`` prints, and what ``python -m hsm manifest change``
makes of a manifest: its next version. The commands here change it in place, but for its version and
its dates; every default is written out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cms.operator.command_line import Refused

if TYPE_CHECKING:
    from hsm.manifest.model import Manifest

Client: TypeAlias = dict[str, Any]
"""A client as JSON has it."""


def read(path: Path) -> Manifest:
    """Read a draft.

    Raises:
        Refused: it was signed.
        ManifestRefused: the file cannot be read, or is no draft of a manifest.
    """
    from hsm.manifest import documents, model

    document = documents.read(path)
    if document.signatures:
        raise Refused("a signed manifest: make the next draft of it with hsm manifest change")
    return model.parse(document.payload)


def clients_of(draft: Manifest) -> Sequence[Client]:
    """Return the clients of a draft."""
    return [client.model_dump(mode="json") for client in draft.clients]


def client_of(draft: Manifest, client_id: str) -> Client:
    """Return one client of a draft.

    Raises:
        Refused: there is none of this id.
    """
    for client in clients_of(draft):
        if client["client_id"] == client_id:
            return client
    raise Refused("no such client")


def add(path: Path, draft: Manifest, client: Mapping[str, object]) -> None:
    """Write a draft with another client.

    Raises:
        Refused: there is one of this id.
        ManifestRefused: with it, the draft is none of a manifest; the message names the members.
    """
    if client["client_id"] in draft.by_client_id:
        raise Refused("duplicate client")
    _write(path, draft, [*clients_of(draft), client])


def replace(path: Path, draft: Manifest, changed: Mapping[str, object]) -> None:
    """Write a draft with a client as it is now.

    Raises:
        ManifestRefused: with it, the draft is none of a manifest; the message names the members.
    """
    clients = [
        changed if client["client_id"] == changed["client_id"] else client
        for client in clients_of(draft)
    ]
    _write(path, draft, clients)


def remove(path: Path, draft: Manifest, client_id: str) -> None:
    """Write a draft without a client.

    Raises:
        Refused: there is none of this id.
    """
    removed = client_of(draft, client_id)
    _write(path, draft, [client for client in clients_of(draft) if client != removed])


def _write(path: Path, draft: Manifest, clients: Sequence[Mapping[str, object]]) -> None:
    from crypto.jose.jws_json import SignedText
    from hsm.manifest import documents, model

    body = {**draft.model_dump(mode="json"), "clients": clients}
    changed = model.parse(json.dumps(body).encode())
    documents.write(path, SignedText(changed.canonical(), ()))
