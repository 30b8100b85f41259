"""What may be called at the pincontrol face, and by whom."""

from collections.abc import Sequence
from typing import Final

from cms.faces.cardholder.page.posts import SetPosts, by_page
from cms.faces.cardholder.pincontrol import described as said
from cms.faces.cardholder.pincontrol.pages import FRAME_PATH, PIN_PATH, Pages
from cms.faces.cardholder.pincontrol.server import Callers, Server
from cms.faces.routes import Route
from hsm.port import Purpose

PREFIX: Final = "/pincontrol/"
SCRIPT: Final = "/pincontrol/page"


def routes(callers: Callers, server: Server, pages: Pages, posts: SetPosts) -> Sequence[Route]:
    """Return the table of the face; every path starts with :data:`PREFIX`."""
    by_control_id = pages.by_control_id
    return (
        # An issuer's server, by its password.
        Route(
            *("POST", "/pincontrol/v2/plastic/{plasticId}"),
            callers.by_password(server.issue),
            said.ISSUE,
        ),
        # A webview, by a control id; a frame of the client that has the key in its query.
        Route("GET HEAD", PIN_PATH, pages.webview, said.OPENED),
        Route("POST", PIN_PATH, pages.webview, said.WEBVIEW),
        Route("GET HEAD", FRAME_PATH, pages.frame, said.FRAME),
        # The page's script, by a control id.
        Route("POST", f"{SCRIPT}/session", by_control_id(Purpose.SET, pages.session), said.SESSION),
        Route("POST", f"{SCRIPT}/view", by_control_id(Purpose.VIEW, pages.view), said.VIEW),
        # The page's script, by its page session; a PIN by its control id too.
        Route("POST", f"{SCRIPT}/digits", pages.digits, said.DIGITS),
        Route("POST", f"{SCRIPT}/extend", by_page(posts.extend, "session"), said.EXTEND),
        Route(
            *("POST", f"{SCRIPT}/submit"),
            by_page(posts.submit, "session", "controlToken", "jwe"),
            said.SUBMIT,
        ),
        Route("POST", f"{SCRIPT}/cancel", by_page(pages.cancel, "session"), said.CANCEL),
    )
