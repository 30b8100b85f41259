"""HTTP as every listener reads it: whoever sends a head without end is cut off."""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX: Final = 64 * 1024
"""Of request line and headers. What is in them may be kept for a while by those who read it."""


class BoundedProtocol(HttpToolsProtocol):
    """Answers a head that is too long with 400 and closes the connection."""

    _head_bytes: int | None = None
    """Read so far of a head that is not complete."""

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that it is complete."""
        self._head_bytes = None
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        super().data_received(data)
        if self._head_bytes is None or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self.send_400_response("The head of the request is too long.")
