"""One error of the vault for every failure of a device."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from pkcs11.exceptions import PKCS11Error

from hsm.errors import VaultUnavailable

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


def device_call(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Make *method* raise ``VaultUnavailable`` for every error of the PKCS#11 binding.

    The message is the name of the binding's error, which holds no value.
    """

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except PKCS11Error as error:
            raise VaultUnavailable(type(error).__name__) from None

    return call
