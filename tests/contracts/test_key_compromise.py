"""A key is compromised: one path for each, and nothing opens with it. Before, everything did.

The paths are those of docs/key-compromise.md; that of the HSM token's user PIN is in
``tests/hsm/ceremonies/test_key_life.py``.
"""

import json
import os
from pathlib import Path

import pytest
from jwcrypto.jwk import JWK

from crypto.secret import Secret
from hsm.errors import FeedRefused, KeyNotInUse, ManifestRefused, PinRejected
from hsm.manifest.host_files import HostFiles
from hsm.manifest.signed import MINIMUM_VERSIONS_TYPE
from hsm.pkcs11.keys import KeyKind, KeyLabel, KeyRole
from tests import feeds
from tests.contracts.issuer import CARD, HOLDER, PIN, Issuer, block, open_host
from tests.contracts.partner import Partner, open_partner
from tests.contracts.rotating import Rotating
from tests.contracts.software_token import SoftwareToken
from tests.feeds import described, feed_member
from tests.key_tables import FIRST, Tables
from tests.operators import (
    OPERATORS,
    TRUST_FILE,
    OperatorKey,
    manifest,
    minimum_versions,
    prepare_host,
    signed,
)
from tests.pans import PAN


@pytest.fixture
def rotating(tmp_path: Path) -> Rotating:
    rotating = Rotating(tmp_path)
    rotating.load(FIRST)
    return rotating


def compromise(rotating: Rotating, role: str) -> None:
    """Load one table: the next key is active, the one before compromised."""
    rotating.rotate(role, state="compromised")


def test_d1(rotating: Rotating) -> None:
    issuer, record = rotating.issuer, rotating.issuer.seal_record()
    jwe, later = (issuer.pin_jwe({"pinBlock": block(PIN, PAN)}) for _ in range(2))
    assert issuer.change(jwe, record).sealed_pin
    compromise(rotating, "d1")
    for text in (jwe, later):
        with pytest.raises(PinRejected):
            issuer.change(text, record)
    assert issuer.pin(issuer.set_pin(PIN, record), record) == PIN


def test_page(rotating: Rotating) -> None:
    issuer, record = rotating.issuer, rotating.issuer.seal_record()
    granted = issuer.grant_set(record)
    jwe = issuer.page_jwe(granted)

    def send(text: str) -> object:
        given = (granted.grant, granted.control_token, text, record)
        return issuer.vault.set_pin_from_page(*given).sealed_pin

    assert send(jwe)
    compromise(rotating, "page")
    with pytest.raises(PinRejected):
        send(jwe)
    assert send(issuer.page_jwe(granted))


def test_pin(rotating: Rotating) -> None:
    issuer, record = rotating.issuer, rotating.issuer.seal_record()
    pin = issuer.set_pin(PIN, record)
    granted = issuer.grant_view(record)
    assert issuer.pin(pin, record) == PIN
    assert issuer.draw(granted, pin, record)
    compromise(rotating, "pin")
    with pytest.raises(KeyNotInUse):
        issuer.export(pin, record)
    with pytest.raises(KeyNotInUse):
        issuer.draw(granted, pin, record)
    assert issuer.pin(issuer.set_pin(PIN, record), record) == PIN


def test_record(rotating: Rotating) -> None:
    """The feed brings the cards anew; no PIN stays, since nothing proves whose it is."""
    issuer, record = rotating.issuer, rotating.issuer.seal_record()
    pin = issuer.set_pin(PIN, record)
    assert issuer.pin(pin, record) == PIN
    compromise(rotating, "record")
    with pytest.raises(KeyNotInUse):
        issuer.export(pin, record)
    with pytest.raises(KeyNotInUse):
        issuer.grant_view(record)
    again = issuer.seal_record()
    assert not issuer.vault.keeps_pin(record, again, CARD)
    assert issuer.pin(issuer.set_pin(PIN, again), again) == PIN


def forge(rotating: Rotating, name: str, text: str, generation: int = 1) -> Path:
    """Write a file as somebody does who has a manifest-mac key and may write the directory."""
    files = HostFiles(rotating.issuer.host.directory, rotating.hsm_token.mac)
    files.write(name, text, KeyLabel(KeyRole.MANIFEST_MAC, generation))
    return files.path(name)


def test_manifest_mac(rotating: Rotating) -> None:
    """What was forged under a compromised key gets no MAC of the next, and is named."""
    issuer, other = rotating.issuer, "anotherbnk"
    own = issuer.issuer_id.encode().hex()
    genuine = rotating.issuer.host.directory.joinpath(f"{own}.json").read_text()
    strangers = (OperatorKey(), OperatorKey())
    forged = {
        other: signed(manifest(other, 9), operators=strangers),
        issuer.issuer_id: signed(
            issuer_manifest(issuer, 9), operators=(OPERATORS[0], strangers[0])
        ),
    }
    for issuer_id, text in forged.items():
        file = forge(rotating, issuer_id.encode().hex(), text)
        assert issuer.vault.read_manifest(issuer_id).version == 9  # the control: it is believed
        with pytest.raises(ManifestRefused, match="not signed") as refused:
            rotating.rotate("manifest-mac")
        assert str(refused.value).endswith(f"signed: {file.name} of {issuer_id!r}")
        file.unlink()
    swapped = forge(rotating, other.encode().hex(), json.loads(genuine)["jws"])
    minimum_versions_file = forge(
        rotating, "minimum-versions", signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE, strangers)
    )
    with pytest.raises(
        ManifestRefused, match=rf"{swapped.name} of 'anotherbnk', minimum-versions.json$"
    ):
        rotating.rotate("manifest-mac")
    swapped.unlink()
    minimum_versions_file.unlink()
    issuer.vault.load_minimum_versions(signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE))
    issuer.vault.load_manifest(issuer.signed(2))
    rotating.rotate("manifest-mac")
    # Between the two tables somebody may write one, too.
    file = forge(rotating, other.encode().hex(), forged[other])
    with pytest.raises(ManifestRefused):
        rotating.become(manifest_mac__g1="compromised")
    file.unlink()
    rotating.become(manifest_mac__g1="compromised")
    forge(rotating, other.encode().hex(), forged[other])
    with pytest.raises(ManifestRefused, match="not in use"):
        issuer.vault.read_manifest(other)
    assert issuer.vault.read_manifest(issuer.issuer_id).version == 2


class Sharing:
    """An issuer whose PVVs are made with a key that it shares."""

    def __init__(self, directory: Path) -> None:
        self.hsm_token = SoftwareToken()
        self.labels = [KeyLabel(KeyRole.PVK, number, "sharesbank") for number in (1, 2)]
        for label in self.labels:
            self.hsm_token.import_key(label, KeyKind.TDES_2KEY, Secret(os.urandom(16)))
        self.directory = directory

    def asking(self, generation: int) -> Partner:
        partner = open_partner(open_host(self.hsm_token, self.directory), {}, "sharesbank")
        body = {"pvv": {"key_generation": generation, "key_index": 1}}
        return partner.asking(**body)


def test_an_issuers_pvk(tmp_path: Path) -> None:
    sharing = Sharing(tmp_path)
    first, second = sharing.asking(1), sharing.asking(2)
    shared = {str(label): "active" for label in sharing.labels}
    compromised = {**shared, str(sharing.labels[0]): "compromised"}
    for partner in (first, second):
        tables = Tables()
        vault = partner.issuer.vault
        vault.load_generations(tables.next({**FIRST, **shared}))
        assert partner.set_iso0().values
        vault.load_generations(tables.next({**FIRST, **compromised}))
    with pytest.raises(KeyNotInUse):
        first.set_iso0()
    assert second.set_iso0().values


def test_an_operators_key(rotating: Rotating) -> None:
    compromised, honest = OPERATORS
    issuer, stranger = rotating.issuer, OperatorKey()
    text = signed(issuer_manifest(issuer, 2), operators=(compromised, honest))
    issuer.vault.load_manifest(text)
    prepare_host(issuer.host.directory, (stranger, honest))
    assert (issuer.host.directory / TRUST_FILE).exists()
    for operators in ((compromised, honest), (compromised,)):
        with pytest.raises(ManifestRefused, match="too few"):
            issuer.vault.load_manifest(signed(issuer_manifest(issuer, 3), operators=operators))
    issuer.vault.load_manifest(signed(issuer_manifest(issuer, 3), operators=(stranger, honest)))


def issuer_manifest(issuer: Issuer, version: int) -> bytes:
    return manifest(issuer.issuer_id, version, **issuer.members)


def test_a_feeds_key(rotating: Rotating) -> None:
    issuer = rotating.issuer
    text = issuer.feed(described(CARD.card_id, PAN, psn=1, expiry="1229", cardholder=HOLDER))
    assert issuer.vault.seal_cards(text, issuer.issuer_id)
    other = JWK.generate(kty="EC", crv="P-256", kid=feeds.KEY.export_public(as_dict=True)["kid"])
    issuer.vault.load_manifest(issuer.signed(2, feeds=[feed_member(key=other)]))
    with pytest.raises(FeedRefused):
        issuer.vault.seal_cards(text, issuer.issuer_id)
    card = described(CARD.card_id, PAN, psn=1, expiry="1229", cardholder=HOLDER)
    fresh = feeds.feed(issuer.issuer_id, issuer.intake_jwk, card, key=other)
    assert issuer.vault.seal_cards(fresh, issuer.issuer_id)
