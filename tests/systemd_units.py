"""What systemd gives the programs of the units in ``deploy/systemd``, from the units' own lines."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
UNITS: Final = ROOT / "deploy" / "systemd"
ETC: Final = "/etc/pins/"


@dataclass(frozen=True)
class Unit:
    """A unit as it is started: its template's file, its instance, and its drop-ins."""

    name: str
    """As ``pins-web@d1.service``."""
    drop_ins: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        template = re.sub(r"@.*(?=\.service)", "@", self.name)
        return (UNITS / template, *(UNITS / each for each in self.drop_ins))

    @property
    def credentials(self) -> str:
        """The directory that ``%d`` stands for."""
        return f"/run/credentials/{self.name}"

    def given(self, setting: str) -> Iterator[str]:
        """Yield the values of a line, as of ``EnvironmentFile``, in the order of the files."""
        _, _, instance = self.name.removesuffix(".service").partition("@")
        for file in self.files:
            for value in re.findall(rf"^{setting}=(.*)$", file.read_text(), re.MULTILINE):
                yield value.replace("%i", instance).replace("%d", self.credentials)

    def environment(self) -> dict[str, str]:
        """Return the environment of the program: what a file says wins, as systemd has it."""
        words = [word for line in self.given("Environment") for word in shlex.split(line)]
        environment = dict(word.split("=", 1) for word in words)
        for file in self.given("EnvironmentFile"):
            environment |= variables(example_of(file))
        return environment


VAULT: Final = Unit("pins-vault.service")
TRIAL_VAULT: Final = Unit("pins-vault.service", ("pins-vault-trial.conf",))
D1: Final = Unit("pins-web@d1.service", ("pins-web@d1.service.d/credentials.conf",))
CARDHOLDER: Final = Unit(
    "pins-web@cardholder.service", ("pins-web@cardholder.service.d/credentials.conf",)
)


def example_of(file: str) -> Path:
    """Return the example of a file of settings, as of ``/etc/pins/web.env``."""
    return UNITS / f"{file.removeprefix(ETC)}.example"


def variables(example: Path) -> dict[str, str]:
    """Return what a file of settings sets."""
    lines = example.read_text().splitlines()
    words = [word for line in lines for word in shlex.split(line, comments=True)]
    return dict(word.split("=", 1) for word in words)
