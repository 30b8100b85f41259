"""What the ops listener shows as metrics, of this process and of the vault."""

from typing import Any

import httpx
import pytest

from cms.faces.ops import ops_app
from cms.persistence.causes import Cause
from cms.services.health import Health
from hsm import messages
from hsm.errors import VaultUnavailable
from hsm.port import KeyUse
from tests.cms.services.test_health import Both
from tests.in_process_vault import NoVault

pytestmark = pytest.mark.anyio


class Counting(NoVault):
    """A vault that tells what it counted, and fails at all else."""

    async def call(self, message: messages.Verb[Any]) -> Any:  # noqa: ANN401 - of the verb
        match message:
            case messages.KeyUses():
                return [KeyUse("pan-gcm.1", "gcm-invocations", 7, 1000)]
            case messages.Metrics():
                return 'hsm_openings_total{result="opened"} 1.0\n'
        return await super().call(message)


async def shown(vault: NoVault, both: Both) -> str:
    health = Health(vault, both)  # type: ignore[arg-type] # as far as it is asked
    await health.check()
    transport = httpx.ASGITransport(ops_app(health, vault, {}))
    async with httpx.AsyncClient(transport=transport, base_url="http://ops") as ops:
        answer = await ops.get("/metrics")
    assert answer.status_code == 200
    return answer.text


async def test_the_vault_tells_of_its_keys_and_of_what_it_counted() -> None:
    text = await shown(Counting(VaultUnavailable()), Both())
    assert 'cms_key_uses{key="pan-gcm.1",unit="gcm-invocations"} 7.0' in text
    assert 'cms_key_uses_max{key="pan-gcm.1",unit="gcm-invocations"} 1000.0' in text
    assert text.endswith('hsm_openings_total{result="opened"} 1.0\n')


async def test_without_a_vault_there_is_the_rest() -> None:
    both = Both()
    both.unfit = Cause.NOT_REPLICATED
    text = await shown(NoVault(VaultUnavailable()), both)
    assert 'cms_database_cause{cause="NOT_REPLICATED"} 1.0' in text
    assert 'cms_database_cause{cause="READ_ONLY"} 0.0' in text
    assert 'cms_ready{part="vault"} 0.0' in text
    assert "cms_key_uses{" not in text


@pytest.mark.parametrize("seconds", [3600.0, -3600.0, 0.0])
async def test_it_is_shown_by_how_much_the_clocks_differ(seconds: float) -> None:
    both = Both()
    both.clock_difference_seconds = seconds
    text = await shown(NoVault(VaultUnavailable()), both)
    assert f"\ncms_clock_difference_seconds {seconds}\n" in text
