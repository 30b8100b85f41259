"""What the pages say, by language: ``messages/*.json``, one text a key."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DEFAULT_LANGUAGE: Final = "en"
LANGUAGES: Final = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "fi", "sv", "ar")
"""In the order of the page's switch."""
ACCEPT_LANGUAGE_CHARS_MAX: Final = 1024

_DIRECTORY: Final = Path(__file__).parent / "messages"
_RANGE: Final = re.compile(
    r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9]{1,8})*\s*(?:;\s*[qQ]\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?"
)

MESSAGES: Final[Mapping[str, Mapping[str, str]]] = {
    language: json.loads((_DIRECTORY / f"{language}.json").read_text(encoding="utf-8"))
    for language in LANGUAGES
}


def choose(asked: str, registered: str | None, accept_language: str | None) -> str:
    """Choose the language of a page; never fail.

    Args:
        asked: what the request names, as ``de``, ``de-CH`` or ``de_CH``; goes first if it is ours.
        registered: the language of the client; None: it has none.
        accept_language: the header; goes last.
    """
    subtag = asked.replace("_", "-").partition("-")[0].lower()
    if subtag in LANGUAGES:
        return subtag
    if registered in LANGUAGES:
        return registered
    return negotiate(accept_language)


def negotiate(accept_language: str | None) -> str:
    """Choose the language that ``Accept-Language`` (RFC 9110, 12.5.4) prefers; never fail.

    A range counts by its first subtag, so ``de-CH`` is German; of equals, the first wins.
    """
    best, best_quality = DEFAULT_LANGUAGE, 0.0
    for part in (accept_language or "")[:ACCEPT_LANGUAGE_CHARS_MAX].split(","):
        match = _RANGE.fullmatch(part)
        if match is None or match[1].lower() not in LANGUAGES:
            continue
        quality = min(float(match[2] or 1), 1.0)
        if quality > best_quality:
            best, best_quality = match[1].lower(), quality
    return best
