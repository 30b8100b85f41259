"""The tutorial, walked from its first command to its last in a copy of the tree."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import FrameLocator, Page, sync_playwright

from cms.sandbox import HANG_SECONDS
from tests.browser.chromium import launch, new_context
from tests.deployment import ROOT, lengthen_control_tokens, stop, wait_for, without_settings

PAGE: Final = (ROOT / "docs" / "tutorial.md").read_text()
SECTION: Final = re.compile(r"^## (\d+)\. [^\n]*\n(.*?)(?=^## )", re.DOTALL | re.MULTILINE)
BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TYPED: Final = re.compile(r"[Tt]ype `(\d+)`")
PARTS: Final = ("cms", "crypto", "hsm", "migrations", "pyproject.toml")
DEMO: Final = [sys.executable, "-u", "-m", "cms.sandbox", "demo"]


@dataclass
class Reader:
    """Somebody who reads the tutorial at a terminal and in a browser."""

    directory: Path
    demo: subprocess.Popen[bytes]
    page: Page

    def do(self, block: str, typed: str) -> str:
        """Type the commands of a block; return what they print."""
        printed = ""
        for command in block.splitlines():
            if command == ". .venv/bin/activate":
                continue
            words = command.replace("python ", f"{sys.executable} ", 1)
            done = subprocess.run(
                words,
                shell=True,
                cwd=self.directory,
                env=without_settings(),
                input=typed + "\n",
                capture_output=True,
                text=True,
                timeout=HANG_SECONDS,
                check=False,
            )
            printed += done.stdout + done.stderr
        return printed

    def see_the_image(self) -> None:
        (address,) = re.findall(r"^  (https://\S+/)$", self._said(), re.MULTILINE)
        self.page.goto(address)
        self._press("Show PIN", within="section[aria-labelledby=show-title]")
        self._press("Hide")

    def set_on_the_hosted_page(self) -> None:
        self._press("Set PIN here")
        self._fill("9350")
        self.page.frame_locator("iframe").get_by_role("button", name="Set PIN").click()
        self.page.get_by_text("The page has closed").wait_for()

    def see_and_set_in_an_iframe(self) -> None:
        group = "[role=group][aria-labelledby=frame-title]"
        self._press("View PIN", within=group)
        self.page.locator("#events").get_by_text("view_pin_success").wait_for()
        self._press("Close", within=group)
        self._press("Set PIN", within=group)
        self._fill("6152")
        self._press("Send set-pin-set", within=group)
        self.page.locator("#events").get_by_text("set_pin_success").wait_for()

    def end_the_demo(self) -> None:
        stop(self.demo, self.directory)

    def _said(self) -> str:
        return (self.directory / "printed").read_text()

    def _press(self, name: str, *, within: str = "body") -> None:
        self.page.locator(within).get_by_role("button", name=name, exact=True).click()

    def _fill(self, pin: str) -> None:
        where: FrameLocator = self.page.frame_locator("iframe")
        where.get_by_label("New PIN", exact=True).fill(pin)
        where.get_by_label("Repeat the new PIN").fill(pin)


#: What a section has its reader do beside typing commands, before them.
BY_HAND: Final[dict[str, Callable[[Reader], None]]] = {
    "4": Reader.see_the_image,
    "5": Reader.set_on_the_hosted_page,
    "6": Reader.see_and_set_in_an_iframe,
    "9": Reader.end_the_demo,
}


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A reader whose demo, started as the first section says, has come to its end."""
    for part in PARTS:
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / part)
    output = tmp_path / "printed"
    with output.open("wb") as printed:
        demo = subprocess.Popen(
            DEMO, cwd=tmp_path, env=without_settings(), stdout=printed, stderr=printed
        )
    try:
        wait_for(lambda: "Try next" in output.read_text() or demo.poll() is not None)
        assert demo.poll() is None, output.read_text()
        lengthen_control_tokens((tmp_path / "var" / "database-url").read_text())
        with sync_playwright() as playwright:
            browser = launch(playwright)
            with new_context(browser, ignore_https_errors=True, locale="en-GB") as context:
                yield Reader(tmp_path, demo, context.new_page())
            browser.close()
    finally:
        stop(demo, tmp_path)


def test_the_tutorial_is_walked_from_start_to_end(reader: Reader) -> None:
    sections = dict(SECTION.findall(PAGE))
    assert [*sections] == [str(number) for number in range(1, 10)]
    for number, text in [*sections.items()][1:]:
        if number in BY_HAND:
            BY_HAND[number](reader)
        printed = ""
        for language, block in BLOCK.findall(text):
            if language == "text":
                assert printed == block, f"section {number}"
                printed = ""
            else:
                printed += reader.do(block, "".join(TYPED.findall(text)[:1]))
        if number == "7":
            named = re.findall(r"`(pin\.[a-z.]+)`", text)
            assert len(named) == 3
            assert [event for event in named if event not in printed] == []
    assert not (reader.directory / "var").exists()


def test_its_first_command_starts_what_the_walk_starts() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert BLOCK.findall(PAGE)[0] == ("", "make demo\n")
    assert "@$(RUN)/python -m cms.sandbox demo $(ARGS)" in makefile


def test_what_the_walk_presses_and_types_is_what_the_page_says() -> None:
    source = Path(__file__).read_text()
    for name in re.findall(r"\*\*(.+?)\*\*", PAGE, re.DOTALL):
        assert f'"{" ".join(name.split())}"' in source
    for number, text in SECTION.findall(PAGE):
        if number in {"5", "6"}:
            assert all(f'"{pin}"' in source for pin in TYPED.findall(text))
