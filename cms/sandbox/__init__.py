"""A program of its own, for trials: the demo, what it needs of a machine, and an issuer's partners.

It is no part of the product: nothing of the service imports it, and no image holds it.
"""

from typing import Final

HANG_SECONDS: Final = 600
"""How long anything of the demo or the tests may take before it is taken for hung.

No shorter limit is set: a machine that is merely busy must not fail. Waits end on what they wait
for, long before. The partners, which import nothing of ours, wait as long.
"""
