"""The page of the whole stack is what one run measured, and drawn the same way each time."""

from xml.etree import ElementTree as ET

import pytest

from benchmarks import bar_chart, performance_page
from benchmarks.performance_page import DOCS, FIGURES, Figures, Measured

SVG = "{http://www.w3.org/2000/svg}"


def measured(rate: float) -> Measured:
    return Measured([rate, rate + 2, rate - 2], {"web": 400.0, "vault": 600.0}, 1.5, 4.25)


SAMPLE = Figures(
    *("2 cores", 4.0, 6.0, 24, {"GET pin": 300.0}),
    {"GET pin": {"service alone": measured(800), "HAProxy, one host": measured(600)}},
)


def test_the_page_in_docs_is_what_its_figures_make() -> None:
    made = performance_page.files(Figures.read((DOCS / FIGURES).read_text()))
    assert {name: (DOCS / name).read_text() for name in made} == made


def test_figures_are_read_as_they_were_written() -> None:
    assert Figures.read(SAMPLE.written()) == SAMPLE


def test_a_table_has_medians_and_ratios_to_the_service_alone() -> None:
    page = performance_page.files(SAMPLE)["performance.md"]
    assert "| GET pin | service alone | 800 | 1.00 | 800, 802, 798 |" in page
    assert "| GET pin | HAProxy, one host | 600 | 0.75 | 600, 602, 598 |" in page
    assert "| GET pin | HAProxy, one host | 300 | 1.5 | 4.2 |" in page
    assert "| GET pin | HAProxy, one host | 400 | 600 | 1000 |" in page


def test_a_bar_is_as_long_as_its_value() -> None:
    drawing = ET.fromstring(
        bar_chart.grouped("Rates", {"PUT": {"a": 100, "b": 50}, "GET": {"a": 25, "b": 1000}})
    )
    bars = [each for each in drawing.iter(f"{SVG}rect") if each.get("height") == "14"]
    widths = [float(each.attrib["width"]) for each in bars]
    assert [round(width / max(widths), 3) for width in widths] == [0.1, 0.05, 0.025, 1.0]


def test_parts_follow_one_another_and_their_sum_is_shown() -> None:
    drawing = ET.fromstring(bar_chart.stacked("Time", {"PUT": {"web": 300, "vault": 900}}))
    web, vault = (each for each in drawing.iter(f"{SVG}rect") if each.get("height") == "14")
    end = float(web.attrib["x"]) + float(web.attrib["width"])
    assert end == pytest.approx(float(vault.attrib["x"]), abs=0.1)
    assert "1,200" in [each.text for each in drawing.iter(f"{SVG}text")]


def test_text_stays_text() -> None:
    drawing = bar_chart.grouped("a < b & c", {"PUT": {"<x>": 1}})
    title, *_ = ET.fromstring(drawing).iter(f"{SVG}text")
    assert title.text == "a < b & c"
