"""The app of the cardholder listener: the hosted face."""

import httpx
from fastapi import FastAPI

from cms.domain.control import Face
from cms.faces.cardholder.hosted import problems
from cms.faces.cardholder.hosted.auth import HostedAuth
from cms.faces.cardholder.hosted.cors import Cors
from cms.faces.cardholder.hosted.image import IMAGE_PATH, METHODS, Image
from cms.faces.cardholder.hosted.pages import PAGE_PATH, Pages
from cms.faces.cardholder.hosted.relay import Relay
from cms.faces.cardholder.hosted.router import CardRoutes
from cms.faces.cardholder.page.assets import ASSETS_PATH
from cms.faces.cardholder.page.posts import SetPosts, asset
from cms.persistence.control_store import ControlStore
from cms.persistence.store import Store
from cms.services.cardholder.apps import Apps
from cms.services.cardholder.control_tokens import ControlTokens
from cms.services.cardholder.hosted import HostedTokens
from cms.services.cardholder.identity import IdentityProvider
from cms.services.cardholder.lookup import Lookup
from cms.services.cardholder.rate_limit import RateLimiter
from cms.services.cardholder.set_page import SetPage
from cms.services.cardholder.view_pin import PinView
from cms.services.directory import Directory
from hsm.worker_thread import WorkerThread

GET = ["GET", "HEAD"]


def hosted_app(
    *,
    public_url: str,
    store: Store,
    tokens: ControlTokens,
    directory: Directory,
    worker_thread: WorkerThread,
    identity: IdentityProvider,
    rate_limiter: RateLimiter,
    http: httpx.AsyncClient,
    us_base_url: str | None = None,
    proxy_peers: frozenset[str] = frozenset(),
) -> FastAPI:
    """Build the app; it is to be wrapped in :class:`cms.logs.RequestLog`.

    Args:
        public_url: the base of the URLs in answers, https, without a slash at its end.
        store: the database.
        tokens: over the same database.
        directory: issuers and their apps.
        worker_thread: the way to the vault.
        identity: names cardholders.
        rate_limiter: the limit of unknown tokens; shared with other faces of this process.
        http: reaches the second deployment.
        us_base_url: its base; None: there is none.
        proxy_peers: addresses whose ``X-Forwarded-For`` counts.

    Raises:
        ValueError: *public_url* is not https.
    """
    if not public_url.startswith("https://"):
        raise ValueError("the cardholder URL is not https")
    apps = Apps(directory, ControlStore(store))
    auth = HostedAuth(apps, identity)
    cors = Cors(apps)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    relay = None if us_base_url is None else Relay(us_base_url, http)
    cards = HostedTokens(tokens, store)
    CardRoutes(public_url.rstrip("/"), auth, cards, relay, cors).add_to(app)
    lookup = Lookup(Face.HOSTED, tokens, apps, rate_limiter)
    image = Image(PinView(Face.HOSTED, tokens, store, apps, worker_thread), lookup, proxy_peers)
    set_page = SetPage(Face.HOSTED, tokens, store, apps, worker_thread)
    pages, posts = Pages(set_page, lookup, proxy_peers), SetPosts(set_page)
    app.add_api_route(IMAGE_PATH, image.answer, methods=list(METHODS))
    app.add_api_route(PAGE_PATH, pages.page, methods=GET)
    app.add_api_route("/pin-direct/session", pages.session, methods=["POST"])
    app.add_api_route("/pin-direct/extend", posts.extend, methods=["POST"])
    app.add_api_route("/pin-direct/submit", posts.submit, methods=["POST"])
    app.add_api_route("/pin-direct/cancel", posts.cancel, methods=["POST"])
    app.add_api_route(ASSETS_PATH + "/{hash}/{name}", asset, methods=GET)
    problems.install(app, cors)
    return app
