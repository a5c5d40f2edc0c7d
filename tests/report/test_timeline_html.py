"""The timeline's page: complete, self-contained, and deaf to what names try to say."""

import re
from html.parser import HTMLParser

import pytest

from tadscale.report.timeline import Timeline
from tadscale.report.timeline_html import clock, timeline_html
from tadscale.segments import Detection, Segment

EVIL = "<script>alert('x')</script>&\"'"


class Page(HTMLParser):
    """Tags with their attributes, and the text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data


def page(label: str = "jump") -> str:
    rows = [
        Detection(video=label, label=label, start_s=15, end_s=30, score=0.8),
        Detection(video=label, label=label, start_s=30, end_s=45, score=0.2),
    ]
    truth = (Segment(label, 6, 18),)
    return timeline_html([Timeline(video=label, duration_s=60, ground_truth=truth, detections={label: rows})], label)


def style(attributes: dict[str, str]) -> dict[str, str]:
    return dict(part.split(":", 1) for part in attributes["style"].split(";"))


def test_bars_stand_at_their_times() -> None:
    bars = [attributes for tag, attributes in Page(page()).tags if tag == "div" and attributes.get("class") == "bar"]
    places = [(style(bar)["left"], style(bar)["width"], style(bar)["height"]) for bar in bars]
    assert places == [
        ("10.000%", "20.000%", "100.00%"),
        ("25.000%", "25.000%", "100.00%"),
        ("50.000%", "25.000%", "25.00%"),
    ]
    assert bars[1]["title"] == "jump  0:15.0 to 0:30.0  score 0.8000"
    assert [bar.get("data-score") for bar in bars] == [None, "0.800000", "0.200000"]


def test_names_from_outside_stay_text() -> None:
    parsed = Page(page(EVIL))
    scripts = [tag for tag, _ in parsed.tags if tag == "script"]
    assert len(scripts) == 1, "the page's own"
    assert [tag for tag, _ in parsed.tags] == [tag for tag, _ in Page(page()).tags]
    assert EVIL in parsed.text


def test_nothing_is_loaded_from_anywhere() -> None:
    html = page()
    assert not re.search(r"(https?:)?//[a-z]|@import|url\(", html)
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in Page(html).tags}
    [policy] = [attributes["content"] for tag, attributes in Page(html).tags if "http-equiv" in attributes]
    assert policy.startswith("default-src 'none'")


def test_ids_of_the_script_are_in_the_page() -> None:
    html = page()
    wanted = re.findall(r'byId\("(\w+)"\)', html)
    assert wanted
    assert set(wanted) <= {attributes.get("id") for _, attributes in Page(html).tags}


def test_without_detections_and_without_videos() -> None:
    assert '<span class="none">none</span>' in timeline_html([Timeline(video="v", duration_s=3, detections={"s": []})])
    assert Page(timeline_html([])).text.strip().startswith("Detections")


@pytest.mark.parametrize(
    ("time_s", "text"),
    [(0, "0:00.0"), (59.96, "1:00.0"), (61.25, "1:01.2"), (3599.99, "1:00:00.0"), (7325.5, "2:02:05.5")],
)
def test_clock(time_s: float, text: str) -> None:
    assert clock(time_s) == text
