"""A PKCS#11 module in Python, which returns what a test wants."""

import ctypes
from ctypes import POINTER, c_ulong, c_void_p
from typing import Any, Final

from hsm.pkcs11.structures import Function, FunctionList

SESSION: Final = 0x1_0000_0007
"""More than 32 bits hold, as a handle may be."""
FUNCTIONS: Final = [name for name, kind in FunctionList._fields_ if kind is Function]
_WITH_KEY: Final = ctypes.CFUNCTYPE(c_ulong, c_ulong, c_void_p, c_ulong)
_PROTOTYPES: Final = {
    "encrypt_init": _WITH_KEY,
    "decrypt_init": _WITH_KEY,
    "sign_init": _WITH_KEY,
    **dict.fromkeys(
        ("encrypt", "decrypt", "sign"),
        ctypes.CFUNCTYPE(c_ulong, c_ulong, c_void_p, c_ulong, c_void_p, POINTER(c_ulong)),
    ),
    "digest_init": ctypes.CFUNCTYPE(c_ulong, c_ulong, c_void_p),
    "digest_update": _WITH_KEY,
    "digest_key": ctypes.CFUNCTYPE(c_ulong, c_ulong, c_ulong),
    "digest_final": ctypes.CFUNCTYPE(c_ulong, c_ulong, c_void_p, POINTER(c_ulong)),
    "derive_key": ctypes.CFUNCTYPE(
        c_ulong, c_ulong, c_void_p, c_ulong, c_void_p, c_ulong, POINTER(c_ulong)
    ),
    "destroy_object": ctypes.CFUNCTYPE(c_ulong, c_ulong, c_ulong),
    "generate_random": _WITH_KEY,
}
_RESULTS: Final = ("encrypt", "decrypt", "sign", "digest_final")
_FILL: Final = 0xEE


class FakeModule:
    """Does what succeeds with a result of *length_bytes*, and notes its calls.

    Args:
        length_bytes: what it says of the length of each result.
        refused: the return value of functions that do not succeed.
    """

    def __init__(self, length_bytes: int = 16, **refused: int) -> None:
        self.called: list[tuple[str, tuple[Any, ...]]] = []
        self.length_bytes = length_bytes
        self.refused = refused
        self._kept = {name: kind(self._function(name)) for name, kind in _PROTOTYPES.items()}
        self.functions = FunctionList(
            **{name: ctypes.cast(function, Function) for name, function in self._kept.items()}
        )

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.called]

    def _function(self, name: str) -> Any:  # noqa: ANN401 - of any number of arguments
        def function(*given: Any) -> int:  # noqa: ANN401 - as above
            self.called.append((name, given))
            if name in _RESULTS:
                room, length = given[-2:]
                ctypes.memset(room, _FILL, length[0])
                length[0] = self.length_bytes
            elif name == "generate_random":
                ctypes.memset(given[1], _FILL, given[2])
            return self.refused.get(name, 0)

        return function
