"""``var/sandbox.json``: all that a client needs to simulate D1, an app or an issuer's server.

``issuers`` has for each issuer what D1 holds of it; ``d1`` is that of the first. Paths in it start
at the repository's root. It is written at each start, for the ports may differ.
"""

import json
from typing import Final

from cms.sandbox import files, keys, manifests, settings
from cms.sandbox.cards import (
    CARDHOLDER_CARD,
    EXPIRY_MONTH,
    EXPIRY_YEAR,
    ISSUERS,
    PERSONALISED_CARD,
    PLASTIC_IDS,
    SECCOS_CARD,
    cards_of,
)
from cms.sandbox.clients import PageClients, d1_secret_file

FILE: Final = files.VAR / "sandbox.json"
AUDIT_USER: Final = "demo clerk"
TOKEN_PATH: Final = "/authz/d1/v1/oauth2/token"  # noqa: S105 - a path


def write(clients: PageClients) -> None:
    """Write the file."""
    content = {
        "baseUrl": settings.d1_url(),
        "ca": files.relative(files.PKI / "ca.pem"),
        "d1": _d1(ISSUERS[0]),
        "issuers": [_issuer(issuer) for issuer in ISSUERS],
        "hosted": _hosted(clients),
        "pincontrol": _pincontrol(clients),
        "seccos": _seccos(),
    }
    files.write(FILE, json.dumps(content, indent=2) + "\n")


def _d1(issuer: str) -> dict[str, object]:
    wire = manifests.newest(issuer)["wire"]
    return {
        "issuerId": issuer,
        "clientCert": files.relative(files.PKI / f"d1-{issuer}.pem"),
        "clientKey": files.relative(files.PKI / f"d1-{issuer}.key"),
        "clientId": issuer,
        "clientSecretFile": files.relative(d1_secret_file(issuer)),
        "tokenPath": TOKEN_PATH,
        "issuerJwk": keys.public_jwk(files.ISSUER_JWKS),
        "d1PrivateJwkFile": files.relative(files.D1_KEY),
        # The two literals of an ISO-0 PIN that an issuer's wire profile chooses.
        "type": wire["put_pin"]["iso0"][0],
        "plaintextMember": wire["iso0"]["field"],
    }


def _issuer(issuer: str) -> dict[str, object]:
    cards = [{"cardId": card.card_id, "pan": card.pan} for card in cards_of(issuer)]
    return {"issuerId": issuer, "cards": cards, "d1": _d1(issuer)}


def _hosted(clients: PageClients) -> dict[str, object]:
    return {
        "baseUrl": settings.cardholder_url(),
        "clientKey": clients.app_key,
        "accessTokenFile": files.relative(files.ACCESS_TOKEN),
        "issuerId": ISSUERS[0],
        "cardId": CARDHOLDER_CARD,
    }


def _pincontrol(clients: PageClients) -> dict[str, object]:
    return {
        "baseUrl": settings.cardholder_url(),
        "user": clients.server_user,
        "passwordFile": files.relative(clients.server_password_file),
        "frameKey": clients.frame_key,
        "auditUser": AUDIT_USER,
        "issuerId": ISSUERS[0],
        # The face says produced where everything else says personalised.
        "producedPlasticId": PLASTIC_IDS[PERSONALISED_CARD],
        "unproducedPlasticId": PLASTIC_IDS[CARDHOLDER_CARD],
    }


def _seccos() -> dict[str, object]:
    issuer = ISSUERS[0]
    (card,) = (card for card in cards_of(issuer) if card.card_id == SECCOS_CARD)
    manifest = manifests.newest(issuer)
    return {
        "issuerId": issuer,
        "cardId": card.card_id,
        "pan": card.pan,
        "psn": card.psn,
        "expiry": EXPIRY_YEAR + EXPIRY_MONTH,
        "profile": manifest["seccos"],
        "keysFile": files.relative(files.SECCOS_KEYS),
        "type": manifest["wire"]["put_pin"]["seccos"][0],
    }
