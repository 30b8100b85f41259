"""What every PinVault promises of public keys and health."""

import pytest
from jwcrypto.jwk import JWK

from hsm.port import PublicKeyRole
from hsm.verbs import PinVault


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
