"""The apps of the hosted face's tests, and the origins that they registered."""

from tests.cms.faces.d1_face import D1Face
from tests.issuer_records import add_clients, app_client

KEY = "testbank01-app"
OTHER_KEY = "testbank01-other"
ORIGIN, FRAME, PORTED = "https://app.example", "https://frame.example", "https://app.example:8443"
APP_SCHEME = "com.example.app:"
APP_FRAME = "capacitor://localhost"
"""The origin of an app's pages in a webview."""


async def add_apps(d1_face: D1Face) -> None:
    """Register one app with origins, and one without that wants failures with status 200."""
    app = app_client(
        KEY, redirect_origins=[ORIGIN, PORTED, APP_SCHEME], embed_origins=[FRAME, APP_FRAME]
    )
    other = app_client(OTHER_KEY, failure_image_status=200)
    await d1_face.in_vault(lambda vault: add_clients(vault, "testbank01", app, other))
