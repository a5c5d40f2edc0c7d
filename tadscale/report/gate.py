"""The gate's verdict for people: a page of Markdown and a picture."""

from pathlib import Path

from tadscale.gate.evidence import Difference
from tadscale.gate.verdict import Verdict
from tadscale.report.palette import BASE

BETTER, WORSE, OPEN = BASE[2], BASE[1], "#888888"
"""Colours of an interval above 0, below 0, and across it."""
ROW_INCHES = 0.28


def gate_markdown(verdict: Verdict, title: str) -> str:
    """Decision, reasons, and every figure: average mAP, each class, cost."""
    evidence = verdict.evidence
    reasons = "".join(f"- {reason}\n" for reason in verdict.reasons)
    measured = (
        f"{evidence.videos} videos, {evidence.instances} instances, tIoU {', '.join(f'{one:g}' for one in evidence.tiou)}; "
        f"{evidence.confidence:.0%} intervals of {evidence.draws} draws. All values are percent of average precision."
    )
    settings = ", ".join(f"{key} {value}" for key, value in verdict.config.model_dump(exclude={"budgets"}).items())
    head = f"# {title}\n\n**{verdict.decision}** ({settings})\n\n{reasons}\n{measured}\n\n"
    return f"{head}{_table(verdict)}\n{_costs(verdict)}"


def gate_lines(verdict: Verdict | None, challenger: int, champion: int) -> list[str]:
    """The same for a terminal; None stands for a version that is champion already."""
    if verdict is None:
        return [f"version {challenger} is the champion: there is nothing to compare it with"]
    became = "becomes champion in place of" if verdict.promote else "does not replace"
    return [f"version {challenger} {became} version {champion}", *verdict.reasons]


def plot_gate(verdict: Verdict, title: str, path: Path) -> None:
    """The interval of the difference, in points: over all in the first row, then by class."""
    from matplotlib.figure import Figure

    rows = _rows(verdict)
    figure = Figure(figsize=(6.4, 1.1 + ROW_INCHES * len(rows)), layout="constrained")
    axis = figure.subplots()
    for place, (_, one) in enumerate(rows):
        colour = _colour(one)
        axis.plot([100 * one.low, 100 * one.high], [place, place], color=colour, linewidth=3 if place == 0 else 1.6)
        axis.plot([100 * one.difference], [place], "o", color=colour, markersize=5)
    axis.axvline(0, color="#222222", linewidth=0.8)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("challenger minus champion, points of average precision", fontsize=8)
    axis.set_title(f"{title}: {verdict.decision}", fontsize=9)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)


def _rows(verdict: Verdict) -> list[tuple[str, Difference]]:
    evidence = verdict.evidence
    return [("average mAP", evidence.overall), *((one.label, one) for one in evidence.classes)]


def _colour(one: Difference) -> str:
    if one.low > 0:
        return BETTER
    return WORSE if one.high < 0 else OPEN


def _table(verdict: Verdict) -> str:
    heads = ("", "champion", "challenger", "difference", "interval", "probably worse")
    lines = [heads, ("---",) * len(heads)]
    regressed = {one.label for one in verdict.evidence.regressed}
    for name, one in _rows(verdict):
        cells = (f"{100 * value:.2f}" for value in (one.champion, one.challenger))
        interval = f"{100 * one.low:+.2f} to {100 * one.high:+.2f}"
        shown = f"**{name}** (regressed)" if name in regressed else name
        lines.append((shown, *cells, f"{100 * one.difference:+.2f}", interval, f"{one.worse_share:.1%}"))
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def _costs(verdict: Verdict) -> str:
    lines = ["| | champion | challenger |", "| --- | --- | --- |"]
    champion, challenger = verdict.champion, verdict.challenger
    lines.append(f"| weights, bytes | {champion.weights_bytes} | {challenger.weights_bytes} |")
    times = (champion.seconds_per_video_second, challenger.seconds_per_video_second)
    shown = " | ".join("not measured" if one is None else f"{one:.3g}" for one in times)
    lines.append(f"| seconds per video second | {shown} |")
    return "\n".join(lines) + "\n"
