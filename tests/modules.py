"""The PKCS#11 modules that tests run on here, and for each the fixture of its HSM token."""

from collections.abc import Mapping
from typing import Final

from tests import opencryptoki

MODULES: Final[Mapping[str, str]] = {
    "SoftHSM2": "hsm_token",
    "NSS softoken": "second_hsm_token",
    **({} if opencryptoki.why_not() else {"opencryptoki": "third_hsm_token"}),
}
