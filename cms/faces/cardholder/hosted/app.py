"""The app of the cardholder listener: the hosted face."""

from dataclasses import dataclass

from cms.faces.cardholder.hosted import problems
from cms.faces.cardholder.hosted.auth import HostedAuth
from cms.faces.cardholder.hosted.cards import Cards
from cms.faces.cardholder.hosted.cors import Cors
from cms.faces.cardholder.hosted.image import Image
from cms.faces.cardholder.hosted.pages import Pages
from cms.faces.cardholder.hosted.relay import Relay
from cms.faces.cardholder.hosted.router import routes
from cms.faces.cardholder.page.posts import SetPosts
from cms.faces.routes import Face
from cms.services.cardholder.apps import Apps
from cms.services.cardholder.control_tokens import ControlTokens
from cms.services.cardholder.hosted import HostedCards
from cms.services.cardholder.pin_view import PinView
from cms.services.cardholder.set_page import SetPage
from cms.services.manifests import ManifestCarrier
from hsm.manifest.clients import AppClient


@dataclass(frozen=True, slots=True)
class HostedServices:
    """The services of this face."""

    apps: Apps
    cards: HostedCards
    control_tokens: ControlTokens[AppClient]
    pin_view: PinView
    set_page: SetPage
    manifests: ManifestCarrier


def hosted_app(
    services: HostedServices,
    public_url: str,
    relay: Relay | None = None,
    proxy_peers: frozenset[str] = frozenset(),
) -> Face:
    """Build the app; it is to be wrapped in :class:`cms.logs.RequestLog`.

    Args:
        services: what the app calls.
        public_url: the base of the URLs in answers, https.
        relay: the way to the second deployment; None: there is none.
        proxy_peers: addresses whose ``X-Forwarded-For`` counts.

    Raises:
        ValueError: *public_url* is not https.
    """
    if not public_url.startswith("https://"):
        raise ValueError("the cardholder URL is not https")
    app = Face()
    cors = Cors(services.manifests)
    auth = HostedAuth(services.apps)
    table = routes(
        Cards(public_url.rstrip("/"), auth, services.cards, relay, cors),
        Image(services.pin_view, services.control_tokens, proxy_peers),
        Pages(services.set_page, services.control_tokens, proxy_peers),
        SetPosts(services.set_page),
    )
    app.add(table)
    problems.install(app, cors)
    return app
