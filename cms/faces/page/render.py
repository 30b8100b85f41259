"""The HTML of the pages and the headers they are sent with.

Two pages: the set page, whose script does everything, and the ended page, which is static. What
varies in the set page is typed colours and numbers, our own texts, and the nonce.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from string import Template
from typing import Final

from cms.faces.page.assets import JWE, PARTS, PIN_ENTRY, SET_PIN, STYLESHEET, TEXTS, Asset
from cms.faces.page.messages import LANGUAGES, MESSAGES
from cms.faces.page.style import PageStyle

_NONCE: Final = re.compile("[A-Za-z0-9+/_-]{22,}={0,2}")
_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+")

_HEAD: Final = """\
<!DOCTYPE html>
<html lang="$language" dir="$direction">
<head>
<meta charset="utf-8">
<script nonce="$nonce" src="$set_pin" integrity="$set_pin_integrity"></script>
<title>$title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" nonce="$nonce" href="$stylesheet" integrity="$stylesheet_integrity">
<style nonce="$nonce">:root{$variables}</style>
$scripts
<script type="application/json" id="page-data">$data</script>
</head>
<body>
<header id="language-bar" hidden>
<label for="language" data-text="language" class="unseen">$label_language</label>
<select id="language" autocomplete="off">
$languages
</select>
</header>
<main>
"""

_BEFORE: Final = """\
<section id="before">
<noscript><h1>$noscript_title</h1><p>$noscript_text</p></noscript>
<p id="stuck" data-text="stuck">$stuck</p>
</section>
"""

_FORM: Final = """\
<section id="entry" hidden>
<form id="pin-form" novalidate autocomplete="off">
<div id="pin-group" role="group" aria-labelledby="entry-title" aria-describedby="entry-intro">
<h1 id="entry-title" tabindex="-1" data-text="title">$title</h1>
<p id="entry-intro"></p>
<div class="field">
<label for="first-pin" data-text="first_label">$first_label</label>
<input id="first-pin" type="password" inputmode="numeric" autocomplete="off" autocapitalize="off" \
spellcheck="false" enterkeyhint="next" dir="ltr" required aria-describedby="first-hint">
<p id="first-hint" class="hint"></p>
</div>
<div class="field">
<label for="second-pin" data-text="second_label">$second_label</label>
<input id="second-pin" type="password" inputmode="numeric" autocomplete="off" autocapitalize="off" \
spellcheck="false" enterkeyhint="done" dir="ltr" required disabled aria-describedby="second-hint">
<p id="second-hint" class="hint"></p>
</div>
</div>
<div id="warning" hidden>
<p><strong id="warning-text"></strong> <span id="seconds-left"></span></p>
<button id="extend" type="button" class="secondary" data-text="extend">$extend</button>
</div>
<div class="buttons">
<button id="confirm" type="submit" data-text="confirm">$confirm</button>
<button id="cancel" type="button" class="secondary" data-text="cancel">$cancel</button>
</div>
</form>
</section>
"""

_NOTICE: Final = """\
<section id="notice" hidden>
<h1 id="notice-title" tabindex="-1"></h1>
<p id="notice-text"></p>
<p id="notice-next" hidden></p>
<div class="buttons"><button id="notice-button" type="button" hidden></button></div>
</section>
<p id="status" role="status" class="unseen"></p>
</main>
</body>
</html>
"""

_SET_PAGE: Final = Template(_HEAD + _BEFORE + _FORM + _NOTICE)

_ENDED_PAGE: Final = Template("""\
<!DOCTYPE html>
<html lang="$language" dir="$direction">
<head>
<meta charset="utf-8">
<title>$ended_title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="$stylesheet" integrity="$stylesheet_integrity">
</head>
<body>
<main>
<h1>$ended_title</h1>
<p>$ended_text</p>
</main>
</body>
</html>
""")


def set_page(style: PageStyle, language: str, nonce: str) -> str:
    """Write the page on which a PIN is set; *nonce* is the one of :func:`page_headers`."""
    text = MESSAGES[language]
    data = {
        "language": language,
        "messages": text,
        "languages": {
            name: {"url": asset.path, "integrity": asset.integrity} for name, asset in TEXTS.items()
        },
    }
    return _SET_PAGE.substitute(
        _texts(language),
        nonce=_checked_nonce(nonce),
        set_pin=SET_PIN.path,
        set_pin_integrity=SET_PIN.integrity,
        stylesheet=STYLESHEET.path,
        stylesheet_integrity=STYLESHEET.integrity,
        scripts="\n".join(_deferred(asset, nonce) for asset in (JWE, PIN_ENTRY, PARTS)),
        variables=_variables(style),
        languages="\n".join(_option(name, name == language) for name in LANGUAGES),
        label_language=escape(text["language"]),
        # In a script element only "<" could end it or open a comment.
        data=json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
    )


@cache
def ended_page(language: str) -> bytes:
    """Return the page of a token that is unknown, spent or expired: the same for all three."""
    page = _ENDED_PAGE.substitute(
        _texts(language),
        stylesheet=STYLESHEET.path,
        stylesheet_integrity=STYLESHEET.integrity,
    )
    return page.encode()


def page_headers(nonce: str, frame_ancestors: Sequence[str], language: str) -> dict[str, str]:
    """Return the headers of a page with script; *frame_ancestors* are origins, none for none.

    Raises:
        ValueError: an origin or the nonce could end its directive.
    """
    if not all(_ORIGIN.fullmatch(origin) for origin in frame_ancestors):
        raise ValueError("not an origin")
    policy = {
        "default-src": "'none'",
        "script-src": f"'nonce-{_checked_nonce(nonce)}'",
        "style-src": f"'nonce-{nonce}'",
        # A view page shows its image from memory.
        "img-src": "blob:",
        "connect-src": "'self'",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": " ".join(frame_ancestors) or "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    # An embedder that isolates itself (COEP) may frame only what allows it.
    resource_policy = "cross-origin" if frame_ancestors else "same-origin"
    return _headers(policy, language, resource_policy)


def ended_headers(language: str) -> dict[str, str]:
    """Return the headers of the ended page, which any https page may frame.

    An app waits in its own frame for the end; a frame that is refused would leave it waiting.
    """
    policy = {
        "default-src": "'none'",
        "style-src": "'self'",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "https:",
    }
    return _headers(policy, language, "cross-origin")


def _headers(policy: Mapping[str, str], language: str, resource_policy: str) -> dict[str, str]:
    features = (
        "accelerometer",
        "camera",
        "clipboard-read",
        "clipboard-write",
        "display-capture",
        "geolocation",
        "gyroscope",
        "magnetometer",
        "microphone",
        "payment",
        "usb",
    )
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Language": language,
        "Content-Security-Policy": "; ".join(
            f"{directive} {sources}" for directive, sources in policy.items()
        ),
        "Cache-Control": "no-store",
        # Without it an embedder that isolates itself could not frame the page.
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": resource_policy,
        "Permissions-Policy": ", ".join(f"{feature}=()" for feature in features),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _texts(language: str) -> dict[str, str]:
    texts = {key: escape(text) for key, text in MESSAGES[language].items()}
    return {**texts, "language": language}


def _checked_nonce(nonce: str) -> str:
    if not _NONCE.fullmatch(nonce):
        raise ValueError("a nonce is at least 128 bits in base64")
    return nonce


def _deferred(asset: Asset, nonce: str) -> str:
    return (
        f'<script defer nonce="{nonce}" src="{asset.path}" integrity="{asset.integrity}"></script>'
    )


def _option(language: str, chosen: bool) -> str:
    selected = " selected" if chosen else ""
    name = escape(MESSAGES[language]["name"])
    return f'<option value="{language}" lang="{language}"{selected}>{name}</option>'


def _variables(style: PageStyle) -> str:
    """Write the style as custom properties; colours and numbers only."""
    # Where a box has the colour of the page, its edge must be seen all the same.
    hidden = style.background_primary == style.background
    edge = style.text_primary if hidden else style.background_primary
    pin_edge = style.text_primary if hidden and style.pin_border == style.background else None
    variables = {
        "background": style.background.css,
        "text": style.text.css,
        "primary": style.background_primary.css,
        "on-primary": style.text_primary.css,
        "button-edge": edge.css,
        "button-radius": f"{style.button_radius_px:.2f}px",
        "pin-edge": (pin_edge or style.pin_border).css,
        "pin-radius": f"{style.pin_radius_px:.2f}px",
    }
    return "".join(f"--{name}:{value};" for name, value in variables.items())
