"""What every PinVault promises of manifests: only what operators signed and it took is in force."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeAlias

import pytest
from jwcrypto.jwk import JWK

from crypto.secret import Secret
from hsm.errors import ManifestRefused, VaultUnavailable
from hsm.grants import Grants
from hsm.manifest.body import canonical_body
from hsm.manifest.signed import MANIFEST_TYPE, MINIMUM_VERSIONS_TYPE
from hsm.pkcs11.keyring import Keyring
from hsm.port import Face, GrantedToken, PublicKeyRole, Purpose, SealedPin, SealedRecord
from tests.bearers import bearer
from tests.contracts.edits import EDITS, store, stored
from tests.contracts.issuer import (
    CARD,
    HOLDER,
    ISSUER_ID,
    OTHER_ISSUER_ID,
    PIN,
    Host,
    Issuer,
    open_issuer,
    page_key,
)
from tests.contracts.software_token import SoftwareToken
from tests.devices import PythonDevice
from tests.operators import (
    OPERATORS,
    VALID_FROM,
    VALID_UNTIL,
    OperatorKey,
    manifest,
    minimum_versions,
    prepare_host,
    reopen_vault,
    signed,
)

SECOND = timedelta(seconds=1)
Verb: TypeAlias = Callable[[Issuer, SealedRecord, SealedPin], object]


def granted(issuer: Issuer, purpose: Purpose, counter: int) -> GrantedToken:
    """What the vault grants, for longer than any manifest is in force."""
    grants = Grants(issuer.host.hsm_token, Keyring(issuer.host.hsm_token), lambda: VALID_UNTIL)
    return grants.issue(Face.HOSTED, issuer.app_id, purpose, CARD, counter, HOLDER)


def set_on_a_page(issuer: Issuer, sealed_record: SealedRecord, _: SealedPin) -> object:
    return issuer.set_on_page(granted(issuer, Purpose.SET, 0), sealed_record)


def draw(issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin) -> object:
    return issuer.draw(granted(issuer, Purpose.VIEW, 5), sealed_pin, sealed_record)


def tell(issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin) -> object:
    return issuer.digits(granted(issuer, Purpose.VIEW, 5), sealed_pin, sealed_record, page_key()[1])


def view_on_device(issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin) -> object:
    granted = issuer.grant_plastic(Purpose.VIEW, sealed_record, counter=5)
    return issuer.view_on_device(granted, PythonDevice(), sealed_pin, sealed_record)


def set_on_device(issuer: Issuer, sealed_record: SealedRecord, _: SealedPin) -> object:
    granted = issuer.grant_plastic(Purpose.SET, sealed_record, counter=5)
    made = issuer.key_of_device(granted, PythonDevice(), sealed_record)
    return issuer.set_on_device(granted, made, PythonDevice(), sealed_record)


def verify_bearer(issuer: Issuer, *_: object) -> object:
    return issuer.vault.verify_bearer(Secret(bearer(HOLDER, ISSUER_ID)), ISSUER_ID)


#: What an issuer's manifest decides something of.
VERBS: Mapping[str, Verb] = {
    "set_pin_from_jwe": lambda issuer, record, _: issuer.set_pin(PIN, record),
    "verify_bearer": verify_bearer,
    "grant_bearer": lambda issuer, record, _: issuer.grant_view(record),
    "grant_server": lambda issuer, record, _: issuer.grant_plastic(Purpose.SET, record),
    "set_pin_from_page": set_on_a_page,
    "render_image": draw,
    "digits_jwe": tell,
    "export_device_block": view_on_device,
    "set_pin_from_device": set_on_device,
    "export_jwe": lambda issuer, record, pin: issuer.export(pin, record, counter=5),
    "export_values": lambda issuer, record, _: issuer.vault.export_values({}, record, CARD, 5),
    "read_manifest": lambda issuer, *_: issuer.vault.read_manifest(ISSUER_ID),
}
every_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)


@pytest.fixture
def complete(issuer: Issuer) -> Issuer:
    """An issuer whose manifest lets every verb work; its host is the test's own."""
    host_key = json.loads(JWK.generate(kty="EC", crv="P-256", kid="host-2026").export_public())
    return issuer.with_members(
        policy={"text_reveal": True},
        verification_host={"jwk": host_key},
        pin_operations={"pki": True},
    )


@pytest.fixture
def own(issuer: Issuer) -> Issuer:
    """An issuer on a new host that has taken no manifest of it."""
    return replace(issuer, host=issuer.host.another())


# Verbs


@every_verb
@pytest.mark.parametrize(
    "elsewhere",
    [
        lambda host: host.another(),
        lambda host: host.reopened(lambda: VALID_FROM - SECOND),
        lambda host: host.reopened(lambda: VALID_UNTIL),
        lambda host: host.reopened(lambda: VALID_UNTIL + SECOND),
    ],
    ids=["never taken", "not yet in force", "just ended", "ended"],
)
def test_no_verb_works_without_a_manifest_in_force(
    complete: Issuer,
    sealed_record: SealedRecord,
    sealed_pin: SealedPin,
    verb: Verb,
    elsewhere: Callable[[Host], Host],
) -> None:
    there = replace(complete, host=elsewhere(complete.host))
    with pytest.raises(ManifestRefused):
        verb(there, sealed_record, sealed_pin)
    assert verb(complete, sealed_record, sealed_pin)


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_manifest_counts_only_as_the_vault_stored_it(
    complete: Issuer,
    sealed_record: SealedRecord,
    sealed_pin: SealedPin,
    edit: Callable[[Issuer, dict[str, str]], object],
) -> None:
    host = complete.host
    open_issuer(host, OTHER_ISSUER_ID)
    assert complete.vault.manifest_version(ISSUER_ID) == 1
    file = stored(host, ISSUER_ID)
    store(host, ISSUER_ID, edit(complete, file))
    for there in (complete, replace(complete, host=host.reopened())):
        for verb in VERBS.values():
            with pytest.raises(ManifestRefused, match="changed by others"):
                verb(there, sealed_record, sealed_pin)
        with pytest.raises(ManifestRefused, match="changed by others"):
            there.vault.manifest_version(ISSUER_ID)
    store(host, ISSUER_ID, file)
    for verb in VERBS.values():
        assert verb(complete, sealed_record, sealed_pin)


def test_a_manifest_under_a_key_that_the_hsm_token_lacks_is_a_missing_key(
    complete: Issuer, sealed_record: SealedRecord
) -> None:
    # Another process may have stored it under a generation that this one has not seen yet.
    file = stored(complete.host, ISSUER_ID)
    store(complete.host, ISSUER_ID, {**file, "key_label": "manifest-mac.g7"})
    with pytest.raises(VaultUnavailable):
        complete.set_pin(PIN, sealed_record)


def test_a_manifest_without_a_recipient_lets_no_pin_out(
    issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin
) -> None:
    without = issuer.with_members(recipient=None)
    with pytest.raises(ManifestRefused, match="no recipient"):
        without.export(sealed_pin, sealed_record, counter=5)
    assert without.set_pin(PIN, sealed_record)


# Taking one


def test_a_manifest_that_operators_signed_is_in_force_at_once(own: Issuer) -> None:
    assert own.vault.manifest_version(ISSUER_ID) == 0
    assert own.vault.load_manifest(own.signed(3, policy={"length_min": 6})) == 3
    assert own.vault.manifest_version(ISSUER_ID) == 3
    assert own.vault.read_manifest(ISSUER_ID).policy.length_min == 6
    assert own.vault.load_manifest(own.signed(5, policy={"length_min": 5})) == 5
    assert own.vault.read_manifest(ISSUER_ID).policy.length_min == 5


def test_the_newest_manifest_may_come_again(own: Issuer) -> None:
    for _ in range(2):
        assert own.vault.load_manifest(own.signed(3)) == 3
    assert own.vault.manifest_version(ISSUER_ID) == 3


@pytest.mark.parametrize(
    ("version", "reason"),
    [(1, "older version"), (2, "older version"), (3, "another manifest of this version")],
)
def test_no_older_manifest_and_no_other_of_the_same_version_is_taken(
    own: Issuer, version: int, reason: str
) -> None:
    own.vault.load_manifest(own.signed(3))
    other = own.signed(version, policy={"length_min": 6})
    for there in (own, replace(own, host=own.host.reopened())):
        with pytest.raises(ManifestRefused, match=reason):
            there.vault.load_manifest(other)
    assert own.vault.load_manifest(own.signed(3)) == 3
    assert own.vault.read_manifest(ISSUER_ID).policy.length_min == 4


def test_every_process_of_a_host_has_what_one_has_taken(
    issuer: Issuer, sealed_record: SealedRecord
) -> None:
    one = issuer.with_members()
    other = replace(one, host=one.host.reopened())
    assert other.set_pin(PIN, sealed_record)
    one.vault.load_manifest(one.signed(2, policy={"refuse_runs": False}))
    assert other.set_pin("1234", sealed_record)
    assert other.vault.manifest_version(ISSUER_ID) == 2


def test_a_manifest_is_of_its_issuer_only(own: Issuer) -> None:
    own.vault.load_manifest(own.signed(3))
    assert own.vault.manifest_version(OTHER_ISSUER_ID) == 0
    with pytest.raises(ManifestRefused, match="no manifest"):
        own.vault.read_manifest(OTHER_ISSUER_ID)
    theirs = open_issuer(own.host, OTHER_ISSUER_ID)
    assert theirs.vault.manifest_version(OTHER_ISSUER_ID) == 1
    assert own.vault.read_manifest(ISSUER_ID).version == 3


@pytest.mark.parametrize(
    "operators",
    [
        [],
        OPERATORS[:1],
        [OPERATORS[0], OPERATORS[0]],
        [OPERATORS[0], OperatorKey()],
        [OperatorKey(), OperatorKey()],
    ],
    ids=["nobody", "one", "one twice", "one and a stranger", "strangers"],
)
def test_too_few_operators_are_refused(own: Issuer, operators: list[OperatorKey]) -> None:
    payload = manifest(ISSUER_ID, 1, **own.members)
    assert_not_taken(own, signed(payload, MANIFEST_TYPE, operators), "too few signatures")


def test_what_operators_signed_cannot_be_changed_nor_taken_for_something_else(own: Issuer) -> None:
    payload = manifest(ISSUER_ID, 1, **own.members)
    before, after = json.loads(signed(payload)), json.loads(own.signed(2))
    changed = json.dumps({**before, "payload": after["payload"]})
    assert_not_taken(own, changed, "too few signatures")
    assert_not_taken(own, signed(payload, MINIMUM_VERSIONS_TYPE), "too few signatures")
    assert_not_taken(own, payload.decode(), "not a signed text")
    assert_not_taken(own, "", "not a signed text")
    indented = json.dumps(json.loads(payload), indent=1).encode()
    assert_not_taken(own, signed(indented), "not a signed text in canonical form")
    assert own.vault.load_manifest(signed(payload)) == 1


@pytest.mark.parametrize("moment", [VALID_FROM - SECOND, VALID_UNTIL], ids=["before", "after"])
def test_a_manifest_that_is_not_in_force_is_not_taken(own: Issuer, moment: object) -> None:
    then = replace(own, host=own.host.reopened(lambda: moment))  # type: ignore[arg-type, return-value]
    assert_not_taken(then, own.signed(), "not in force now")
    assert own.vault.load_manifest(own.signed()) == 1


# Minimum versions


def test_a_host_without_minimum_versions_takes_no_manifest(own: Issuer) -> None:
    bare = without_minimum_versions(own)
    assert_not_taken(bare, own.signed(), "no minimum versions")
    bare.vault.load_minimum_versions(signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE))
    assert bare.vault.load_manifest(own.signed()) == 1


def test_a_host_takes_nothing_below_its_minimum_versions_and_keeps_them(own: Issuer) -> None:
    bare = without_minimum_versions(own)
    bare.vault.load_minimum_versions(
        signed(minimum_versions({ISSUER_ID: 7}), MINIMUM_VERSIONS_TYPE)
    )
    assert_not_taken(bare, own.signed(6), "older version")
    with pytest.raises(ManifestRefused, match="minimum versions already"):
        bare.vault.load_minimum_versions(
            signed(minimum_versions({ISSUER_ID: 1}), MINIMUM_VERSIONS_TYPE)
        )
    assert_not_taken(replace(bare, host=bare.host.reopened()), own.signed(6), "older version")
    assert bare.vault.load_manifest(own.signed(7)) == 7


@pytest.mark.parametrize(
    "text",
    [
        signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE, OPERATORS[:1]),
        signed(minimum_versions({}), MANIFEST_TYPE),
        signed(manifest(ISSUER_ID), MINIMUM_VERSIONS_TYPE),
        "{}",
    ],
    ids=["one operator", "as a manifest", "a manifest", "not signed"],
)
def test_a_list_of_minimum_versions_that_operators_did_not_sign_is_refused(
    own: Issuer, text: str
) -> None:
    bare = without_minimum_versions(own)
    with pytest.raises(ManifestRefused):
        bare.vault.load_minimum_versions(text)
    assert_not_taken(bare, own.signed(), "no minimum versions")


# State belongs to an HSM token


def test_the_state_of_a_host_with_another_hsm_token_does_not_open_here(
    complete: Issuer, sealed_record: SealedRecord
) -> None:
    here = replace(complete.host, hsm_token=SoftwareToken()).reopened().vault
    refused = pytest.raises(ManifestRefused, match="changed by others")
    for verb in (here.read_manifest, here.manifest_version):
        with refused:
            verb(ISSUER_ID)
    for issuer_id in (ISSUER_ID, OTHER_ISSUER_ID):  # the second has nothing but its minimum version
        with refused:
            here.load_manifest(signed(manifest(issuer_id, 2)))
    assert complete.set_pin(PIN, sealed_record)


# What no signature helps


@pytest.mark.parametrize("role", PublicKeyRole)
@pytest.mark.parametrize("kid", ["theirs", None])
@pytest.mark.parametrize("recipient", ["recipient", "verification_host"])
def test_none_of_our_own_keys_can_be_made_a_recipient(
    own: Issuer, role: PublicKeyRole, kid: str | None, recipient: str
) -> None:
    ours = own.vault.public_jwks(role)["keys"][0]
    jwk = {member: ours[member] for member in ("kty", "crv", "x", "y")} | (
        {"kid": kid} if kid else {}
    )
    assert_not_taken(own, own.signed(1, **{recipient: {"jwk": jwk}}), "our own keys")


@pytest.mark.parametrize(
    ("our_kid", "reason"),
    [
        (lambda _: {"kid": "a", "generation": 99}, "a key that is not there"),
        (lambda issuer: {"kid": issuer.intake_jwk["kid"]}, "another key's thumbprint"),
    ],
    ids=["no such generation", "thumbprint of another key"],
)
def test_our_keys_are_called_only_what_can_be_meant(
    own: Issuer, our_kid: Callable[[Issuer], dict[str, object]], reason: str
) -> None:
    assert_not_taken(own, own.signed(wire={"jwe": {"our_kids": [our_kid(own)]}}), reason)


@pytest.mark.parametrize("protection", ["clear", "zpk", "3des", "", None])
def test_a_protection_of_the_block_that_nobody_defined_is_refused(
    own: Issuer, protection: str | None
) -> None:
    text = careless(own, wire={"iso0": {"protection": protection}})
    assert_not_taken(own, text, r"refused members: wire\.iso0\.protection")


@pytest.mark.parametrize(
    "members",
    [
        {"policy": {"length_min": 3}},
        {"policy": {"length_min": 9, "length_max": 8}},
        {"wire": {"iso0": {"pan_field": "pinBlock"}}},
        {"wire": {"jwe": {"extra_header_members": ["zip"]}}},
        {"wire": {"jwe": {"our_kids": [{"kid": "a"}, {"kid": "a"}]}}},
        {"wire": {"jwe": {"extra_header_members": ["iat", "crit"]}}},
        {"recipient": {}},
        {"recipient": {"jwk": json.loads(JWK.generate(kty="EC", crv="P-384").export_public())}},
        {"recipient": {"jwk": json.loads(JWK.generate(kty="EC", crv="P-256").export_private())}},
        {"seccos": {"mac": {"session_key": "visa_xor"}}},
        {"verification": {"pvv": {"key_index": 7}}},
        {"valid_until": VALID_FROM.isoformat()},
        {"valid_from": "2030-01-02T00:00:00Z", "valid_until": "2030-01-01T00:00:00Z"},
        {"version": 0},
        {"issuer_id": "testbank1"},
        {"colour": "red"},
    ],
    ids=" ".join,
)
def test_a_manifest_that_could_not_work_is_not_taken_whoever_signed_it(
    own: Issuer, members: Mapping[str, object]
) -> None:
    assert_not_taken(own, careless(own, **members), "refused members")


def careless(issuer: Issuer, **members: object) -> str:
    """What operators sign with a program that does not look at it."""
    body = {**json.loads(manifest(ISSUER_ID, 1, **issuer.members)), **members}
    return signed(canonical_body(body))


def assert_not_taken(issuer: Issuer, text: str, reason: str) -> None:
    """The vault refuses *text*, and what is in force stays."""
    with pytest.raises(ManifestRefused, match=reason):
        issuer.vault.load_manifest(text)
    assert issuer.vault.manifest_version(ISSUER_ID) == 0


def without_minimum_versions(issuer: Issuer) -> Issuer:
    """Take *issuer* to a host that no operator has signed minimum versions for."""
    directory = Path(mkdtemp(dir=issuer.host.directory.parent))
    prepare_host(directory)
    vault = reopen_vault(issuer.host.hsm_token, directory)
    return replace(issuer, host=Host(issuer.host.hsm_token, directory, vault))
