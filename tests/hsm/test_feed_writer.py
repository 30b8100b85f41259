"""Feeds that are written on the issuer's own machine."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from crypto.jose.jwk import parse_public, public_jwk
from hsm import key_file
from hsm.errors import CardRefused, FeedRefused
from hsm.feed_cards import FeedCard
from hsm.feed_writer import FeedWriter, RefusedLine, read_intake_key
from hsm.feeds import FEED_CHARS_MAX
from hsm.port import PublicKeyRole, SealedCard
from tests.contracts.software_token import SoftwareToken
from tests.feeds import described
from tests.operators import manifest, open_vault, signed
from tests.pans import PAN

INTAKE = JWK.generate(kty="EC", crv="P-256", kid="intake-1", use="enc", alg="ECDH-ES")
MARK = b"\xef\xbb\xbf"


def writer_to(intake_jwk: dict[str, Any]) -> FeedWriter:
    private = ec.generate_private_key(ec.SECP256R1())
    return FeedWriter("testbank01", "bank", private, parse_public(intake_jwk), int(time.time()))


@pytest.fixture
def writer() -> FeedWriter:
    return writer_to(INTAKE.export_public(as_dict=True))


def lines(count: int, **members: object) -> Iterator[bytes]:
    for number in range(count):
        yield json.dumps(described(f"card-{number}", PAN, **members)).encode() + b"\n"


def written(writer: FeedWriter, given: Sequence[bytes]) -> list[str | RefusedLine]:
    return [*writer.feeds(given, lambda _: None)]


def opened(writer: FeedWriter, feed: str | RefusedLine) -> dict[str, Any]:
    """Open a feed with the keys of whoever has none of our code."""
    assert isinstance(feed, str)
    outer, inner = JWE(), JWS()
    outer.deserialize(feed, INTAKE)
    assert json.loads(outer.objects["protected"]).items() >= {
        ("alg", "ECDH-ES"),
        ("enc", "A256GCM"),
        ("kid", "intake-1"),
        ("cty", "JWT"),
    }
    inner.deserialize(outer.payload.decode())
    public = key_file.public(writer.private)
    inner.verify(JWK(**public_jwk(public, "sig")))
    assert json.loads(inner.objects["protected"]) == {
        "alg": "ES256",
        "kid": public.kid,
        "typ": "JWT",
    }
    claims: dict[str, Any] = json.loads(inner.payload)
    return claims


def test_a_feed_of_ours_opens_with_other_code(writer: FeedWriter) -> None:
    members = {"psn": 2, "plasticId": "7", "cardholder": "ann", "state": "active"}
    (feed,) = written(writer, [*lines(2, **members)])
    assert PAN not in str(feed)
    assert opened(writer, feed) == {
        "iss": "bank",
        "aud": "intake-1",
        "issuerId": "testbank01",
        "iat": writer.made_at,
        "cards": [described(f"card-{number}", PAN, **members) for number in range(2)],
    }


def test_a_vault_takes_it(tmp_path: Path) -> None:
    vault = open_vault(SoftwareToken(), tmp_path)
    writer = writer_to(vault.public_jwks(PublicKeyRole.INTAKE)["keys"][0])
    member = {"name": "bank", "jwk": public_jwk(key_file.public(writer.private), "sig")}
    vault.load_manifest(signed(manifest("testbank01", feeds=[member])))
    for feed in written(writer, [*lines(501)]):
        sealed = vault.seal_cards(str(feed), "testbank01")
        assert all(isinstance(one, SealedCard) for one in sealed)


def test_a_feed_has_no_more_cards_and_characters_than_it_may_have(writer: FeedWriter) -> None:
    counts = [len(opened(writer, feed)["cards"]) for feed in written(writer, [*lines(1001)])]
    assert counts == [500, 500, 1]
    large = written(writer, [*lines(40, encryptedPinBlock="x" * 60_000)])
    assert [len(opened(writer, feed)["cards"]) for feed in large] == [9, 9, 9, 9, 4]
    assert max(len(str(feed)) for feed in large) <= FEED_CHARS_MAX


def test_a_line_is_counted_where_an_editor_counts_it(writer: FeedWriter) -> None:
    (good,), (bad,) = lines(1), lines(1, expiry="1330")
    *refused, feed = written(writer, [MARK + b"\n", good, b"  \n", b"junk\n", MARK + good, bad])
    assert refused == [
        RefusedLine(4, "not a JSON object"),
        RefusedLine(5, "not a JSON object"),
        RefusedLine(6, "refused member: expiry (MMYY)"),
    ]
    assert opened(writer, feed)["cards"] == [json.loads(good)]


def test_a_card_stands_in_a_file_once(writer: FeedWriter) -> None:
    refused, _ = written(writer, [*lines(1), *lines(1, expiry="0131")])
    assert refused == RefusedLine(2, "the card stands in this feed twice")


def test_who_reads_the_other_members_may_refuse_a_card(writer: FeedWriter) -> None:
    def check(card: FeedCard) -> None:
        if card.others:
            raise CardRefused("refused member: state")

    refused, _ = writer.feeds([*lines(1, state="new"), *lines(1)], check)
    assert refused == RefusedLine(1, "refused member: state")


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"null", b"[]", b"\xff", b'{"cardId": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000],
)
def test_a_line_is_a_json_object(writer: FeedWriter, text: bytes) -> None:
    if text:
        assert written(writer, [text]) == [RefusedLine(1, "not a JSON object")]
    else:
        assert written(writer, [text]) == []


def test_a_line_of_64_kib_is_read_and_a_longer_one_is_not(writer: FeedWriter) -> None:
    room = 64 * 1024 - len(next(lines(1, type="")))
    (read,) = written(writer, [*lines(1, type="x" * room)])
    assert isinstance(read, str)
    (refused,) = written(writer, [*lines(1, type="x" * (room + 1))])
    assert refused == RefusedLine(1, "not a JSON object")


# The vault's key


def test_the_newest_key_of_a_set_is_the_vaults() -> None:
    other = JWK.generate(kty="EC", crv="P-256", kid="intake-0")
    public = [key.export_public(as_dict=True) for key in (INTAKE, other)]
    for text in (public[0], {"keys": public}):
        assert read_intake_key(json.dumps(text).encode()).kid == "intake-1"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'{"keys": []}',
        b'{"keys": {}}',
        b'{"keys": ["a"]}',
        INTAKE.export_private().encode(),
        JWK.generate(kty="EC", crv="P-384").export_public().encode(),
        JWK.generate(kty="EC", crv="P-256", use="sig").export_public().encode(),
    ],
)
def test_what_is_no_key_to_encrypt_to_is_refused(text: bytes) -> None:
    with pytest.raises(FeedRefused, match=r"^not a public P-256 key of role intake"):
        read_intake_key(text)
