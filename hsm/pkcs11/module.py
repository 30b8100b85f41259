"""Loading a PKCS#11 module, and initialising it as the binding does not."""

import ctypes
import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Final, Self

from pkcs11 import _pkcs11

from crypto.secret import Secret
from hsm.errors import VaultUnavailable
from hsm.pkcs11.return_values import CKR_ALREADY_INITIALIZED, CKR_OK
from hsm.pkcs11.structures import FunctionList, InitializeArgs
from hsm.settings import HsmTokenSettings

CKF_OS_LOCKING_OK: Final = 2


class LockingLibrary(_pkcs11.lib):
    """The binding's library, initialised so that the module locks its own state."""

    def __new__(cls, module: str, _: str | None = None) -> Self:
        """Load *module*; the binding takes no parameters."""
        return super().__new__(cls, module)  # type: ignore[call-arg]  # the stub has none

    def __init__(self, module: str, parameters: str | None = None) -> None:
        self._parameters = parameters
        super().__init__(module)

    def initialize(self) -> None:
        """Initialise the module; if it is initialised already, finalise it first."""
        module = functions(self.so)
        reserved = None if self._parameters is None else self._parameters.encode()
        arguments = ctypes.byref(InitializeArgs(flags=CKF_OS_LOCKING_OK, reserved=reserved))
        result = module.initialize(arguments)
        if result == CKR_ALREADY_INITIALIZED:
            # An earlier session of this process lost its device: only this restores the link.
            module.finalize(None)
            result = module.initialize(arguments)
        if result != CKR_OK:
            raise VaultUnavailable("the PKCS#11 module did not initialise")


@cache
def functions(module: str) -> FunctionList:
    """Load the PKCS#11 library at the path *module*, once a process, and return its functions."""
    found = ctypes.POINTER(FunctionList)()
    ctypes.CDLL(module).C_GetFunctionList(ctypes.byref(found))
    return found.contents


@contextmanager
def one_at_a_time(settings: HsmTokenSettings) -> Iterator[Secret[str]]:
    """Yield the user PIN while no other process of this machine initialises the HSM token.

    Without this, processes that start together fail now and then inside SoftHSM. The lock is taken
    on the PIN file itself, which all of them can read and none needs to write.

    Raises:
        VaultUnavailable: the PIN file cannot be read, or is not text.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(settings.pin_file.open(encoding="utf-8-sig"))
            fcntl.flock(file, fcntl.LOCK_EX)
            pin = Secret(file.read().rstrip("\r\n"))
        except (OSError, UnicodeDecodeError):
            raise VaultUnavailable("the file with the token PIN cannot be read") from None
        yield pin
