"""The app of the D1 listener."""

from cms.faces.d1 import problems
from cms.faces.d1.auth import D1Auth
from cms.faces.d1.certificates import CertificateReader
from cms.faces.d1.jwks import PartnerKeys
from cms.faces.d1.oauth import TokenEndpoint
from cms.faces.d1.router import CardRoutes
from cms.faces.routes import Face
from cms.services.d1.access import Access
from cms.services.d1.calls import CardCalls
from cms.services.d1.pins import Pins
from hsm.client import VaultCalls


def d1_app(
    access: Access,
    certificates: CertificateReader,
    calls: CardCalls,
    pins: Pins,
    vault: VaultCalls,
) -> Face:
    """Build the app; it is to be wrapped in :class:`cms.logs.RequestLog`."""
    app = Face()
    app.add(CardRoutes(D1Auth(access, certificates), calls, pins).routes())
    app.add(TokenEndpoint(access, certificates).routes())
    app.add(PartnerKeys(vault).routes())
    problems.install(app)
    return app
