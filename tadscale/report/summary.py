"""What a run says when it is through."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from tadscale.metrics.average_precision import MeanAveragePrecision

WHAT = {
    "two_stream": "RGB baseline and flow teacher, fused",
    "teacher": "flow only",
    "baseline": "RGB only, ground truth only",
    "decomposed": "RGB only, decomposed distillation",
    "conventional": "RGB only, conventional distillation",
}
"""What each scored detector reads at inference, and how it was taught."""
LAST = "_last"
"""What a detector's name ends in that has the last weights, where another epoch may have been chosen for the plain name."""


def summary_table(scores: Mapping[str, MeanAveragePrecision], title: str) -> Table:
    """mAP in percent at each tIoU, a row a detector, in the order given; the models are told apart by what they read."""
    thresholds: Sequence[float] = next(iter(scores.values())).tiou
    table = Table(title=title, title_justify="left")
    table.add_column("detector", no_wrap=True)
    table.add_column("what it is", no_wrap=True)
    for threshold in thresholds:
        table.add_column(f"@{threshold:.2g}", justify="right")
    table.add_column("average", justify="right", style="bold")
    for name, score in scores.items():
        cells = [f"{100 * value:.1f}" for value in score.per_tiou]
        table.add_row(name, _what(name), *cells, f"{100 * score.average:.1f}")
    return table


def _what(name: str) -> str:
    chosen = name.removesuffix(LAST)
    return WHAT.get(chosen, "") if chosen == name else f"{chosen} after its last epoch"
