"""A redirect that is taken is at a registered origin for a browser too."""

import random
from collections.abc import Callable

from playwright.sync_api import Page

from cms.faces.cardholder.hosted.origins import leads_to

ORIGINS = (
    *("https://app.example", "https://app.example:8443", "com.example.app:"),
    "capacitor://localhost",
)
SEEDS = (
    *(f"{origin}/a/b?c=d&e=https://evil.example/#f" for origin in ORIGINS),
    *ORIGINS,
    "//evil.example",
    "javascript:alert(1)",
)
PIECES = (
    *"/\\@:.#?%&;=[]|^`<>\"' \t\r\n\0aA0~!$*()+,-_{}",
    *("//", "/\\", "%2e", "%2f", "%40", "%5c", "%00", "%", ":443", ":8443", "https:", "http:"),
    *("evil.example", "@evil.example", ".evil.example", "javascript:", "data:", "xn--"),
    *(
        "\u3002",
        "\uff0f",
        "\ufe52",
        "\u00ad",
        "\u2028",
        "\ufeff",
        "\u043e",
        "..",
        "../..",
        "localhost",
    ),
)
READ = """urls => urls.map(url => {
  const read = new URL(url, "https://cards.test/pin-direct/set");
  if (["https:", "http:"].includes(read.protocol)) return read.origin;
  return read.protocol === "capacitor:" ? read.protocol + "//" + read.host : read.protocol;
})"""


def mutated(chance: random.Random) -> str:
    """Put some pieces into a good address, or over it."""
    url = chance.choice(SEEDS)
    for _ in range(chance.randint(1, 3)):
        start = chance.randint(0, len(url))
        end = start + chance.choice((0, 0, 1, 3))
        url = url[:start] + chance.choice(PIECES) + url[end:]
    return url


def test_no_redirect_that_is_taken_leads_a_browser_elsewhere(
    new_page: Callable[..., Page],
) -> None:
    chance = random.Random(27)
    tried = {mutated(chance) for _ in range(50_000)}
    taken = [url for url in sorted(tried) if leads_to(url, ORIGINS)]
    assert len(tried) - len(taken) > 2000 < len(taken)
    read = new_page().evaluate(READ, taken)
    assert [url for url, origin in zip(taken, read, strict=True) if origin not in ORIGINS] == []
    assert set(read) == set(ORIGINS)
