"""Examples of ``python -m cms``, by the words of the command: what its ``--help`` shows."""

from collections.abc import Mapping
from typing import Final

from hsm.command_help import Example

EXAMPLES: Final[Mapping[str, Example]] = {
    "issuers add": Example('issuers add demobank01 --name "Demo bank"', "docs/onboarding.md"),
    "cards feed-key": Example("cards feed-key feed.pem --name personaliser", "docs/onboarding.md"),
    "cards make-feed": Example(
        "cards make-feed demobank01 cards.jsonl --key feed.pem --name personaliser"
        " --intake-jwk intake.jwks --out cards.feed",
        "docs/onboarding.md",
    ),
    "cards import": Example("cards import demobank01 cards.feed", "docs/onboarding.md"),
    "cards generate-pins": Example(
        "cards generate-pins demobank01 card-0001 card-0002", "docs/pin-mailers.md"
    ),
    "cards mailers": Example("cards mailers demobank01 mailers.txt", "docs/pin-mailers.md"),
    "cards unblock": Example("cards unblock demobank01 card-0001", "docs/d1-face.md"),
    "clients add": Example(
        "clients add draft.json demobank01 --certificate d1-client.pem --secret-file d1.secret",
        "docs/onboarding.md",
    ),
    "clients add-app": Example(
        "clients add-app draft.json demobank01-app --redirect-origin https://app.example",
        "docs/onboarding.md",
    ),
    "clients add-backend": Example(
        "clients add-backend draft.json demobank01-server --password-file server.password"
        " --frame-origin https://bank.example",
        "docs/onboarding.md",
    ),
    "clients update": Example(
        "clients update next.json demobank01 --new-secret-file d1-new.secret", "docs/onboarding.md"
    ),
    "manifest load": Example(
        "manifest load draft.json --host pins-1 --host pins-2", "docs/onboarding.md"
    ),
    "manifest show": Example("manifest show demobank01 --signed", "docs/onboarding.md"),
    "verification export": Example(
        "verification export demobank01 --since 2026-11-01T00:00:00Z", "docs/seccos.md"
    ),
    "scripts build": Example(
        "scripts build demobank01 card-0001 7 --atc 0A01 --arqc ABCDEF1234567890",
        "docs/emv-scripts.md",
    ),
    "scripts calls": Example("scripts calls", "docs/emv-scripts.md"),
    "audit list": Example(
        "audit list demobank01 --card card-0001 --since 2026-01-31T00:00:00Z --limit 50",
        "docs/onboarding.md",
    ),
    "audit compare": Example(
        "audit compare demobank01 --log /audit/host-1 --log /audit/host-2", "docs/auditing.md"
    ),
    "d1 explain": Example("d1 explain demobank01 put.json", "docs/d1-face.md"),
    "generations load": Example("generations load keys-1.jws", "docs/key-generations.md"),
    "reseal": Example("reseal demobank01 --cards-per-second 200", "docs/reseal.md"),
    "serve": Example("serve", "docs/operating.md"),
    "openapi": Example("openapi hosted", "docs/errors.md"),
    "completion": Example("completion bash", "docs/commands.md"),
}
