"""The images that say why there is no PIN. Each is drawn once: a failure must cost little."""

import asyncio
from collections import OrderedDict
from typing import Final

from crypto.pin_image import ImageStyle, MessageKind, render_message

IMAGES_MAX: Final = 256
"""Of about 4 kB each. A style is a client's, and a client may ask for any."""


class FailureImages:
    """Keeps the images that were used last; a new one is drawn on a thread of its own."""

    def __init__(self) -> None:
        self._images: OrderedDict[tuple[MessageKind, ImageStyle], bytes] = OrderedDict()

    async def image(self, kind: MessageKind, style: ImageStyle) -> bytes:
        """Return the PNG of a failure in a style."""
        key = kind, style
        png = self._images.get(key)
        if png is None:
            png = await asyncio.to_thread(render_message, kind, style)
            self._images[key] = png
            if len(self._images) > IMAGES_MAX:
                self._images.popitem(last=False)
        else:
            self._images.move_to_end(key)
        return png
