"""A page leads to registered origins only, however an address is written."""

import itertools
from urllib.parse import urlsplit

import pytest

from cms.faces.cardholder.hosted.origins import leads_to

ORIGINS = (
    *("https://app.example", "https://app.example:8443", "com.example.app:"),
    "capacitor://localhost",
)
GOOD = (
    "https://app.example",
    "https://app.example/",
    "https://app.example/a/b?c=d&e=https://other.example/#f",
    "https://app.example?a",
    "https://app.example#a",
    "https://app.example//evil.example",
    "https://app.example/%E2%82%AC",
    "https://app.example:8443/a",
    "com.example.app:/done",
    "com.example.app://done?x=1",
    "capacitor://localhost",
    "capacitor://localhost/index.html?a#b",
)
HOSTS = (
    "evil.example",
    "app.example.evil.example",
    "evilapp.example",
    "app.example.",
    "app.example:443",
    "app.example:80",
    "app.example:8443evil",
    "app.example:",
    "app.example@evil.example",
    "app.example:x@evil.example",
    "evil.example\\@app.example",
    "evil.example\\app.example",
    "APP.example",
    "app%2eexample",
    "app。example",
    "аpp.example",  # noqa: RUF001 - a Cyrillic letter
    "xn--pp-6kc.example",
    "[::1]",
    "2130706433",
    "app.example\t",
    "app.example\n",
    "app.example\0",
    "app.example\r\nX: y",
    "app.example ",
    "",
)
STARTS = ("https://", "https:", "https:/", "https:///", "//", "\\\\", "/\\", "http://", "HTTPS://")
SCHEMES = (
    *("javascript:", "JavaScript:", "java\tscript:", "data:", "file:", "blob:", "vbscript:"),
    *("ftp:", "about:", "intent:", "wss:"),
    *("capacitor:", "capacitor://evil.example", "ionic://localhost", "capacitor://localhost:"),
    *("capacitor://localhost.evil", "capacitor://x@localhost", "Capacitor://localhost"),
    *("com.example.other:", "com.example.app.evil:", "com.example.app"),
)
TAILS = ("", "/", "/a", "?a", "#a", "/https://app.example")
RESTS = ("alert(1)", "//app.example", "/app.example", "https://app.example", "//%0aalert(1)")
BAD = {
    *("".join(parts) for parts in itertools.product(STARTS, HOSTS, TAILS)),
    *("".join(parts) for parts in itertools.product(SCHEMES, RESTS, TAILS)),
    *(f"{pad}https://app.example/" for pad in (*" \t\n\0\u00a0\ufeff<", "//")),
    *(f"https://app.example/{chr(code)}" for code in (*range(33), 127, 0x80, 0x2028)),
    *(f"https://app.example/{sign}" for sign in '<>"\\^`{|}'),
    *(f"https://app.example/{tail}" for tail in ("%", "%0", "%zz", "%u0041", "a b", "#a#b")),
    *("https://app.example/" + "x" * 2048, "com.example.app:", "com.example.app:x"),
    *("", "a", "/", "?", "#", ".", "app.example", "/app.example"),
}


def test_there_are_a_thousand_ways_to_try() -> None:
    assert len(BAD) > 1000


@pytest.mark.parametrize("url", GOOD)
def test_a_url_at_a_registered_origin_is_followed(url: str) -> None:
    assert leads_to(url, ORIGINS)
    assert urlsplit(url).scheme in ("https", "com.example.app", "capacitor")


def test_nothing_else_is() -> None:
    assert [url for url in sorted(BAD) if leads_to(url, ORIGINS)] == []
