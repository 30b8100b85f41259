"""Whatever an app sends: what is stored are typed values, and addresses at its own origins."""

import json
import re
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from cms.domain.errors import Invalid
from cms.faces.cardholder.hosted.schemas import read_wish
from cms.services.cardholder.hosted import Wish
from hsm.manifest.clients import AppClient
from hsm.port import Purpose
from tests.cms.faces.cardholder.hosted import apps

COLOUR = re.compile("#[0-9a-f]{6}")
IMAGE = {"backgroundColor", "textColor"}
COLOURS = {*IMAGE, "backgroundColorPrimary", "textColorPrimary", "pinBorderColor"}
RADII = {"buttonBorderRadius", "pinBorderRadius"}
KNOWN = {"body", "customCss", "isEmbedded", "redirectUrl"} | {
    f"customCss.{member}" for member in COLOURS | RADII
}
APP = AppClient(
    kind="app",
    client_id="app",
    redirect_origins=(apps.ORIGIN, apps.PORTED),
    embed_origins=(apps.FRAME,),
)

css_texts = st.sampled_from(
    ["#fff", "#000000", "#FFF;}", "red", "url(//evil.example)", "8px", "-1", "</style>"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | css_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
good_styles = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(sorted(COLOURS), st.from_regex("#[0-9a-fA-F]{6}", fullmatch=True)),
        **dict.fromkeys(sorted(RADII), st.floats(0, 200) | st.integers(0, 200)),
    },
)
styles = good_styles | st.dictionaries(st.sampled_from(sorted(COLOURS | RADII)), json_values)
urls = st.lists(
    st.sampled_from(
        [apps.ORIGIN, apps.PORTED, "https:", "//", "/", "\\", "@", "evil.example", ".", ":", "#",
         "?", "%2e", "%00", "\t", "\n", "javascript:", "\u3002", "a"]
    ),
    max_size=5,
).map("".join)  # fmt: skip
bodies = st.one_of(
    st.fixed_dictionaries({"customCss": good_styles}),
    st.fixed_dictionaries({"redirectUrl": urls}, optional={"isEmbedded": st.booleans()}),
    st.fixed_dictionaries(
        {},
        optional={
            "customCss": styles | json_values,
            "isEmbedded": st.booleans() | json_values,
            "redirectUrl": urls | json_values,
        },
    ),
    json_values,
)


def read(body: object, purpose: Purpose) -> Wish | set[str]:
    """Read a body, or name the members that are wrong."""
    try:
        return read_wish(json.dumps(body).encode(), purpose, APP)
    except Invalid as invalid:
        return {field for field, _ in invalid.fields}


@given(bodies, st.sampled_from(Purpose))
def test_what_is_taken_is_typed_and_what_is_not_is_named(body: object, purpose: Purpose) -> None:
    wish = read(body, purpose)
    if isinstance(wish, set):
        assert wish <= KNOWN
        return
    colours = IMAGE if purpose is Purpose.VIEW else COLOURS
    radii = set() if purpose is Purpose.VIEW else RADII
    assert wish.style.keys() == colours | radii
    assert all(COLOUR.fullmatch(str(wish.style[name])) for name in colours)
    assert all(type(wish.style[name]) in (int, float) for name in radii)
    assert all(0 <= float(str(wish.style[name])) <= 64 for name in radii)
    assert type(wish.embedded) is bool
    if wish.redirect_url is not None:
        url = urlsplit(wish.redirect_url)
        assert f"{url.scheme}://{url.netloc}" in (apps.ORIGIN, apps.PORTED)
        assert wish.redirect_url.isascii()
        assert wish.redirect_url.isprintable()
        assert not wish.embedded
