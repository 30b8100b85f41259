"""How often keys were used at a host, whatever the vault runs in."""

from hsm.counts import Counts
from hsm.port import KeyUse
from tests.contracts.issuer import Host
from tests.operators import now


def test_uses_are_told_as_all_processes_of_the_host_counted_them(host: Host) -> None:
    there = host.another()
    assert there.vault.key_uses() == []
    pvk, values = "pvk@testbank01.g1", "values.g1"
    for uses in (3, 4):
        Counts(there.directory, now).add_key_uses(
            {(values, "gcm-invocations"): uses, (pvk, "tdes-blocks"): 2 * uses}
        )
    assert there.vault.key_uses() == [
        KeyUse(pvk, "tdes-blocks", 14, 2**20),
        KeyUse(values, "gcm-invocations", 7, 2**32),
    ]
    assert there.reopened().vault.key_uses() == there.vault.key_uses()
    assert host.another().vault.key_uses() == []
