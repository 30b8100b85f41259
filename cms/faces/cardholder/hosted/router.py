"""What may be called at the hosted face, and by whom."""

from collections.abc import Sequence
from typing import Final

from cms.faces.cardholder.hosted import described as said
from cms.faces.cardholder.hosted.cards import Cards
from cms.faces.cardholder.hosted.image import IMAGE_PATH, Image
from cms.faces.cardholder.hosted.pages import PAGE_PATH, Pages
from cms.faces.cardholder.page.assets import ASSETS_PATH
from cms.faces.cardholder.page.posts import SetPosts, asset, by_page
from cms.faces.routes import Route
from hsm.port import Purpose

VIEW_TOKEN: Final = "/v1/card/pin/token"  # noqa: S105 - a path
SET_TOKEN: Final = "/v1/card/set-pin/token"  # noqa: S105 - a path
STATUS: Final = "/v1/card/status"


def routes(cards: Cards, image: Image, pages: Pages, posts: SetPosts) -> Sequence[Route]:
    """Return the table of the face."""
    by_cardholder = cards.by_cardholder
    return (
        # An app by its client key, for a cardholder by an access token.
        Route("POST", VIEW_TOKEN, by_cardholder(cards.view_token, Purpose.VIEW), said.VIEW_TOKEN),
        Route("POST", SET_TOKEN, by_cardholder(cards.set_token, Purpose.SET), said.SET_TOKEN),
        Route("GET", STATUS, by_cardholder(cards.status, None), said.STATUS),
        # A browser, before an app's page sends one of these.
        *(
            Route("OPTIONS", path, cards.preflight, said.PREFLIGHT)
            for path in (VIEW_TOKEN, SET_TOKEN, STATUS)
        ),
        # Whoever has a control token, in the query.
        Route("GET", IMAGE_PATH, image.answer, said.IMAGE),
        Route("HEAD", IMAGE_PATH, image.answer, said.IMAGE_HEAD),
        Route("OPTIONS", IMAGE_PATH, image.answer, said.IMAGE_OPTIONS),
        Route("GET HEAD", PAGE_PATH, pages.page, said.SET_PAGE),
        # The page's script, by a control token and then by its page session; a PIN by both.
        Route("POST", "/pin-direct/session", by_page(pages.session, "token"), said.SESSION),
        Route("POST", "/pin-direct/extend", by_page(posts.extend, "session"), said.EXTEND),
        Route(
            *("POST", "/pin-direct/submit"),
            by_page(posts.submit, "session", "controlToken", "jwe"),
            said.SUBMIT,
        ),
        Route("POST", "/pin-direct/cancel", by_page(posts.cancel, "session"), said.CANCEL),
        # Anybody.
        Route("GET HEAD", f"{ASSETS_PATH}/{{hash}}/{{name}}", asset, said.ASSET),
    )
