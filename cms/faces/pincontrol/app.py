"""The app of the pincontrol face, on the cardholder listener."""

from typing import Final

from fastapi import FastAPI

from cms.domain.control import Face
from cms.faces.page.posts import SetPosts
from cms.faces.pincontrol import problems
from cms.faces.pincontrol.pages import FRAME_PATH, PIN_PATH, Pages
from cms.faces.pincontrol.router import PlasticRoute
from cms.persistence.control_store import ControlStore
from cms.persistence.store import Store
from cms.services.apps import Apps
from cms.services.backends import Backends
from cms.services.control_tokens import ControlTokens
from cms.services.directory import Directory
from cms.services.guesses import Guesses
from cms.services.lookup import Lookup
from cms.services.pincontrol import ControlIds
from cms.services.reveal import Reveal
from cms.services.set_page import SetPage
from hsm.lane import Lane

PREFIX: Final = "/pincontrol/"
GET: Final = ["GET", "HEAD"]


def pincontrol_app(
    *,
    public_url: str,
    store: Store,
    tokens: ControlTokens,
    directory: Directory,
    lane: Lane,
    guesses: Guesses,
    proxy_peers: frozenset[str] = frozenset(),
) -> FastAPI:
    """Build the app, which serves every path under :data:`PREFIX`.

    Args:
        public_url: the base of the URLs in answers, https.
        store: the database.
        tokens: over the same database.
        directory: issuers and their clients.
        lane: the way to the vault.
        guesses: the limit of unknown ids; shared with other faces of this process.
        proxy_peers: addresses whose ``X-Forwarded-For`` counts.
    """
    face = Face.PINCONTROL
    apps = Apps(directory, ControlStore(store))
    set_page = SetPage(face, tokens, store, apps, lane)
    reveal = Reveal(face, tokens, store, apps, lane)
    ids, lookup = ControlIds(tokens, store), Lookup(face, tokens, apps, guesses)
    pages = Pages(apps, set_page, reveal, ids, lookup, proxy_peers)
    posts = SetPosts(set_page)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    # Passwords have a limit of their own: who guesses them must not shut out cardholders.
    backends = Backends(apps, Guesses())
    PlasticRoute(public_url.rstrip("/"), backends, ids, proxy_peers).add_to(app)
    app.add_api_route(PIN_PATH, pages.webview, methods=[*GET, "POST"])
    app.add_api_route(FRAME_PATH, pages.frame, methods=GET)
    for path, endpoint in (
        ("/pincontrol/page/session", pages.session),
        ("/pincontrol/page/view", pages.view),
        ("/pincontrol/page/digits", pages.digits),
        ("/pincontrol/page/extend", posts.extend),
        ("/pincontrol/page/submit", posts.submit),
        ("/pincontrol/page/cancel", pages.cancel),
    ):
        app.add_api_route(path, endpoint, methods=["POST"])
    problems.install(app)
    return app
