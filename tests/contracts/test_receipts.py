"""Each verb that sets or hands out anything leaves a line in the host's log, and its receipt."""

import json
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TypeAlias

import pytest
from jwcrypto.jwk import JWK

from crypto.pin_image import ImageStyle
from crypto.secret import Secret
from hsm.errors import (
    EvidenceRefused,
    HsmError,
    LimitReached,
    LogUnavailable,
    PinRejected,
    VaultUnavailable,
)
from hsm.log import files
from hsm.log.host_log import HostLog
from hsm.log.lines import Action, Event, Line
from hsm.log.writer import VaultLog
from hsm.port import DeviceBlock, HandOut, Purpose, SealedChange, SealedPin, SealedRecord
from tests.bearers import bearer
from tests.contracts.issuer import CARD, HOLDER, ISSUER_ID, PIN, Host, Issuer, block
from tests.devices import PythonDevice
from tests.operators import now
from tests.pans import PAN

Done: TypeAlias = SealedChange | HandOut[str] | HandOut[bytes] | HandOut[DeviceBlock]
Verb: TypeAlias = Callable[[Issuer, SealedRecord, SealedPin], Done]
COUNTER = 5
APP, SERVER = "testbank01-app", "testbank01-server"


def set_from_jwe(issuer: Issuer, sealed_record: SealedRecord, _: SealedPin) -> Done:
    jwe = issuer.pin_jwe({"pinBlock": block(PIN)})
    return issuer.change(jwe, sealed_record, counter=COUNTER)


def export(issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin) -> Done:
    return issuer.vault.export_jwe(sealed_pin, sealed_record, CARD, COUNTER)


def set_on_a_page(issuer: Issuer, sealed_record: SealedRecord, _: SealedPin) -> Done:
    granted = issuer.grant_set(sealed_record, counter=COUNTER - 1)
    jwe = issuer.page_jwe(granted, PIN)
    return issuer.vault.set_pin_from_page(granted.grant, granted.control_token, jwe, sealed_record)


def draw(issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin) -> Done:
    granted = issuer.grant_view(sealed_record, counter=COUNTER)
    return issuer.vault.render_image(
        granted.grant, granted.control_token, sealed_pin, sealed_record, ImageStyle()
    )


def tell_digits(issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin) -> Done:
    granted = issuer.grant_plastic(Purpose.VIEW, sealed_record, counter=COUNTER)
    key = JWK.generate(kty="EC", crv="P-256").export_public(as_dict=True)
    return issuer.vault.digits_jwe(
        granted.grant, granted.control_token, sealed_pin, sealed_record, key
    )


def generate(issuer: Issuer, sealed_record: SealedRecord, _: SealedPin) -> Done:
    return issuer.vault.generate_pin(CARD, sealed_record, COUNTER)


def export_values(issuer: Issuer, sealed_record: SealedRecord, _: SealedPin) -> Done:
    return issuer.vault.export_values({}, sealed_record, CARD, COUNTER)


def show_to_a_device(issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin) -> Done:
    granted = issuer.grant_plastic(Purpose.VIEW, sealed_record, counter=COUNTER)
    key = b64decode(PythonDevice().public_key)
    return issuer.vault.export_device_block(
        granted.grant, granted.control_token, key, sealed_pin, sealed_record
    )


def set_by_a_device(issuer: Issuer, sealed_record: SealedRecord, _: SealedPin) -> Done:
    granted = issuer.grant_plastic(Purpose.SET, sealed_record, counter=COUNTER - 1)
    made = issuer.key_of_device(granted, PythonDevice(), sealed_record)
    return issuer.set_on_device(granted, made, PythonDevice(), sealed_record)


#: What a verb writes, beside issuer, card and counter.
VERBS: Mapping[Verb, Event] = {
    set_from_jwe: Event(Action.SET, face="d1"),
    export: Event(Action.EXPORT, face="d1"),
    export_values: Event(Action.VALUES),
    generate: Event(Action.SET),
    set_on_a_page: Event(Action.SET, face="hosted", client_id=APP),
    draw: Event(Action.IMAGE, face="hosted", client_id=APP),
    tell_digits: Event(Action.TEXT, face="pincontrol", client_id=SERVER),
    show_to_a_device: Event(Action.DEVICE, face="pincontrol", client_id=SERVER),
    set_by_a_device: Event(Action.SET, face="pincontrol", client_id=SERVER),
}
every_verb = pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)


@pytest.fixture
def own(issuer: Issuer) -> Issuer:
    """An issuer whose manifest lets every verb work; its host is the test's own."""
    host_key = json.loads(JWK.generate(kty="EC", crv="P-256", kid="host-2026").export_public())
    return issuer.with_members(
        policy={"text_reveal": True},
        verification_host={"jwk": host_key},
        pin_operations={"pki": True},
    )


def lines(host: Host) -> Sequence[Line]:
    """Read what was done on a host; all of its log is as it was written."""
    host_log = HostLog(host.directory / "log", host.hsm_token.mac)
    read = list(host_log.lines())
    assert host_log.faults == []
    return [line for line in read if line.event.what not in (Action.BEGAN, Action.CHAIN)]


@every_verb
def test_a_verb_leaves_a_line_and_returns_its_receipt(
    own: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin, verb: Verb
) -> None:
    before = len(lines(own.host))
    done = [verb(own, sealed_record, sealed_pin) for _ in range(2)]
    written = lines(own.host)[before:]
    assert [line.receipt for line in written] == [each.receipt for each in done]
    expected = VERBS[verb]
    for line in written:
        event = line.event
        assert (event.what, event.face, event.client_id) == (
            *(expected.what, expected.face),
            expected.client_id,
        )
        assert (event.issuer_id, event.card_id, event.counter) == (
            *(CARD.issuer_id, CARD.card_id),
            COUNTER,
        )


@every_verb
def test_no_line_names_a_pin_a_pan_or_a_cardholder(
    own: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin, verb: Verb
) -> None:
    verb(own, sealed_record, sealed_pin)
    for line in lines(own.host):
        # Of the rest by chance.
        told = json.dumps(line.event.members())
        for secret in (PIN, PAN, PAN[-4:], HOLDER):
            assert secret not in told


def without_its_directory(host: Host) -> None:
    (host.directory / "log").rename(host.directory / "moved")


def with_a_file_in_its_place(host: Host) -> None:
    without_its_directory(host)
    (host.directory / "log").touch()


def without_its_files(host: Host) -> None:
    for chain in files.chains_of(host.directory / "log").values():
        for path in files.files_of(chain):
            path.unlink()


def write_nothing(self: VaultLog, event: Event, *, durable: bool) -> str:
    return "no receipt"


@every_verb
@pytest.mark.parametrize(
    "breaks", [without_its_directory, with_a_file_in_its_place, without_its_files]
)
def test_without_a_log_nothing_is_set_or_handed_out(
    own: Issuer,
    sealed_record: SealedRecord,
    sealed_pin: SealedPin,
    verb: Verb,
    breaks: Callable[[Host], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert verb(own, sealed_record, sealed_pin)
    breaks(own.host)
    for _ in range(2):
        with pytest.raises(LogUnavailable):
            verb(own, sealed_record, sealed_pin)
    with pytest.raises(VaultUnavailable):
        own.vault.health()
    # The control: it is the log that keeps it back.
    own = replace(own, host=own.host.in_this_process())
    monkeypatch.setattr(VaultLog, "append", write_nothing)
    assert verb(own, sealed_record, sealed_pin)


def test_a_line_names_the_grant_that_was_used(
    own: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin
) -> None:
    granted = own.grant_view(sealed_record, counter=COUNTER)
    own.draw(granted, sealed_pin, sealed_record)
    assert lines(own.host)[-1].event.grant_id == granted.grant_id
    # It is good for one image.
    with pytest.raises(LimitReached) as refused:
        own.draw(granted, sealed_pin, sealed_record)
    told = lines(own.host)[-1]
    assert (told.event.reason, told.event.client_id) == ("LimitReached", APP)
    assert refused.value.receipt == told.receipt


def test_a_refused_pin_leaves_no_line(own: Issuer, sealed_record: SealedRecord) -> None:
    before = lines(own.host)
    with pytest.raises(PinRejected):
        own.change(own.pin_jwe({"pinBlock": "00"}), sealed_record)
    assert lines(own.host) == before


# Refusals of evidence


def ask_for_another_holders_card(issuer: Issuer, sealed_record: SealedRecord) -> None:
    token = Secret(bearer("somebody-else", ISSUER_ID))
    issuer.vault.grant_bearer(token, issuer.app_id, Purpose.VIEW, CARD, sealed_record, 1)


def call_itself_an_app(issuer: Issuer, sealed_record: SealedRecord) -> None:
    token = Secret(bearer(HOLDER, ISSUER_ID))
    issuer.vault.grant_bearer(token, "4000001234567899", Purpose.VIEW, CARD, sealed_record, 1)


def give_a_wrong_password(issuer: Issuer, sealed_record: SealedRecord) -> None:
    issuer.vault.grant_server(
        issuer.server_id, Secret("wrong"), "70001", Purpose.VIEW, CARD, sealed_record, 1
    )


def show_a_bearer_that_is_none(issuer: Issuer, _: SealedRecord) -> None:
    issuer.vault.verify_bearer(Secret("wrong"), ISSUER_ID)


def use_a_grant_without_its_control_token(issuer: Issuer, sealed_record: SealedRecord) -> None:
    granted, other = issuer.grant_view(sealed_record), issuer.grant_view(sealed_record)
    pin = SealedPin(b"")
    issuer.draw(replace(granted, control_token=other.control_token), pin, sealed_record)


def use_a_grant_for_another_holder(issuer: Issuer, sealed_record: SealedRecord) -> None:
    granted = issuer.grant_view(sealed_record)
    issuer.draw(granted, SealedPin(b""), issuer.seal_record(holder="somebody-else"))


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (ask_for_another_holders_card, ("EvidenceRefused", ISSUER_ID, "hosted", APP)),
        # What a caller makes up is not written.
        (call_itself_an_app, ("EvidenceRefused", ISSUER_ID, "hosted", None)),
        (give_a_wrong_password, ("EvidenceRefused", ISSUER_ID, "pincontrol", SERVER)),
        (show_a_bearer_that_is_none, ("BearerRefused", ISSUER_ID, "hosted", None)),
        (use_a_grant_without_its_control_token, ("GrantRefused", None, None, None)),
        (use_a_grant_for_another_holder, ("GrantRefused", ISSUER_ID, "hosted", APP)),
    ],
)
def test_refusals_of_evidence_are_told_once_a_minute(
    own: Issuer,
    sealed_record: SealedRecord,
    ask: Callable[[Issuer, SealedRecord], None],
    told: tuple[str | None, ...],
) -> None:
    passed = [timedelta(0)]
    host = own.host.in_this_process(lambda: now() + passed[0])
    before = len(lines(host))
    receipts = []
    for minutes in (0, 0, 0, 2):
        passed[0] = timedelta(minutes=minutes)
        with pytest.raises(HsmError) as refused:
            ask(Issuer(host, own.members, own.d1_key), sealed_record)
        receipts.append(refused.value.receipt)
    written = lines(host)[before:]
    assert receipts == [written[0].receipt, None, None, written[1].receipt]
    assert [line.event.count for line in written] == [1, 3]
    for line in written:
        event = line.event
        assert event.what is Action.REFUSED
        assert (event.reason, event.issuer_id, event.face, event.client_id) == told


def test_a_limit_that_is_reached_is_told_as_well(own: Issuer, sealed_record: SealedRecord) -> None:
    sealed_pin = own.set_pin(PIN, sealed_record)
    granted = own.grant_view(sealed_record)
    own.draw(granted, sealed_pin, sealed_record)
    with pytest.raises(LimitReached) as refused:
        own.draw(granted, sealed_pin, sealed_record)
    told = lines(own.host)[-1]
    assert told.receipt == refused.value.receipt
    assert told.event == Event(
        *(Action.REFUSED, ISSUER_ID),
        face="hosted",
        client_id=own.app_id,
        reason="LimitReached",
        count=1,
    )


def test_without_a_log_evidence_is_not_judged(own: Issuer, sealed_record: SealedRecord) -> None:
    without_its_directory(own.host)
    with pytest.raises(LogUnavailable):
        ask_for_another_holders_card(own, sealed_record)


def test_a_refusal_of_evidence_knows_its_line(own: Issuer, sealed_record: SealedRecord) -> None:
    with pytest.raises(EvidenceRefused) as refused:
        ask_for_another_holders_card(own, sealed_record)
    assert refused.value.receipt == lines(own.host)[-1].receipt
