"""What the service answers the script of a page with."""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

HOST: Final = "https://cards.example"
CONTROL_TOKEN: Final = "100a99cf-f4d3-8fa1-9be9-2e9828b20ebb"  # noqa: S105 - an example
SESSION: Final = "100aq5Kk0t1M3sB7yV2wJx8cRz4nLh6pQd9fGgT0aUeWi1o"
MEMBER_CHARS_MAX: Final = 8192
"""A session is 47 characters, a control token 36, a JWE at most 8192."""
Seconds = Annotated[int, Meta(ge=0, examples=[600])]


class Hidden(msgspec.Struct):
    """What is answered and holds a secret."""

    def __repr__(self) -> str:
        """Show no member."""
        return f"{type(self).__name__}(…)"


class PageOpening(Hidden, rename="camel", kw_only=True):
    """A page session, and what the page must know: grant, card, rules for PINs, the vault's key."""

    session: Annotated[str, Meta(min_length=47, max_length=47, examples=[SESSION])]
    grant_id: Annotated[str, Meta(min_length=1, examples=["ZkqXo3wUQ0y3vE5lq0yCkA"])]
    last_four: Annotated[str, Meta(pattern="^[0-9]{4}$", examples=["1111"])]
    expires_in_seconds: Seconds
    warn_seconds: Annotated[int, Meta(ge=0, examples=[20])]
    digits_min: Annotated[int, Meta(ge=4, le=12, examples=[4])]
    digits_max: Annotated[int, Meta(ge=4, le=12, examples=[4])]
    refuse_repeated: Annotated[bool, Meta(examples=[True])]
    refuse_runs: Annotated[bool, Meta(examples=[True])]
    key: Annotated[
        Mapping[str, str],
        Meta(
            description="The vault's key of role page, a JWK.",
            examples=[{"kty": "EC", "crv": "P-256", "x": "…", "y": "…", "kid": "…", "use": "enc"}],
        ),
    ]


class Extended(msgspec.Struct, rename="camel"):
    """What a session has left."""

    expires_in_seconds: Seconds
