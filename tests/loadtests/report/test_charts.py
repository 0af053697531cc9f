"""Plots."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.report.charts import Axis, ChartSeries, Dot, dot_chart, line_chart, number_text


def parse(svg: str) -> ET.Element:
    """As a tree; it is our own."""
    return ET.fromstring(svg)  # noqa: S314


def test_an_axis_maps_values_to_places() -> None:
    """Linear, logarithmic, and upside down; what is beyond the ends is drawn there."""
    linear = Axis("", 0, 10, 100, 200)
    assert [linear.at(value) for value in (0, 2.5, 10, 99, -1)] == [100, 125, 200, 200, 100]
    logarithmic = Axis("", 0.1, 10, 0, 100, is_log=True)
    assert [logarithmic.at(value) for value in (0.1, 1, 10, 0)] == pytest.approx([0, 50, 100, 0])
    assert Axis("", 0, 10, 200, 100).at(2.5) == 175


@pytest.mark.parametrize(
    ("low", "high", "is_log", "ticks"),
    [
        (0, 1, False, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (0.95, 1.31, False, (1, 1.1, 1.2, 1.3)),
        (0, 1425, False, (0, 500, 1000)),
        (0.05, 3, True, (0.05, 0.1, 0.2, 0.5, 1, 2)),
        (0.02, 300, True, (0.1, 1, 10, 100)),
    ],
)
def test_ticks_are_round(low: float, high: float, *, is_log: bool, ticks: tuple[float, ...]) -> None:
    """And not too many."""
    assert Axis("", low, high, 0, 1, is_log).ticks() == pytest.approx(ticks)


@given(
    low=st.floats(0.001, 1e6),
    factor=st.floats(1.05, 1e6),
    is_log=st.booleans(),
)
def test_there_are_some_ticks_and_never_many(low: float, factor: float, *, is_log: bool) -> None:
    """Whatever the values, if they are not all alike."""
    num = len(Axis("", low, low * factor, 0, 1, is_log).ticks())
    assert (0 if is_log else 2) <= num <= 10


def test_lines_are_drawn_where_there_are_numbers() -> None:
    """Points that are none are left out; names are escaped."""
    svg = line_chart(
        [ChartSeries("a<b", [(0, 1), (1, float("nan")), (2, 3)], 0), ChartSeries("none", [(0, float("nan"))], 1)],
        x_label="load",
        y_label="s & more",
    )
    root = parse(svg)
    (line,) = root.findall("polyline")
    assert len(line.attrib["points"].split()) == 2
    assert line.findtext("title") == "a<b"
    assert root.attrib["aria-label"] == "s & more over load"


def test_a_chart_of_nothing_is_empty() -> None:
    """And no error."""
    assert parse(line_chart([], x_label="x", y_label="y", is_log_x=True)).findall("polyline") == []


def test_dots_have_their_intervals_and_marks_their_names() -> None:
    """One row for each."""
    svg = dot_chart([Dot("a", 0.2, 0.1, 0), Dot("b", 0.3, None, 1)], x_label="hit rate", marks=[("bound", 0.4)])
    root = parse(svg)
    assert len(root.findall("circle")) == 2
    places = [(float(line.attrib["x1"]), float(line.attrib["x2"])) for line in root.findall("line[@y1]")]
    assert any(x2 - x1 > 50 for x1, x2 in places)
    assert {"a 0.2", "b 0.3", "bound"} <= {text.text for text in root.findall("text")}


def test_numbers_are_short() -> None:
    """Three digits of it."""
    assert [number_text(each) for each in (0.30000000000000004, 999, 12345.6, 2e6)] == ["0.3", "999", "12.3k", "2M"]
