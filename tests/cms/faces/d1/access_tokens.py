"""Access tokens that the service would not issue."""

import time
from typing import Any

from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import ACCESS_TOKEN_TYPE
from tests.cms.faces.d1_face import D1Face
from tests.service import PUBLIC_URL


def claims(d1_face: D1Face, **changed: object) -> dict[str, object]:
    """Return the claims of a good access token of the bank's client, with some *changed*."""
    return {
        "iss": PUBLIC_URL,
        "aud": PUBLIC_URL,
        "sub": d1_face.sample_issuer.client_id,
        "client_id": d1_face.sample_issuer.client_id,
        "issuerId": d1_face.sample_issuer.issuer_id,
        "scope": "pin",
        "iat": int(time.time()),
        "exp": int(time.time()) + 900,
        "jti": "an access token of a test",
        "cnf": {"x5t#S256": d1_face.sample_issuer.certificate.thumbprint},
        "certificate_subject": d1_face.sample_issuer.certificate.subject,
    } | changed


async def access_token(d1_face: D1Face, **changed: Any) -> str:  # noqa: ANN401 - JSON
    """Sign such claims with the key of the service, which no verb of the vault does."""
    signing, given = KeyLabel(KeyRole.TOKEN_SIGN, 1), claims(d1_face, **changed)
    return str(
        await d1_face.in_vault(
            lambda vault: vault._jose_keys.sign(given, signing, ACCESS_TOKEN_TYPE)
        )
    )
