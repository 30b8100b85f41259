"""A process is ready when HSM token and database answer, and again when they return."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import httpx
import pytest

from cms.faces.ops import ops_app
from cms.persistence.causes import Cause
from cms.persistence.tables import REVISION
from cms.sandbox import HANG_SECONDS
from cms.services import health
from cms.services.health import UNFIT, DatabaseUnfit, Health
from cms.services.workers import Fault
from hsm.errors import VaultBusy, VaultUnavailable
from hsm.messages import Verb
from tests.in_process_vault import InProcessVault, NoVault

pytestmark = pytest.mark.anyio
T = TypeVar("T")


class Both:
    """An HSM token and a database, each of which may be unavailable."""

    def __init__(self) -> None:
        self.token_unavailable = False
        self.database_unavailable = False
        self.unfit: Cause | None = None
        self.cause: Cause | None = None
        self.asked = 0
        self.revision_found: str | None = REVISION
        self.issuer: str | None = "https://pins.test"
        self.clock_difference_seconds = 0.0

    def health(self) -> None:
        if self.token_unavailable:
            raise VaultUnavailable("the HSM token is gone")

    def token_issuer(self) -> str | None:
        return self.issuer

    @property
    def pool(self) -> "Both":
        return self

    def occupancy(self) -> tuple[int, int, int]:
        return 8, 8, 0

    async def revision(self) -> str | None:
        return self.revision_found

    async def fault(self) -> Cause | None:
        self.asked += 1
        await asyncio.sleep(0)
        return Cause.NO_CONNECTION if self.database_unavailable else self.unfit


@pytest.fixture
def both() -> Both:
    return Both()


@pytest.fixture
def checked(both: Both, monkeypatch: pytest.MonkeyPatch) -> Health:
    monkeypatch.setattr(health, "PAUSE_SECONDS", 0.01)
    return Health(InProcessVault(both), both)  # type: ignore[arg-type] # as far as it is asked


@asynccontextmanager
async def beating(checked: Health) -> AsyncIterator[None]:
    beat = asyncio.create_task(checked.beat())
    yield
    assert not beat.done()
    beat.cancel()
    with suppress(asyncio.CancelledError):
        await beat


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)


async def test_nothing_is_ready_before_it_was_asked(checked: Health) -> None:
    assert (checked.ready, checked.vault_ready, checked.database_ready) == (False, False, False)


@pytest.mark.parametrize("token_unavailable", [False, True])
@pytest.mark.parametrize("database_unavailable", [False, True])
async def test_ready_is_both(
    both: Both, checked: Health, token_unavailable: bool, database_unavailable: bool
) -> None:
    await checked.check()
    assert checked.ready
    both.token_unavailable, both.database_unavailable = token_unavailable, database_unavailable
    await checked.check()
    assert (checked.vault_ready, checked.database_ready) == (
        not token_unavailable,
        not database_unavailable,
    )
    assert checked.ready is (not token_unavailable and not database_unavailable)


async def test_a_check_on_the_way_leaves_what_was_last_seen(checked: Health) -> None:
    await checked.check()
    checking = asyncio.create_task(checked.check())
    while not checking.done():
        assert checked.ready
        await asyncio.sleep(0)


@pytest.mark.parametrize("unavailable", ["token_unavailable", "database_unavailable"])
async def test_the_beat_notices_a_loss_and_the_return(
    both: Both, checked: Health, unavailable: str
) -> None:
    async with beating(checked):
        await until(lambda: checked.ready)
        setattr(both, unavailable, True)
        await until(lambda: not checked.ready)
        setattr(both, unavailable, False)
        await until(lambda: checked.ready)


@pytest.mark.parametrize("cause", sorted(UNFIT))
async def test_a_database_that_must_not_be_used_is_an_error_at_the_start(
    both: Both, checked: Health, cause: Cause, caplog: pytest.LogCaptureFixture
) -> None:
    both.unfit = cause
    with pytest.raises(DatabaseUnfit):
        await checked.check()
    assert not checked.ready
    (record,) = caplog.records
    assert (record.getMessage(), record.__dict__["reason"]) == ("database.unfit", cause)


@pytest.mark.parametrize("cause", [Cause.READ_ONLY, Cause.NOT_REPLICATED, Cause.NO_ANSWER])
async def test_a_database_that_may_get_well_is_waited_for(
    both: Both, checked: Health, cause: Cause
) -> None:
    both.unfit = cause
    await checked.check()
    assert not checked.ready
    both.unfit = None
    await checked.check()
    assert checked.ready


async def test_a_database_that_can_lose_commits_and_was_unavailable_at_the_start_is_never_ready(
    both: Both, checked: Health, caplog: pytest.LogCaptureFixture
) -> None:
    both.database_unavailable, both.unfit = True, Cause.NOT_DURABLE
    await checked.check()
    both.database_unavailable = False
    with caplog.at_level(logging.CRITICAL, health.__name__):
        async with beating(checked):
            await until(lambda: both.asked >= 5)
            assert checked.vault_ready
            assert not checked.database_ready
            both.unfit = None
            await until(lambda: checked.ready)
    assert [record.getMessage() for record in caplog.records] == ["database.unfit"]


async def test_a_statement_that_failed_has_the_database_asked(both: Both, checked: Health) -> None:
    await checked.check()
    both.cause = Cause.NO_ANSWER
    assert not checked.ready
    async with beating(checked):
        await until(lambda: both.asked > 1)


async def test_a_database_of_another_release_says_once_what_to_do(
    both: Both, checked: Health, caplog: pytest.LogCaptureFixture
) -> None:
    both.revision_found = "newer"
    for _ in range(2):
        await checked.check()
    (line,) = [line for line in caplog.records if line.msg == "database.revision"]
    reason = line.__dict__["reason"]
    assert reason.startswith(f"revision newer is not {REVISION}, that of this release: run alembic")
    assert "or start the release that the database was upgraded for" in reason
    assert checked.ready
    both.revision_found = REVISION
    await checked.check()
    assert checked.of_all().warnings == ()


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
async def test_a_clock_that_is_off_is_a_warning_and_logged_when_it_begins_and_ends(
    both: Both, checked: Health, caplog: pytest.LogCaptureFixture, seconds: float
) -> None:
    caplog.set_level(logging.INFO, health.__name__)
    both.clock_difference_seconds = seconds
    for _ in range(2):
        await checked.check()
    seen = checked.of_all()
    assert seen.ready
    assert seen.warnings == (Fault("clock", health.CLOCK_DIFFERS),)
    both.clock_difference_seconds = 0.0
    for _ in range(2):
        await checked.check()
    assert checked.of_all().warnings == ()
    assert [record.getMessage() for record in caplog.records] == ["clock.differs", "clock.agrees"]


@pytest.mark.parametrize("seconds", [5.0, -5.0])
async def test_clocks_that_differ_a_little_are_right(
    both: Both, checked: Health, caplog: pytest.LogCaptureFixture, seconds: float
) -> None:
    both.clock_difference_seconds = seconds
    await checked.check()
    assert checked.of_all().warnings == ()
    assert caplog.records == []


async def test_readiness_is_what_the_database_says_now(both: Both, checked: Health) -> None:
    await checked.check()
    app = ops_app(checked, checked._vault, {})
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ops") as ops:
        assert (await ops.get("/readyz")).status_code == 200
        both.database_unavailable = True
        answer = await ops.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {
            "ready": False,
            "vault": True,
            "database": False,
            "problems": [{"part": "database", "reason": "NO_CONNECTION"}],
            "warnings": [],
        }
        both.database_unavailable = False
        assert (await ops.get("/readyz")).status_code == 200


async def test_readiness_is_what_the_vault_says_now(both: Both, checked: Health) -> None:
    await checked.check()
    transport = httpx.ASGITransport(ops_app(checked, checked._vault, {}))
    async with httpx.AsyncClient(transport=transport, base_url="http://ops") as ops:
        assert (await ops.get("/readyz")).status_code == 200
        both.token_unavailable = True
        answer = await ops.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {
            "ready": False,
            "vault": False,
            "database": True,
            "problems": [{"part": "vault", "reason": "the HSM token is gone"}],
            "warnings": [],
        }
        both.token_unavailable = False
        assert (await ops.get("/readyz")).status_code == 200


class Vault(NoVault):
    """One that does not answer, if nothing else is wrong with it."""

    async def call(self, message: Verb[T]) -> T:
        await asyncio.sleep(0 if isinstance(self.error, VaultBusy) else HANG_SECONDS)
        return await super().call(message)


async def test_a_vault_that_does_not_answer_in_time_is_not_ready(
    checked: Health, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await checked.check()
    monkeypatch.setattr(health, "VAULT_SECONDS_MAX", 0.01)
    checked._vault = Vault(VaultUnavailable())
    for _ in range(2):
        await checked.ask_vault()
        assert not checked.vault_ready
    assert [(r.getMessage(), r.__dict__["reason"]) for r in caplog.records] == [
        ("vault.unavailable", "the vault does not answer in time")
    ]


async def test_a_busy_vault_is_as_ready_as_it_was(checked: Health) -> None:
    answering = checked._vault
    for ready in (False, True):
        checked._vault = Vault(VaultBusy())
        await checked.ask_vault()
        assert checked.vault_ready is ready
        checked._vault = answering
        await checked.ask_vault()


async def test_that_the_vault_is_gone_is_logged_once_until_it_is_back(
    both: Both, checked: Health, caplog: pytest.LogCaptureFixture
) -> None:
    for token_unavailable, lines in ((True, 1), (True, 1), (False, 1), (True, 2)):
        both.token_unavailable = token_unavailable
        await checked.ask_vault()
        assert len(caplog.records) == lines


async def is_ready(checked: Health) -> bool:
    await checked.check()
    return checked.ready


async def test_a_vault_whose_access_tokens_nobody_takes_here_is_named_by_both_settings(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    checked = Health(InProcessVault(both), both, public_url="https://pins.test")  # type: ignore[arg-type] # as above
    assert await is_ready(checked)
    both.issuer = "https://pins.test/"
    assert not await is_ready(checked)
    assert not await is_ready(checked)
    (problem,) = checked.of_all().problems
    (record,) = caplog.records  # it is logged once
    assert problem.reason == record.__dict__["reason"]
    assert "HSM_TOKEN_ISSUER of the vault is not CMS_PUBLIC_URL" in problem.reason
    assert problem.reason.endswith("; see docs/settings.md")
    assert "https://" not in problem.reason
    both.issuer = "https://pins.test"
    assert await is_ready(checked)


async def test_a_vault_that_issues_no_access_tokens_is_warned_of(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    """Who is known by a certificate alone needs none."""
    checked = Health(InProcessVault(both), both, public_url="https://pins.test")  # type: ignore[arg-type] # as above
    both.issuer = None
    for _ in range(2):
        assert await is_ready(checked)
    assert checked.of_all().warnings == (Fault("vault", health.NONE_ISSUED),)
    (record,) = caplog.records
    assert record.__dict__["reason"] == health.NONE_ISSUED
    both.issuer = "https://pins.test"
    assert await is_ready(checked)
    assert checked.of_all().warnings == ()


async def test_who_takes_no_access_tokens_does_not_ask_who_issues_them(
    both: Both, checked: Health
) -> None:
    both.issuer = None
    await checked.check()
    assert checked.ready
