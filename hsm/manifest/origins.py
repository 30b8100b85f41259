"""Origins that a client registers: where a page may lead, and who may frame it.

An origin is written as a browser does (RFC 6454, section 6.1; the URL standard): scheme and host in
lower case, a port only where it is not the scheme's own, nothing after it. The pages of an app in a
webview have an origin with a scheme of the app's framework, as ``capacitor://localhost``. An app
without pages has a scheme alone, in reverse domain notation (RFC 8252, section 7.1), written with
its colon.
"""

import re
from typing import Final

_LABEL: Final = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_PORT: Final = r"[1-9][0-9]{0,4}"
# The last label is no number: such a host would be an IPv4 address.
_HTTPS: Final = re.compile(rf"https://(?:{_LABEL}\.)*(?![0-9]+(?::|\Z)){_LABEL}(?::({_PORT}))?")
_SANDBOX: Final = re.compile(rf"http://localhost:({_PORT})")
_APP: Final = re.compile(r"[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)+:")
_APP_ORIGIN: Final = re.compile(rf"([a-z][a-z0-9+.-]*)://(?:{_LABEL}\.)*{_LABEL}")
#: What means something to a browser, or to a phone, by itself.
_NO_APPS_SCHEMES: Final = frozenset(
    {
        *("about", "applewebdata", "blob", "chrome", "chrome-extension", "chrome-untrusted"),
        *("content", "data", "devtools", "edge", "file", "filesystem", "ftp", "http", "https"),
        *("intent", "jar", "javascript", "mailto", "market", "moz-extension"),
        *("ms-browser-extension", "null", "resource", "safari-extension", "safari-web-extension"),
        *("sms", "tel", "urn", "vbscript", "view-source", "ws", "wss"),
    }
)
_HTTPS_PORT: Final = 443
_HTTP_PORT: Final = 80
PORT_MAX: Final = 65535
ORIGIN_CHARS_MAX: Final = 255


def is_web_origin(text: str, *, sandbox: bool) -> bool:
    """Tell whether *text* is an https origin; in a sandbox also one of ``http://localhost``."""
    if len(text) > ORIGIN_CHARS_MAX:
        return False
    for pattern, own_port in ((_HTTPS, _HTTPS_PORT), (_SANDBOX, _HTTP_PORT)):
        found = pattern.fullmatch(text)
        if found is not None and (sandbox or pattern is _HTTPS):
            port = int(found[1] or 0)
            return port <= PORT_MAX and port != own_port
    return False


def is_app_origin(text: str) -> bool:
    """Tell whether *text* is the origin of an app's pages in a webview of its own.

    A content security policy reads it as a host-source (CSP Level 3, section 2.3.1).
    """
    found = _APP_ORIGIN.fullmatch(text)
    return len(text) <= ORIGIN_CHARS_MAX and found is not None and found[1] not in _NO_APPS_SCHEMES


def is_app_scheme(text: str) -> bool:
    """Tell whether *text* is the scheme of an app, as ``com.example.app:``."""
    return len(text) <= ORIGIN_CHARS_MAX and _APP.fullmatch(text) is not None
