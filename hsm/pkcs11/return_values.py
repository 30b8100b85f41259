"""What a PKCS#11 function returns (``CK_RV``), named as the binding names its errors."""

from collections.abc import Mapping
from typing import Final

from pkcs11 import PKCS11Error, exceptions

CKR_OK: Final = 0
CKR_ALREADY_INITIALIZED: Final = 0x191

#: The errors that a call with a key can return (PKCS#11 2.40, 5.1). The binding has no name for
#: the others, either.
_ERRORS: Final[Mapping[int, type[PKCS11Error]]] = {
    0x02: exceptions.HostMemory,
    0x05: exceptions.GeneralError,
    0x06: exceptions.FunctionFailed,
    0x07: exceptions.ArgumentsBad,
    0x10: exceptions.AttributeReadOnly,
    0x11: exceptions.AttributeSensitive,
    0x12: exceptions.AttributeTypeInvalid,
    0x13: exceptions.AttributeValueInvalid,
    0x20: exceptions.DataInvalid,
    0x21: exceptions.DataLenRange,
    0x30: exceptions.DeviceError,
    0x31: exceptions.DeviceMemory,
    0x32: exceptions.DeviceRemoved,
    0x40: exceptions.EncryptedDataInvalid,
    0x41: exceptions.EncryptedDataLenRange,
    0x50: exceptions.FunctionCancelled,
    0x54: exceptions.FunctionNotSupported,
    0x60: exceptions.KeyHandleInvalid,
    0x62: exceptions.KeySizeRange,
    0x63: exceptions.KeyTypeInconsistent,
    0x67: exceptions.KeyIndigestible,
    0x70: exceptions.MechanismInvalid,
    0x71: exceptions.MechanismParamInvalid,
    0x82: exceptions.ObjectHandleInvalid,
    0x90: exceptions.OperationActive,
    0x91: exceptions.OperationNotInitialized,
    0xA3: exceptions.PinExpired,
    0xB0: exceptions.SessionClosed,
    0xB3: exceptions.SessionHandleInvalid,
    0xB5: exceptions.SessionReadOnly,
    0xD0: exceptions.TemplateIncomplete,
    0xD1: exceptions.TemplateInconsistent,
    0xE0: exceptions.TokenNotPresent,
    0xE1: exceptions.TokenNotRecognised,
    0xE2: exceptions.TokenWriteProtected,
    0x101: exceptions.UserNotLoggedIn,
    0x121: exceptions.RandomNoRNG,
    0x130: exceptions.DomainParamsInvalid,
    0x1C4: exceptions.PublicKeyInvalid,
    0x200: exceptions.FunctionRejected,
}
#: What ``C_Initialize`` may return (5.4), for which the binding has no names.
_OF_INITIALIZE: Final[Mapping[int, str]] = {
    0x02: "CKR_HOST_MEMORY",
    0x05: "CKR_GENERAL_ERROR",
    0x06: "CKR_FUNCTION_FAILED",
    0x07: "CKR_ARGUMENTS_BAD",
    0x09: "CKR_NEED_TO_CREATE_THREADS",
    0x0A: "CKR_CANT_LOCK",
}


def initialize_name_of(result: int) -> str:
    """Name what ``C_Initialize`` returned.

    >>> initialize_name_of(0x0A), initialize_name_of(0x80000001)
    ('CKR_CANT_LOCK', '0x80000001')
    """
    return _OF_INITIALIZE.get(result, f"0x{result:X}")


def name_of(result: int) -> str:
    """Name a return value that is not ``CKR_OK``; the name holds no value.

    >>> name_of(0x32), name_of(0x68)
    ('DeviceRemoved', 'PKCS11Error')
    """
    return _ERRORS.get(result, PKCS11Error).__name__
