"""Access tokens that the service would not issue."""

import time
from typing import Any

from tests.cms.faces.scene import Scene
from tests.service import PUBLIC_URL


def claims(scene: Scene, **changed: object) -> dict[str, object]:
    """Return the claims of a good token of the scene's client, with some *changed*."""
    return {
        "iss": PUBLIC_URL,
        "aud": PUBLIC_URL,
        "sub": scene.bank.client_id,
        "client_id": scene.bank.client_id,
        "issuerId": scene.bank.issuer_id,
        "scope": "pin",
        "iat": int(time.time()),
        "exp": int(time.time()) + 900,
        "jti": "a token of a test",
        "cnf": {"x5t#S256": scene.bank.certificate.thumbprint},
        "certificate_subject": scene.bank.certificate.subject,
    } | changed


async def access_token(scene: Scene, **changed: Any) -> str:  # noqa: ANN401 - JSON
    """Sign such claims with the key of the service."""
    return str(await scene.in_vault(lambda vault: vault.sign_token(claims(scene, **changed))))
