"""The apps of the pincontrol face, on the cardholder listener: pages, and PIN operations."""

from dataclasses import dataclass

from cms.faces.cardholder.page.posts import SetPosts
from cms.faces.cardholder.pincontrol import problems
from cms.faces.cardholder.pincontrol.operations import Operations
from cms.faces.cardholder.pincontrol.pages import Pages
from cms.faces.cardholder.pincontrol.router import routes
from cms.faces.cardholder.pincontrol.server import Callers, Server
from cms.faces.routes import Face
from cms.services.cardholder.apps import Servers
from cms.services.cardholder.backends import Backends
from cms.services.cardholder.device_set import DeviceSet
from cms.services.cardholder.pin_view import PinView
from cms.services.cardholder.pincontrol import ControlIds
from cms.services.cardholder.pre_shared import PreSharedKey
from cms.services.cardholder.set_page import SetPage


@dataclass(frozen=True, slots=True)
class PinControlServices:
    """The services of this face."""

    servers: Servers
    backends: Backends
    control_ids: ControlIds
    pin_view: PinView
    set_page: SetPage
    pre_shared_key: PreSharedKey
    device_set: DeviceSet


def pincontrol_app(
    services: PinControlServices, public_url: str, proxy_peers: frozenset[str] = frozenset()
) -> Face:
    """Build the app, which serves every path under :data:`.router.PREFIX`.

    Args:
        services: what the app calls.
        public_url: the base of the URLs in answers, https.
        proxy_peers: addresses whose ``X-Forwarded-For`` counts.
    """
    app = Face()
    control_ids, set_page = services.control_ids, services.set_page
    table = routes(
        Callers(services.backends, proxy_peers),
        Server(public_url.rstrip("/"), control_ids),
        Pages(services.servers, control_ids, services.pin_view, set_page, proxy_peers),
        SetPosts(set_page),
    )
    app.add(table)
    problems.install(app)
    return app


def operations_app(services: PinControlServices, proxy_peers: frozenset[str] = frozenset()) -> Face:
    """Build the app of what is under :data:`.operations.PREFIX`.

    Args:
        services: what the app calls.
        proxy_peers: addresses whose ``X-Forwarded-For`` counts.
    """
    app = Face()
    operations = Operations(
        *(services.control_ids, services.pin_view, services.pre_shared_key, services.device_set),
        proxy_peers,
    )
    app.add(operations.routes(Callers(services.backends, proxy_peers)))
    problems.install(app, problems.OF_OPERATIONS)
    return app
