"""Loading a PKCS#11 module, and the calls to it that the binding does not do well."""

import ctypes
import fcntl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, Final, Self

from pkcs11 import Mechanism, _pkcs11
from pkcs11.exceptions import (
    MultipleTokensReturned,
    NoSuchToken,
    TokenNotPresent,
    TokenNotRecognised,
)

from crypto.secret import Secret
from hsm.errors import VaultUnavailable
from hsm.pkcs11.device_info import DeviceInfo
from hsm.pkcs11.hsm_token import GCM_TAG_BYTES
from hsm.settings import HsmTokenSettings

CKF_LIBRARY_CANT_CREATE_OS_THREADS: Final = 1
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
    """The head of ``CK_FUNCTION_LIST``, up to ``C_Encrypt`` (PKCS#11 2.40, 3.6)."""

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


class _MechanismStruct(ctypes.Structure):
    """``CK_MECHANISM`` (PKCS#11 2.40, 3.5)."""

    _fields_ = (
        ("mechanism", ctypes.c_ulong),
        ("parameter", ctypes.c_void_p),
        ("length", ctypes.c_ulong),
    )


class _GcmParams(ctypes.Structure):
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


class LockingLibrary(_pkcs11.lib):
    """The binding's library, initialised so that the module locks its own state.

    Args:
        module: the path of the library.
        parameters: ``pReserved`` of ``CK_C_INITIALIZE_ARGS``.
        flags: of the same.
    """

    def __new__(cls, module: str, _: str | None = None, __: int = 0) -> Self:
        """Load *module*; the binding takes no parameters."""
        return super().__new__(cls, module)  # type: ignore[call-arg]  # the stub has none

    def __init__(
        self, module: str, parameters: str | None = None, flags: int = CKF_OS_LOCKING_OK
    ) -> None:
        self._parameters = parameters
        self._flags = flags
        super().__init__(module)

    def initialize(self) -> None:
        """Initialise the module; if it is initialised already, finalise it first."""
        module = functions(self.so)
        reserved = None if self._parameters is None else self._parameters.encode()
        arguments = ctypes.byref(_InitializeArgs(flags=self._flags, reserved=reserved))
        result = module.initialize(arguments)
        if result == CKR_ALREADY_INITIALIZED:
            # An earlier session of this process lost its device: only this restores the link.
            module.finalize(None)
            result = module.initialize(arguments)
        if result != CKR_OK:
            raise VaultUnavailable("the PKCS#11 module did not initialise")


def encrypt_gcm(
    module: str, session_handle: int, key_handle: int, nonce: bytes, plaintext: bytes
) -> bytes:
    """Encipher with AES-GCM and return the ciphertext and its 16-byte tag.

    Not through the binding: it makes room for as many bytes as the device first says, and there
    are devices that leave out the tag.

    Raises:
        VaultUnavailable: the device refuses.
    """
    parameters = _GcmParams(nonce, len(nonce), 8 * len(nonce), None, 0, 8 * GCM_TAG_BYTES)
    mechanism = _MechanismStruct(
        Mechanism.AES_GCM, ctypes.addressof(parameters), ctypes.sizeof(parameters)
    )
    out = ctypes.create_string_buffer(len(plaintext) + GCM_TAG_BYTES)
    size = ctypes.c_ulong(len(out))
    calls = functions(module)
    if (
        calls.encrypt_init(session_handle, ctypes.addressof(mechanism), key_handle) != CKR_OK
        or calls.encrypt(session_handle, plaintext, len(plaintext), out, ctypes.byref(size))
        != CKR_OK
    ):
        raise VaultUnavailable("the token did not encipher")
    return out.raw[: size.value]


def load(settings: HsmTokenSettings) -> LockingLibrary:
    """Load and initialise the module that *settings* name.

    Raises:
        VaultUnavailable: it did not initialise.
        PKCS11Error, OSError, RuntimeError: it is none.
    """
    flags = CKF_OS_LOCKING_OK if settings.module_locks else 0
    if not settings.module_may_make_threads:
        flags |= CKF_LIBRARY_CANT_CREATE_OS_THREADS
    return LockingLibrary(str(settings.module), settings.module_parameters, flags)


def find_token(library: LockingLibrary, names: Sequence[tuple[str, str]]) -> Any:  # noqa: ANN401
    """Return the one HSM token that has all of *names*, attributes of RFC 7512.

    Raises:
        NoSuchToken: none has.
        MultipleTokensReturned: several have.
        PKCS11Error: the module does not answer.
    """
    found = []
    for slot in library.get_slots(token_present=True):
        try:
            token = slot.get_token()
        except (TokenNotPresent, TokenNotRecognised):
            continue  # it was taken away, or is none
        if _has(token, slot, library, names):
            found.append(token)
    if not found:
        raise NoSuchToken
    if len(found) > 1:
        raise MultipleTokensReturned
    return found[0]


def _has(
    token: Any,  # noqa: ANN401 - the binding has no types
    slot: Any,  # noqa: ANN401 - as above
    library: Any,  # noqa: ANN401 - as above
    names: Sequence[tuple[str, str]],
) -> bool:
    device = DeviceInfo.of(token)
    values = {
        "token": device.label,
        "manufacturer": device.manufacturer,
        "serial": device.serial,
        "model": device.model,
        "slot-id": str(slot.slot_id),
        "slot-description": slot.slot_description.strip(" \0"),
        "slot-manufacturer": slot.manufacturer_id.strip(" \0"),
        "library-manufacturer": library.manufacturer_id.strip(" \0"),
        "library-description": library.library_description.strip(" \0"),
        "library-version": ".".join(map(str, library.library_version)),
    }
    return all(values[name] == value for name, value in names)


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
