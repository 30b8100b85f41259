"""What somebody who can write the database could do to a sealed value or a configuration."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hsm.port import SealedConfig
from tests.contracts.issuer import Issuer

Edit = Callable[[Issuer, SealedConfig], SealedConfig]


def flip(data: bytes, position: int, mask: int) -> bytes:
    return data[:position] + bytes((data[position] ^ mask,)) + data[position + 1 :]


def every_change(sealed: bytes) -> list[bytes]:
    """Every byte changed in three ways, the value cut at every length, and a byte more."""
    flipped = [flip(sealed, at, mask) for at in range(len(sealed)) for mask in (1, 0x80, 0xFF)]
    return [*flipped, *(sealed[:end] for end in range(len(sealed))), sealed + b"\0"]


EDITS: Mapping[str, Edit] = {
    "of another issuer": lambda issuer, sealed: issuer.vault.seal_config(
        replace(sealed, issuer_id="testbank02")
    ),
    "renamed to this issuer": lambda issuer, sealed: replace(
        issuer.vault.seal_config(replace(sealed, issuer_id="testbank02")),
        issuer_id=issuer.issuer_id,
    ),
    "of another kind": lambda issuer, sealed: next(
        other for kind, other in issuer.config.items() if kind is not sealed.kind
    ),
    "of another kind, renamed": lambda issuer, sealed: replace(
        next(other for kind, other in issuer.config.items() if kind is not sealed.kind),
        kind=sealed.kind,
    ),
    "edited body": lambda _, sealed: replace(sealed, body=sealed.body.replace(b'":', b'" :', 1)),
    "body that is not JSON": lambda _, sealed: replace(sealed, body=b"{"),
    "edited version": lambda _, sealed: replace(sealed, version=2),
    "edited start": lambda _, sealed: replace(
        sealed, valid_from=sealed.valid_from + timedelta(seconds=1)
    ),
    "edited end": lambda _, sealed: replace(
        sealed, valid_until=sealed.valid_until + timedelta(days=365)
    ),
    "key of another role": lambda _, sealed: replace(sealed, key_label="pin-mac.g1"),
    "not a label": lambda _, sealed: replace(sealed, key_label="manifest-mac"),
    "no label": lambda _, sealed: replace(sealed, key_label=""),
    "flipped CMAC": lambda _, sealed: replace(sealed, cmac=flip(sealed.cmac, 0, 1)),
    "cut CMAC": lambda _, sealed: replace(sealed, cmac=sealed.cmac[:8]),
    "no CMAC": lambda _, sealed: replace(sealed, cmac=b""),
    "never sealed": lambda _, sealed: replace(sealed, key_label="", cmac=b""),
    "expired": lambda issuer, sealed: issuer.vault.seal_config(
        replace(sealed, valid_until=datetime.now(UTC) - timedelta(seconds=1))
    ),
    "expired, end edited": lambda issuer, sealed: replace(
        issuer.vault.seal_config(
            replace(sealed, valid_until=datetime.now(UTC) - timedelta(seconds=1))
        ),
        valid_until=sealed.valid_until,
    ),
    "not yet valid": lambda issuer, sealed: issuer.vault.seal_config(
        replace(sealed, valid_from=datetime.now(UTC) + timedelta(hours=1))
    ),
}
