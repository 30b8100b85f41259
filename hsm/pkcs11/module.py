"""Loading a PKCS#11 module, and initialising it as the binding does not."""

import ctypes
import fcntl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, Final, Self

from pkcs11 import _pkcs11
from pkcs11.exceptions import (
    MultipleTokensReturned,
    NoSuchToken,
    PKCS11Error,
    TokenNotPresent,
    TokenNotRecognised,
)

from crypto.secret import Secret
from hsm.errors import VaultUnavailable
from hsm.pkcs11.device_info import DeviceInfo
from hsm.pkcs11.return_values import CKR_ALREADY_INITIALIZED, CKR_OK, initialize_name_of
from hsm.pkcs11.structures import FunctionList, InitializeArgs
from hsm.setting_faults import file_fault, with_page
from hsm.settings import HsmTokenSettings

CKF_LIBRARY_CANT_CREATE_OS_THREADS: Final = 1
CKF_OS_LOCKING_OK: Final = 2


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
        arguments = ctypes.byref(InitializeArgs(flags=self._flags, reserved=reserved))
        result = module.initialize(arguments)
        if result == CKR_ALREADY_INITIALIZED:
            # An earlier session of this process lost its device: only this restores the link.
            module.finalize(None)
            result = module.initialize(arguments)
        if result != CKR_OK:
            text = f"the PKCS#11 module did not initialise: {initialize_name_of(result)}"
            raise VaultUnavailable(text)


def load(settings: HsmTokenSettings) -> LockingLibrary:
    """Load and initialise the module that *settings* name.

    Raises:
        VaultUnavailable: it is none, or did not initialise.
        PKCS11Error: it does not answer.
    """
    flags = CKF_OS_LOCKING_OK if settings.module_locks else 0
    if not settings.module_may_make_threads:
        flags |= CKF_LIBRARY_CANT_CREATE_OS_THREADS
    text = settings.variable("module") + ": no PKCS#11 library can be loaded from there"
    try:
        return LockingLibrary(str(settings.module), settings.module_parameters, flags)
    except PKCS11Error as error:
        if type(error) is not PKCS11Error:  # a return value of the module
            raise
        raise VaultUnavailable(with_page(text)) from None
    except (OSError, RuntimeError):
        raise VaultUnavailable(with_page(text)) from None


def token_of(settings: HsmTokenSettings, library: LockingLibrary) -> Any:  # noqa: ANN401
    """Return the one HSM token that *settings* name.

    Raises:
        VaultUnavailable: there is none, or there are several.
        PKCS11Error: the module does not answer.
    """
    name = settings.variable("token_label")
    try:
        return find_token(library, settings.token_names)
    except NoSuchToken:
        text = name + ": no token has it; name one that is there, and connect its device"
    except MultipleTokensReturned:
        text = name + ": several tokens have it; HSM_URI can name more of one"
    raise VaultUnavailable(with_page(text))


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
        VaultUnavailable: the PIN file cannot be read, is not text, or is for every user.
    """
    name = settings.variable("pin_file")
    wrong = file_fault(name, settings.pin_file, is_secret=True)
    if wrong is not None:
        raise VaultUnavailable(wrong)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(settings.pin_file.open(encoding="utf-8-sig"))
            fcntl.flock(file, fcntl.LOCK_EX)
            pin = Secret(file.read().rstrip("\r\n"))
        except (OSError, UnicodeDecodeError):
            text = name + ": the file with the token PIN cannot be read"
            raise VaultUnavailable(with_page(text)) from None
        yield pin
