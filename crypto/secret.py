"""The one way to hold a clear value, and the one way to read it."""

from typing import Generic, NoReturn, TypeVar

T = TypeVar("T", str, bytes)


class Secret(Generic[T]):
    """Hold a clear value so that it stays out of logs, tracebacks, answers and pickles.

    :meth:`reveal` is the only exit: its callers can be listed, and a test does.
    Two secrets are equal only when they are the same object, so that ``==``
    never tells anybody whether a PIN is right.

    Python cannot wipe memory: the value lives until it is collected, and a
    crash reporter that records local variables would still see it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value: T = value

    def reveal(self) -> T:
        """Return the clear value."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    def __format__(self, format_spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is neither pickled nor copied")
