"""Manifests come from the database to the vault, which refuses what operators did not sign."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from cms.domain.errors import ServiceUnavailable
from cms.domain.records import TAKEN, ManifestAnswer
from cms.persistence import admin
from cms.persistence.store import Store
from cms.services import manifests
from cms.services.manifests import ManifestCarrier
from hsm.errors import VaultUnavailable
from hsm.manifest.signed import MINIMUM_VERSIONS_TYPE
from hsm.pkcs11.token import Pkcs11Token
from hsm.vault import Vault
from tests.in_process_vault import InProcessVault, NoVault
from tests.issuer_records import app_client, run_sql
from tests.operators import (
    OPERATORS,
    VALID_UNTIL,
    OperatorKey,
    manifest,
    minimum_versions,
    prepare_host,
    signed,
)

pytestmark = pytest.mark.anyio
ISSUER, OTHER = "testbank01", "testbank02"
ORIGIN = "https://app.example"
NO_MINIMUM_VERSIONS = "this host has no minimum versions: load a list of them first"
TOO_FEW = "too few signatures of operators who may sign for this issuer"


class Clock:
    """The time, UTC, as the test says."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Host:
    """A host with minimum versions, before a database with two issuers."""

    url: str
    store: Store
    vault: Vault
    called: InProcessVault
    clock: Clock
    carrier: ManifestCarrier = field(init=False)

    def __post_init__(self) -> None:
        self.carrier = ManifestCarrier(self.store, self.called, "here", self.clock)

    def put(self, version: int, text: str, issuer_id: str = ISSUER) -> None:
        """Store a text as whoever can write the database may."""
        run_sql(
            self.url,
            "INSERT INTO manifests (issuer_id, version, text) VALUES (%s, %s, %s)"
            " ON CONFLICT (issuer_id, version) DO UPDATE SET text = excluded.text",
            *(issuer_id, version, text),
        )

    async def answer(self, issuer_id: str = ISSUER) -> ManifestAnswer | None:
        """Carry once; return what the host then said last."""
        await self.carrier.carry()
        return (await self.store.manifest_answers("here")).get(issuer_id)


@pytest.fixture
async def host(database_url: str, hsm_token: Pkcs11Token, tmp_path: Path) -> AsyncIterator[Host]:
    with admin.transaction(database_url) as database:
        for issuer_id in (ISSUER, OTHER):
            admin.add_issuer(database, issuer_id, "A bank")
    clock = Clock()
    vault = Vault(hsm_token, tmp_path, prepare_host(tmp_path), clock)
    vault.load_minimum_versions(signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE))
    store, called = Store.connect(database_url), InProcessVault(vault)
    await store.open()
    yield Host(database_url, store, vault, called, clock)
    await called.close()
    await store.close()


async def test_the_newest_manifest_is_taken_and_said_so_once(host: Host) -> None:
    assert await host.answer() is None
    for version in (1, 2, 10):
        host.put(version, signed(manifest(ISSUER, version)))
    assert await host.answer() == ManifestAnswer(10, TAKEN)
    assert await host.answer(OTHER) is None
    when = run_sql(host.url, "SELECT at FROM manifest_hosts")
    await host.carrier.carry()
    assert run_sql(host.url, "SELECT at FROM manifest_hosts") == when


async def test_what_is_refused_leaves_the_one_before_in_force_and_is_logged_once(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.put(1, signed(manifest(ISSUER)))
    await host.carrier.carry()
    host.put(2, signed(manifest(ISSUER, 2), operators=OPERATORS[:1]))
    for _ in range(3):
        assert await host.answer() == ManifestAnswer(2, TOO_FEW)
    assert host.vault.read_manifest(ISSUER).version == 1
    assert [(r.levelname, r.getMessage(), r.__dict__["reason"]) for r in caplog.records] == [
        ("ERROR", "manifest.refused", f"version 2: {TOO_FEW}")
    ]
    host.put(2, signed(manifest(ISSUER, 2)))
    assert await host.answer() == ManifestAnswer(2, TAKEN)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(signed(manifest(ISSUER)), id="an older one"),
        pytest.param(signed(manifest(OTHER, 9)), id="another issuer's"),
        pytest.param(
            signed(manifest(ISSUER, 9), operators=[OperatorKey(), OperatorKey()]),
            id="signed by others",
        ),
        pytest.param(signed(manifest(ISSUER, 9)).replace("J", "K", 1), id="altered"),
        pytest.param("", id="nothing"),
        pytest.param("[" * 100_000, id="no manifest"),
    ],
)
async def test_whoever_writes_the_database_changes_no_manifest(host: Host, text: str) -> None:
    host.put(2, signed(manifest(ISSUER, 2)))
    await host.carrier.carry()
    host.put(9, text)
    answer = await host.answer()
    assert answer is not None
    assert (answer.version, answer.outcome != TAKEN) == (9, True)
    assert host.vault.read_manifest(ISSUER).version == 2


async def test_one_refusal_keeps_nobody_else_waiting(host: Host) -> None:
    host.put(1, "", ISSUER)
    host.put(1, signed(manifest(OTHER)), OTHER)
    assert await host.answer(OTHER) == ManifestAnswer(1, TAKEN)


async def test_a_host_that_is_ahead_of_the_database_stays_so_and_says_it(host: Host) -> None:
    host.vault.load_manifest(signed(manifest(ISSUER, 7)))
    host.put(3, signed(manifest(ISSUER, 3)))
    assert await host.answer() == ManifestAnswer(7, TAKEN)
    assert host.vault.read_manifest(ISSUER).version == 7


async def test_a_host_without_minimum_versions_takes_none_until_it_has_them(
    host: Host, hsm_token: Pkcs11Token, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("new")
    new = Vault(hsm_token, directory, prepare_host(directory), host.clock)
    host.put(1, signed(manifest(ISSUER)))
    with_new = Host(host.url, host.store, new, InProcessVault(new), host.clock)
    assert await with_new.answer() == ManifestAnswer(1, NO_MINIMUM_VERSIONS)
    new.load_minimum_versions(signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE))
    assert await with_new.answer() == ManifestAnswer(1, TAKEN)
    await with_new.called.close()


async def test_one_that_begins_later_is_taken_then(host: Host) -> None:
    begins = host.clock.now + timedelta(days=1)
    host.put(1, signed(manifest(ISSUER, valid_from=begins.isoformat())))
    assert await host.answer() == ManifestAnswer(1, "the manifest is not in force now")
    host.clock.now = begins
    assert await host.answer() == ManifestAnswer(1, TAKEN)


async def test_a_manifest_that_ends_soon_is_warned_of_once_a_day(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.put(1, signed(manifest(ISSUER)))
    ends_in = VALID_UNTIL - host.clock.now
    for days_left, warnings in ((30, 0), (29.9, 1), (29, 1), (28.9, 2), (0.5, 3), (0, 3), (-9, 3)):
        host.clock.now += ends_in - timedelta(days=days_left)
        ends_in = timedelta(days=days_left)
        await host.carrier.carry()
        assert len(caplog.records) == warnings, days_left
    assert {(r.levelname, r.getMessage(), r.__dict__["reason"]) for r in caplog.records} == {
        ("WARNING", "manifest.ends", "version 1 ends at 2050-01-01 00:00 UTC")
    }


async def test_the_origins_of_every_issuers_apps_are_known_and_no_others(host: Host) -> None:
    apps = [app_client(f"{ISSUER}-a", redirect_origins=[ORIGIN], embed_origins=["https://f.test"])]
    host.put(1, signed(manifest(ISSUER, clients=apps)))
    others = [app_client(f"{OTHER}-a", redirect_origins=["https://other.example"])]
    host.put(1, signed(manifest(OTHER, clients=others)), OTHER)
    assert not host.carrier.is_origin(ORIGIN)
    await host.carrier.carry()
    known = (ORIGIN, "https://f.test", "https://other.example")
    assert all(map(host.carrier.is_origin, known))
    assert not host.carrier.is_origin("https://evil.example")
    host.put(2, signed(manifest(ISSUER, 2)))
    await host.carrier.carry()
    assert [host.carrier.is_origin(origin) for origin in known] == [False, False, True]


async def test_what_is_unavailable_costs_nothing_that_is_known(host: Host) -> None:
    clients = [app_client(f"{ISSUER}-a", redirect_origins=[ORIGIN])]
    host.put(1, signed(manifest(ISSUER, clients=clients)))
    await host.carrier.carry()
    lost = NoVault(VaultUnavailable("the HSM token is gone"))
    host.carrier._vault = lost
    await host.carrier.carry()
    host.carrier._store = AsyncMock()
    host.carrier._store.newest_manifests.side_effect = ServiceUnavailable
    await host.carrier.carry()
    assert host.carrier.is_origin(ORIGIN)


async def test_a_defect_is_logged_and_the_next_manifest_carried(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(manifests, "PAUSE_SECONDS", 0.0)

    class Ended(BaseException):
        """The test is over."""

    store = AsyncMock()
    store.newest_manifests.side_effect = [RuntimeError("a defect"), {}, Ended]
    host.carrier._store = store
    with caplog.at_level(logging.ERROR), pytest.raises(Ended):
        await host.carrier.beat()
    assert store.newest_manifests.await_count == 3
    assert [record.getMessage() for record in caplog.records] == ["internal"]
