"""The PIN policy: which PINs an issuer takes, how many failures, and whether a page shows text."""

from functools import cached_property
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator

from crypto.weak_pins import PinPolicy
from hsm.manifest.body import Body


class PolicyBody(Body):
    """The PIN policy; lengths are in digits. D1's SDK lets a cardholder enter 4 to 8 digits."""

    length_min: Annotated[int, Field(ge=4, le=12)] = 4
    """The shortest PIN."""
    length_max: Annotated[int, Field(ge=4, le=12)] = 8
    """The longest PIN that D1 may send."""
    page_length_max: int = Field(default_factory=lambda others: others["length_min"])
    """The longest PIN that a page of ours takes; the default is ``length_min``: one length only."""
    refuse_repeated: bool = True
    """Whether a PIN of one digit, repeated, is refused."""
    refuse_runs: bool = True
    """Whether a PIN whose digits go up or down by one is refused."""
    text_reveal: bool = False
    """Whether a page may get the digits as text, to show or to speak them."""
    failures_card_max: Annotated[int, Field(ge=1, le=100)] = 5
    """Failures of a card's PINs from D1 within 24 hours, from which on it takes none in that form:
    ISO-0 blocks for another PAN; SECCOS payloads whose MAC is right and whose block or PRW is
    wrong. So it is with blocks of a server or a device that are none of format 1."""
    refusals_card_max: Annotated[int, Field(ge=1, le=100)] = 20
    """PINs that this policy refuses, in ISO-0 blocks for the card's PAN, within 24 hours, from
    which on the card takes no ISO-0. A cardholder may well try some. The same of format 1."""
    failures_client_max: Annotated[int, Field(ge=1, le=1000)] = 60
    """Failures of a client within 60 seconds, over all cards, from which on it gets 429 for PINs in
    that form: ISO-0 blocks for another PAN; SECCOS payloads whose MAC is wrong; blocks that are
    none of format 1."""

    @field_validator("page_length_max")
    @classmethod
    def _is_between_the_others(cls, digits: int, info: ValidationInfo) -> int:
        # Others that are wrong themselves are not there.
        least, most = info.data.get("length_min", digits), info.data.get("length_max", digits)
        if not least <= digits <= most:
            raise ValueError("not between length_min and length_max")
        return digits

    @model_validator(mode="after")
    def _is_a_policy(self) -> "PolicyBody":
        self.for_d1  # noqa: B018 - raises ValueError when the lengths do not fit
        return self

    @cached_property
    def for_d1(self) -> PinPolicy:
        """The rules for PINs that D1 sends, as :func:`crypto.weak_pins.check` takes them."""
        return self._up_to(self.length_max)

    @cached_property
    def for_pages(self) -> PinPolicy:
        """The rules for PINs from our pages, as :func:`crypto.weak_pins.check` takes them."""
        return self._up_to(self.page_length_max)

    def _up_to(self, length_max: int) -> PinPolicy:
        return PinPolicy(self.length_min, length_max, self.refuse_repeated, self.refuse_runs)
