"""Detectors side by side as one HTML file: mAP, classes, sizes, errors, recall, calibration, and what is suspicious.

Each plot's figures stand in a table beside it, for those who read numbers and those who cannot see plots.
"""

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from tadscale.metrics.calibration import TIOU
from tadscale.metrics.false_positives import ERRORS, RANKS, Verdict
from tadscale.metrics.sensitivity import MIN_PRECISION
from tadscale.report.diagnosis import Diagnosis
from tadscale.report.page import html_page, legend
from tadscale.report.palette import class_colours
from tadscale.report.svg import STYLE as PLOT_STYLE
from tadscale.report.svg import Colours, Point, Series, grouped_bars, lines, row_bars, stacked_bars

STYLE = """
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); gap: 1rem 2rem; }
figure { margin: 0; } figcaption { font-weight: 600; margin: .3rem 0; } p { max-width: 48rem; }
"""
NAMES = {
    Verdict.TRUE_POSITIVE: "true positive",
    Verdict.DOUBLE_DETECTION: "double detection",
    Verdict.WRONG_LABEL: "wrong label",
    Verdict.LOCALISATION: "localisation",
    Verdict.CONFUSION: "confusion",
    Verdict.BACKGROUND: "background",
}
KIND_COLOURS = dict(
    zip(NAMES.values(), ("#228833", "#66ccee", "#aa3377", "#ccbb44", "#ee6677", "#999999"), strict=True)
)
"""Green for what is right; the rest from the palette, grey for what is about nothing."""
IDEAL = "as often right as it says"


def diagnosis_html(diagnoses: Sequence[Diagnosis], title: str, ground_truth: str) -> str:
    """A page that compares detectors on the same ground truth.

    Args:
        diagnoses: one or more, made with the same thresholds and buckets.
        title: of the page.
        ground_truth: what they were scored against, in a sentence.

    Returns:
        A whole HTML document.
    """
    colours = class_colours(one.name for one in diagnoses)
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{escape(ground_truth)}</p>", _suspicions(diagnoses), legend(colours)]
    parts += [section(diagnoses, colours) for section in SECTIONS]
    return html_page(title, "\n".join(parts), PLOT_STYLE + STYLE)


def _suspicions(diagnoses: Sequence[Diagnosis]) -> str:
    items = [f"<li><b>{escape(one.name)}</b>: {escape(remark)}</li>" for one in diagnoses for remark in one.remarks]
    if not items:
        return "<p>Nothing suspicious: names meet, every class and video has detections, times are seconds.</p>"
    return f"<section><h2>Look at this first</h2><ul>{''.join(items)}</ul></section>"


def _means(diagnoses: Sequence[Diagnosis], _: Colours) -> str:
    tiou = diagnoses[0].result.tiou
    rows = [(one.name, *_percents([*one.result.per_tiou, one.result.average])) for one in diagnoses]
    table = _table(["detector", *(f"@{threshold:g}" for threshold in tiou), "average"], rows)
    return _section("mAP over tIoU, %", "The mean over classes of average precision.", table)


def _classes(diagnoses: Sequence[Diagnosis], colours: Colours) -> str:
    labels = diagnoses[0].result.labels
    series = {one.name: 100 * one.result.per_class.mean(axis=1) for one in diagnoses}
    plot = _figure("AP of each class, mean over tIoU, %", row_bars("AP of each class", labels, series, colours))
    head = ["class", "instances", *series]
    rows = [
        (label, str(count), *(f"{values[at]:.2f}" for values in series.values()))
        for at, (label, count) in enumerate(zip(labels, diagnoses[0].result.instances, strict=True))
    ]
    return _section("Classes", "", _plots([plot]) + _figures(_table(head, rows)))


def _sizes(diagnoses: Sequence[Diagnosis], colours: Colours) -> str:
    explained = (
        "mAP with precision normalised by class frequency (mAP_N), so that buckets can be compared whatever their number of "
        f"instances; and the share of instances missed, or found only at a normalised precision of {MIN_PRECISION:g} or "
        "below. XS to XL after DETAD (Alwassel et al., ECCV 2018)."
    )
    plots, tables = [], []
    for at, side in enumerate(diagnoses[0].sensitivities):
        for what, values in (
            ("mAP_N", {one.name: 100 * one.sensitivities[at].normalised_map for one in diagnoses}),
            ("missed", {one.name: 100 * one.sensitivities[at].missed for one in diagnoses}),
        ):
            title = f"{what} by {side.characteristic}, %"
            plots.append(_figure(title, grouped_bars(title, side.buckets, values, colours)))
            head = [title, *(f"{name} ({n})" for name, n in zip(side.buckets, side.instances, strict=True))]
            tables.append(_table(head, _series_rows(values)))
    return _section("What instances are like", explained, _plots(plots) + _figures("".join(tables)))


def _errors(diagnoses: Sequence[Diagnosis], _: Colours) -> str:
    explained = (
        "What the detections are, by rank: G is the number of instances of the class, so a perfect detector is all green in "
        "1G and has nothing after. Localisation and confusion: tIoU of .1 to below the threshold, right and wrong class."
    )
    ranks = [f"{rank}G" for rank in range(1, RANKS + 1)]
    plots, tables = [], []
    for one in diagnoses:
        parts = {NAMES[kind]: 100 * one.errors.share[:, kind] for kind in Verdict}
        plots.append(_figure(one.name, stacked_bars(f"Error profile of {one.name}", ranks, parts, KIND_COLOURS)))
        tables.append(_table([f"{one.name}, %", *ranks], _series_rows(parts)))
    return _section("Error profile", explained, legend(KIND_COLOURS) + _plots(plots) + _figures("".join(tables)))


def _gains(diagnoses: Sequence[Diagnosis], colours: Colours) -> str:
    explained = (
        "By how much the average mAP_N of the 10G best detections of each class rises without the errors of one kind."
    )
    names = [NAMES[error] for error in ERRORS]
    gains = {one.name: 100 * one.errors.gain for one in diagnoses}
    title = "Gain of average mAP_N, points"
    before = [f"{100 * one.errors.normalised_map:.2f}" for one in diagnoses]
    rows = [(name, mean, *cells) for mean, (name, *cells) in zip(before, _series_rows(gains), strict=True)]
    plot = _figure(title, grouped_bars(title, names, gains, colours))
    return _section(
        "What removing errors would gain", explained, _plots([plot]) + _table(["detector", "mAP_N", *names], rows)
    )


def _recall(diagnoses: Sequence[Diagnosis], colours: Colours) -> str:
    explained = (
        "Are the segments there at all? Recall by the best detections of each video, whatever their class, averaged over "
        "tIoU .5:.05:.95 (ActivityNet's protocol for proposals)."
    )
    series = {
        one.name: [Point(number, 100 * value) for number, value in enumerate(one.recall.average, start=1)]
        for one in diagnoses
    }
    title = "Average recall, %"
    plot = _figure(title, lines(title, series, colours, right=100, x_name="average number of detections per video"))
    shown = (1, 5, 10, 50, 100)
    rows = [
        (one.name, *_percents([*(one.recall.average[number - 1] for number in shown), one.recall.area]))
        for one in diagnoses
    ]
    table = _table(["detector", *(f"AR@{number}" for number in shown), "AUC"], rows)
    return _section("Recall", explained, _plots([plot]) + table)


def _calibration(diagnoses: Sequence[Diagnosis], colours: Colours) -> str:
    explained = f"Is a score a probability? Precision at tIoU {TIOU:g} of the detections in each tenth of the scores."
    known = {one.name: one.calibration for one in diagnoses if one.calibration}
    series = {
        name: [Point(100 * x, 100 * y) for x, y in zip(one.score, one.precision, strict=True)]
        for name, one in known.items()
    }
    diagonal = {IDEAL: [Point(0, 0), Point(100, 100)]}
    title = "Precision by score, %"
    plot = lines(title, diagonal | series, {**colours, IDEAL: "#999999"}, right=100, x_name="mean score of the bin, %")
    rows = [(name, *_percents([one.error])) for name, one in known.items()]
    left_out = [one.name for one in diagnoses if not one.calibration]
    note = f"<p>Scores outside [0, 1], which claim nothing: {escape(', '.join(left_out))}.</p>" if left_out else ""
    error = _table(["detector", "expected calibration error, %"], rows)
    return _section("Calibration", explained, _plots([_figure(title, plot)]) + error + note)


SECTIONS: tuple[Callable[[Sequence[Diagnosis], Colours], str], ...] = (
    _means,
    _sizes,
    _errors,
    _gains,
    _recall,
    _calibration,
    _classes,
)
"""From the one figure down to its reasons; the classes last, because there may be 200."""


def _section(title: str, explained: str, content: str) -> str:
    text = f"<p>{escape(explained)}</p>" if explained else ""
    return f"<section><h2>{escape(title)}</h2>{text}{content}</section>"


def _plots(figures: Sequence[str]) -> str:
    return f'<div class="plots">{"".join(figures)}</div>'


def _figure(caption: str, plot: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{plot}</figure>"


def _figures(tables: str) -> str:
    return f"<details><summary>figures</summary>{tables}</details>"


def _series_rows(series: Series) -> list[tuple[str, ...]]:
    return [(name, *("" if np.isnan(value) else f"{value:.2f}" for value in values)) for name, values in series.items()]


def _percents(values: Sequence[float]) -> list[str]:
    return [f"{100 * value:.2f}" for value in values]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(text)}</th>" for text in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
