"""What is remembered of a caller, and what an absent HSM token means for it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import create_autospec

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type

from cms.domain.errors import ServiceUnavailable, Unauthorized
from cms.services.d1.access import Access, ClientCertificate, read_certificate
from cms.services.d1.signing_keys import KEYS_SECONDS
from cms.services.directory import Directory
from crypto.secret import Secret
from hsm.errors import VaultUnavailable
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import IssuedAccessToken
from hsm.vault import Vault
from hsm.verbs import PinVault
from tests.cms.services.clock import Clock
from tests.cms.services.d1.pin_service import PinService
from tests.contracts.software_token import SoftwareToken
from tests.in_process_vault import InProcessVault
from tests.issuer_records import (
    SECRET,
    certificate,
    change_client,
    d1_client,
    load_manifest,
    secret_hash,
)
from tests.key_tables import FIRST, Tables, rotated
from tests.operators import TOKEN_ISSUER, open_vault

pytestmark = pytest.mark.anyio
URL = TOKEN_ISSUER
UNIQUE_IDENTIFIER, COMMON_NAME = bytes.fromhex("0603 55042d"), bytes.fromhex("0603 550403")


@pytest.fixture
def access(pin_service: PinService, clock: Clock) -> Access:
    return Access(directory(pin_service), pin_service.vault, URL, clock)


def directory(pin_service: PinService) -> Directory:
    return Directory(pin_service.store, pin_service.vault)


def presented(pin_service: PinService) -> ClientCertificate:
    return read_certificate(pin_service.sample_issuer.certificate.der)


async def issue(pin_service: PinService, access: Access, secret: str = SECRET) -> IssuedAccessToken:
    """Have an access token issued to the bank's client."""
    client_id = pin_service.sample_issuer.client_id
    _, issued = await access.issue(client_id, Secret(secret), presented(pin_service))
    return issued


def without_hsm_token(pin_service: PinService) -> Access:
    unavailable = create_autospec(Vault, instance=True)
    error = VaultUnavailable("the HSM token is gone")
    unavailable.issue_token.side_effect = unavailable.public_jwks.side_effect = error
    return Access(directory(pin_service), InProcessVault(unavailable), URL)


def test_a_certificate_that_can_be_read_in_part_only_is_nobodys() -> None:
    """OpenSSL takes a BIT STRING as a common name."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    bits = x509.NameAttribute(x509.NameOID.X500_UNIQUE_IDENTIFIER, b"d1", _type=_ASN1Type.BitString)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([bits]))
        .issuer_name(x509.Name([bits]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    assert read_certificate(made).subject
    with pytest.raises(Unauthorized):
        read_certificate(made.replace(UNIQUE_IDENTIFIER, COMMON_NAME))


async def test_an_access_token_names_its_caller_until_it_expires(
    pin_service: PinService, access: Access, clock: Clock
) -> None:
    issued = await issue(pin_service, access)
    for age in (0, 899):
        clock.now = issued.expires_at - 900 + age
        caller = await access.caller(issued.access_token, presented(pin_service), "anything01")
        assert caller.client_id == pin_service.sample_issuer.client_id
        assert caller.manifest.issuer_id == pin_service.sample_issuer.issuer_id
    clock.now = issued.expires_at
    with pytest.raises(Unauthorized):
        await access.caller(issued.access_token, presented(pin_service), "anything01")


async def test_a_token_is_good_in_every_process_of_the_service_and_in_no_other(
    pin_service: PinService, access: Access, clock: Clock
) -> None:
    issued = await issue(pin_service, access)
    access_token, certificate = issued.access_token, presented(pin_service)
    sister = Access(directory(pin_service), pin_service.vault, URL, clock)
    assert (
        await sister.caller(access_token, certificate, "x")
    ).client_id == pin_service.sample_issuer.client_id
    stranger = Access(directory(pin_service), pin_service.vault, "https://other.test", clock)
    with pytest.raises(Unauthorized):
        await stranger.caller(access_token, certificate, "x")


async def test_without_the_hsm_token_nobody_new_is_let_in_or_turned_away(
    pin_service: PinService,
) -> None:
    locked = without_hsm_token(pin_service)
    with pytest.raises(ServiceUnavailable):
        await issue(pin_service, locked)
    with pytest.raises(ServiceUnavailable):
        await locked.caller("a.b.c", presented(pin_service), pin_service.sample_issuer.issuer_id)
    with pytest.raises(Unauthorized):
        await issue(pin_service, locked, "wrong")


async def test_a_secret_ends_by_the_clock_of_the_vault(
    pin_service: PinService, access: Access, clock: Clock
) -> None:
    issuer_id, client_id = pin_service.sample_issuer.issuer_id, pin_service.sample_issuer.client_id
    assert await issue(pin_service, access)
    end = datetime.fromtimestamp(clock.now, UTC) + timedelta(days=1)

    def end_secret(vault: PinVault) -> None:
        secrets = [secret_hash(SECRET, valid_until=end.isoformat())]
        change_client(vault, issuer_id, client_id, secrets=secrets)

    await pin_service.vault.run(end_secret)
    behind = Access(directory(pin_service), pin_service.vault, URL, clock)
    with pytest.raises(Unauthorized):
        await issue(pin_service, behind)


async def test_a_bearer_that_was_verified_needs_no_vault(
    pin_service: PinService, access: Access
) -> None:
    issued = await issue(pin_service, access)
    await access.caller(issued.access_token, presented(pin_service), "x")
    access._vault = without_hsm_token(pin_service)._vault
    caller = await access.caller(issued.access_token, presented(pin_service), "x")
    assert caller.client_id == pin_service.sample_issuer.client_id


async def test_access_tokens_follow_the_keys_that_sign_them(
    pin_service: PinService, clock: Clock, tmp_path: Path
) -> None:
    """Rotated at once; those of a key that is compromised are refused a second later."""
    hsm_token, tables = SoftwareToken(), Tables()
    own = open_vault(hsm_token, tmp_path)
    own.load_generations(tables.next(FIRST))
    issuer_id = pin_service.sample_issuer.issuer_id
    client = d1_client(issuer_id, pin_service.sample_issuer.certificate.subject, secret=SECRET)
    load_manifest(own, issuer_id, clients=[client])
    vault = InProcessVault(own)
    access = Access(Directory(pin_service.store, vault), vault, URL, clock)
    older = (await issue(pin_service, access)).access_token
    assert await access.caller(older, presented(pin_service), "x")
    hsm_token.generate(KeyLabel(KeyRole.TOKEN_SIGN, 2))
    own.load_generations(tables.next(rotated("token-sign")))
    newer = (await issue(pin_service, access)).access_token
    for token in (older, newer):
        assert await access.caller(token, presented(pin_service), "x")
    compromised = {**rotated("token-sign"), "token-sign.g1": "compromised"}
    own.load_generations(tables.next(compromised))
    clock.now += KEYS_SECONDS
    with pytest.raises(Unauthorized):
        await access.caller(older, presented(pin_service), "x")
    assert await access.caller(newer, presented(pin_service), "x")


def test_a_certificate_without_a_subject_has_no_empty_name() -> None:
    bare = read_certificate(certificate("").der)
    assert bare.subject == ""
    assert bare.names == {bare.sha256}
    named = read_certificate(certificate("", x509.DNSName("D1.test")).der)
    assert named.names == {"dns:d1.test", named.sha256}
    assert read_certificate(certificate("d1").der).names > {"CN=d1"}
