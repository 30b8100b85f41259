"""The apps of the hosted face's tests, and the origins that they registered."""

from cms.persistence import admin
from tests.cms.faces.d1_face import D1Face

KEY = "testbank01-app"
OTHER_KEY = "testbank01-other"
ORIGIN, FRAME, PORTED = "https://app.example", "https://frame.example", "https://app.example:8443"
APP_SCHEME = "com.example.app:"
APP_FRAME = "capacitor://localhost"
"""The origin of an app's pages in a webview."""


def add_apps(d1_face: D1Face) -> None:
    """Register one app with origins, and one without that wants failures with status 200."""
    with admin.transaction(d1_face.url) as database:
        admin.add_app(
            database,
            *("testbank01", KEY),
            redirect_origins=[ORIGIN, PORTED, APP_SCHEME],
            embed_origins=[FRAME, APP_FRAME],
        )
        admin.add_app(
            database,
            *("testbank01", OTHER_KEY),
            failure_image_status=200,
        )
