"""A configuration as a JSON file: ``config seal`` writes it, ``config load`` reads it."""

import json
from datetime import UTC, datetime
from typing import Final

from crypto.errors import JoseError
from crypto.jose import json_object
from hsm.errors import ConfigRefused
from hsm.manifest.body import canonical_body
from hsm.port import ConfigKind, SealedConfig

BYTE_ORDER_MARK: Final = "\N{BYTE ORDER MARK}"
"""What some editors put before the text of a file."""


def to_json(config: SealedConfig) -> str:
    """Write a configuration as the text that ``config seal`` prints and ``config load`` reads.

    The members are ``issuer_id``, ``kind``, ``version``, ``valid_from`` and ``valid_until`` (both
    ISO 8601 with a zone), ``key_label``, ``cmac`` (hexadecimal) and ``body``.
    """
    return json.dumps(
        {
            "issuer_id": config.issuer_id,
            "kind": config.kind.value,
            "version": config.version,
            "valid_from": config.valid_from.isoformat(),
            "valid_until": config.valid_until.isoformat(),
            "key_label": config.key_label,
            "cmac": config.cmac.hex(),
            "body": json.loads(config.body),
        },
        indent=2,
    )


def from_json(text: str) -> SealedConfig:
    """Read what :func:`to_json` wrote, or the same without ``key_label`` and ``cmac``.

    Raises:
        ConfigRefused: it is not such a text, or a time has no zone.
    """
    try:
        fields = json_object.parse(text.removeprefix(BYTE_ORDER_MARK).encode())
        return SealedConfig(
            issuer_id=str(fields["issuer_id"]),
            kind=ConfigKind(str(fields["kind"])),
            version=int(str(fields["version"])),
            valid_from=_utc(str(fields["valid_from"])),
            valid_until=_utc(str(fields["valid_until"])),
            key_label=str(fields.get("key_label", "")),
            cmac=bytes.fromhex(str(fields.get("cmac", ""))),
            body=canonical_body(fields["body"]),
        )
    except (JoseError, KeyError, OverflowError, ValueError):
        raise ConfigRefused("not a configuration") from None


def _utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment.astimezone(UTC)
