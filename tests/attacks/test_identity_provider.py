"""Whoever has the keys of an identity provider: it makes every access token that they can sign."""

from pathlib import Path

import pytest
from jwcrypto.jwk import JWK

from crypto.secret import Secret
from hsm.bearers import Bearers, Subject
from hsm.errors import BearerRefused
from hsm.port import CardRef, Purpose
from tests.attacks.database_owner import decrypted
from tests.attacks.table import Attacker
from tests.bearers import access_token, audience, ec_key, identity_provider, public
from tests.contracts.issuer import (
    HOLDER,
    ISSUER_ID,
    OTHER_ISSUER_ID,
    Issuer,
    open_host,
    open_issuer,
    page_key,
)
from tests.contracts.software_token import SoftwareToken
from tests.operators import VALID_UNTIL

ATTACKER = Attacker(
    who="whoever has the keys of an identity provider",
    gets=(
        "access tokens of every cardholder of the issuers whose manifests pin these keys:"
        " it sees and sets their PINs at the hosted face, within the manifest's limits"
    ),
    does_not=(
        "name a cardholder of any other issuer: the keys are pinned, and the audience is "
        "one issuer's"
    ),
)

PIN = "4071"
PROVIDER = "https://provider.of.the.attacker.test"
#: Called as the key that others pin: a name proves nothing.
OWN_KEY = JWK.generate(kty="EC", crv="P-256", kid=ec_key()["kid"], use="sig")
TEXT = {"text_reveal": True}


def forged(issuer: str, aud: str) -> Secret[str]:
    """Name the victim in an access token that the attacker's key signs."""
    claims = {"iss": issuer, "aud": aud, "sub": HOLDER, "exp": int(VALID_UNTIL.timestamp())}
    return Secret(access_token(claims, OWN_KEY))


def open_issuers(directory: Path) -> tuple[Issuer, Issuer]:
    """An issuer that trusts the attacker's provider, and one that trusts another, on one host."""
    host = open_host(SoftwareToken(), directory)
    own = {"issuer": PROVIDER, "jwks": {"keys": [public(OWN_KEY)]}}
    trusting = open_issuer(
        host,
        OTHER_ISSUER_ID,
        policy=TEXT,
        identity_provider=identity_provider(OTHER_ISSUER_ID, **own),
    )
    return trusting, open_issuer(host, ISSUER_ID, policy=TEXT)


def see(issuer: Issuer, bearer: Secret[str]) -> str:
    """See the PIN of a card whose holder an access token names."""
    card = CardRef(issuer.issuer_id, "card-1")
    record = issuer.seal_record(card=card, holder=HOLDER)
    pin = issuer.set_pin(PIN, record, card=card)
    granted = issuer.vault.grant_bearer(bearer, issuer.app_id, Purpose.VIEW, card, record, 1)
    key, jwk = page_key()
    return str(decrypted(issuer.digits(granted, pin, record, jwk), key)["digits"])


def test_it_is_every_cardholder_of_the_issuers_that_trust_it(tmp_path: Path) -> None:
    trusting, _ = open_issuers(tmp_path)
    assert see(trusting, forged(PROVIDER, audience(OTHER_ISSUER_ID))) == PIN


@pytest.mark.parametrize("issuer", [PROVIDER, "https://identity.test"])
@pytest.mark.parametrize("issuer_id", [ISSUER_ID, OTHER_ISSUER_ID])
def test_it_is_nobody_at_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, issuer: str, issuer_id: str
) -> None:
    _, other = open_issuers(tmp_path)
    bearer = forged(issuer, audience(issuer_id))
    with pytest.raises(BearerRefused):
        see(other, bearer)
    # Without the signature by a pinned key, and the names that it covers, it would be.
    monkeypatch.setattr(Bearers, "subject", lambda *_: Subject(HOLDER, None, None))
    assert see(other, bearer) == PIN
