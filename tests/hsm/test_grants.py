"""The layout of grants, which are in databases while they are good, and what their CMAC covers."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from crypto.jose import base64url
from hsm.errors import GrantRefused
from hsm.grants import Grant, Grants
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import OWN_ROLES, KeyLabel, KeyRole
from hsm.port import LIFE_SECONDS, CardRef, Face, GrantedToken, Purpose, SealedGrant
from tests.contracts.software_token import SoftwareToken

START = 1_700_000_000
CARD = CardRef("testbank01", "card-1")
FIRST = [KeyLabel(role, 1) for role in OWN_ROLES]
LABEL = KeyLabel(KeyRole.GRANT_MAC, 2)


class Counting(SoftwareToken):
    """An HSM token whose random bytes count up, and whose CMAC shows what it is over."""

    def __init__(self) -> None:
        super().__init__([*(one for one in FIRST if one.role is not LABEL.role), LABEL])
        self.bytes: Iterator[int] = iter(range(256))
        self.covered = b""

    def random(self, size_bytes: int) -> bytes:
        return bytes(next(self.bytes) for _ in range(size_bytes))

    def mac(self, label: KeyLabel, data: bytes) -> bytes:
        self.covered = data
        return super().mac(label, data)


def grants(hsm_token: SoftwareToken, now: float = START) -> Grants:
    return Grants(hsm_token, Keyring(hsm_token), lambda: datetime.fromtimestamp(now, UTC))


def issue(made_by: Grants, face: Face = Face.HOSTED, holder: str = "ann") -> GrantedToken:
    return made_by.issue(face, "testbank01-app", Purpose.VIEW, CARD, 258, holder)


def test_a_grant_is_version_label_body_and_cmac() -> None:
    hsm_token = Counting()
    granted = issue(grants(hsm_token))
    assert granted.control_token == "3b7d0203-0405-8607-8809-0a0b0c0d0e0f"
    assert granted.grant_id == base64url.encode(bytes(range(16, 32)))
    body = (
        b"\0\0\0\x0atestbank01\0\0\0\x06card-1\0\0\0\x0etestbank01-app"
        b"\0\0\0\x06hosted\0\0\0\x04view"
        b"\0\0\0\x08\0\0\0\0\0\0\x01\x02"
        b"\0\0\0\x08" + (START + 600 + 1200 + 60).to_bytes(8) + b"\0\0\0\x10" + bytes(range(16, 32))
    )
    digest = hashlib.sha256(granted.control_token.encode()).digest()
    body += b"\0\0\0\x20" + digest + b"\0\0\0\x03ann"
    assert granted.grant[:-16] == b"\x01\x0cgrant-mac.g2" + body
    covered = b"\0\0\0\x05grant\0\0\0\x0cgrant-mac.g2" + len(body).to_bytes(4) + body
    assert hsm_token.covered == covered
    assert granted.grant[-16:] == hsm_token.mac(LABEL, covered)


@pytest.mark.parametrize("holder", ["ann", "", "x" * 255])
def test_a_grant_is_read_as_it_was_made(holder: str) -> None:
    made_by = grants(SoftwareToken())
    granted = issue(made_by, Face.PINCONTROL, holder)
    assert made_by.open(granted.grant, granted.control_token, Purpose.VIEW) == Grant(
        *(granted.grant_id, CARD, "testbank01-app", Face.PINCONTROL, Purpose.VIEW, 258, holder),
        expires_at=START + LIFE_SECONDS[Face.PINCONTROL] + 1_260,
    )


def test_a_grant_under_an_older_key_is_good_while_the_key_is_there() -> None:
    hsm_token = SoftwareToken()
    granted = issue(grants(hsm_token))
    hsm_token.generate(LABEL)
    assert grants(hsm_token).open(granted.grant, granted.control_token, Purpose.VIEW)


@pytest.mark.parametrize("bytes_left", range(32))
def test_a_grant_that_is_cut_is_none(bytes_left: int) -> None:
    made_by = grants(SoftwareToken())
    granted = issue(made_by)
    for cut in (granted.grant[:bytes_left], granted.grant[: 14 + bytes_left]):
        with pytest.raises(GrantRefused):
            made_by.open(SealedGrant(cut), granted.control_token, Purpose.VIEW)
