"""The HTML of the pages and the headers they are sent with.

Three pages: the set page of the hosted face and the page of the pincontrol face, whose scripts do
everything, and the ended page, which has none but, in a webview, the one that tells the app.
What varies in a page with script is typed colours and numbers, our own texts, the nonce, and JSON
that only the script reads.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from string import Template
from typing import Final

from cms.faces.cardholder.page import templates
from cms.faces.cardholder.page.assets import (
    APP_LINK,
    JWE,
    PARTS,
    PIN_CONTROL,
    PIN_ENTRY,
    PIN_SLOTS,
    SET_FLOW,
    SET_PIN,
    SHOW_PIN,
    STYLESHEET,
    TEXTS,
    Asset,
)
from cms.faces.cardholder.page.messages import LANGUAGES, MESSAGES
from cms.faces.cardholder.page.style import PageStyle, ViewStyle
from cms.faces.cardholder.page.variables import set_page_variables, view_variables

_NONCE: Final = re.compile("[A-Za-z0-9+/_-]{22,}={0,2}")
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[A-Za-z0-9.\[\]:-]+")
#: Any page over TLS, a developer's own machine, and the apps whose pages have no network scheme.
_ANY_APP: Final = "https: http://localhost:* capacitor: ionic:"

_SET_PAGE: Final = Template(templates.HEAD + templates.BEFORE + templates.ENTRY + templates.NOTICE)
_CONTROL_PAGE: Final = Template(
    templates.HEAD + templates.BEFORE + templates.ENTRY + templates.VIEW + templates.NOTICE
)
_CANCEL: Final = Template(templates.CANCEL)
_ENDED_PAGE: Final = Template(templates.ENDED)
_WHOSE: Final = Template(templates.WHOSE)


@dataclass(frozen=True, slots=True)
class ControlPage:
    """A page of the pincontrol face, for one id (a webview) or until one comes (an iframe)."""

    style: ViewStyle
    show_button: bool
    """Whether the page has a button of its own that sets the PIN."""
    hide_seconds: int
    """After how long an image is hidden."""
    start: Mapping[str, object]
    """For the script: ``flow`` "webview" with ``purpose`` and ``controlId``, or "frame" with
    ``key`` and ``targetOrigins``."""
    issuer_name: str | None = None


def set_page(style: PageStyle, language: str, nonce: str, issuer_name: str | None = None) -> str:
    """Write the page on which a PIN is set; *nonce* is the one of :func:`page_headers`."""
    return _SET_PAGE.substitute(
        _shared(language, nonce, (JWE, PIN_SLOTS, PIN_ENTRY, SET_FLOW, PARTS)),
        first_script=_script(SET_PIN, nonce),
        page_title=escape(MESSAGES[language]["title"]),
        **_whose(issuer_name),
        theme=_theme(style.has_colours),
        variables=_properties(set_page_variables(style)),
        buttons_hidden="",
        cancel_button=_CANCEL.substitute(_texts(language)),
    )


def control_page(page: ControlPage, language: str, nonce: str) -> str:
    """Write the page of the pincontrol face; *nonce* is the one of :func:`page_headers`."""
    start = {**page.start, "hideSeconds": page.hide_seconds}
    title = "title" if page.start.get("purpose") == "set" else "view_title"
    scripts = (JWE, PIN_SLOTS, PIN_ENTRY, SET_FLOW, PARTS, SHOW_PIN, PIN_CONTROL)
    return _CONTROL_PAGE.substitute(
        _shared(language, nonce, scripts),
        first_script=_app_link(start, nonce),
        page_title=escape(MESSAGES[language][title]),
        **_whose(page.issuer_name),
        theme=_theme(page.style.has_colours),
        variables=_properties(view_variables(page.style)),
        buttons_hidden="" if page.show_button else " hidden",
        cancel_button="",
    )


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose page it is: the look of a client, and what cardholders call its issuer."""

    style: PageStyle | ViewStyle
    issuer_name: str | None
    language: str | None
    """The one that the client registered."""


@cache
def ended_page(language: str, state: str = "ended") -> bytes:
    """Return the page of a control token that is over, where nobody knows whose it was.

    With *state* ``away`` or ``limited``, of one that could not be looked at; ``malformed``, where
    none was sent.
    """
    return _ended(language, state).encode()


def ended_page_of(owner: Owner, language: str, state: str, nonce: str) -> str:
    """Write the page of a control token that is over, in its client's look.

    *nonce* is the one of :func:`ended_headers`.
    """
    return _ended(language, state, owner, nonce)


def ended_webview_page(language: str, state: str, nonce: str, owner: Owner | None = None) -> str:
    """Write the ended page that tells the app around it that there is no PIN to see or to set.

    *nonce* is the one of :func:`ended_headers`; *owner* is None where nobody knows whose it was.
    """
    link = _app_link({"flow": "webview", "failed": True}, nonce)
    return _ended(language, state, owner, nonce, link)


def _ended(
    language: str,
    state: str,
    owner: Owner | None = None,
    nonce: str = "",
    first_script: str = "",
) -> str:
    texts = _texts(language)
    return _ENDED_PAGE.substitute(
        texts,
        first_script=first_script,
        state=state,
        end_title=texts[f"{state}_title"],
        end_text=texts[f"{state}_text"],
        stylesheet=STYLESHEET.path,
        stylesheet_integrity=STYLESHEET.integrity,
        **_owned(owner, nonce),
    )


def _owned(owner: Owner | None, nonce: str) -> dict[str, str]:
    """Write what of an ended page is its client's."""
    if owner is None:
        return {"theme": "", "look": "", "whose": ""}
    style, name = owner.style, owner.issuer_name
    variables = _variables(style)
    return {
        "theme": _theme(style.has_colours),
        "look": f'<style nonce="{_checked_nonce(nonce)}">:root{{{_properties(variables)}}}</style>',
        "whose": "" if name is None else _WHOSE.substitute(issuer_name=escape(name)),
    }


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


def ended_headers(language: str, nonce: str | None = None) -> dict[str, str]:
    """Return the headers of the ended page, which any app may frame.

    An app waits in its own frame for the end; a frame that is refused would leave it waiting. The
    same for all: whose token is dead is not to be told to whoever frames the page. *nonce* is that
    of its script and its client's look.
    """
    nonced = "" if nonce is None else f" 'nonce-{_checked_nonce(nonce)}'"
    policy = {
        "default-src": "'none'",
        **({"script-src": nonced.strip()} if nonced else {}),
        "style-src": f"'self'{nonced}",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": _ANY_APP,
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


def _shared(language: str, nonce: str, scripts: Sequence[Asset]) -> dict[str, str]:
    data = {
        "language": language,
        "messages": MESSAGES[language],
        "languages": {
            name: {"url": asset.path, "integrity": asset.integrity} for name, asset in TEXTS.items()
        },
    }
    return {
        **_texts(language),
        "nonce": _checked_nonce(nonce),
        "mask": templates.MASK,
        "unsaved": templates.UNSAVED,
        "stylesheet": STYLESHEET.path,
        "stylesheet_integrity": STYLESHEET.integrity,
        "scripts": "\n".join(_script(asset, nonce, "defer ") for asset in scripts),
        "languages": "\n".join(_option(name, name == language) for name in LANGUAGES),
        "label_language": escape(MESSAGES[language]["language"]),
        "data": _json("page-data", data),
    }


def _json(element_id: str, data: Mapping[str, object]) -> str:
    # In a script element only "<" could end it or open a comment.
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{element_id}">{text}</script>'


def _texts(language: str) -> dict[str, str]:
    texts = {key: escape(text) for key, text in MESSAGES[language].items()}
    return {**texts, "language": language}


def _checked_nonce(nonce: str) -> str:
    if not _NONCE.fullmatch(nonce):
        raise ValueError("a nonce is at least 128 bits in base64")
    return nonce


def _app_link(start: Mapping[str, object], nonce: str) -> str:
    """Write the script that knows the app, behind what it starts with.

    It hears messages from the moment on that it has run, so it is the first of the page.
    """
    script = f'<script nonce="{_checked_nonce(nonce)}">{APP_LINK}</script>'
    return _json("page-start", start) + script


def _script(asset: Asset, nonce: str, when: str = "") -> str:
    integrity = f'integrity="{asset.integrity}"'
    return f'<script {when}nonce="{nonce}" src="{asset.path}" {integrity}></script>'


def _option(language: str, chosen: bool) -> str:
    selected = " selected" if chosen else ""
    name = escape(MESSAGES[language]["name"])
    return f'<option value="{language}" lang="{language}"{selected}>{name}</option>'


def _whose(issuer_name: str | None) -> dict[str, str]:
    """Write the head of a page; the script adds which card it is, once the server has said so."""
    return {
        "issuer_name": escape(issuer_name or ""),
        "whose_hidden": "" if issuer_name else " hidden",
    }


def _variables(style: PageStyle | ViewStyle) -> dict[str, str]:
    return set_page_variables(style) if isinstance(style, PageStyle) else view_variables(style)


def _theme(has_colours: bool) -> str:
    """Mark the page of a client that has colours: a dark screen does not change those."""
    return ' data-theme="client"' if has_colours else ""


def _properties(variables: Mapping[str, str]) -> str:
    """Write a style as custom properties; *variables* are colours and numbers only."""
    return "".join(f"--{name}:{value};" for name, value in variables.items())
