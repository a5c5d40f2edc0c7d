"""Timelines as one HTML file: what was found in each video, beside what is there."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from tadscale.report.page import html_page, legend
from tadscale.report.palette import class_colours, text_colour
from tadscale.report.timeline import Timeline, lanes
from tadscale.segments import Detection, Segment

TICKS = 10
STYLE = """
.none { position: absolute; bottom: .6rem; left: .5rem; }
.name, .none, .axis { color: var(--quiet); }
.controls { position: sticky; top: 0; background: Canvas; padding: .5rem 0; z-index: 9999;
  border-bottom: 1px solid var(--line); }
.controls input { width: 16rem; vertical-align: middle; }
.row { display: grid; grid-template-columns: 9rem 1fr; align-items: center; }
.name { text-align: right; padding-right: .7rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.track { position: relative; height: 40px; border-bottom: 1px solid var(--line); background: var(--soft);
  margin-top: 4px; overflow: hidden; }
.bar { position: absolute; bottom: 0; min-width: 2px; border-radius: 2px 2px 0 0; box-sizing: border-box;
  border: 1px solid Canvas; font-size: 11px; padding: 0 3px; overflow: hidden; white-space: nowrap; }
.bar:hover { outline: 2px solid CanvasText; }
.axis { position: relative; height: 1.4em; font-size: 11px; }
.axis span { position: absolute; transform: translateX(-50%); }
details { margin: .5rem 0 0 9rem; }
"""
SCRIPT = """
const slider = document.getElementById("score"), shown = document.getElementById("shown");
const scored = [...document.querySelectorAll("[data-score]")];
const update = () => {
  shown.textContent = Number(slider.value).toFixed(2);
  for (const element of scored) element.hidden = Number(element.dataset.score) < Number(slider.value);
};
slider.addEventListener("input", update);
"""


def timeline_html(timelines: Sequence[Timeline], title: str = "Detections") -> str:
    """A page with a time axis per video: ground truth where there is any, a row per model, a list, a slider for scores.

    Args:
        timelines: any number of videos.
        title: of the page.

    Returns:
        A whole HTML document.
    """
    colours = class_colours(set().union(*(timeline.labels for timeline in timelines)))
    highest = max((row.score for t in timelines for rows in t.detections.values() for row in rows), default=1.0)
    body = "\n".join(
        [
            f"<h1>{escape(title)}</h1>",
            legend(colours),
            '<div class="controls"><label>show scores from <output id="shown">0.00</output> '
            f'<input id="score" type="range" min="0" max="{highest:.4f}" step="0.01" value="0"></label></div>',
            *(_video(timeline, colours) for timeline in timelines),
        ]
    )
    return html_page(title, body, STYLE, SCRIPT)


def clock(time_s: float) -> str:
    """Seconds as `m:ss.s`, or `h:mm:ss.s` from an hour on."""
    tenths = round(time_s * 10)
    hours, minutes, seconds = tenths // 36000, tenths // 600 % 60, tenths % 600 / 10
    return f"{hours}:{minutes:02d}:{seconds:04.1f}" if hours else f"{minutes}:{seconds:04.1f}"


def _video(timeline: Timeline, colours: Mapping[str, str]) -> str:
    parts = [f"<section><h2>{escape(timeline.video)} <small>{clock(timeline.duration_s)}</small></h2>"]
    if timeline.ground_truth:
        parts.append(_row("ground truth", _instances(timeline, colours)))
    for name, detections in timeline.detections.items():
        parts.append(_row(name, _detections(detections, timeline.duration_s, colours)))
    parts.append(f'<div class="row"><span></span><div class="axis">{"".join(_ticks(timeline.duration_s))}</div></div>')
    count = sum(len(detections) for detections in timeline.detections.values())
    parts.append(f"<details><summary>{count} detections</summary>")
    parts.extend(_table(name, detections) for name, detections in timeline.detections.items())
    parts.append("</details></section>")
    return "\n".join(parts)


def _row(name: str, bars: Iterator[str]) -> str:
    label = f'<div class="name" title="{escape(name)}">{escape(name)}</div>'
    return f'<div class="row">{label}<div class="track">{"".join(bars)}</div></div>'


def _instances(timeline: Timeline, colours: Mapping[str, str]) -> Iterator[str]:
    of_segment = lanes(timeline.ground_truth)
    height = 100 / (max(of_segment, default=0) + 1)
    for segment, lane in zip(timeline.ground_truth, of_segment, strict=True):
        colour = colours[segment.label]
        style = f"bottom:{lane * height:.2f}%;height:{height:.2f}%;background:{colour};color:{text_colour(colour)}"
        yield _bar(segment, timeline.duration_s, style, segment.label, "")


def _detections(detections: Sequence[Detection], duration_s: float, colours: Mapping[str, str]) -> Iterator[str]:
    """Bars as high as their score relative to the row's best; the best first, so that low bars stand in front."""
    ranked = sorted(detections, key=lambda detection: -detection.score)
    if not ranked:
        yield '<span class="none">none</span>'
        return
    best = ranked[0].score
    for row in ranked:
        share = row.score / best if best > 0 else 0.0
        style = f"height:{max(100 * share, 4):.2f}%;background:{colours[row.label]};opacity:{0.35 + 0.6 * share:.3f}"
        segment = Segment(row.label, row.start_s, row.end_s)
        yield _bar(segment, duration_s, style, "", f"score {row.score:.4f}", f' data-score="{row.score:.6f}"')


def _bar(segment: Segment, duration_s: float, style: str, text: str, note: str, attribute: str = "") -> str:
    left, width = 100 * segment.start_s / duration_s, 100 * max(segment.end_s - segment.start_s, 0) / duration_s
    tip = escape(f"{segment.label}  {clock(segment.start_s)} to {clock(segment.end_s)}  {note}".rstrip())
    place = f"left:{left:.3f}%;width:{width:.3f}%;{style}"
    return f'<div class="bar" title="{tip}" style="{place}"{attribute}>{escape(text)}</div>'


def _ticks(duration_s: float) -> Iterator[str]:
    """About ten round times, from 0 on."""
    steps_s = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    step_s = next((step_s for step_s in steps_s if duration_s / step_s <= TICKS), duration_s / TICKS)
    for index in range(int(duration_s / step_s) + 1):
        place = f"left:{100 * index * step_s / duration_s:.3f}%"
        yield f'<span style="{place}">{clock(index * step_s).removesuffix(".0")}</span>'


def _table(name: str, detections: Sequence[Detection]) -> str:
    rows = "".join(
        f'<tr data-score="{row.score:.6f}"><td>{escape(row.label)}</td><td>{clock(row.start_s)}</td>'
        f"<td>{clock(row.end_s)}</td><td>{row.score:.4f}</td></tr>"
        for row in sorted(detections, key=lambda detection: -detection.score)
    )
    head = "<tr><th>class</th><th>start</th><th>end</th><th>score</th></tr>"
    return f"<table><caption>{escape(name)}</caption><thead>{head}</thead><tbody>{rows}</tbody></table>"
