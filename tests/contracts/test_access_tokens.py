"""What every PinVault promises of access tokens: it writes every claim, for registered clients."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from inspect import signature

import pytest
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from crypto.secret import Secret
from hsm.errors import CallerRefused, ManifestRefused
from hsm.manifest.client_secrets import hash_secret
from hsm.port import CertificateFacts, IssuedAccessToken, PublicKeyRole
from hsm.verbs import PinVault
from tests.contracts.issuer import ISSUER_ID, OTHER_ISSUER_ID, Issuer, open_issuer
from tests.operators import TOKEN_ISSUER, VALID_UNTIL, now

SECRET, OLD_SECRET = "a secret that we made", "the one before"
SECOND = timedelta(seconds=1)
OLD_SECRET_ENDS = now().replace(microsecond=0) + timedelta(days=30)
CLIENT_ID = f"{ISSUER_ID}-d1"
CERTIFICATE = CertificateFacts("thumbprint", "CN=d1", frozenset({"CN=d1", "dns:d1.example"}))
OTHERS_CERTIFICATE = CertificateFacts("another", "CN=other", frozenset({"CN=other"}))


def d1_client(client_id: str, *certificates: str, secrets: object = ()) -> Mapping[str, object]:
    return {
        "kind": "d1",
        "client_id": client_id,
        "certificates": certificates,
        "secrets": secrets,
    }


def hashed(secret: str, valid_until: datetime | None = None) -> Mapping[str, object]:
    end = None if valid_until is None else valid_until.isoformat()
    return {"sha256": hash_secret(secret), "valid_until": end}


SECRETS = [hashed(OLD_SECRET, OLD_SECRET_ENDS), hashed(SECRET)]
CLIENTS = [
    d1_client(CLIENT_ID, "CN=d1", secrets=SECRETS),
    d1_client(f"{ISSUER_ID}-other", "CN=other", secrets=[hashed("the other's secret")]),
    d1_client(f"{ISSUER_ID}-bare", "CN=d1"),
    {"kind": "app", "client_id": f"{ISSUER_ID}-app"},
    {"kind": "server", "client_id": f"{ISSUER_ID}-server", "secrets": SECRETS},
]


@pytest.fixture
def issuer(issuer: Issuer) -> Issuer:
    """An issuer with clients of each kind, on a host that knows another issuer too."""
    issuer = issuer.with_members(clients=CLIENTS)
    theirs = d1_client(OTHER_ISSUER_ID, "CN=other", secrets=SECRETS)
    open_issuer(issuer.host, OTHER_ISSUER_ID, clients=[theirs])
    return issuer


def issue(
    issuer: Issuer,
    client_id: str = CLIENT_ID,
    secret: str = SECRET,
    certificate: CertificateFacts = CERTIFICATE,
) -> IssuedAccessToken:
    return issuer.vault.issue_token(client_id, Secret(secret), certificate)


def opened(issuer: Issuer, access_token: str) -> tuple[dict[str, object], dict[str, object]]:
    """Verify with the published key; return header and claims."""
    (key,) = issuer.vault.public_jwks(PublicKeyRole.TOKEN_SIGN)["keys"]
    jws = JWS.from_jose_token(access_token)
    jws.allowed_algs = ["ES256"]
    jws.verify(JWK(**key))
    return jws.jose_header, json.loads(jws.payload)


def at(issuer: Issuer, moment: datetime) -> Issuer:
    return replace(issuer, host=issuer.host.reopened(lambda: moment))


def test_every_claim_is_of_the_manifest_the_certificate_and_the_clock(issuer: Issuer) -> None:
    moment = now().replace(microsecond=999_999)
    wire = {"token": {"scope": "pin:read", "ttl_seconds": 60}}
    there = at(issuer.with_members(wire=wire), moment)
    issued = issue(there)
    header, claims = opened(there, issued.access_token)
    (key,) = there.vault.public_jwks(PublicKeyRole.TOKEN_SIGN)["keys"]
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": key["kid"]}
    assert len(str(claims.pop("jti"))) == 22
    assert claims == {
        "iss": TOKEN_ISSUER,
        "aud": TOKEN_ISSUER,
        "sub": CLIENT_ID,
        "client_id": CLIENT_ID,
        "issuerId": ISSUER_ID,
        "scope": "pin:read",
        "iat": int(moment.timestamp()),
        "exp": int(moment.timestamp()) + 60,
        "cnf": {"x5t#S256": "thumbprint"},
        "certificate_subject": "CN=d1",
    }
    assert issued.expires_at == claims["exp"]


def test_no_two_are_the_same(issuer: Issuer) -> None:
    ids = {opened(issuer, issue(issuer).access_token)[1]["jti"] for _ in range(3)}
    assert len(ids) == 3


def test_no_claim_can_be_asked_for() -> None:
    asked = signature(PinVault.issue_token).parameters
    assert [*asked] == ["self", "client_id", "secret", "certificate"]
    assert {*CertificateFacts.__slots__} == {"thumbprint", "subject", "names"}


def test_a_certificate_is_known_by_any_of_its_names(issuer: Issuer) -> None:
    registered = d1_client(CLIENT_ID, "CN=renewed", "dns:d1.example", secrets=SECRETS)
    assert issue(issuer.with_members(clients=[registered]))


@pytest.mark.parametrize(
    "asked",
    [
        {"secret": "wrong"},
        {"secret": ""},
        {"secret": f"{SECRET} "},
        {"secret": "\udcff"},
        {"secret": hash_secret(SECRET)},
        {"secret": "the other's secret"},
        {"client_id": ISSUER_ID},
        {"client_id": f"{CLIENT_ID} "},
        {"client_id": f"{ISSUER_ID}-bare"},
        {"client_id": f"{ISSUER_ID}-app"},
        {"client_id": f"{ISSUER_ID}-server"},
        {"client_id": OTHER_ISSUER_ID},
        {"client_id": f"{OTHER_ISSUER_ID}-d1"},
        {"certificate": OTHERS_CERTIFICATE},
        {"certificate": replace(CERTIFICATE, names=frozenset({"dns:d1.example"}))},
        {"certificate": replace(CERTIFICATE, names=frozenset())},
    ],
    ids=str,
)
def test_whoever_is_not_registered_is_refused_with_one_answer(
    issuer: Issuer, asked: Mapping[str, str | CertificateFacts]
) -> None:
    with pytest.raises(CallerRefused) as refusal:
        issue(issuer, **asked)  # type: ignore[arg-type]
    assert refusal.value.args == ()
    assert issue(issuer)


def test_a_client_of_another_issuer_gets_a_token_of_its_own_issuer_only(issuer: Issuer) -> None:
    issued = issue(issuer, OTHER_ISSUER_ID, certificate=OTHERS_CERTIFICATE)
    _, claims = opened(issuer, issued.access_token)
    assert claims["issuerId"] == OTHER_ISSUER_ID


def test_an_old_secret_is_wrong_from_its_end_on_by_the_clock_of_the_vault(issuer: Issuer) -> None:
    before, after = at(issuer, OLD_SECRET_ENDS - SECOND), at(issuer, OLD_SECRET_ENDS)
    assert issue(before, secret=OLD_SECRET)
    with pytest.raises(CallerRefused):
        issue(after, secret=OLD_SECRET)
    assert issue(after)


@pytest.mark.parametrize("client_id", ["nobody0001", "short", "", "../../etc/", "nobody\0001-d1"])
def test_without_a_manifest_nobody_gets_one(issuer: Issuer, client_id: str) -> None:
    with pytest.raises(ManifestRefused):
        issue(issuer, client_id)


def test_a_manifest_that_ended_or_was_never_taken_gives_none(issuer: Issuer) -> None:
    for there in (at(issuer, VALID_UNTIL), replace(issuer, host=issuer.host.another())):
        with pytest.raises(ManifestRefused):
            issue(there)


def test_a_client_that_the_next_manifest_lacks_is_refused_at_once(issuer: Issuer) -> None:
    assert issue(issuer)
    issuer.vault.load_manifest(issuer.signed(2, clients=CLIENTS[1:]))
    with pytest.raises(CallerRefused):
        issue(issuer)
