"""What is known of an issuer, and for how long."""

import pytest

from cms.domain.errors import ServiceUnavailable
from cms.domain.records import Client, IssuerRecord
from cms.services import cache
from cms.services.directory import Directory
from crypto.seccos.profile import SeccosProfile
from hsm.config.policy import PolicyBody
from hsm.config.verification import VerificationBody
from hsm.config.wire import WireProfile
from hsm.port import ConfigKind
from tests.cms.services.clock import Clock
from tests.issuer_records import config

pytestmark = pytest.mark.anyio
CLIENT = Client("testbank01-d1", "oauth", (b"h" * 32,), ["CN=d1"])


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
def known(issuers: Issuers, clock: Clock) -> Directory:
    return Directory(issuers, clock)  # type: ignore[arg-type] # a store to it


async def test_an_issuer_is_known_with_its_clients_by_id(
    issuers: Issuers, known: Directory
) -> None:
    found = await known.issuer("testbank01")
    assert found is not None
    assert (found.issuer_id, found.clients) == ("testbank01", {"testbank01-d1": CLIENT})
    assert found.wire == WireProfile()


async def test_what_was_read_is_used_for_five_seconds(
    issuers: Issuers, known: Directory, clock: Clock
) -> None:
    first = await known.issuer("testbank01")
    issuers.known["testbank01"] = IssuerRecord([], {})
    clock.now += 4.9
    assert await known.issuer("testbank01") is first
    assert len(issuers.asked) == 1
    clock.now += 0.2
    found = await known.issuer("testbank01")
    assert found is not None
    assert found.clients == {}
    assert len(issuers.asked) == 2


async def test_an_issuer_that_is_suspended_is_gone_within_five_seconds(
    issuers: Issuers, known: Directory, clock: Clock
) -> None:
    assert await known.issuer("testbank01") is not None
    del issuers.known["testbank01"]
    clock.now += 5
    assert await known.issuer("testbank01") is None


async def test_that_an_issuer_is_unknown_is_cached_as_long(
    issuers: Issuers, known: Directory, clock: Clock
) -> None:
    for _ in range(3):
        assert await known.issuer("testbank02") is None
    assert issuers.asked == ["testbank02"]
    issuers.known["testbank02"] = IssuerRecord([], {})
    clock.now += 5
    assert await known.issuer("testbank02") is not None


@pytest.mark.parametrize("issuer_id", ["", "testbank", "testbank011", "testbank0\0", "\0" * 10])
async def test_what_cannot_be_an_issuer_is_not_asked_for(
    issuers: Issuers, known: Directory, issuer_id: str
) -> None:
    assert await known.issuer(issuer_id) is None
    assert issuers.asked == []


async def test_a_failure_is_not_cached(issuers: Issuers, known: Directory) -> None:
    issuers.unavailable = True
    with pytest.raises(ServiceUnavailable):
        await known.issuer("testbank01")
    issuers.unavailable = False
    assert await known.issuer("testbank01") is not None


async def test_a_known_issuer_does_not_outlive_its_time_while_the_database_is_unavailable(
    issuers: Issuers, known: Directory, clock: Clock
) -> None:
    await known.issuer("testbank01")
    issuers.unavailable = True
    clock.now += 4.9
    assert await known.issuer("testbank01") is not None
    clock.now += 0.2
    with pytest.raises(ServiceUnavailable):
        await known.issuer("testbank01")


async def test_the_directory_is_bounded_and_the_one_read_longest_ago_goes_first(
    issuers: Issuers, known: Directory, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "ENTRIES_MAX", 3)
    await known.issuer("testbank01")
    await known.issuer("testbank02")
    clock.now += 5
    await known.issuer("testbank01")  # read anew
    await known.issuer("testbank03")
    await known.issuer("testbank04")
    issuers.asked.clear()
    for issuer_id in ("testbank01", "testbank03", "testbank04", "testbank02"):
        await known.issuer(issuer_id)
    assert issuers.asked == ["testbank02"]


async def test_the_wire_is_the_configured_one(issuers: Issuers, known: Directory) -> None:
    wire = config("testbank01", ConfigKind.WIRE, {"counter": {"field": "count"}})
    issuers.known["testbank01"] = IssuerRecord([], {ConfigKind.WIRE: wire})
    found = await known.issuer("testbank01")
    assert found is not None
    assert found.wire.counter.field == "count"


@pytest.mark.parametrize("body", [{"no such member": 1}, [], {"token": {"ttl_seconds": 10**9}}])
async def test_a_wire_that_cannot_be_read_is_the_default_and_refused_by_the_vault_alone(
    issuers: Issuers, known: Directory, body: object
) -> None:
    wire = config("testbank01", ConfigKind.WIRE, body)
    issuers.known["testbank01"] = IssuerRecord([], {ConfigKind.WIRE: wire})
    found = await known.issuer("testbank01")
    assert found is not None
    assert found.wire == WireProfile()
    assert found.config[ConfigKind.WIRE] == wire


async def test_what_an_issuer_configured_for_its_faces_is_read_once(
    issuers: Issuers, known: Directory
) -> None:
    bodies = {
        ConfigKind.POLICY: {"text_reveal": True},
        ConfigKind.SECCOS: {},
        ConfigKind.VERIFICATION: {"prw": True},
    }
    sealed = {kind: config("testbank01", kind, body) for kind, body in bodies.items()}
    issuers.known["testbank01"] = IssuerRecord([], sealed)
    found = await known.issuer("testbank01")
    assert found is not None
    assert found.policy == PolicyBody(text_reveal=True)
    assert found.verification == VerificationBody(prw=True)
    assert found.seccos == SeccosProfile()


@pytest.mark.parametrize("body", [None, {"no such member": 1}])
async def test_a_body_that_is_missing_or_cannot_be_read_is_none(
    issuers: Issuers, known: Directory, body: object
) -> None:
    kinds = (ConfigKind.POLICY, ConfigKind.SECCOS, ConfigKind.VERIFICATION)
    sealed = {} if body is None else {kind: config("testbank01", kind, body) for kind in kinds}
    issuers.known["testbank01"] = IssuerRecord([], sealed)
    found = await known.issuer("testbank01")
    assert found is not None
    assert (found.policy, found.seccos, found.verification) == (None, None, None)
