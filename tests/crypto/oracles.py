"""Other implementations, psec and pyemv, asked for a second opinion."""

import pytest

# Both take TDES from where the cryptography library no longer wants it taken from.
takes_tdes_the_old_way = pytest.mark.filterwarnings(
    "ignore::cryptography.utils.CryptographyDeprecationWarning"
)
