"""The issuers' servers of the pincontrol face's tests, and their frames."""

from hsm.vault import Vault
from tests.cms.faces.d1_face import D1Face
from tests.issuer_records import SampleIssuer, add_clients, open_issuer, server_client

USER, FRAME_KEY, FRAME = "testbank01-server", "testbank01-frame", "https://desk.example"
OTHER_USER, OTHER_FRAME_KEY = "testbank01-second", "testbank01-frame2"
OTHER_FRAMES = ["https://other.example", "https://other.example:8443"]
#: What a server is called while it is out of service.
GONE = "testbank01-gone"
#: An issuer that allows a PIN as text, with one server.
TEXT_ISSUER_ID, TEXT_USER = "textbank01", "textbank01-server"
TEXT_FRAME_KEY = "textbank01-frame"


async def add_backends(d1_face: D1Face) -> None:
    """Register two servers with frames of their own."""
    servers = (
        server_client(USER, frame_key=FRAME_KEY, frame_origins=[FRAME]),
        server_client(OTHER_USER, frame_key=OTHER_FRAME_KEY, frame_origins=OTHER_FRAMES),
    )
    await d1_face.in_vault(lambda vault: add_clients(vault, "testbank01", *servers))


async def add_text_issuer(d1_face: D1Face) -> SampleIssuer:
    """Add an issuer that allows a PIN as text, with one server."""
    server = server_client(TEXT_USER, frame_key=TEXT_FRAME_KEY, frame_origins=[FRAME])

    def add(vault: Vault) -> SampleIssuer:
        opened = open_issuer(
            *(d1_face.url, vault, TEXT_ISSUER_ID),
            policy={"text_reveal": True},
            limits={"handouts_card_day_max": 1_000},
        )
        add_clients(vault, TEXT_ISSUER_ID, server)
        return opened

    sample_issuer: SampleIssuer = await d1_face.in_vault(add)
    return sample_issuer
