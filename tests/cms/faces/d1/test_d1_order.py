"""When a request has two faults, the answer is the one that comes first in the fixed order."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx
import pytest
from _pytest.mark import ParameterSet

from cms.sandbox.partners.jwe import encrypt
from tests.cms.faces.d1 import refusals
from tests.cms.faces.d1.access_tokens import access_token
from tests.cms.faces.d1_face import D1Face, put_body, refusal
from tests.issuer_records import certificate
from tests.service import PUBLIC_URL, with_certificate

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a request: a part of it, what stands there, and the answer."""

    name: str
    part: str
    expected: tuple[int, str, str]
    verbs: frozenset[str] = field(default=frozenset({"put", "get", "counter", "activate"}))


CHANGES, READS = frozenset({"put", "get", "activate"}), frozenset({"get"})
PUT = frozenset({"put"})

#: In the order of answers. Two faults of one part cannot be sent at once.
FAULTS = (
    Fault("no-certificate", "certificate", refusals.UNAUTHORIZED),
    Fault("foreign-certificate", "certificate", refusals.UNAUTHORIZED),
    Fault("no-bearer", "bearer", refusals.UNAUTHORIZED),
    Fault("junk-bearer", "bearer", refusals.UNAUTHORIZED),
    Fault("expired-bearer", "bearer", refusals.UNAUTHORIZED),
    Fault("foreign-issuer", "issuer", refusals.FOREIGN_ISSUER),
    Fault("unknown-issuer", "issuer", refusals.FOREIGN_ISSUER),
    Fault("card-id-too-long", "card", refusals.CARD_ID),
    Fault("card-id-with-a-dot", "card", refusals.CARD_ID),
    Fault("unknown-card", "card", refusals.UNKNOWN_CARD),
    Fault("blocked", "card", refusals.STATE, CHANGES),
    Fault("closed", "card", refusals.STATE),
    Fault("inactive", "card", refusals.STATE, CHANGES - {"activate"}),
    Fault("empty", "card", refusals.NOT_AVAILABLE, READS),
    Fault("body-too-long", "body", refusals.BODY, PUT),
    Fault("body-not-json", "body", refusals.BODY, PUT),
    Fault("body-without-type", "body", refusals.TYPE, PUT),
    Fault("junk-jwe", "body", refusals.FORM, PUT),
    Fault("jwe-for-another-key", "body", refusals.BLOCK, PUT),
    Fault("seccos", "body", refusals.NOT_OFFERED, PUT),
    Fault("weak-pin", "body", refusals.POLICY, PUT),
)
VERBS = ("put", "get", "counter", "activate")


def _combinations(count: int) -> list[ParameterSet]:
    return [
        pytest.param(verb, faults, id="-".join((verb, *(fault.name for fault in faults))))
        for verb in VERBS
        for faults in itertools.combinations([f for f in FAULTS if verb in f.verbs], count)
        if len({fault.part for fault in faults}) == count
    ]


@pytest.fixture(scope="module")
async def request_of(d1_face: D1Face) -> "Request":
    open_other = await d1_face.open_issuer("otherbank1")
    good = d1_face.sample_issuer.pin_jwe("9382", "active")
    return Request(
        d1_face,
        {
            "no-bearer": None,
            "junk-bearer": "Bearer junk",
            "expired-bearer": f"Bearer {await access_token(d1_face, exp=1_700_000_000)}",
            "foreign-issuer": open_other.issuer_id,
            "unknown-issuer": "nobody0001",
            "card-id-too-long": "c" * 49,
            "card-id-with-a-dot": "card.1",
            "unknown-card": "card-of-nobody",
            "body-too-long": put_body(good).ljust(16 * 1024 + 1),
            "body-not-json": b"junk",
            "body-without-type": b'{"encryptedPinBlock":"junk"}',
            "junk-jwe": put_body("junk", "3DES_SECCOS"),
            "jwe-for-another-key": put_body(
                encrypt({"pinBlock": "0" * 16}, d1_face.sample_issuer.intake_jwk)
            ),
            "seccos": put_body(d1_face.sample_issuer.pin_jwe("1111", "active"), "3DES_SECCOS"),
            "weak-pin": put_body(d1_face.sample_issuer.pin_jwe("1111", "active")),
            "": put_body(good),
        },
    )


@dataclass(frozen=True)
class Request:
    """Builds a request with the given faults; a card's fault may be its name."""

    d1_face: D1Face
    values: dict[str, object]

    async def answer(self, verb: str, faults: Iterable[Fault]) -> tuple[int, str, str]:
        part = {fault.part: self.values.get(fault.name, fault.name) for fault in faults}
        presented = {
            "none": self.d1_face.sample_issuer.certificate,
            "no-certificate": None,
            "foreign-certificate": certificate("d1-otherbank1"),
        }[str(part.get("certificate", "none"))]
        bearer = part.get("bearer", self.d1_face.bearer["Authorization"])
        issuer = part.get("issuer", self.d1_face.sample_issuer.issuer_id)
        card = part.get("card", "active")
        method, path = {
            "put": ("PUT", f"cards/{card}/pin"),
            "get": ("GET", f"cards/{card}/pin"),
            "counter": ("GET", f"cards/{card}/pin/changeCounter"),
            "activate": ("POST", f"physicalCards/{card}/activate"),
        }[verb]
        app = with_certificate(self.d1_face.application.listeners["d1"], presented)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http:
            return refusal(
                await http.request(
                    method,
                    f"/cms/api/v1/issuers/{issuer}/{path}",
                    headers={} if bearer is None else {"Authorization": str(bearer)},
                    content=part.get("body", self.values[""]),  # type: ignore[arg-type]
                )
            )


@pytest.mark.parametrize(("verb", "faults"), _combinations(1))
async def test_each_fault_alone_has_its_answer(
    request_of: Request, verb: str, faults: tuple[Fault]
) -> None:
    assert await request_of.answer(verb, faults) == faults[0].expected


@pytest.mark.parametrize(("verb", "faults"), _combinations(2))
async def test_of_two_faults_the_earlier_is_answered(
    request_of: Request, verb: str, faults: tuple[Fault, Fault]
) -> None:
    assert await request_of.answer(verb, faults) == faults[0].expected
