"""The issuers' servers of the pincontrol face's tests, and their frames."""

from cms.persistence import admin
from cms.services.credentials import hash_secret
from tests.cms.faces.d1_face import D1Face
from tests.issuer_records import SECRET, SampleIssuer, open_issuer

USER, FRAME_KEY, FRAME = "testbank01-server", "testbank01-frame", "https://desk.example"
OTHER_USER, OTHER_FRAME_KEY = "testbank01-second", "testbank01-frame2"
OTHER_FRAMES = ["https://other.example", "https://other.example:8443"]
#: An issuer that allows a PIN as text, with one server.
TEXT_ISSUER_ID, TEXT_USER = "textbank01", "textbank01-server"
TEXT_FRAME_KEY = "textbank01-frame"


def add_backends(d1_face: D1Face) -> None:
    """Register two servers with frames of their own."""
    with admin.transaction(d1_face.url) as database:
        for user, key, origins in (
            (USER, FRAME_KEY, [FRAME]),
            (OTHER_USER, OTHER_FRAME_KEY, OTHER_FRAMES),
        ):
            _add_backend(database, "testbank01", user, key, origins)


async def add_text_issuer(d1_face: D1Face) -> SampleIssuer:
    """Add an issuer that allows a PIN as text, with one server."""
    sample_issuer: SampleIssuer = await d1_face.in_vault(
        lambda vault: open_issuer(d1_face.url, vault, TEXT_ISSUER_ID, policy={"text_reveal": True})
    )
    with admin.transaction(d1_face.url) as database:
        _add_backend(database, TEXT_ISSUER_ID, TEXT_USER, TEXT_FRAME_KEY, [FRAME])
    return sample_issuer


def _add_backend(
    database: admin.Database, issuer_id: str, user: str, key: str, origins: list[str]
) -> None:
    admin.add_backend(
        database,
        *(issuer_id, user, hash_secret(SECRET)),
        frame_key=key,
        embed_origins=origins,
        show_button=True,
        hide_seconds=30,
        view_style={},
    )
