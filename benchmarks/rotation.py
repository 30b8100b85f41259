"""What a rotation costs those who set PINs meanwhile: one worker of the vault, which follows.

In turns: calls with no new table, and as many with one that comes in the midst and makes another
key of role ``pin`` active. The worker finds the keys of the HSM token anew at its next call; the
one that takes the table is another.
"""

import sys
import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Final

from benchmarks.deployment import Issuer, directory_and_hsm_token, make_issuer
from benchmarks.floors import set_one_pin
from benchmarks.measure import heading, machine
from benchmarks.operators import Operators
from hsm.local import vault_over
from hsm.manifest.generation_table import State
from hsm.pkcs11 import own_keys
from hsm.pkcs11.keys import OWN_ROLES, KeyLabel, KeyRole
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import VaultSettings
from hsm.vault import Vault

ROUNDS: Final = 9
CALLS: Final = 400
SEALING: Final = (KeyRole.PIN, KeyRole.PIN_MAC)


def latencies_ms(vault: Vault, issuer: Issuer, midway: Callable[[], None]) -> list[float]:
    """Set a PIN again and again; *midway* happens between two calls."""
    taken = []
    for number in range(CALLS):
        if number == CALLS // 2:
            midway()
        started = time.perf_counter()
        set_one_pin(vault, issuer)
        taken.append(1e3 * (time.perf_counter() - started))
    return taken


def states_of(active: int) -> dict[KeyLabel, State]:
    """Return the states where this generation of role ``pin`` is active and the other opens."""
    states = {KeyLabel(role, 1): State.ACTIVE for role in OWN_ROLES}
    for role in SEALING:
        for generation in (1, 2):
            is_active = generation == active
            states[KeyLabel(role, generation)] = State.ACTIVE if is_active else State.DECRYPT_ONLY
    return states


def measure(hsm_token: Pkcs11Token, issuer: Issuer, operators: Operators) -> None:
    """Measure in turns, and print medians of the rounds."""
    vault, other = (vault_over(hsm_token, VaultSettings()) for _ in range(2))
    list(own_keys.create(hsm_token, [KeyLabel(role, 2) for role in SEALING]))
    loads_ms: list[float] = []

    def load() -> None:
        version = len(loads_ms) + 1
        text = operators.generations(version, states_of(1 + version % 2), *SEALING)
        started = time.perf_counter()
        other.load_generations(text)
        loads_ms.append(1e3 * (time.perf_counter() - started))

    load()
    rows: dict[str, list[list[float]]] = {"no new table": [], "a new table": []}
    for _ in range(ROUNDS):
        rows["no new table"].append(latencies_ms(vault, issuer, lambda: None))
        rows["a new table"].append(latencies_ms(vault, issuer, load))
    print(f"{'set_pin_from_jwe, ms':<24}{'p50':>8}{'p99':>8}{'slowest':>10}")
    for name, rounds in rows.items():
        p50, p99 = (median(quantiles(one, n=100)[at] for one in rounds) for at in (49, 98))
        print(f"{name:<24}{p50:>8.2f}{p99:>8.2f}{median(map(max, rounds)):>10.2f}")
    print(f"{'load_generations, ms':<24}{median(loads_ms):>8.2f}")


def main() -> int:
    """Measure and print."""
    heading(f"Rotation · {machine()}")
    with directory_and_hsm_token() as (directory, hsm_token):
        issuer = make_issuer(directory, hsm_token, "https://localhost")
        operators = Operators()
        operators.be_trusted(directory)
        measure(hsm_token, issuer, operators)
    return 0


if __name__ == "__main__":
    sys.exit(main())
