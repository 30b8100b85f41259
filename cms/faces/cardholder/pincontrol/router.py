"""What may be called at the pincontrol face, and by whom."""

from collections.abc import Sequence
from typing import Final

from cms.faces.cardholder.page.posts import SetPosts, by_page
from cms.faces.cardholder.pincontrol.pages import FRAME_PATH, PIN_PATH, Pages
from cms.faces.cardholder.pincontrol.server import Callers, Server
from cms.faces.routes import Route
from hsm.port import Purpose

PREFIX: Final = "/pincontrol/"


def routes(callers: Callers, server: Server, pages: Pages, posts: SetPosts) -> Sequence[Route]:
    """Return the table of the face; every path starts with :data:`PREFIX`."""
    return (
        # An issuer's server, by its password.
        Route("POST", "/pincontrol/v2/plastic/{plastic_id}", callers.by_password(server.issue)),
        # A webview, by a control id; a frame of the client that has the key in its query.
        Route("GET HEAD POST", PIN_PATH, pages.webview),
        Route("GET HEAD", FRAME_PATH, pages.frame),
        # The page's script, by a control id.
        Route("POST", "/pincontrol/page/session", pages.by_control_id(Purpose.SET, pages.session)),
        Route("POST", "/pincontrol/page/view", pages.by_control_id(Purpose.VIEW, pages.view)),
        # The page's script, by its page session; a PIN by its control id too.
        Route("POST", "/pincontrol/page/digits", pages.digits),
        Route("POST", "/pincontrol/page/extend", by_page(posts.extend, "session")),
        Route(
            "POST",
            "/pincontrol/page/submit",
            by_page(posts.submit, "session", "controlToken", "jwe"),
        ),
        Route("POST", "/pincontrol/page/cancel", by_page(pages.cancel, "session")),
    )
