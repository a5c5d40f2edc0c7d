"""Timelines as one HTML file: what was found in each video, beside what is there, under the video itself."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from tadscale.report import player
from tadscale.report.page import html_page
from tadscale.report.palette import class_colours, text_colour
from tadscale.report.timeline import Timeline, lanes
from tadscale.segments import Detection, Segment

TICKS = 10
STYLE = """
.none { position: absolute; bottom: .6rem; left: .5rem; }
.name, .none, .axis { color: var(--quiet); }
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


def timeline_html(timelines: Sequence[Timeline], title: str = "Detections") -> str:
    """A page with a time axis per video: ground truth where there is any, a row per model, a list; the video to play, if the
    timeline holds it. Classes are chosen, weak detections left out by a slider, the hardest videos come first.

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
            '<div class="controls"><label>show scores from <output id="shown">0.00</output> '
            f'<input id="score" type="range" min="0" max="{highest:.4f}" step="0.01" value="0"></label>',
            '<label>order <select id="order"><option value="hard">hardest first</option>'
            '<option value="name">by name</option></select></label>',
            '<span>classes <button id="all">all</button> <button id="none">none</button></span></div>',
            _classes(colours),
            '<main id="videos">',
            *(_video(timeline, colours) for timeline in timelines),
            "</main>",
        ]
    )
    return html_page(title, body, STYLE + player.STYLE, player.SCRIPT, plays=True)


def clock(time_s: float) -> str:
    """Seconds as `m:ss.s`, or `h:mm:ss.s` from an hour on."""
    tenths = round(time_s * 10)
    hours, minutes, seconds = tenths // 36000, tenths // 600 % 60, tenths % 600 / 10
    return f"{hours}:{minutes:02d}:{seconds:04.1f}" if hours else f"{minutes}:{seconds:04.1f}"


def _classes(colours: Mapping[str, str]) -> str:
    boxes = (
        f'<label><input type="checkbox" data-class="{escape(label)}" checked><i style="background:{colour}"></i>'
        f"{escape(label)}</label>"
        for label, colour in colours.items()
    )
    return f'<fieldset class="classes">{"".join(boxes)}</fieldset>'


def _video(timeline: Timeline, colours: Mapping[str, str]) -> str:
    seconds, precision = timeline.duration_s, timeline.precision
    note = clock(seconds) if precision is None else f"{clock(seconds)}, average precision {100 * precision:.0f}"
    parts = [
        f'<section data-video="{escape(timeline.video)}" data-seconds="{seconds:.3f}" '
        f'data-precision="{"" if precision is None else f"{precision:.4f}"}"{_playable(timeline)}>'
        f"<h2>{escape(timeline.video)} <small>{note}</small></h2>"
    ]
    if timeline.preview:
        source = f"data:video/mp4;base64,{b64encode(timeline.preview).decode()}"
        parts.append(f'<video controls muted playsinline preload="metadata" src="{source}"></video>')
    if timeline.ground_truth:
        parts.append(_row("ground truth", _instances(timeline, colours)))
    for name, detections in timeline.detections.items():
        parts.append(_row(name, _detections(detections, seconds, colours)))
    parts.append(f'<div class="row"><span></span><div class="axis">{"".join(_ticks(seconds))}</div></div>')
    count = sum(len(detections) for detections in timeline.detections.values())
    parts.append(f"<details><summary>{count} detections</summary>")
    parts.extend(_table(name, detections) for name, detections in timeline.detections.items())
    parts.append("</details></section>")
    return "\n".join(parts)


def _playable(timeline: Timeline) -> str:
    return ' class="playable"' if timeline.preview else ""


def _row(name: str, bars: Iterator[str]) -> str:
    label = f'<div class="name" title="{escape(name)}">{escape(name)}</div>'
    return f'<div class="row">{label}<div class="track">{"".join(bars)}<i class="head"></i></div></div>'


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
    data = f'data-label="{escape(segment.label)}" data-start="{segment.start_s:.3f}"{attribute}'
    return f'<div class="bar" title="{tip}" style="{place}" {data}>{escape(text)}</div>'


def _ticks(duration_s: float) -> Iterator[str]:
    """About ten round times, from 0 on."""
    steps_s = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    step_s = next((step_s for step_s in steps_s if duration_s / step_s <= TICKS), duration_s / TICKS)
    for index in range(int(duration_s / step_s) + 1):
        place = f"left:{100 * index * step_s / duration_s:.3f}%"
        yield f'<span style="{place}">{clock(index * step_s).removesuffix(".0")}</span>'


def _table(name: str, detections: Sequence[Detection]) -> str:
    rows = "".join(map(_table_row, sorted(detections, key=lambda detection: -detection.score)))
    head = "<tr><th>class</th><th>start</th><th>end</th><th>score</th></tr>"
    return f"<table><caption>{escape(name)}</caption><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _table_row(row: Detection) -> str:
    label = escape(row.label)
    data = f'data-score="{row.score:.6f}" data-label="{label}" data-start="{row.start_s:.3f}"'
    times = f"<td>{clock(row.start_s)}</td><td>{clock(row.end_s)}</td>"
    return f"<tr {data}><td>{label}</td>{times}<td>{row.score:.4f}</td></tr>"
