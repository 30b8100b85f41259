"""Feeds: how cards come in. A feed is a nested JWT (RFC 7519, section 5.2), a JWS inside a JWE.

::

    JWE   compact, ECDH-ES, A256GCM   kid: a key of role intake   cty: JWT
    JWS   compact, ES256              kid: a feed's, as the manifest has it   typ: JWT

Claims, none of which may be absent, and no other::

    iss       name of the feed in the manifest
    aud       kid of the JWE: what was signed for one of our keys is not encrypted to another
    issuerId  the issuer whose cards they are
    iat       when it was made, seconds since 1970; good for 7 days
    cards     1 to 500 cards, laid out as hsm.feed_cards says
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from crypto.errors import JoseError
from crypto.jose import base64url, json_object, jwe, jws
from crypto.jose.jwe import CompactJwe
from hsm.errors import CardRefused, FeedRefused
from hsm.feed_cards import FeedCard, read_card
from hsm.jose_keys import JoseKeys
from hsm.manifest.feeds import FeedBody
from hsm.manifest.model import Manifest
from hsm.pkcs11.keys import KeyRole
from hsm.port import RefusedCard

FEED_CHARS_MAX: Final = 1 << 20
CARDS_MAX: Final = 500
AGE_SECONDS_MAX: Final = 7 * 24 * 60 * 60
SKEW_SECONDS: Final = 60
"""How far the clock that made a feed may be ahead of ours."""
JWT: Final = "JWT"
"""``cty`` of the JWE and ``typ`` of the JWS."""
CLAIMS: Final = frozenset({"iss", "aud", "issuerId", "iat", "cards"})
TWICE: Final = "the card stands in this feed twice"


def read_feed(
    text: str, manifest: Manifest, jose_keys: JoseKeys, now: datetime
) -> Sequence[FeedCard | RefusedCard]:
    """Read a feed.

    Args:
        text: the feed.
        manifest: that of the issuer whose cards they must be; it names the feeds.
        jose_keys: they decrypt it.
        now: the time, UTC.

    Returns:
        Its cards, or what is wrong with one, in their order.

    Raises:
        FeedRefused: it is no feed of that issuer; the message says why and shows no value.
        VaultUnavailable: the HSM token does not answer.
    """
    try:
        message = jwe.parse(text, chars_max=FEED_CHARS_MAX)
        if message.cty != JWT:
            raise FeedRefused("the JWE's cty is not JWT")
        signed = jose_keys.decrypt(message, KeyRole.INTAKE).reveal().decode("ascii")
    except (JoseError, UnicodeDecodeError):
        raise FeedRefused("not a JWT in a JWE to a key of role intake") from None
    try:
        feed = _signer(signed, manifest)
        claims = jws.verify(signed, {feed.key.kid: feed.key}, JWT, FEED_CHARS_MAX)
    except JoseError:
        raise FeedRefused("not signed by a feed of the issuer's manifest") from None
    return _cards(_checked(claims, feed, message, manifest, now), manifest.issuer_id)


def _signer(signed: str, manifest: Manifest) -> FeedBody:
    """Return the feed that the header names; whether it signed is not checked."""
    header = json_object.parse(base64url.decode(signed.partition(".")[0]))
    for feed in manifest.feeds:
        if feed.key.kid == header.get("kid"):
            return feed
    raise JoseError


def _checked(
    claims: dict[str, Any], feed: FeedBody, message: CompactJwe, manifest: Manifest, now: datetime
) -> Sequence[object]:
    """Check the claims and return the cards."""
    if claims.keys() != CLAIMS:
        raise FeedRefused("its claims are not iss, aud, issuerId, iat and cards")
    if claims["iss"] != feed.name:
        raise FeedRefused("iss is not the name of the feed whose key signed it")
    if claims["aud"] != message.kid:
        raise FeedRefused("aud is not the kid of the key to which it is encrypted")
    if claims["issuerId"] != manifest.issuer_id:
        raise FeedRefused("issuerId is not this issuer")
    made_at, cards = claims["iat"], claims["cards"]
    if type(made_at) is not int:
        raise FeedRefused("iat is no whole number of seconds")
    if made_at > now.timestamp() + SKEW_SECONDS:
        raise FeedRefused("iat is in the future")
    if made_at < now.timestamp() - AGE_SECONDS_MAX:
        raise FeedRefused("iat is more than 7 days ago")
    if not isinstance(cards, list) or not 1 <= len(cards) <= CARDS_MAX:
        raise FeedRefused("cards is not a list of 1 to 500 cards")
    return cards


def _cards(cards: Sequence[object], issuer_id: str) -> Sequence[FeedCard | RefusedCard]:
    found: list[FeedCard | RefusedCard] = []
    seen = set()
    for members in cards:
        try:
            read = read_card(issuer_id, members)
        except CardRefused as error:
            found.append(RefusedCard(str(error)))
            continue
        found.append(RefusedCard(TWICE) if read.card in seen else read)
        seen.add(read.card)
    return found
