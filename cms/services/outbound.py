"""Our own calls: to a second deployment, over TLS."""

import logging
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import httpx

#: How a connection says that it waits: no failure, and in the context of every timeout.
WAITING: Final = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
#: OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
NAME_MISMATCHES: Final = (62, 64)
CAUSES: Final[Mapping[type[BaseException], str]] = {
    ConnectionRefusedError: "connection refused",
    ConnectionResetError: "connection reset",
    socket.gaierror: "the name has no address",
    TimeoutError: "timeout",
    httpx.TimeoutException: "timeout",
}
log = logging.getLogger(__name__)


def http_client(ca_file: Path | None) -> httpx.AsyncClient:
    """Make the client for all of them. No proxy of the environment stands between.

    Args:
        ca_file: the certificate authorities that are trusted, PEM, and no others; None: the public
            ones.

    Raises:
        OSError: the file cannot be read, or holds no certificate (``ssl.SSLError``).
    """
    if ca_file is None:
        return httpx.AsyncClient(trust_env=False)
    context = ssl.create_default_context(cafile=ca_file)
    # As later versions of Python do: a CA that is named need not be a root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return httpx.AsyncClient(trust_env=False, verify=context)


class Reachability:
    """Says in the log when a partner's unavailability begins, changes its cause, or ends.

    It is one line each time, however many calls fail.
    """

    def __init__(self, partner: str) -> None:
        self._begins, self._ends = f"{partner}.unavailable", f"{partner}.available_again"
        self._cause: str | None = None

    def failed(self, error: BaseException) -> None:
        """Note a call that failed with *error*."""
        cause = cause_of(error)
        if cause != self._cause:
            log.error(self._begins, extra={"reason": cause})
        self._cause = cause

    def answered(self) -> None:
        """Note a call that was answered."""
        if self._cause is not None:
            log.warning(self._ends)
        self._cause = None


def cause_of(error: BaseException) -> str:
    """Name the cause of a call's failure, without host name or address.

    >>> cause_of(TimeoutError())
    'timeout'
    """
    for each in _causes(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            if each.verify_code in NAME_MISMATCHES:
                return "the certificate is for another name"
            return f"certificate verify failed: {each.verify_message}"
        if isinstance(each, ssl.SSLError):
            return f"TLS: {each.reason or 'no handshake'}"
        for kind, cause in CAUSES.items():
            if isinstance(each, kind):
                return cause
    said = str(error) if isinstance(error, AnswerUnusableError) else ""
    return said or type(error).__name__


class AnswerUnusableError(Exception):
    """A partner answered, but not what it should; the message says what, and no value."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """List the causes of an error, the first one first, and the error itself at last.

    A wait is none of them.
    """
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each)
    inner = error.__cause__ or error.__context__
    if inner is not None:
        yield from _causes(inner)
    if not isinstance(error, WAITING):
        yield error
