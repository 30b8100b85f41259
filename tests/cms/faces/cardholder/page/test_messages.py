import re

import pytest

from cms.faces.cardholder.page.assets import SCRIPTS
from cms.faces.cardholder.page.messages import LANGUAGES, MESSAGES, choose, negotiate
from cms.faces.cardholder.page.render import ControlPage, control_page, set_page
from cms.faces.cardholder.page.style import PageStyle, ViewStyle

STATES = (
    "loading",
    "done",
    "cancelled",
    "expired",
    "ended",
    "away",
    "limited",
    "failed",
    "insecure",
    "hidden",
    "unshown",
    "unopened",
    "malformed",
    "waiting",
    "used",
    "blocked",
    "changed",
)
NONCE = "bm9uY2Utb2YtdGhlLXRlc3Q"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("de-CH", "de"),
        ("da, fr;q=0.5, es;q=0.8", "es"),
        ("pt-BR, fr;q=0.5", "pt"),
        ("ja, zh;q=0.9", "en"),
        ("fi;q=0", "en"),
        ("SV-se , en;q=0.9", "sv"),
        ("ar;q=0.9,en;q=0.9", "ar"),
        ("en;q=1.5,,;q=1,*", "en"),
        ("x" * 100_000 + ",de", "en"),
    ],
)
def test_the_language_is_the_one_that_the_browser_prefers(header: str, language: str) -> None:
    assert negotiate(header) == language


@pytest.mark.parametrize(
    ("asked", "registered", "header", "language"),
    [
        ("fi", "sv", "de", "fi"),
        ("fi-FI", "sv", "de", "fi"),
        ("FI_fi", None, None, "fi"),
        ("", "sv", "de", "sv"),
        ("tlh", "sv", "de", "sv"),
        ("", None, "de", "de"),
        ("", "tlh", "de", "de"),
        ("x" * 100_000, None, None, "en"),
    ],
)
def test_the_request_goes_before_the_client_and_the_client_before_the_browser(
    asked: str, registered: str | None, header: str | None, language: str
) -> None:
    assert choose(asked, registered, header) == language


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_everything_with_the_same_values(language: str) -> None:
    def values(name: str) -> dict[str, set[str]]:
        return {key: set(re.findall(r"\{(\w+)\}", text)) for key, text in MESSAGES[name].items()}

    assert values(language) == values("en")
    assert all(MESSAGES[language].values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_is_no_copy(language: str) -> None:
    if language != "en":
        same = {key for key, text in MESSAGES[language].items() if text == MESSAGES["en"][key]}
        assert same <= {"direction"}


def test_every_text_is_used_and_every_text_used_exists() -> None:
    scripts = b"\n".join(asset.body for asset in SCRIPTS).decode()
    page = set_page(PageStyle(), "en", NONCE)
    page += control_page(ControlPage(ViewStyle(), True, 30, {}), "en", NONCE)
    in_script = set(re.findall(r'"([a-z]+(?:_[a-z]+)*_?)"', scripts))
    in_page = set(re.findall(r'data-text="(\w+)"', page))
    states = {f"{state}_{part}" for state in STATES for part in ("title", "text")}
    ranges = {
        f"{stem}{span}" for stem in in_script if stem.endswith("_") for span in ("exact", "range")
    }
    elsewhere = {"name", "direction", "noscript_title", "noscript_text"}
    assert in_page | states <= set(MESSAGES["en"])
    assert set(MESSAGES["en"]) <= in_page | in_script | states | ranges | elsewhere
