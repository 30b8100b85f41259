"""The issuer's authorisation host, as far as the demo needs one: it opens what it is sent."""

import json
from pathlib import Path
from typing import Final

from jwcrypto.jwk import JWK

from cms.sandbox.partners.jwe import decrypt

ABOUT: Final = ("issuerId", "cardId", "counter")


class ExportError(Exception):
    """The export is missing something, or the host cannot open it."""


def kinds_by_card(exported: str, private_jwk_file: Path) -> dict[str, list[str]]:
    """Open an export, JSON with a JWE a line; return the kinds of values of each card.

    Raises:
        ExportError: a line cannot be read, is not for this key, or names another card or
            counter than its JWE.
    """
    key = JWK.from_json(private_jwk_file.read_text())
    kinds = {}
    try:
        for text in exported.splitlines():
            line = json.loads(text)
            values = decrypt(line["jwe"], key)
            if any(values.pop(name) != line[name] for name in ABOUT):
                raise ExportError("a line of the export is about another card than its JWE")
            kinds[line["cardId"]] = sorted(values)
    except (KeyError, TypeError, ValueError):
        raise ExportError("the authorisation host cannot open the export") from None
    return kinds
