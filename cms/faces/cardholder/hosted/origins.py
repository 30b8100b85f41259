"""Where a page may lead: a URL at one of its client's origins, as :mod:`hsm.manifest.origins`.

A URL is read by the characters that RFC 3986 allows, and in the one way in which every browser
reads it: what one could read as another host or scheme is no URL here.
"""

import re
from collections.abc import Collection
from typing import Final

URL_CHARS_MAX: Final = 2048
#: Of path, query and fragment (RFC 3986, appendix A).
_REST: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*"
#: Of the web, or of an app's pages in a webview.
_PAGE: Final = re.compile(
    rf"([a-z][a-z0-9+.-]*://[a-z0-9.-]+(?::[0-9]+)?)(?:[/?]{_REST})?(?:#{_REST})?"
)
_APP: Final = re.compile(rf"([a-z][a-z0-9.-]*:)/{_REST}(?:#{_REST})?")


def leads_to(url: str, origins: Collection[str]) -> bool:
    """Tell whether *url* leads to one of *origins*; both as a browser writes them."""
    if len(url) > URL_CHARS_MAX:
        return False
    found = (pattern.fullmatch(url) for pattern in (_PAGE, _APP))
    return any(match is not None and match[1] in origins for match in found)
