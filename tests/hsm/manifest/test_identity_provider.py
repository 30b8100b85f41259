"""The identity provider in a manifest: which sets of keys can be pinned."""

import json
from collections.abc import Mapping

import pytest
from pydantic import ValidationError

from hsm.manifest.identity_provider import IdentityProviderBody
from tests.bearers import ec_key, identity_provider, public, rsa_key


def keys(*jwks: object) -> dict[str, object]:
    return {"jwks": {"keys": list(jwks)}}


EIGHT = [public(ec_key(), kid=str(number)) for number in range(8)]
GOOD: Mapping[str, dict[str, object]] = {
    "as it is": {},
    "keys of both types": keys(public(ec_key()), public(rsa_key())),
    "8 keys": keys(*EIGHT),
    "with a step-up": {"step_up_acr": "strong", "step_up_seconds": 1},
}


@pytest.mark.parametrize("members", GOOD.values(), ids=GOOD)
def test_what_a_manifest_says_is_what_is_signed(members: dict[str, object]) -> None:
    said = identity_provider("testbank01", **members)
    written = IdentityProviderBody.model_validate_json(json.dumps(said))
    assert written.model_dump(mode="json") == {
        "step_up_acr": None,
        "step_up_seconds": None,
        **said,
    }


def test_keys_are_known_by_their_names() -> None:
    said = identity_provider("testbank01", **keys(public(ec_key()), public(rsa_key())))
    body = IdentityProviderBody.model_validate_json(json.dumps(said))
    assert {kid: key.algorithms for kid, key in body.jwks.by_kid.items()} == {
        "ec": ("ES256",),
        "rsa": ("RS256", "PS256"),
    }


BAD: Mapping[str, dict[str, object]] = {
    "no key": keys(),
    "9 keys": keys(*EIGHT, public(ec_key())),
    "two of one name": keys(public(ec_key()), public(rsa_key("ec"))),
    "one twice": keys(public(ec_key()), public(ec_key())),
    "one that cannot be used": keys(public(ec_key()), public(rsa_key(), use="enc")),
    "a private one": keys(ec_key("another").export_private(as_dict=True)),
    "keys an object": {"jwks": {"keys": public(ec_key())}},
    "a list of keys": {"jwks": [public(ec_key())]},
    "an address": {"jwks": "https://identity.test/jwks"},
    "another member": {"jwks": {"keys": [public(ec_key())], "more": 1}},
    "issuer empty": {"issuer": ""},
    "audience empty": {"audience": ""},
    "audience a list": {"audience": ["pins"]},
    "step-up of no name": {"step_up_acr": ""},
    "step-up of no time": {"step_up_seconds": 0},
}


@pytest.mark.parametrize("members", BAD.values(), ids=BAD)
def test_what_could_not_work_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        IdentityProviderBody.model_validate_json(
            json.dumps(identity_provider("testbank01", **members))
        )
