"""What may be called at the hosted face, and by whom."""

from collections.abc import Sequence
from typing import Final

from cms.faces.cardholder.hosted.cards import Cards
from cms.faces.cardholder.hosted.image import IMAGE_PATH, METHODS, Image
from cms.faces.cardholder.hosted.pages import PAGE_PATH, Pages
from cms.faces.cardholder.page.assets import ASSETS_PATH
from cms.faces.cardholder.page.posts import SetPosts, asset, by_page
from cms.faces.routes import Route

VIEW_TOKEN: Final = "/v1/card/pin/token"  # noqa: S105 - a path
SET_TOKEN: Final = "/v1/card/set-pin/token"  # noqa: S105 - a path
STATUS: Final = "/v1/card/status"


def routes(cards: Cards, image: Image, pages: Pages, posts: SetPosts) -> Sequence[Route]:
    """Return the table of the face."""
    return (
        # An app by its client key, for a cardholder by an access token.
        Route("POST", VIEW_TOKEN, cards.by_cardholder(cards.view_token, for_pin=True)),
        Route("POST", SET_TOKEN, cards.by_cardholder(cards.set_token, for_pin=True)),
        Route("GET", STATUS, cards.by_cardholder(cards.status, for_pin=False)),
        # A browser, before an app's page sends one of these.
        *(Route("OPTIONS", path, cards.preflight) for path in (VIEW_TOKEN, SET_TOKEN, STATUS)),
        # Whoever has a control token, in the query.
        Route(" ".join(METHODS), IMAGE_PATH, image.answer),
        Route("GET HEAD", PAGE_PATH, pages.page),
        # The page's script, by a control token and then by its page session; a PIN by both.
        Route("POST", "/pin-direct/session", by_page(pages.session, "token")),
        Route("POST", "/pin-direct/extend", by_page(posts.extend, "session")),
        Route(
            "POST", "/pin-direct/submit", by_page(posts.submit, "session", "controlToken", "jwe")
        ),
        Route("POST", "/pin-direct/cancel", by_page(posts.cancel, "session")),
        # Anybody.
        Route("GET HEAD", f"{ASSETS_PATH}/{{hash}}/{{name}}", asset),
    )
