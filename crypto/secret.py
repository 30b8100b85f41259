"""The type that holds every clear PIN, PAN, key and credential."""

from typing import Generic, NoReturn, TypeVar

T = TypeVar("T", str, bytes)


class Secret(Generic[T]):
    """A clear value that must not reach a log, a traceback, an answer or a pickle.

    :meth:`reveal` is the only way to read it, and a test keeps it out of ``cms``. Two secrets are
    equal only if they are the same object, so ``==`` never tells whether a PIN is right.

    >>> secret = Secret("1234")
    >>> print(secret, [secret], f"{secret:>20}")
    Secret(***) [Secret(***)] Secret(***)
    >>> secret == Secret("1234")
    False

    Python cannot wipe memory: the value stays there until it is collected, and a crash reporter
    that records local variables can still see it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value: T = value

    def reveal(self) -> T:
        """Return the clear value. Only ``crypto`` and ``hsm`` may call this."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    def __format__(self, format_spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is neither pickled nor copied")
