"""The public keys that partners fetch: public ones only, of what partners encrypt to."""

import pytest
from jwcrypto.jwk import JWKSet

from cms.faces.d1.jwks import JWKS_PATH
from cms.sandbox.partners.jwe import encrypt
from cms.sandbox.partners.pin_blocks import iso0_block
from tests.cms.faces.d1_face import PIN, D1Face, put_body
from tests.service import PUBLIC_URL

pytestmark = pytest.mark.anyio


async def test_partners_fetch_the_keys_of_d1_and_of_the_intake_without_an_access_token(
    d1_face: D1Face,
) -> None:
    answer = await d1_face.d1.http.get(f"{PUBLIC_URL}{JWKS_PATH}")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "max-age=60"
    keys = answer.json()["keys"]
    issuer = d1_face.sample_issuer
    assert [key["role"] for key in keys] == ["d1", "intake"]
    assert [key["kid"] for key in keys] == [issuer.d1_jwk["kid"], issuer.intake_jwk["kid"]]
    assert all(
        {"kty", "crv", "x", "y", "use", "kid", "role"} >= key.keys() - {"alg"} for key in keys
    )
    found = JWKSet.from_json(answer.text)
    assert not any(key.has_private for key in found)


async def test_a_pin_that_is_encrypted_to_a_key_that_was_fetched_is_taken(d1_face: D1Face) -> None:
    keys = (await d1_face.d1.http.get(f"{PUBLIC_URL}{JWKS_PATH}")).json()["keys"]
    (key,) = (key for key in keys if key["role"] == "d1")
    issuer = d1_face.sample_issuer
    jwe = encrypt({"pinBlock": iso0_block(PIN, issuer.pans["card-1"])}, key)
    path = f"/cms/api/v1/issuers/{issuer.issuer_id}/cards/card-1/pin"
    assert (await d1_face.send("PUT", path, put_body(jwe))).status_code == 204
