import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from calmjs.parse import es5
from calmjs.parse.exceptions import ECMASyntaxError

from cms.faces.cardholder.page import render
from cms.faces.cardholder.page.assets import APP_LINK, ASSETS, SCRIPTS, STYLESHEET, TEXTS
from cms.faces.cardholder.page.messages import LANGUAGES, MESSAGES
from cms.faces.cardholder.page.style import PageStyle, ViewStyle
from crypto.pin_image import Colour

NONCE = "bm9uY2Utb2YtdGhlLXRlc3Q"
WEBVIEW = render.ControlPage(
    ViewStyle(), True, 30, {"flow": "webview", "purpose": "view", "controlId": "</script><b>$1"}
)
PAGES = [
    (render.set_page(PageStyle(), "en", NONCE), 7),
    (render.control_page(WEBVIEW, "en", NONCE), 8),
]
ENDED = render.ended_webview_page("en", "ended", NONCE)


def control(style: ViewStyle) -> str:
    return render.control_page(render.ControlPage(style, True, 30, {}), "en", NONCE)


class Elements(HTMLParser):
    """The start tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in tags]


def directives(headers: dict[str, str]) -> dict[str, str]:
    parts = (part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    return {part[0]: part[1] for part in parts}


@pytest.mark.parametrize(("page", "files"), PAGES)
def test_every_script_and_style_has_the_nonce_and_every_file_its_integrity(
    page: str, files: int
) -> None:
    elements = Elements(page)
    own = [e for e in elements.named("script", "link") if "type" not in e]
    assert all(element["nonce"] == NONCE for element in own)
    loaded = [e for e in own if "src" in e or "href" in e]
    assert len(loaded) == files
    for element in loaded:
        asset = ASSETS[str(element.get("src") or element.get("href"))]
        assert element["integrity"] == asset.integrity
    assert [e["nonce"] for e in elements.named("style")] == [NONCE]


@pytest.mark.parametrize("page", [page for page, _ in PAGES])
def test_a_page_has_no_inline_handler_no_inline_style_and_names_no_other_site(page: str) -> None:
    attributes = {name for _, attrs in Elements(page).found for name in attrs}
    assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert "://" not in page


@pytest.mark.parametrize("page", [page for page, _ in PAGES])
def test_the_fields_have_no_name_and_the_form_no_address(page: str) -> None:
    elements = Elements(page)
    fields, (form,) = elements.named("input"), elements.named("form")
    assert [(f["type"], f["inputmode"], f["autocomplete"]) for f in fields] == [
        ("text", "numeric", "one-time-code")
    ] * 2
    # Password managers that people add: 1Password, Bitwarden, Dashlane, LastPass.
    asked = {"data-1p-ignore", "data-bwignore", "data-form-type", "data-lpignore"}
    assert all(asked <= f.keys() for f in fields)
    assert form["autocomplete"] == "off"
    assert not [f for f in fields if "name" in f]
    assert "action" not in form


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_is_written_in_its_language_and_direction(language: str) -> None:
    (html,) = Elements(render.set_page(PageStyle(), language, NONCE)).named("html")
    assert html == {"lang": language, "dir": "rtl" if language == "ar" else "ltr"}
    (chosen,) = [
        e
        for e in Elements(render.set_page(PageStyle(), language, NONCE)).named("option")
        if "selected" in e
    ]
    assert chosen["value"] == language


def test_the_texts_in_the_page_are_those_of_the_language() -> None:
    page = render.set_page(PageStyle(), "fr", NONCE)
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', page)
    assert found is not None
    data = json.loads(found[1])
    assert data["messages"] == MESSAGES["fr"]
    assert {name: file["url"] for name, file in data["languages"].items()} == {
        name: asset.path for name, asset in TEXTS.items()
    }


def test_the_name_of_the_issuer_is_text() -> None:
    page = render.set_page(PageStyle(), "en", NONCE, "<b>$nonce & Söhne")
    assert '<p id="whose"><strong dir="auto">&lt;b&gt;$nonce &amp; Söhne</strong>' in page
    assert '<p id="whose" hidden><strong dir="auto"></strong>' in PAGES[0][0]


def test_a_style_becomes_properties() -> None:
    style = PageStyle(background=Colour.parse("#1F2937"), button_radius_px=2.5)
    page = render.set_page(style, "en", NONCE)
    assert "--background:#1f2937;" in page
    assert "--button-radius:2.50px;" in page


def test_boxes_in_the_colour_of_the_page_have_an_edge_that_is_seen() -> None:
    grey, blue = Colour.parse("#efefef"), Colour.parse("#1d4ed8")
    for primary in (grey, Colour.parse("#dddddd")):
        style = PageStyle(background_primary=primary, text_primary=blue, pin_border=primary)
        page = render.set_page(style, "en", NONCE)
        assert "--button-edge:#1d4ed8;" in page
        assert "--pin-edge:#1d4ed8;" in page


def test_slots_have_the_colours_of_a_client_and_are_no_black_boxes_without_them() -> None:
    blue, white = Colour.parse("#3B82F6"), Colour(255, 255, 255)
    page = render.set_page(PageStyle(background_primary=blue, pin_border=blue), "en", NONCE)
    assert "--slot:#3b82f6;--on-slot:#ffffff;--pin-edge:#3b82f6;" in page
    page = render.set_page(PageStyle(background=white), "en", NONCE)
    assert "--slot:#ffffff;--on-slot:#000000;--pin-edge:#000000;" in page


def test_a_page_is_dark_on_a_dark_screen_only_without_a_clients_colours() -> None:
    own = PageStyle(button_radius_px=2, pin_radius_px=0)
    for page, marked in [
        (render.set_page(own, "en", NONCE), False),
        (render.set_page(PageStyle(text=Colour(1, 2, 3)), "en", NONCE), True),
        (PAGES[1][0], False),
        (control(ViewStyle(frame=Colour(1, 2, 3))), True),
    ]:
        assert ('<html lang="en" dir="ltr" data-theme="client">' in page) is marked
        assert ("--background:" in page) is marked
    assert ":root:not([data-theme])" in STYLESHEET.body.decode()


def test_what_the_script_starts_with_is_before_the_first_script_and_cannot_end_its_place() -> None:
    page = render.control_page(WEBVIEW, "en", NONCE)
    found = re.search(r'<script type="application/json" id="page-start">(.*?)</script>', page)
    assert found is not None
    assert json.loads(found[1]) == {**WEBVIEW.start, "hideSeconds": 30}
    scripts = re.findall("<script(.*?)>(.*?)</script>", page, re.DOTALL)
    assert scripts[1] == (f' nonce="{NONCE}"', APP_LINK)
    assert all("defer" in attributes for attributes, _ in scripts[2:] if "src" in attributes)


@pytest.mark.parametrize("page", [PAGES[1][0], ENDED])
def test_the_script_that_knows_the_app_is_part_of_the_page_and_cannot_end_its_place(
    page: str,
) -> None:
    assert page.count(APP_LINK) == 1
    # HTML standard, 13.1.3: the restrictions for the contents of a script element.
    assert not re.search("<!--|<script|</script", APP_LINK, re.IGNORECASE)


def test_the_script_that_knows_the_app_is_read_by_webviews_that_read_none_of_the_others() -> None:
    es5(APP_LINK)
    for asset in SCRIPTS:
        with pytest.raises(ECMASyntaxError):
            es5(asset.body.decode())


@pytest.mark.parametrize(
    ("start", "title"),
    [
        ({"flow": "webview", "purpose": "set", "controlId": "x"}, "Set your card PIN"),
        ({"flow": "webview", "purpose": "view", "controlId": "x"}, "Your card PIN"),
        ({"flow": "frame", "key": "x", "targetOrigins": []}, "Your card PIN"),
    ],
)
def test_a_control_page_has_the_title_of_its_purpose(start: dict[str, object], title: str) -> None:
    page = render.control_page(render.ControlPage(ViewStyle(), True, 30, start), "en", NONCE)
    assert f"<title>{title}</title>" in page


def test_a_control_page_has_no_cancel_button_and_a_confirm_button_if_the_client_wants_it() -> None:
    for wanted in (True, False):
        page = render.control_page(render.ControlPage(ViewStyle(), wanted, 30, {}), "en", NONCE)
        assert 'id="cancel"' not in page
        assert ('<div class="buttons" hidden>\n<button id="confirm"' in page) is not wanted


def test_the_style_of_a_view_becomes_properties() -> None:
    style = ViewStyle(
        Colour.parse("#102030"), Colour.parse("#f0f8ff"), Colour.parse("#ff8800"), 600
    )
    page = render.control_page(render.ControlPage(style, True, 30, {}), "en", NONCE)
    for written in ("text:#102030", "background:#f0f8ff", "view-edge:#ff8800", "view-width:600px"):
        assert f"--{written};" in page


@pytest.mark.parametrize("nonce", ["", "short", f"{NONCE}' *", f'{NONCE}"><script>'])
def test_a_nonce_that_could_end_its_place_is_refused(nonce: str) -> None:
    with pytest.raises(ValueError, match="nonce"):
        render.set_page(PageStyle(), "en", nonce)
    with pytest.raises(ValueError, match="nonce"):
        render.control_page(WEBVIEW, "en", nonce)
    with pytest.raises(ValueError, match="nonce"):
        render.page_headers(nonce, [], "en")
    with pytest.raises(ValueError, match="nonce"):
        render.ended_webview_page("en", "ended", nonce)
    with pytest.raises(ValueError, match="nonce"):
        render.ended_headers("en", nonce)


def test_the_policy_of_a_page_allows_its_own_script_and_nothing_unsafe() -> None:
    policy = directives(render.page_headers(NONCE, [], "en"))
    assert policy == {
        "default-src": "'none'",
        "script-src": f"'nonce-{NONCE}'",
        "style-src": f"'nonce-{NONCE}'",
        "img-src": "blob:",
        "connect-src": "'self'",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_registered_origins_may_frame_a_page() -> None:
    origins = ["https://a.test", "https://b.test:8443", "capacitor://localhost"]
    headers = render.page_headers(NONCE, origins, "en")
    assert directives(headers)["frame-ancestors"] == " ".join(origins)
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"


@pytest.mark.parametrize(
    "origin", ["*", "https://a.test; script-src *", "https://a.test/x", "https:", "capacitor:"]
)
def test_an_origin_that_could_say_more_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        render.page_headers(NONCE, [origin], "en")


@pytest.mark.parametrize(
    "headers", [render.page_headers(NONCE, [], "en"), render.ended_headers("en")]
)
def test_no_page_is_stored_or_told_to_others(headers: dict[str, str]) -> None:
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert "camera=()" in headers["Permissions-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_no_rule_of_the_stylesheet_has_a_colour_of_its_own() -> None:
    light, rest = STYLESHEET.body.decode().split("}", 1)
    dark, rules = rest.split("}", 1)
    for defaults in (light, dark):
        assert len(re.findall(r"#[0-9a-f]{6}", defaults)) == 11
    assert not re.search(r"#[0-9a-f]{3,8}\b|rgb|hsl|url\(|@import", rules)


def test_the_ended_page_has_no_script_and_no_control_and_any_app_may_frame_it() -> None:
    page = render.ended_page("en").decode()
    tags = {tag for tag, _ in Elements(page).found}
    drawn = {"svg", "circle", "path"}
    assert tags - drawn == {
        *("html", "head", "meta", "title", "link"),
        *("body", "main", "section", "h1", "p"),
    }
    assert "Go back to the app and start again" in page
    policy = directives(render.ended_headers("en"))
    assert policy["frame-ancestors"] == "https: http://localhost:* capacitor: ionic:"
    assert "script-src" not in policy


@pytest.mark.parametrize("state", ["ended", "limited", "away", "malformed"])
def test_in_a_webview_the_ended_page_has_one_script_and_differs_in_nothing_else(state: str) -> None:
    page = render.ended_webview_page("en", state, NONCE)
    without = re.sub("<script.*</script>", "", page, flags=re.DOTALL)
    assert without.encode() == render.ended_page("en", state)
    policy, plain = (
        directives(render.ended_headers("en", NONCE)),
        directives(render.ended_headers("en")),
    )
    nonce = f"'nonce-{NONCE}'"
    assert policy == {**plain, "script-src": nonce, "style-src": f"'self' {nonce}"}


@pytest.mark.parametrize("in_webview", [False, True])
def test_an_ended_page_has_the_look_of_its_client_where_that_is_known(in_webview: bool) -> None:
    def written(style: PageStyle | ViewStyle, name: str | None) -> str:
        owner = render.Owner(style, name, None)
        if in_webview:
            return render.ended_webview_page("en", "ended", NONCE, owner)
        return render.ended_page_of(owner, "en", "ended", NONCE)

    style = PageStyle(background=Colour.parse("#123456"))
    page = written(style, "<Bank> & Co")
    assert '<strong dir="auto">&lt;Bank&gt; &amp; Co</strong>' in page
    assert 'data-theme="client"' in page
    assert f'<style nonce="{NONCE}">:root{{' in page
    assert "--background:#123456;" in page
    plain = written(ViewStyle(), None)
    assert "data-theme" not in plain
    assert "<strong" not in plain
    assert "This page is no longer valid" in plain


def test_a_field_is_masked_by_the_page_itself_also_where_no_browser_masks_text() -> None:
    for page, _ in PAGES:
        style = re.search(f'<style nonce="{NONCE}">(.*?)</style>', page)
        assert style is not None
        assert ".field input{-webkit-text-security:disc}" in style[1]
        assert "@supports not (-webkit-text-security:disc)" in style[1]


def test_the_ended_page_is_the_same_each_time_and_one_for_each_language() -> None:
    assert render.ended_page("de") == render.ended_page("de")
    assert len({render.ended_page(language) for language in LANGUAGES}) == len(LANGUAGES)


def test_a_file_is_served_for_ever_under_the_hash_of_its_bytes() -> None:
    digest = hashlib.sha384(STYLESHEET.body).digest()
    assert STYLESHEET.integrity == f"sha384-{base64.b64encode(digest).decode()}"
    assert STYLESHEET.path == f"/pin-assets/{digest[:16].hex()}/page.css"
    assert STYLESHEET.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert STYLESHEET.headers["Cross-Origin-Resource-Policy"] == "same-origin"
