"""What somebody who can write where values and manifests are stored could do to them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.contracts.issuer import OTHER_ISSUER_ID, Host, Issuer


def flip(data: bytes, position: int, mask: int) -> bytes:
    return data[:position] + bytes((data[position] ^ mask,)) + data[position + 1 :]


def every_change(sealed: bytes) -> list[bytes]:
    """Every byte changed in three ways, the value cut at every length, and a byte more."""
    flipped = [flip(sealed, at, mask) for at in range(len(sealed)) for mask in (1, 0x80, 0xFF)]
    return [*flipped, *(sealed[:end] for end in range(len(sealed))), sealed + b"\0"]


#: Each makes another file of the members of a manifest's: what the vault wrote is ``jws``,
#: ``key_label`` and ``cmac``.
EDITS: Mapping[str, Callable[[Issuer, dict[str, str]], object]] = {
    "of another issuer": lambda issuer, _: stored(issuer.host, OTHER_ISSUER_ID),
    "the list of minimum versions": lambda issuer, _: json.loads(
        (issuer.host.directory / "minimum-versions.json").read_bytes()
    ),
    "another manifest": lambda issuer, file: {**file, "jws": issuer.signed(2)},
    "another text of the same": lambda _, file: {**file, "jws": file["jws"] + " "},
    "key of another role": lambda _, file: {**file, "key_label": "pin-mac.g1"},
    "not a label": lambda _, file: {**file, "key_label": "manifest-mac"},
    "no label": lambda _, file: {**file, "key_label": ""},
    "flipped CMAC": lambda _, file: {**file, "cmac": flip(bytes.fromhex(file["cmac"]), 0, 1).hex()},
    "cut CMAC": lambda _, file: {**file, "cmac": file["cmac"][:16]},
    "no CMAC": lambda _, file: {**file, "cmac": ""},
    "CMAC that is not hexadecimal": lambda _, file: {**file, "cmac": "CMAC"},
    "without its CMAC": lambda _, file: {name: file[name] for name in ("jws", "key_label")},
    "only what was signed": lambda _, file: json.loads(file["jws"]),
    "a list": lambda _, file: [*file.values()],
    "nothing": lambda *_: None,
}


def manifest_file(host: Host, issuer_id: str) -> Path:
    """Where a host stores the manifest of an issuer."""
    return host.directory / f"{issuer_id.encode().hex()}.json"


def stored(host: Host, issuer_id: str) -> dict[str, str]:
    """What is stored of a manifest."""
    members: dict[str, str] = json.loads(manifest_file(host, issuer_id).read_bytes())
    return members


def store(host: Host, issuer_id: str, content: object) -> None:
    """Put another file in the place of a manifest's, as the vault does when it replaces one."""
    new = host.directory / "new"
    new.write_text("" if content is None else json.dumps(content))
    new.rename(manifest_file(host, issuer_id))
