"""What is known of an issuer, and for how long."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from cms.domain.errors import ServiceUnavailable
from cms.domain.records import Client, IssuerRecord
from cms.services import directory
from cms.services.directory import Directory
from crypto.seccos.profile import SeccosProfile
from hsm.config import PolicyBody, VerificationBody, WireProfile
from hsm.port import ConfigKind
from tests.issuer_records import config

pytestmark = pytest.mark.anyio
CLIENT = Client("testbank01-d1", "oauth", "a hash", ["CN=d1"])


class Issuers:
    """A store that knows what it is told, and counts how often it is asked."""

    def __init__(self, **known: IssuerRecord) -> None:
        self.known = known
        self.asked: list[str] = []
        self.unavailable = False

    async def read_issuer(self, issuer_id: str) -> IssuerRecord | None:
        self.asked.append(issuer_id)
        if self.unavailable:
            raise ServiceUnavailable
        return self.known.get(issuer_id)


@pytest.fixture
def issuers() -> Issuers:
    return Issuers(testbank01=IssuerRecord([CLIENT], {}))


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let seconds pass, for the directory alone."""
    now = [1000.0]
    monkeypatch.setattr(directory, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    return pass_time


def over(issuers: Issuers) -> Directory:
    return Directory(issuers)  # type: ignore[arg-type] # a store to it


async def test_an_issuer_is_known_with_its_clients_by_id(issuers: Issuers) -> None:
    found = await over(issuers).issuer("testbank01")
    assert found is not None
    assert (found.issuer_id, found.clients) == ("testbank01", {"testbank01-d1": CLIENT})
    assert found.wire == WireProfile()


async def test_what_was_read_is_used_for_five_seconds(
    issuers: Issuers, pass_time: Callable[[float], None]
) -> None:
    known = over(issuers)
    first = await known.issuer("testbank01")
    issuers.known["testbank01"] = IssuerRecord([], {})
    pass_time(4.9)
    assert await known.issuer("testbank01") is first
    assert len(issuers.asked) == 1
    pass_time(0.2)
    found = await known.issuer("testbank01")
    assert found is not None
    assert found.clients == {}
    assert len(issuers.asked) == 2


async def test_an_issuer_that_is_suspended_is_gone_within_five_seconds(
    issuers: Issuers, pass_time: Callable[[float], None]
) -> None:
    known = over(issuers)
    assert await known.issuer("testbank01") is not None
    del issuers.known["testbank01"]
    pass_time(5)
    assert await known.issuer("testbank01") is None


async def test_that_an_issuer_is_unknown_is_kept_as_long(
    issuers: Issuers, pass_time: Callable[[float], None]
) -> None:
    known = over(issuers)
    for _ in range(3):
        assert await known.issuer("testbank02") is None
    assert issuers.asked == ["testbank02"]
    issuers.known["testbank02"] = IssuerRecord([], {})
    pass_time(5)
    assert await known.issuer("testbank02") is not None


@pytest.mark.parametrize("issuer_id", ["", "testbank", "testbank011", "testbank0\0", "\0" * 10])
async def test_what_cannot_be_an_issuer_is_not_asked_for(issuers: Issuers, issuer_id: str) -> None:
    assert await over(issuers).issuer(issuer_id) is None
    assert issuers.asked == []


async def test_a_failure_is_not_kept(issuers: Issuers) -> None:
    known = over(issuers)
    issuers.unavailable = True
    with pytest.raises(ServiceUnavailable):
        await known.issuer("testbank01")
    issuers.unavailable = False
    assert await known.issuer("testbank01") is not None


async def test_a_known_issuer_does_not_outlive_its_time_while_the_database_is_unavailable(
    issuers: Issuers, pass_time: Callable[[float], None]
) -> None:
    known = over(issuers)
    await known.issuer("testbank01")
    issuers.unavailable = True
    pass_time(4.9)
    assert await known.issuer("testbank01") is not None
    pass_time(0.2)
    with pytest.raises(ServiceUnavailable):
        await known.issuer("testbank01")


async def test_the_directory_is_bounded_and_the_longest_unread_goes_first(
    issuers: Issuers, pass_time: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "ISSUERS_MAX", 3)
    known = over(issuers)
    await known.issuer("testbank01")
    await known.issuer("testbank02")
    pass_time(5)
    await known.issuer("testbank01")  # read anew
    await known.issuer("testbank03")
    await known.issuer("testbank04")
    assert len(known._kept) == 3
    issuers.asked.clear()
    for issuer_id in ("testbank01", "testbank03", "testbank04", "testbank02"):
        await known.issuer(issuer_id)
    assert issuers.asked == ["testbank02"]


async def test_the_wire_is_the_configured_one(issuers: Issuers) -> None:
    wire = config("testbank01", ConfigKind.WIRE, {"counter": {"field": "count"}})
    issuers.known["testbank01"] = IssuerRecord([], {ConfigKind.WIRE: wire})
    found = await over(issuers).issuer("testbank01")
    assert found is not None
    assert found.wire.counter.field == "count"


@pytest.mark.parametrize("body", [{"no such member": 1}, [], {"token": {"ttl_seconds": 10**9}}])
async def test_a_wire_that_cannot_be_read_is_the_default_and_refused_by_the_vault_alone(
    issuers: Issuers, body: object
) -> None:
    wire = config("testbank01", ConfigKind.WIRE, body)
    issuers.known["testbank01"] = IssuerRecord([], {ConfigKind.WIRE: wire})
    found = await over(issuers).issuer("testbank01")
    assert found is not None
    assert found.wire == WireProfile()
    assert found.config[ConfigKind.WIRE] == wire


async def test_what_an_issuer_configured_for_its_faces_is_read_once(issuers: Issuers) -> None:
    bodies = {
        ConfigKind.POLICY: {"text_reveal": True},
        ConfigKind.SECCOS: {},
        ConfigKind.VERIFICATION: {"prw": True},
    }
    sealed = {kind: config("testbank01", kind, body) for kind, body in bodies.items()}
    issuers.known["testbank01"] = IssuerRecord([], sealed)
    found = await over(issuers).issuer("testbank01")
    assert found is not None
    assert found.policy == PolicyBody(text_reveal=True)
    assert found.verification == VerificationBody(prw=True)
    assert found.seccos == SeccosProfile()


@pytest.mark.parametrize("body", [None, {"no such member": 1}])
async def test_a_body_that_is_missing_or_cannot_be_read_is_none(
    issuers: Issuers, body: object
) -> None:
    kinds = (ConfigKind.POLICY, ConfigKind.SECCOS, ConfigKind.VERIFICATION)
    sealed = {} if body is None else {kind: config("testbank01", kind, body) for kind in kinds}
    issuers.known["testbank01"] = IssuerRecord([], sealed)
    found = await over(issuers).issuer("testbank01")
    assert found is not None
    assert (found.policy, found.seccos, found.verification) == (None, None, None)
