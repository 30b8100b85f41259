"""API dialects. A face does not import another."""

from typing import Final

NAMES: Final = ("d1", "hosted", "pincontrol", "ops")
"""Of the faces, as operators type them."""
