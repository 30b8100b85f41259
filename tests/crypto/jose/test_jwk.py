import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto.jwk import JWK

from crypto.errors import JwkError
from crypto.jose import base64url, jwk
from tests.crypto.jose.software import RECIPIENT, epk, point_of, private_key, public_key
from tests.crypto.vectors import Row, rows

FILE = "ecdh_p256_jwk.json"
POINT = point_of(RECIPIENT)


def point_members(row: Row) -> Row:
    return {name: row["public"][name] for name in ("kty", "crv", "x", "y")}


@pytest.mark.parametrize("row", rows(FILE, "ecdh_valid"))
def test_a_good_point_gives_the_shared_secret(row: Row) -> None:
    private = ec.derive_private_key(
        int.from_bytes(base64url.decode(row["private"]["d"])), ec.SECP256R1()
    )

    for point in (jwk.parse_point(point_members(row)), jwk.parse_public(row["public"]).point):
        assert private.exchange(ec.ECDH(), point.public_key()).hex() == row["shared_hex"]


@pytest.mark.parametrize("row", rows(FILE, "ecdh_invalid"))
def test_a_bad_point_is_refused(row: Row) -> None:
    with pytest.raises(JwkError):
        jwk.parse_point(point_members(row))
    with pytest.raises(JwkError):
        jwk.parse_public(row["public"])


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_random_coordinates_are_no_point(x: bytes, y: bytes) -> None:
    with pytest.raises(JwkError):
        jwk.Point(x, y)


@given(st.integers(1, 2**255))
def test_every_public_key_is_a_point(number: int) -> None:
    point = point_of(private_key(number))

    assert jwk.parse_point(jwk.point_jwk(point)) == point
    assert len(point.uncompressed) == 65
    assert point.uncompressed[0] == 4


# x = 0 and its y lie on the curve; the same point again with p added to x does not fit.
ROOT_OF_B = pow(jwk.B, (jwk.P + 1) // 4, jwk.P)


def test_a_coordinate_must_be_below_p() -> None:
    y = ROOT_OF_B.to_bytes(32)

    assert jwk.Point(bytes(32), y).y == y
    with pytest.raises(JwkError):
        jwk.Point(jwk.P.to_bytes(32), y)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        pytest.param(bytes(32), bytes(32), id="(0,0)"),
        pytest.param(b"\x00" + POINT.x, POINT.y, id="x of 33 bytes"),
        pytest.param(POINT.x, b"\x00" + POINT.y, id="y of 33 bytes"),
        pytest.param(b"\x00" + POINT.x, b"\x00" + POINT.y, id="both of 33 bytes"),
        pytest.param(bytes(31), ROOT_OF_B.to_bytes(32), id="x of 31 bytes"),
        pytest.param(b"", ROOT_OF_B.to_bytes(32), id="no x"),
        pytest.param(POINT.y, POINT.x, id="swapped"),
    ],
)
def test_other_coordinates_are_no_point(x: bytes, y: bytes) -> None:
    with pytest.raises(JwkError):
        jwk.Point(x, y)
    with pytest.raises(JwkError):
        jwk.EcPublicKey("a", x, y)


BAD_MEMBERS = [
    pytest.param({"kty": "OKP"}, id="kty"),
    pytest.param({"kty": "ec"}, id="kty in small letters"),
    pytest.param({"kty": ["EC"]}, id="kty list"),
    pytest.param({"crv": "P-384"}, id="crv"),
    pytest.param({"crv": "secp256r1"}, id="other name of the curve"),
    pytest.param({"crv": None}, id="crv null"),
    pytest.param({"x": None}, id="x null"),
    pytest.param({"x": 7}, id="x number"),
    pytest.param({"x": base64url.encode(POINT.x) + "="}, id="x padded"),
    pytest.param({"x": POINT.x.hex()}, id="x in hex"),
    pytest.param({"d": base64url.encode(bytes(32))}, id="d"),
]


@pytest.mark.parametrize("change", BAD_MEMBERS)
def test_an_ephemeral_key_with_a_bad_member_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(JwkError):
        jwk.parse_point(epk(**change))


@pytest.mark.parametrize("name", sorted(jwk.PRIVATE_MEMBERS))
@pytest.mark.parametrize("value", ["AAAA", None])
def test_a_key_with_a_private_member_is_refused(name: str, value: str | None) -> None:
    with pytest.raises(JwkError):
        jwk.parse_point(epk(**{name: value}))
    with pytest.raises(JwkError):
        jwk.parse_public(epk(**{name: value}))


@pytest.mark.parametrize(
    "change", [{"kid": "a"}, {"use": "enc"}, {"ext": True, "key_ops": []}, {"z": {"d": 1}}]
)
def test_other_members_of_an_ephemeral_key_are_ignored(change: dict[str, object]) -> None:
    assert jwk.point_jwk(jwk.parse_point(epk(**change))) == epk()


@pytest.mark.parametrize("name", ["kty", "crv", "x", "y"])
def test_no_member_may_be_missing(name: str) -> None:
    members = epk()
    del members[name]

    with pytest.raises(JwkError):
        jwk.parse_point(members)
    with pytest.raises(JwkError):
        jwk.parse_public(members)


@pytest.mark.parametrize(
    "change",
    [
        *BAD_MEMBERS,
        {"k": "AAAA"},
        {"use": "sig"},
        {"use": ["enc"]},
        {"alg": "ECDH-ES+A128KW"},
        {"alg": "ES256"},
        {"key_ops": ["verify"]},
        {"key_ops": ["deriveKey", "encrypt"]},
        {"key_ops": "deriveKey"},
        {"key_ops": [{}]},
        {"key_ops": {"deriveKey": True}},
        {"key_ops": None},
        {"kid": ""},
        {"kid": 1},
        {"kid": None},
    ],
)
def test_a_partners_key_that_is_private_or_for_something_else_is_refused(
    change: dict[str, object],
) -> None:
    with pytest.raises(JwkError):
        jwk.parse_public(epk(**change))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"use": "enc"},
        {"alg": "ECDH-ES"},
        {"key_ops": []},
        {"key_ops": ["deriveBits", "deriveKey"]},
        {"ext": True, "x5t": "unknown members are ignored"},
    ],
)
def test_a_partners_key_is_read(change: dict[str, object]) -> None:
    key = jwk.parse_public(epk(kid="partner", **change))

    assert key.kid == "partner"
    assert jwk.point_jwk(key.point) == epk()


def test_a_signing_key_is_read_as_such_only() -> None:
    members = jwk.public_jwk(public_key(RECIPIENT), "sig")

    assert jwk.parse_public(members, "sig") == public_key(RECIPIENT)
    assert jwk.parse_public({**members, "key_ops": ["verify"]}, "sig")
    with pytest.raises(JwkError):
        jwk.parse_public(members)


def test_a_key_without_a_name_is_named_by_its_thumbprint() -> None:
    point = point_of(RECIPIENT)
    members = jwk.point_jwk(point)

    assert jwk.parse_public(members).kid == jwk.thumbprint(point.x, point.y)
    assert jwk.thumbprint(point.x, point.y) == JWK(**members).thumbprint()


@pytest.mark.parametrize(("use", "alg"), [("enc", "ECDH-ES"), ("sig", "ES256")])
def test_a_published_key_says_what_it_is_for(use: str, alg: str) -> None:
    members = jwk.public_jwk(public_key(RECIPIENT), use)

    assert members == {**jwk.point_jwk(POINT), "kid": "wire-1", "use": use, "alg": alg}
    assert not JWK(**members).has_private
