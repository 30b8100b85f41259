"""What the vault must have heard itself before it makes a control token."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID

import pytest
from jwcrypto.jwk import JWK

from crypto.secret import Secret
from hsm.errors import (
    BearerRefused,
    EvidenceRefused,
    HsmError,
    ManifestRefused,
    SealBroken,
    StepUpMissing,
)
from hsm.manifest.client_secrets import hash_secret
from hsm.port import CardRef, GrantedToken, Purpose, SealedRecord
from tests.bearers import (
    IDENTITY_ISSUER,
    access_token,
    audience,
    bearer,
    ec_key,
    identity_provider,
    public,
)
from tests.contracts.issuer import (
    CARD,
    HOLDER,
    ISSUER_ID,
    OTHER_ISSUER_ID,
    PLASTIC_ID,
    SERVER_SECRET,
    Issuer,
    clients,
    open_issuer,
)

NOW = datetime(2026, 11, 27, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
SECOND = timedelta(seconds=1)
BEARER_CHARS_MAX = 8192


def grant_bearer(
    issuer: Issuer,
    sealed_record: SealedRecord,
    text: str | None = None,
    client_id: str | None = None,
    card: CardRef = CARD,
) -> GrantedToken:
    """Ask for a control token at the hosted face; what is not given is right."""
    return issuer.vault.grant_bearer(
        Secret(bearer(HOLDER, ISSUER_ID) if text is None else text),
        issuer.app_id if client_id is None else client_id,
        *(Purpose.VIEW, card, sealed_record, 1),
    )


def grant_server(
    issuer: Issuer,
    sealed_record: SealedRecord,
    user: str | None = None,
    secret: str = SERVER_SECRET,
    plastic_id: str = PLASTIC_ID,
) -> GrantedToken:
    """Ask for a control token at the pincontrol face; what is not given is right."""
    return issuer.vault.grant_server(
        issuer.server_id if user is None else user,
        Secret(secret),
        *(plastic_id, Purpose.VIEW, CARD, sealed_record, 1),
    )


def at(issuer: Issuer, moment: datetime) -> Issuer:
    """The issuer at a vault whose clock stands still."""
    return replace(issuer, host=issuer.host.at(moment))


def refused(kind: type[HsmError], asked: Callable[[], object]) -> None:
    """Ask, and be refused without a word of why."""
    with pytest.raises(HsmError) as refusal:
        asked()
    assert type(refusal.value) is kind
    assert (refusal.value.args, refusal.value.__cause__) == ((), None)
    assert refusal.value.__context__ is None or refusal.value.__suppress_context__


def test_a_control_token_is_a_uuid_of_its_own(issuer: Issuer, sealed_record: SealedRecord) -> None:
    made = [grant_bearer(issuer, sealed_record), grant_bearer(issuer, sealed_record)]
    made += [grant_server(issuer, sealed_record), grant_server(issuer, sealed_record)]
    assert all(UUID(one.control_token).version == 8 for one in made)
    assert all(str(UUID(one.control_token)) == one.control_token for one in made)
    assert len({one.control_token for one in made} | {one.grant_id for one in made}) == 8
    assert len({one.grant for one in made}) == 4
    assert not any(one.control_token in repr(one) for one in made)


# Access tokens


def of_length(chars: int) -> str:
    """An access token that is right but for its length."""
    texts = (bearer(HOLDER, ISSUER_ID, x="x" * size) for size in count(chars * 5 // 7))
    return next(text for text in texts if len(text) == chars)


def signed_by(key: JWK) -> str:
    claims = {"iss": IDENTITY_ISSUER, "aud": audience(ISSUER_ID), "sub": HOLDER, "exp": 2**32}
    return access_token(claims, key)


BAD_BEARERS: Mapping[str, Callable[[], str]] = {
    "empty": lambda: "",
    "no JWT": lambda: "eyJ",
    "of another provider": lambda: bearer(HOLDER, ISSUER_ID, iss=IDENTITY_ISSUER + "/"),
    "for another audience": lambda: bearer(HOLDER, OTHER_ISSUER_ID),
    "of no subject": lambda: bearer("", ISSUER_ID),
    "of another key of that name": lambda: signed_by(JWK.generate(kty="EC", crv="P-256", kid="ec")),
    "of a key that is not pinned": lambda: signed_by(ec_key("another")),
    "expired": lambda: bearer(HOLDER, ISSUER_ID, exp=SECONDS - 30),
    "of tomorrow": lambda: bearer(HOLDER, ISSUER_ID, nbf=SECONDS + 86_400),
    "unsigned": lambda: bearer(HOLDER, ISSUER_ID).rpartition(".")[0] + ".",
    "of 8193 characters": lambda: of_length(BEARER_CHARS_MAX + 1),
    "not Unicode": lambda: bearer(HOLDER, ISSUER_ID) + "\ud800",
}


@pytest.fixture
def today(issuer: Issuer) -> Issuer:
    return at(issuer, NOW)


@pytest.mark.parametrize("bad", BAD_BEARERS.values(), ids=BAD_BEARERS)
def test_only_an_access_token_of_the_identity_provider_names_a_cardholder(
    today: Issuer, sealed_record: SealedRecord, bad: Callable[[], str]
) -> None:
    text = bad()
    refused(BearerRefused, lambda: today.vault.verify_bearer(Secret(text), ISSUER_ID))
    refused(BearerRefused, lambda: grant_bearer(today, sealed_record, text))


@pytest.mark.parametrize(
    "text",
    [
        lambda: bearer(HOLDER, ISSUER_ID),
        lambda: bearer(HOLDER, ISSUER_ID, exp=SECONDS - 29, nbf=SECONDS + 30),
        lambda: of_length(BEARER_CHARS_MAX),
        lambda: signed_by(ec_key()),
    ],
)
def test_an_access_token_that_is_right_names_its_subject(
    today: Issuer, sealed_record: SealedRecord, text: Callable[[], str]
) -> None:
    assert today.vault.verify_bearer(Secret(text()), ISSUER_ID) == HOLDER
    assert grant_bearer(today, sealed_record, text())


def test_an_issuer_that_names_no_identity_provider_hears_nobody(
    issuer: Issuer, sealed_record: SealedRecord
) -> None:
    without = issuer.with_members(identity_provider=None)
    text = bearer(HOLDER, ISSUER_ID)
    refused(BearerRefused, lambda: without.vault.verify_bearer(Secret(text), ISSUER_ID))
    refused(BearerRefused, lambda: grant_bearer(without, sealed_record))


def test_a_key_that_a_new_manifest_does_not_pin_names_nobody_any_more(
    issuer: Issuer, sealed_record: SealedRecord
) -> None:
    own = issuer.with_members()
    old, new = public(ec_key()), public(ec_key("new"))
    signed_by_old, signed_by_new = signed_by(ec_key()), signed_by(ec_key("new"))
    for version, keys in enumerate(([old, new], [new]), start=2):
        assert grant_bearer(own, sealed_record, signed_by_old)
        provider = identity_provider(ISSUER_ID, jwks={"keys": keys})
        own.vault.load_manifest(own.signed(version, identity_provider=provider))
        assert grant_bearer(own, sealed_record, signed_by_new)
    refused(BearerRefused, lambda: grant_bearer(own, sealed_record, signed_by_old))


@pytest.mark.parametrize(
    ("wanted", "good", "bad"),
    [
        ({"step_up_acr": "strong"}, {"acr": "strong"}, {}),
        ({"step_up_acr": "strong"}, {"acr": "strong"}, {"acr": "weak"}),
        ({"step_up_seconds": 60}, {"auth_time": SECONDS - 60}, {}),
        ({"step_up_seconds": 60}, {"auth_time": SECONDS - 60}, {"auth_time": SECONDS - 61}),
        ({"step_up_seconds": 60}, {"auth_time": SECONDS + 30}, {"auth_time": SECONDS + 31}),
    ],
    ids=str,
)
def test_a_cardholder_must_have_authenticated_as_the_manifest_wants(
    issuer: Issuer,
    sealed_record: SealedRecord,
    wanted: Mapping[str, object],
    good: Mapping[str, object],
    bad: Mapping[str, object],
) -> None:
    provider = identity_provider(ISSUER_ID, **wanted)
    strict = at(issuer.with_members(identity_provider=provider), NOW)
    assert grant_bearer(strict, sealed_record, bearer(HOLDER, ISSUER_ID, **good))
    weak = bearer(HOLDER, ISSUER_ID, **bad)
    refused(StepUpMissing, lambda: grant_bearer(strict, sealed_record, weak))
    assert strict.vault.verify_bearer(Secret(weak), ISSUER_ID) == HOLDER


# Whose card it is


@pytest.mark.parametrize("holder", ["holder-2", "holder", "HOLDER-1", "holder-1 ", None])
def test_a_card_is_shown_to_its_holder_only(issuer: Issuer, holder: str | None) -> None:
    record = issuer.seal_record(holder=holder)
    refused(EvidenceRefused, lambda: grant_bearer(issuer, record))
    if holder is not None:
        assert grant_bearer(issuer, record, bearer(holder, ISSUER_ID))


@pytest.mark.parametrize("client", ["", "-other", "-server"])
def test_a_cardholder_comes_with_an_app_of_the_issuer(
    issuer: Issuer, sealed_record: SealedRecord, client: str
) -> None:
    client_id = f"{ISSUER_ID}{client}"
    refused(EvidenceRefused, lambda: grant_bearer(issuer, sealed_record, client_id=client_id))
    assert grant_bearer(issuer, sealed_record, client_id=f"{ISSUER_ID}-app")


def test_another_issuers_app_and_cardholders_are_nobody_here(
    issuer: Issuer, sealed_record: SealedRecord
) -> None:
    other = open_issuer(issuer.host.another(), OTHER_ISSUER_ID)
    other.vault.load_manifest(issuer.signed())
    refused(EvidenceRefused, lambda: grant_bearer(other, sealed_record))
    mine = bearer(HOLDER, ISSUER_ID)
    there = CardRef(OTHER_ISSUER_ID, CARD.card_id)
    record = other.seal_record(card=there)
    assert other.vault.verify_bearer(Secret(mine), ISSUER_ID) == HOLDER
    refused(BearerRefused, lambda: grant_bearer(other, record, mine, card=there))
    assert grant_bearer(other, record, bearer(HOLDER, OTHER_ISSUER_ID), card=there)


@pytest.mark.parametrize("plastic_id", ["70002", "7000", "070001", "", None])
def test_a_server_gets_the_plastic_that_it_names(issuer: Issuer, plastic_id: str | None) -> None:
    record = issuer.seal_record(plastic_id=None if plastic_id is None else PLASTIC_ID)
    asked = PLASTIC_ID if plastic_id is None else plastic_id
    refused(EvidenceRefused, lambda: grant_server(issuer, record, plastic_id=asked))


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": SERVER_SECRET + "."},
        {"secret": ""},
        {"secret": "\ud800"},
        {"user": ISSUER_ID},
        {"user": f"{ISSUER_ID}-app"},
        {"user": f"{OTHER_ISSUER_ID}-server"},
    ],
    ids=str,
)
def test_a_server_is_known_by_its_password(
    issuer: Issuer, sealed_record: SealedRecord, wrong: Mapping[str, str]
) -> None:
    assert grant_server(issuer, sealed_record)
    refused(EvidenceRefused, lambda: grant_server(issuer, sealed_record, **wrong))


def test_a_password_that_is_past_its_end_is_wrong(
    issuer: Issuer, sealed_record: SealedRecord
) -> None:
    app, server = clients(ISSUER_ID)
    secret = {"sha256": hash_secret(SERVER_SECRET), "valid_until": NOW.isoformat()}
    until = {**server, "secrets": [secret]}
    ending = issuer.with_members(clients=[app, until])
    before, after = at(ending, NOW - SECOND), at(ending, NOW)
    assert grant_server(before, sealed_record)
    refused(EvidenceRefused, lambda: grant_server(after, sealed_record))


def test_a_record_of_another_card_proves_nothing(
    issuer: Issuer, sealed_record: SealedRecord
) -> None:
    another = CardRef(ISSUER_ID, "card-2")
    with pytest.raises(SealBroken):
        grant_bearer(issuer, sealed_record, card=another)


def test_two_issuers_do_not_share_an_identity_provider_and_audience(issuer: Issuer) -> None:
    own = issuer.with_members()
    other = replace(own, issuer_id=OTHER_ISSUER_ID, members={})
    same = other.signed(identity_provider=identity_provider(ISSUER_ID))
    with pytest.raises(ManifestRefused, match="another issuer has this identity provider"):
        own.vault.load_manifest(same)
    assert own.vault.manifest_version(OTHER_ISSUER_ID) == 0
    for provider in (
        identity_provider(OTHER_ISSUER_ID),
        identity_provider(ISSUER_ID, issuer="https://another.test"),
        None,
    ):
        version = own.vault.manifest_version(OTHER_ISSUER_ID) + 1
        own.vault.load_manifest(other.signed(version, identity_provider=provider))
    assert own.vault.load_manifest(own.signed(2)) == 2
