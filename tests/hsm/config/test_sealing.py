"""The CMAC of a configuration: what it covers, and when a configuration is read."""

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from jwcrypto.jwk import JWK

from hsm.config.kinds import parse_body
from hsm.config.policy import PolicyBody
from hsm.config.sealing import ConfigReader, with_cmac
from hsm.errors import ConfigRefused
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import ConfigKind, SealedConfig
from tests.config_defaults import DEFAULTS
from tests.contracts.software_token import SoftwareToken
from tests.issuer_records import VALID_FROM, VALID_UNTIL, config

ISSUER_ID = "testbank01"
LABEL = KeyLabel(KeyRole.CONFIG_MAC, 1)
TABLE = "0123456701234567"


@pytest.fixture(scope="module")
def hsm_token() -> SoftwareToken:
    return SoftwareToken()


@pytest.mark.parametrize("kind", DEFAULTS)
def test_every_default_is_written_out_when_a_configuration_is_sealed(
    hsm_token: SoftwareToken, kind: str
) -> None:
    sealed = with_cmac(config(ISSUER_ID, ConfigKind(kind), {}), LABEL, hsm_token.mac)
    assert json.loads(sealed.body) == DEFAULTS[kind]


def test_the_defaults_of_the_values_that_are_asked_for_are_written_out_too(
    hsm_token: SoftwareToken,
) -> None:
    body = {"pvv": {"key_index": 6}, "offset_3624": {"table": TABLE}}
    sealed = with_cmac(config(ISSUER_ID, ConfigKind.VERIFICATION, body), LABEL, hsm_token.mac)
    written = json.loads(sealed.body)
    assert written["pvv"] == {"key_index": 6, "key_generation": 1}
    assert written["offset_3624"] == {
        "table": TABLE,
        "validation_data": "{left:0:16}",
        "key_generation": 1,
    }


def test_a_recipient_is_sealed_with_every_member_it_came_with(hsm_token: SoftwareToken) -> None:
    jwk = json.loads(JWK.generate(kty="EC", crv="P-256", kid="d1", use="enc").export_public())
    body = {"jwk": {**jwk, "x5t": "abc"}}
    sealed = with_cmac(config(ISSUER_ID, ConfigKind.RECIPIENT, body), LABEL, hsm_token.mac)
    assert json.loads(sealed.body) == body


def test_the_same_settings_are_sealed_as_the_same_bytes(hsm_token: SoftwareToken) -> None:
    first = {"length_max": 6, "length_min": 4}
    second = {"length_min": 4, "refuse_runs": True, "length_max": 6}
    one, other = (
        with_cmac(config(ISSUER_ID, ConfigKind.POLICY, body), LABEL, hsm_token.mac)
        for body in (first, second)
    )
    assert one == other
    assert one.key_label == "config-mac.g1"


def test_a_page_takes_the_shortest_length_only_unless_the_issuer_sets_more() -> None:
    for body, most in (({}, 4), ({"length_min": 6}, 6), ({"page_length_max": 8}, 8)):
        policy = parse_body(ConfigKind.POLICY, json.dumps(body).encode())
        assert isinstance(policy, PolicyBody)
        assert policy.page_length_max == most


def test_a_policy_from_before_it_knew_of_pages_is_read_with_their_defaults(
    hsm_token: SoftwareToken,
) -> None:
    today = with_cmac(config(ISSUER_ID, ConfigKind.POLICY, {}), LABEL, lambda _, data: data)
    body = b'{"length_max":8,"length_min":5,"refuse_repeated":true,"refuse_runs":true}'
    mac_input = today.cmac.removesuffix(today.body)[:-4] + len(body).to_bytes(4) + body
    old = replace(today, body=body, cmac=hsm_token.mac(LABEL, mac_input))
    policy = read(ConfigReader(hsm_token.mac, Clock()), old)
    assert (policy.page_length_max, policy.text_reveal) == (5, False)


def test_the_cmac_covers_every_field() -> None:
    # It is in databases: none of these bytes may move.
    policy = config(ISSUER_ID, ConfigKind.POLICY, {}, 3)
    sealed = with_cmac(policy, LABEL, lambda _, data: data)
    assert sealed.cmac == b"".join(
        len(part).to_bytes(4) + part
        for part in (
            b"config",
            b"testbank01",
            b"policy",
            b"3",
            b"2020-01-01T00:00:00+00:00",
            b"2050-01-01T00:00:00+00:00",
            b"config-mac.g1",
            b'{"failures_card_max":5,"failures_client_max":60,"length_max":8,"length_min":4,'
            b'"page_length_max":4,"refusals_card_max":20,"refuse_repeated":true,'
            b'"refuse_runs":true,"text_reveal":false}',
        )
    )


@pytest.mark.parametrize("version", [0, -1])
def test_versions_count_from_1(hsm_token: SoftwareToken, version: int) -> None:
    with pytest.raises(ConfigRefused, match="version"):
        with_cmac(config(ISSUER_ID, ConfigKind.POLICY, {}, version), LABEL, hsm_token.mac)


# Reading


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = VALID_FROM

    def __call__(self) -> datetime:
        return self.now


def read(reader: ConfigReader, sealed: SealedConfig) -> PolicyBody:
    return reader.read(ConfigKind.POLICY, PolicyBody, {ConfigKind.POLICY: sealed}, ISSUER_ID)


def test_a_configuration_is_verified_once_and_its_dates_every_time(
    hsm_token: SoftwareToken,
) -> None:
    macs: list[KeyLabel] = []

    def mac(label: KeyLabel, data: bytes) -> bytes:
        macs.append(label)
        return hsm_token.mac(label, data)

    clock = Clock()
    reader = ConfigReader(mac, clock)
    sealed = with_cmac(
        config(ISSUER_ID, ConfigKind.POLICY, {"length_max": 6}), LABEL, hsm_token.mac
    )
    second = timedelta(seconds=1)
    for clock.now in (VALID_FROM, VALID_FROM + second, VALID_UNTIL - second):
        assert read(reader, sealed).length_max == 6
    assert macs == [LABEL]
    for clock.now in (VALID_FROM - second, VALID_UNTIL, VALID_UNTIL + second):
        with pytest.raises(ConfigRefused, match="not valid now"):
            read(reader, sealed)
    clock.now = VALID_FROM
    assert read(reader, sealed).length_max == 6
    assert macs == [LABEL]


def test_dates_mean_the_same_in_every_zone(hsm_token: SoftwareToken) -> None:
    sealed = with_cmac(config(ISSUER_ID, ConfigKind.POLICY, {}), LABEL, hsm_token.mac)
    east = timezone(timedelta(hours=9))
    # A database session may give its own zone back.
    moved = SealedConfig(
        sealed.issuer_id,
        sealed.kind,
        sealed.version,
        sealed.valid_from.astimezone(east),
        sealed.valid_until.astimezone(east),
        sealed.key_label,
        sealed.body,
        sealed.cmac,
    )
    assert read(ConfigReader(hsm_token.mac, Clock()), moved) == PolicyBody()


@pytest.mark.parametrize("role", [KeyRole.PIN_MAC, KeyRole.PAN_MAC, KeyRole.PIN])
def test_a_right_cmac_of_another_key_does_not_count(
    hsm_token: SoftwareToken, role: KeyRole
) -> None:
    sealed = with_cmac(config(ISSUER_ID, ConfigKind.POLICY, {}), KeyLabel(role, 1), hsm_token.mac)
    with pytest.raises(ConfigRefused, match="not sealed"):
        read(ConfigReader(hsm_token.mac, Clock()), sealed)


def test_a_configuration_that_was_refused_once_is_refused_again(hsm_token: SoftwareToken) -> None:
    reader = ConfigReader(hsm_token.mac, Clock())
    unsealed = config(ISSUER_ID, ConfigKind.POLICY, {"length_max": 12})
    for _ in range(2):
        with pytest.raises(ConfigRefused, match="not sealed"):
            read(reader, unsealed)


def test_what_an_issuer_need_not_have_is_found_or_not(hsm_token: SoftwareToken) -> None:
    reader = ConfigReader(hsm_token.mac, Clock())
    sealed = with_cmac(
        config(ISSUER_ID, ConfigKind.POLICY, {"length_max": 6}), LABEL, hsm_token.mac
    )
    assert reader.find(ConfigKind.POLICY, PolicyBody, {}, ISSUER_ID) is None
    found = reader.find(ConfigKind.POLICY, PolicyBody, {ConfigKind.POLICY: sealed}, ISSUER_ID)
    assert found == PolicyBody(length_max=6)


def test_what_is_there_and_is_refused_does_not_pass_for_missing(hsm_token: SoftwareToken) -> None:
    reader = ConfigReader(hsm_token.mac, Clock())
    unsealed = {ConfigKind.POLICY: config(ISSUER_ID, ConfigKind.POLICY, {})}
    with pytest.raises(ConfigRefused, match="not sealed"):
        reader.find(ConfigKind.POLICY, PolicyBody, unsealed, ISSUER_ID)
