"""How many PINs may be handed out to cardholders, and set from pages, within a day (UTC)."""

from typing import Annotated

from pydantic import Field

from hsm.manifest.body import Body

HandOutsMax = Annotated[int, Field(ge=1, le=10_000_000)]


class LimitsBody(Body):
    """Limits of a day, which each vault host counts for itself.

    An image, digits for a page, and a PIN that is set from a page are one each.
    """

    handouts_card_day_max: HandOutsMax = 20
    """Of one card."""
    handouts_client_day_max: HandOutsMax = 20_000
    """To one client, over all cards."""
    handouts_issuer_day_max: HandOutsMax = 50_000
    """To all clients of the issuer."""
