"""How many PINs programs read from images, and how fast images are made.

The same programs also read images that do not vary: each digit in the first hand, in one place.
"""

import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

from benchmarks import pin_image_readers as readers
from benchmarks.measure import heading, machine, rate
from benchmarks.pin_image_readers import Image, TemplateReader
from crypto.pin_image import HANDS, ImageStyle, render, warm
from crypto.pin_image_strokes import Hand
from crypto.types import Pin, Random

IMAGES: Final = 80
DIGITS: Final = 4
GOAL: Final = 0.5
"""The share of PINs that a program may read which knows each digit in one form."""
ROUND_SECONDS: Final = 2.0

Read = Callable[[Image], str]


def main() -> int:
    """Measure and print."""
    heading(f"PIN images · {machine()}")
    started = time.process_time()
    warm()
    print(f"{'drawing all digits in advance, seconds':<50}{time.process_time() - started:>9.2f}")
    pin, style = Pin("4821"), ImageStyle()
    length = len(render(pin, style, os.urandom))
    print(f"{'bytes of an image':<50}{length:>9}")
    made = rate(lambda: render(pin, style, os.urandom), ROUND_SECONDS)
    print(f"{'images a second, one core':<50}{made:>9.0f}")
    heading(f"PINs of {DIGITS} digits that a program reads, of {IMAGES}, in percent")
    print(f"{'':<50}{'as sent':>9}{'unvaried':>10}   goal")
    _print_shares(_shares(os.urandom), _shares(bytes))
    if not readers.tesseract_is_there():
        print("tesseract is not there: apt-get install tesseract-ocr")
    return 0


def _one_form() -> dict[str, Read]:
    """Return readers that know each digit in one form: upright, or as one of the hands."""
    hands = (Hand(), Hand(width=0.9, height=0.9), *HANDS)
    return {
        f"one template a digit, {number}": TemplateReader(h).read for number, h in enumerate(hands)
    }


def _shares(chance: Random) -> dict[str, float]:
    """Return which share of PINs each reader reads, if images are varied by *chance*."""
    one_form = _one_form()
    others: dict[str, Read] = {"a template of each hand": TemplateReader(*HANDS).read}
    if readers.tesseract_is_there():
        others["tesseract"] = readers.tesseract
        others["tesseract, on a screen of density 1"] = _tesseract_on_density_1
    read = dict.fromkeys([*one_form, *others], 0)
    for _ in range(IMAGES):
        digits = "".join(random.SystemRandom().choices("0123456789", k=DIGITS))
        image = readers.ink(render(Pin(digits), ImageStyle(), chance))
        for name, reader in {**one_form, **others}.items():
            read[name] += reader(image) == digits
    best = max(read[name] for name in one_form)
    shown = {"one template a digit, the best of 12": best} | {name: read[name] for name in others}
    return {name: count / IMAGES for name, count in shown.items()}


def _tesseract_on_density_1(image: Image) -> str:
    return readers.tesseract(readers.on_density_1(image))


def _print_shares(varied: Mapping[str, float], unvaried: Mapping[str, float]) -> None:
    for name, share in varied.items():
        goal = "" if name == "a template of each hand" else f"   at most {GOAL:.0%}"
        print(f"{name:<50}{share:>9.0%}{unvaried[name]:>10.0%}{goal}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
