"""Loading a PKCS#11 module, and what of its C interface the binding does not give."""

import ctypes
import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Final, Self

from pkcs11 import _pkcs11 as binding

from crypto.secret import Secret
from hsm.errors import VaultUnavailable
from hsm.settings import HsmTokenSettings

CKF_OS_LOCKING_OK: Final = 2
CKR_OK: Final = 0
CKR_ALREADY_INITIALIZED: Final = 0x191

_CFunction = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)
_CEncryptInit = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong)
_CEncrypt = ctypes.CFUNCTYPE(
    ctypes.c_ulong,
    ctypes.c_ulong,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_ulong),
)


class FunctionList(ctypes.Structure):
    """The head of ``CK_FUNCTION_LIST``: a module must export no function but the one for it."""

    _fields_ = (
        ("version", ctypes.c_ubyte * 2),
        ("initialize", _CFunction),
        ("finalize", _CFunction),
        ("_not_used_here", ctypes.c_void_p * 27),
        ("encrypt_init", _CEncryptInit),
        ("encrypt", _CEncrypt),
    )


class _InitializeArgs(ctypes.Structure):
    """``CK_C_INITIALIZE_ARGS`` (PKCS#11 2.40, 3.4)."""

    _fields_ = (
        ("create_mutex", ctypes.c_void_p),
        ("destroy_mutex", ctypes.c_void_p),
        ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_char_p),
    )


class MechanismStruct(ctypes.Structure):
    """``CK_MECHANISM`` (PKCS#11 2.40, 3.5)."""

    _fields_ = (
        ("mechanism", ctypes.c_ulong),
        ("parameter", ctypes.c_void_p),
        ("length", ctypes.c_ulong),
    )


class GcmParams(ctypes.Structure):
    """``CK_GCM_PARAMS`` (PKCS#11 2.40 errata, 2.12.3)."""

    _fields_ = (
        ("nonce", ctypes.c_char_p),
        ("nonce_bytes", ctypes.c_ulong),
        ("nonce_bits", ctypes.c_ulong),
        ("associated_data", ctypes.c_char_p),
        ("associated_data_bytes", ctypes.c_ulong),
        ("tag_bits", ctypes.c_ulong),
    )


class KeyDerivationStringData(ctypes.Structure):
    """``CK_KEY_DERIVATION_STRING_DATA`` (PKCS#11 2.40, 2.43.2)."""

    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_ulong))


class LockingLibrary(binding.lib):
    """The binding's library, initialised so that the module locks its own state."""

    def __new__(cls, module: str, _: str | None = None) -> Self:
        """Load *module*; the binding takes no parameters."""
        return super().__new__(cls, module)  # type: ignore[call-arg]  # the stub has none

    def __init__(self, module: str, parameters: str | None = None) -> None:
        self._parameters = parameters
        super().__init__(module)

    def initialize(self) -> None:
        """Initialise the module; one that is initialised already is started over."""
        module = functions(self.so)
        reserved = None if self._parameters is None else self._parameters.encode()
        arguments = ctypes.byref(_InitializeArgs(flags=CKF_OS_LOCKING_OK, reserved=reserved))
        result = module.initialize(arguments)
        if result == CKR_ALREADY_INITIALIZED:
            # An earlier token of this process lost its link: only starting over heals that.
            module.finalize(None)
            result = module.initialize(arguments)
        if result != CKR_OK:
            raise VaultUnavailable("the PKCS#11 module did not initialise")


@cache
def functions(module: str) -> FunctionList:
    """Return the functions of a module; it stays loaded."""
    found = ctypes.POINTER(FunctionList)()
    ctypes.CDLL(module).C_GetFunctionList(ctypes.byref(found))
    return found.contents


@contextmanager
def one_at_a_time(settings: HsmTokenSettings) -> Iterator[Secret[str]]:
    """Yield the token PIN while no other process of this machine initialises the token.

    Processes that start together otherwise fail now and then inside SoftHSM. The lock is taken
    on the PIN file itself, which all of them can read and none needs to write.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(settings.pin_file.open(encoding="utf-8"))
            fcntl.flock(file, fcntl.LOCK_EX)
            pin = Secret(file.read().rstrip("\r\n"))
        except (OSError, UnicodeDecodeError):
            raise VaultUnavailable("the file with the token PIN cannot be read") from None
        yield pin
