"""The page of timelines as its reader meets it, in a real browser: filter, slider, order, seeking."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tadscale.data.encode import encode_h264
from tadscale.report.timeline import Timeline
from tadscale.report.timeline_html import timeline_html
from tadscale.segments import Detection, Segment

SECONDS = 4.0


def clip() -> bytes:
    """Grey that grows lighter with time: a picture tells when it is shown."""
    shades = np.linspace(16, 235, int(10 * SECONDS)).astype(np.uint8)
    return encode_h264(np.broadcast_to(shades[:, None, None, None], (len(shades), 32, 32, 3)).copy(), 10)


def seen(label: str, start_s: float, score: float) -> Detection:
    return Detection(video="v", label=label, start_s=start_s, end_s=start_s + 1, score=score)


TIMELINES = [
    Timeline(
        video="easy",
        duration_s=SECONDS,
        ground_truth=(Segment("run", 0, 1),),
        detections={"student": [seen("run", 0, 0.9), seen("jump", 2, 0.3)]},
        precision=1.0,
    ),
    Timeline(
        video="hard",
        duration_s=SECONDS,
        ground_truth=(Segment("jump", 3, 4),),
        detections={"student": [seen("jump", 3, 0.2)]},
        precision=0.25,
        preview=clip(),
    ),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser on this machine (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    path = Path(tmp_path_factory.mktemp("page"), "timelines.html")
    path.write_text(timeline_html(TIMELINES))
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.errors = []
        opened.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.on("console", lambda line: opened.errors.append(line.text) if line.type == "error" else None)
        opened.goto(path.as_uri())
        yield opened
        assert opened.errors == [], "the browser complained"
        browser.close()


@pytest.fixture(autouse=True)
def fresh(page: Any) -> None:
    page.reload()


def until(page: Any, condition: str) -> None:
    """Wait for it, asked from outside: the page's own policy forbids the text of a condition to be run inside."""
    deadline = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def videos(page: Any) -> list[str]:
    return page.eval_on_selector_all("section:not([hidden])", "list => list.map(one => one.dataset.video)")


def bars(page: Any) -> list[tuple[str, str]]:
    return [
        tuple(pair)
        for pair in page.eval_on_selector_all(
            ".bar[data-score]:not([hidden])",
            "list => list.map(bar => [bar.closest('section').dataset.video, bar.dataset.label])",
        )
    ]


def test_the_hardest_video_comes_first_and_names_are_a_click_away(page: Any) -> None:
    assert videos(page) == ["hard", "easy"]
    page.select_option("#order", "name")
    assert videos(page) == ["easy", "hard"]


def test_the_slider_leaves_out_what_is_weak(page: Any) -> None:
    assert sorted(bars(page)) == [("easy", "jump"), ("easy", "run"), ("hard", "jump")]
    page.fill("#score", "0.25")
    assert sorted(bars(page)) == [("easy", "jump"), ("easy", "run")]
    page.fill("#score", "0.5")
    assert bars(page) == [("easy", "run")]
    assert page.inner_text("#shown") == "0.50"
    assert len(videos(page)) == 2, "a video without a strong detection is one to look at"


def test_a_class_that_is_not_chosen_is_gone_with_its_videos(page: Any) -> None:
    page.uncheck('input[data-class="jump"]')
    assert bars(page) == [("easy", "run")]
    assert videos(page) == ["easy"], "all that the other video holds is of that class"
    page.click("#none")
    assert videos(page) == []
    page.click("#all")
    assert len(bars(page)) == 3


def test_a_click_on_the_axis_shows_that_moment(page: Any) -> None:
    until(page, "document.querySelector('video').readyState >= 2")
    track = page.locator('section[data-video="hard"] .track').first
    box = track.bounding_box()
    track.click(position={"x": box["width"] * 0.5, "y": 2})
    until(page, "!document.querySelector('video').seeking")
    assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(0.5 * SECONDS, abs=0.05)
    head = page.evaluate("document.querySelector('section[data-video=hard] .head').style.left")
    assert float(head.rstrip("%")) == pytest.approx(50, abs=1)
    shade = page.evaluate(
        "() => { const c = document.createElement('canvas').getContext('2d');"
        "c.drawImage(document.querySelector('video'), 0, 0, 8, 8); return c.getImageData(4, 4, 1, 1).data[0]; }"
    )
    assert shade == pytest.approx(125, abs=12), "half way between dark and light"


def test_a_click_on_a_detection_goes_to_its_start(page: Any) -> None:
    until(page, "document.querySelector('video').readyState >= 2")
    page.locator('section[data-video="hard"] .bar[data-score]').click()
    until(page, "!document.querySelector('video').seeking")
    assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(3.0, abs=0.01)


def test_the_playhead_follows_while_it_plays(page: Any) -> None:
    until(page, "document.querySelector('video').readyState >= 2")
    page.evaluate("document.querySelector('video').play()")
    until(page, "parseFloat(document.querySelector('section[data-video=hard] .head').style.left) > 5")
