"""What is known of an issuer, and for how long."""

import pytest

from cms.domain.errors import ServiceUnavailable
from cms.services.directory import Directory
from hsm import ttl_cache
from hsm.errors import ManifestRefused, VaultUnavailable
from hsm.manifest.model import Manifest, parse
from tests.cms.services.clock import Clock
from tests.operators import manifest

pytestmark = pytest.mark.anyio


class Issuers:
    """A store and a vault that know what they are told, and count how often they are asked."""

    def __init__(self, *known: Manifest) -> None:
        self.known = {each.issuer_id: each for each in known}
        self.suspended: set[str] = set()
        self.ended: set[str] = set()
        self.asked: list[str] = []
        self.unavailable = False
        self.without_vault = False

    async def is_in_service(self, issuer_id: str) -> bool:
        self.asked.append(issuer_id)
        if self.unavailable:
            raise ServiceUnavailable
        return issuer_id not in self.suspended

    async def read_manifest(self, issuer_id: str) -> Manifest | None:
        if self.without_vault:
            raise VaultUnavailable("the HSM token is gone")
        if issuer_id in self.ended:
            raise ManifestRefused("the manifest is not in force now")
        return self.known.get(issuer_id)


@pytest.fixture
def issuers() -> Issuers:
    return Issuers(parse(manifest("testbank01")))


@pytest.fixture
def known(issuers: Issuers, clock: Clock) -> Directory:
    return Directory(issuers, issuers, clock)  # type: ignore[arg-type] # as store and vault


async def test_an_issuer_is_known_by_its_manifest(issuers: Issuers, known: Directory) -> None:
    assert await known.manifest("testbank01") is issuers.known["testbank01"]


async def test_an_issuer_that_never_had_a_manifest_is_unknown(known: Directory) -> None:
    assert await known.manifest("testbank02") is None


async def test_an_issuer_whose_manifest_is_not_in_force_is_unavailable_and_the_log_says_why(
    issuers: Issuers, known: Directory, caplog: pytest.LogCaptureFixture
) -> None:
    issuers.ended.add("testbank01")
    with pytest.raises(ServiceUnavailable):
        await known.manifest("testbank01")
    assert [(record.getMessage(), record.__dict__["reason"]) for record in caplog.records] == [
        ("manifest.refused", "the manifest is not in force now")
    ]


async def test_what_was_read_is_used_for_five_seconds(
    issuers: Issuers, known: Directory, clock: Clock
) -> None:
    first = await known.manifest("testbank01")
    issuers.known["testbank01"] = second = parse(manifest("testbank01", 2))
    clock.now += 4.9
    assert await known.manifest("testbank01") is first
    assert len(issuers.asked) == 1
    clock.now += 0.2
    assert await known.manifest("testbank01") is second
    assert len(issuers.asked) == 2


async def test_an_issuer_that_is_suspended_is_gone_within_five_seconds(
    issuers: Issuers, known: Directory, clock: Clock
) -> None:
    assert await known.manifest("testbank01") is not None
    issuers.suspended.add("testbank01")
    clock.now += 5
    assert await known.manifest("testbank01") is None


async def test_that_an_issuer_is_unknown_is_cached_as_long(
    issuers: Issuers, known: Directory, clock: Clock
) -> None:
    for _ in range(3):
        assert await known.manifest("testbank02") is None
    assert issuers.asked == ["testbank02"]
    issuers.known["testbank02"] = parse(manifest("testbank02"))
    clock.now += 5
    assert await known.manifest("testbank02") is not None


@pytest.mark.parametrize("issuer_id", ["", "testbank", "testbank011", "testbank0\0", "\0" * 10])
async def test_what_cannot_be_an_issuer_is_not_asked_for(
    issuers: Issuers, known: Directory, issuer_id: str
) -> None:
    assert await known.manifest(issuer_id) is None
    assert issuers.asked == []


async def test_a_failure_is_not_cached(issuers: Issuers, known: Directory) -> None:
    issuers.unavailable = True
    with pytest.raises(ServiceUnavailable):
        await known.manifest("testbank01")
    issuers.unavailable, issuers.without_vault = False, True
    with pytest.raises(ServiceUnavailable):
        await known.manifest("testbank01")
    issuers.without_vault = False
    assert await known.manifest("testbank01") is not None


async def test_a_known_issuer_does_not_outlive_its_time_while_the_database_is_unavailable(
    issuers: Issuers, known: Directory, clock: Clock
) -> None:
    await known.manifest("testbank01")
    issuers.unavailable = True
    clock.now += 4.9
    assert await known.manifest("testbank01") is not None
    clock.now += 0.2
    with pytest.raises(ServiceUnavailable):
        await known.manifest("testbank01")


async def test_the_directory_is_bounded_and_the_one_read_longest_ago_goes_first(
    issuers: Issuers, known: Directory, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ttl_cache, "ENTRIES_MAX", 3)
    await known.manifest("testbank01")
    await known.manifest("testbank02")
    clock.now += 5
    await known.manifest("testbank01")  # read anew
    await known.manifest("testbank03")
    await known.manifest("testbank04")
    issuers.asked.clear()
    for issuer_id in ("testbank01", "testbank03", "testbank04", "testbank02"):
        await known.manifest(issuer_id)
    assert issuers.asked == ["testbank02"]
