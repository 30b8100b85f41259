"""How a PKCS#11 module is initialised, and how one HSM token is told from others behind it."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pkcs11.exceptions import MultipleTokensReturned, NoSuchToken, TokenNotPresent

from hsm.errors import VaultUnavailable
from hsm.pkcs11 import module
from hsm.pkcs11.module import LockingLibrary, find_token
from hsm.pkcs11.structures import InitializeArgs
from hsm.settings import HsmTokenSettings

OS_LOCKING_OK, CANT_CREATE_OS_THREADS = 2, 1
SETTINGS = HsmTokenSettings(module=Path("m.so"), token_label="pins", pin_file=Path("p"))


@pytest.mark.parametrize(
    ("changes", "flags", "reserved"),
    [
        ({}, OS_LOCKING_OK, None),
        ({"module_parameters": "configdir=a"}, OS_LOCKING_OK, b"configdir=a"),
        ({"module_locks": False}, 0, None),
        ({"module_may_make_threads": False}, OS_LOCKING_OK | CANT_CREATE_OS_THREADS, None),
        ({"module_locks": False, "module_may_make_threads": False}, CANT_CREATE_OS_THREADS, None),
    ],
)
def test_a_module_is_initialised_as_the_settings_say(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], flags: int, reserved: bytes | None
) -> None:
    got: list[tuple[int, bytes | None]] = []

    def initialize(arguments: Any) -> int:  # noqa: ANN401 - what ctypes.byref makes
        told = arguments._obj
        assert isinstance(told, InitializeArgs)
        got.append((told.flags, told.reserved))
        return 0

    monkeypatch.setattr(module, "functions", lambda _: SimpleNamespace(initialize=initialize))
    made: list[tuple[object, ...]] = []

    class Library:
        so = "m.so"

        def __init__(self, *arguments: object) -> None:
            made.append(arguments)
            self._parameters, self._flags = arguments[1:]
            LockingLibrary.initialize(self)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "LockingLibrary", Library)
    module.load(SETTINGS.model_copy(update=changes))
    assert got == [(flags, reserved)]
    assert made[0][0] == "m.so"


def test_a_module_that_does_not_initialise_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = SimpleNamespace(initialize=lambda _: 0x0A)
    monkeypatch.setattr(module, "functions", lambda _: refusing)
    library = SimpleNamespace(so="m.so", _parameters=None, _flags=OS_LOCKING_OK)
    with pytest.raises(VaultUnavailable, match=r"did not initialise: CKR_CANT_LOCK$"):
        LockingLibrary.initialize(library)  # type: ignore[arg-type]


@dataclass
class Token:
    label: str
    serial: bytes
    manufacturer_id: str = "Vendor"
    model: str = "Model 1"


@dataclass
class Slot:
    slot_id: int
    token: Token | None
    slot_description: str = "Slot       "
    manufacturer_id: str = "Maker"

    def get_token(self) -> Token:
        if self.token is None:
            raise TokenNotPresent
        return self.token


class Library:
    manufacturer_id = "Vendor"
    library_description = "Library"
    library_version = (2, 6)

    def __init__(self, *slots: Slot) -> None:
        self.slots = slots

    def get_slots(self, **_: object) -> tuple[Slot, ...]:
        return self.slots


FIRST, SECOND = Token("pins", b"00A7"), Token("pins", b"00A8")
LIBRARY: Any = Library(
    Slot(0, None), Slot(3, FIRST), Slot(4, SECOND, "Other"), Slot(5, Token("", b""))
)


@pytest.mark.parametrize(
    ("names", "token"),
    [
        ((("serial", "00A7"),), FIRST),
        ((("token", "pins"), ("serial", "00A8")), SECOND),
        ((("slot-id", "4"),), SECOND),
        ((("slot-description", "Slot"), ("token", "pins")), FIRST),
        (
            (
                *(("manufacturer", "Vendor"), ("model", "Model 1"), ("slot-manufacturer", "Maker")),
                *(("library-manufacturer", "Vendor"), ("library-description", "Library")),
                *(("library-version", "2.6"), ("serial", "00A7")),
            ),
            FIRST,
        ),
    ],
)
def test_a_token_is_found_by_all_that_is_said_of_it(
    names: tuple[tuple[str, str], ...], token: Token
) -> None:
    assert find_token(LIBRARY, names) is token


@pytest.mark.parametrize(
    "names",
    [
        (("token", "pins2"),),
        (("token", "pin"),),
        (("serial", "00A7"), ("slot-id", "4")),
        (("library-version", "2"), ("serial", "00A7")),
        (("slot-id", "0"),),
    ],
)
def test_no_other_token_is_taken_for_it(names: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(NoSuchToken):
        find_token(LIBRARY, names)


@pytest.mark.parametrize("names", [(("token", "pins"),), (("model", "Model 1"),), ()])
def test_of_two_that_fit_none_is_taken(names: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(MultipleTokensReturned):
        find_token(LIBRARY, names)
