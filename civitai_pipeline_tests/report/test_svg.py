"""The small pictures: well-formed, small, and harmless."""

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.report import bar_svg

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_as_long_as_their_values() -> None:
    picture = ET.fromstring(bar_svg("Categories", [("style", 40), ("mood", 10)]))  # noqa: S314 - our own text
    long, short = (float(bar.attrib["width"]) for bar in picture.iter(f"{SVG}rect"))
    assert long == 4 * short
    assert [text.text for text in picture.iter(f"{SVG}text")] == ["Categories", "style", "40", "mood", "10"]


def test_markup_in_labels_stays_text() -> None:
    svg = bar_svg("<script>alert(1)</script>", [('"><img src=x onerror=alert(1)>', 1)])
    assert "<script" not in svg
    assert "<img" not in svg


def test_nothing_to_show_is_said() -> None:
    assert "Nothing to show yet." in bar_svg("Categories", [])


def test_rows_left_out_are_counted() -> None:
    assert "and 76 more" in bar_svg("Tags", [(f"tag {n}", n) for n in range(100)])


def test_the_largest_picture_is_small() -> None:
    assert len(bar_svg("絵" * 99, [("絵" * 99, n) for n in range(100)]).encode()) < 20_000


@given(st.text(), st.lists(st.tuples(st.text(), st.integers(min_value=0, max_value=10**9)), max_size=30))
def test_any_text_gives_well_formed_xml(title: str, rows: list[tuple[str, float]]) -> None:
    ET.fromstring(bar_svg(title, rows))  # noqa: S314 - our own text
