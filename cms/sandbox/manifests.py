"""What each issuer of the demo decides: a manifest, which both operators sign."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cms.sandbox import cards, files, keys, operators, settings
from cms.sandbox.cards import ISSUERS
from cms.sandbox.operator_commands import printed_by, run
from cms.sandbox.partners import identity_provider
from cms.sandbox.partners.identity_provider import IdentityProvider

#: By what the issuer's identity provider knows this service.
AUDIENCE: Final = "issuer-pin-service"
#: What cardholders read at the head of the pages.
NAMES: Final = {ISSUERS[0]: "Demo Bank", ISSUERS[1]: "Second Demo Bank"}
#: What the issuer of the SECCOS card makes of every PIN, for its authorisation host.
VERIFICATION: Final = {"pvv": {"key_index": 1}, "offset_3624": {"table": "0123456789012345"}}


@contextmanager
def first(issuer: str) -> Iterator[Path]:
    """Draft the first manifest of an issuer; the block adds its clients, then the host gets it."""
    draft = _draft(issuer)
    files.write(draft, run("hsm", "manifest", "new", issuer, "--sandbox", quiet=True))
    _change(draft, draft, _members(issuer))
    yield draft
    _sign_and_load(draft)


@contextmanager
def following(issuer: str) -> Iterator[Path]:
    """Draft the next manifest of an issuer; the block changes clients, then the host gets it."""
    current, draft = files.CONFIG / f"{issuer}-current.json", _draft(issuer)
    files.write(current, run("cms", "manifest", "show", issuer, "--signed", quiet=True))
    _change(current, draft, {})
    yield draft
    _sign_and_load(draft)


def newest(issuer: str) -> dict[str, Any]:
    """Return the newest manifest of an issuer: every default is written out."""
    members: dict[str, Any] = json.loads(printed_by("cms", "manifest", "show", issuer))
    return members


def identity() -> IdentityProvider:
    """Return the first issuer's identity provider; its key is made unless it is there."""
    return IdentityProvider(files.IDENTITY, AUDIENCE)


def _change(old: Path, new: Path, members: Mapping[str, object]) -> None:
    changes = [f"{path}={json.dumps(value)}" for path, value in members.items()]
    words = ("manifest", "change", files.relative(old), *changes, "--out", files.relative(new))
    run("hsm", *words, quiet=True)


def _members(issuer: str) -> Mapping[str, object]:
    members: dict[str, object] = {
        "name": NAMES[issuer],
        "recipient": {"jwk": keys.public_jwk(files.D1_KEY)},
        "feeds": [cards.make_feed_key(issuer)],
        # Whoever tries the pages of one card all day need not wait for the next.
        "limits.handouts_card_day_max": 1_000,
    }
    if issuer == ISSUERS[0]:
        # Off unless an issuer wants it; here, a person is to try text and speech.
        members["policy.text_reveal"] = True
        members["identity_provider"] = {
            "issuer": identity_provider.ISSUER,
            "audience": AUDIENCE,
            "jwks": {"keys": [identity().public_jwk]},
        }
        members["seccos"] = {}
        members["verification"] = VERIFICATION
        members["verification_host"] = {"jwk": keys.public_jwk(files.AUTHORISATION_HOST_KEY)}
    return members


def _sign_and_load(draft: Path) -> None:
    operators.sign(draft)
    run("cms", "manifest", "load", files.relative(draft), "--host", settings.HOST_NAME)


def _draft(issuer: str) -> Path:
    return files.CONFIG / f"{issuer}.json"
