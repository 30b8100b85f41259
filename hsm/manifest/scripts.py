"""EMV issuer scripts: how a new PIN gets onto a chip card."""

from typing import Annotated, Literal

from pydantic import Field

from hsm.manifest.body import Body
from hsm.manifest.verification import Generation


class ScriptsBody(Body):
    """What the chip application of the issuer's cards expects (:mod:`hsm.scripts`)."""

    scheme: Literal["mastercard", "ccd"]
    """How the block is padded."""
    card_key: Literal["a", "b"] = "a"
    """The option by which card keys are derived (EMV 4.3, Book 2, A1.4)."""
    mac_transaction: Literal["atc-arqc", "none"] = "atc-arqc"
    """What the MAC covers between header and data, and the command does not hold."""
    mac_bytes: Annotated[int, Field(ge=4, le=8)] = 8
    """How many bytes of the MAC are sent."""
    smc_generation: Generation = 1
    """Of the issuer's key of role ``smc``, for confidentiality."""
    smi_generation: Generation = 1
    """Of the issuer's key of role ``smi``, for integrity."""
    builds_card_day_max: Annotated[int, Field(ge=1, le=1000)] = 10
    """Scripts that a vault host builds for a card within a day (UTC)."""
