"""What every PinVault promises of public keys, access tokens and health."""

import json

import pytest
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from hsm.port import PinVault, PublicKeyRole


def test_an_access_token_verifies_with_the_published_key(vault: PinVault) -> None:
    claims = {"iss": "https://pins.test", "exp": 2**31, "cnf": {"x5t#S256": "abc"}}
    jwks = vault.public_jwks(PublicKeyRole.TOKEN_SIGN)["keys"]
    access_token = JWS.from_jose_token(vault.sign_access_token(claims))
    access_token.allowed_algs = ["ES256"]
    access_token.verify(JWK(**jwks[0]))
    assert json.loads(access_token.payload) == claims
    assert access_token.jose_header == {"alg": "ES256", "typ": "at+jwt", "kid": jwks[0]["kid"]}


@pytest.mark.parametrize("role", PublicKeyRole)
def test_published_keys_are_public_and_named_by_their_thumbprint(
    vault: PinVault, role: PublicKeyRole
) -> None:
    (key,) = vault.public_jwks(role)["keys"]
    assert key.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert JWK(**key).thumbprint() == key["kid"]
    expected = ("sig", "ES256") if role is PublicKeyRole.TOKEN_SIGN else ("enc", "ECDH-ES")
    assert (key["use"], key["alg"]) == expected


def test_a_vault_in_order_is_healthy(vault: PinVault) -> None:
    vault.health()
