"""The app of the pincontrol face, on the cardholder listener."""

from typing import Final

from fastapi import FastAPI

from cms.domain.control import Face
from cms.faces.cardholder.page.posts import SetPosts
from cms.faces.cardholder.pincontrol import problems
from cms.faces.cardholder.pincontrol.pages import FRAME_PATH, PIN_PATH, Pages
from cms.faces.cardholder.pincontrol.router import PlasticRoute
from cms.persistence.control_store import ControlStore
from cms.persistence.store import Store
from cms.services.cardholder.apps import Apps
from cms.services.cardholder.backends import Backends
from cms.services.cardholder.control_tokens import ControlTokens
from cms.services.cardholder.lookup import Lookup
from cms.services.cardholder.pincontrol import ControlIds
from cms.services.cardholder.rate_limit import RateLimiter
from cms.services.cardholder.set_page import SetPage
from cms.services.cardholder.view_pin import PinView
from cms.services.directory import Directory
from hsm.worker_thread import WorkerThread

PREFIX: Final = "/pincontrol/"
GET: Final = ["GET", "HEAD"]


def pincontrol_app(
    *,
    public_url: str,
    store: Store,
    tokens: ControlTokens,
    directory: Directory,
    worker_thread: WorkerThread,
    rate_limiter: RateLimiter,
    proxy_peers: frozenset[str] = frozenset(),
) -> FastAPI:
    """Build the app, which serves every path under :data:`PREFIX`.

    Args:
        public_url: the base of the URLs in answers, https.
        store: the database.
        tokens: over the same database.
        directory: issuers and their clients.
        worker_thread: the way to the vault.
        rate_limiter: the limit of unknown ids; shared with other faces of this process.
        proxy_peers: addresses whose ``X-Forwarded-For`` counts.
    """
    face = Face.PINCONTROL
    apps = Apps(directory, ControlStore(store))
    set_page = SetPage(face, tokens, store, apps, worker_thread)
    reveal = PinView(face, tokens, store, apps, worker_thread)
    ids, lookup = ControlIds(tokens, store), Lookup(face, tokens, apps, rate_limiter)
    pages = Pages(apps, set_page, reveal, ids, lookup, proxy_peers)
    posts = SetPosts(set_page)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    # Passwords have a limit of their own: who guesses them must not shut out cardholders.
    backends = Backends(apps, RateLimiter())
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
