"""What every PinVault promises of configuration: it is used only as an operator sealed it."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import pytest
from jwcrypto.jwk import JWK

from hsm.errors import ConfigRefused
from hsm.port import ConfigKind, PinVault, PublicKeyRole, SealedConfig, SealedPan, SealedPin
from tests.contracts.edits import EDITS, Edit
from tests.contracts.issuer import ISSUER_ID, PIN, Issuer, page_key
from tests.issuer_records import config

VERBS = {
    ConfigKind.WIRE: ("set_pin", "export"),
    ConfigKind.POLICY: ("set_pin", "digits"),
    ConfigKind.RECIPIENT: ("export",),
}


@pytest.mark.parametrize("edit", [lambda *_: None, *EDITS.values()], ids=["missing", *EDITS])
@pytest.mark.parametrize(
    ("kind", "verb"), [(k, verb) for k, verbs in VERBS.items() for verb in verbs]
)
def test_a_configuration_counts_only_as_it_was_sealed(
    issuer: Issuer,
    sealed_pan: SealedPan,
    sealed_pin: SealedPin,
    kind: ConfigKind,
    verb: str,
    edit: Edit | Callable[[Issuer, SealedConfig], None],
) -> None:
    _, key = page_key()
    issuer = issuer.configured(ConfigKind.POLICY, {"text_reveal": True})

    def use(with_config: Issuer) -> bytes | str:
        if verb == "set_pin":
            return with_config.set_pin(PIN, sealed_pan)
        if verb == "digits":
            return with_config.digits(sealed_pin, sealed_pan, key, counter=5)
        return with_config.export(sealed_pin, sealed_pan, counter=5)

    assert use(issuer)
    with pytest.raises(ConfigRefused):
        use(issuer.with_config(kind, edit(issuer, issuer.config[kind])))
    assert use(issuer)


def test_sealing_a_sealed_configuration_changes_nothing(issuer: Issuer) -> None:
    sealed = issuer.config[ConfigKind.POLICY]
    assert issuer.vault.seal_config(sealed) == sealed


@pytest.mark.parametrize("role", PublicKeyRole)
@pytest.mark.parametrize("kid", ["theirs", None])
def test_none_of_our_own_keys_can_be_made_a_recipient(
    issuer: Issuer, role: PublicKeyRole, kid: str | None
) -> None:
    ours = issuer.vault.public_jwks(role)["keys"][0]
    jwk = {member: ours[member] for member in ("kty", "crv", "x", "y")} | (
        {"kid": kid} if kid else {}
    )
    with pytest.raises(ConfigRefused, match="our own keys"):
        issuer.configured(ConfigKind.RECIPIENT, {"jwk": jwk})


@pytest.mark.parametrize("protection", ["clear", "zpk", "3des", "", None])
def test_a_protection_of_the_block_that_nobody_defined_is_refused(
    issuer: Issuer, protection: str | None
) -> None:
    with pytest.raises(ConfigRefused, match=r"iso0\.protection"):
        issuer.configured(ConfigKind.WIRE, {"iso0": {"protection": protection}})


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ConfigKind.POLICY, {"length_min": 3}),
        (ConfigKind.POLICY, {"length_min": 9, "length_max": 8}),
        (ConfigKind.WIRE, {"iso0": {"pan_field": "pinBlock"}}),
        (ConfigKind.WIRE, {"jwe": {"extra_header_members": ["zip"]}}),
        (ConfigKind.WIRE, {"jwe": {"our_kids": [{"kid": "a", "generation": 99}]}}),
        (ConfigKind.WIRE, {"jwe": {"our_kids": [{"kid": "a"}, {"kid": "a"}]}}),
        (ConfigKind.WIRE, {"jwe": {"extra_header_members": ["iat", "crit"]}}),
        (ConfigKind.RECIPIENT, {}),
        (
            ConfigKind.RECIPIENT,
            {"jwk": json.loads(JWK.generate(kty="EC", crv="P-384").export_public())},
        ),
        (
            ConfigKind.RECIPIENT,
            {"jwk": json.loads(JWK.generate(kty="EC", crv="P-256").export_private())},
        ),
    ],
)
def test_a_configuration_that_could_not_work_is_not_sealed(
    issuer: Issuer, kind: ConfigKind, body: Mapping[str, object]
) -> None:
    with pytest.raises(ConfigRefused):
        issuer.configured(kind, body)


@pytest.mark.parametrize(
    "dates",
    [
        (datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)),
        (datetime(2030, 1, 2, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)),
    ],
    ids=["empty", "backwards"],
)
def test_a_configuration_that_is_never_valid_is_not_sealed(
    vault: PinVault, dates: tuple[datetime, datetime]
) -> None:
    with pytest.raises(ConfigRefused, match="valid_from, valid_until"):
        vault.seal_config(config(ISSUER_ID, ConfigKind.POLICY, {}, 1, *dates))
