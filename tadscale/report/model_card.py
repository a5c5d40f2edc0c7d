"""The model card: what a consumer must know before using a registered model.

Sections after Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tadscale.metrics.average_precision import MeanAveragePrecision


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """mAP of one model on one ground truth."""

    model: str
    """What was scored: student, teacher, RGB baseline ..."""
    ground_truth: str
    """Which file or manifest, and which subset of it."""
    videos: int
    result: MeanAveragePrecision


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known of a registered model."""

    name: str
    summary: str
    """One or two sentences: what it takes and what it gives."""
    job: str
    """The job file as resolved, YAML."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """How it was made: code version, seed, steps, hardware, duration ... by name."""
    data_digests: Mapping[str, str] = field(default_factory=dict)
    """What it was made from: manifest, plan, teacher weights ... to their digests."""
    data: Mapping[str, str]
    """Where the training and test videos come from, and how many there are."""
    windows: Mapping[str, str]
    """How a video is sampled and cut before the network sees it; the same in training, evaluation and use."""
    motion: str
    """Fingerprint of the motion that taught it; a teacher of another motion is another teacher."""
    classes: Sequence[str]
    evaluations: Sequence[Evaluation] = ()
    """The model itself first; then what it is compared with."""
    protocol: str
    """How detections come about and are counted: what another figure must share to be compared."""
    licence: str
    loading: str
    """Python that loads the model and runs it."""
    intended_use: Sequence[str]
    limits: Sequence[str]


def model_card(card: ModelCard) -> str:
    """The card as Markdown; mAP in percent."""
    return (
        "\n\n".join(
            [
                f"# {_inline(card.name)}",
                card.summary.strip(),
                "## How to load it",
                _fenced(card.loading, "python"),
                "## Intended use",
                _bullets(card.intended_use),
                "## Limits",
                _bullets(card.limits),
                "## Data",
                _table(["what", "value"], card.data.items()),
                "## Windows",
                _table(["what", "value"], card.windows.items()),
                "## Evaluation",
                _one_line(card.protocol),
                *(_evaluation(card.evaluations) if card.evaluations else ["Not evaluated."]),
                "## How it was made",
                _table(["what", "value"], [*card.facts.items(), ("motion", card.motion)]),
                "## What it was made from",
                _table(["what", "digest"], card.data_digests.items()),
                "## Licence",
                card.licence.strip(),
                "## Classes",
                f"{len(card.classes)}: " + ", ".join(map(_inline, card.classes)),
                "## Job",
                _fenced(card.job, "yaml"),
            ]
        )
        + "\n"
    )


def _evaluation(evaluations: Sequence[Evaluation]) -> list[str]:
    """A table of means for each ground truth and set of thresholds, and the first model's classes."""
    groups: dict[tuple[str, int, int, tuple[float, ...]], list[Evaluation]] = {}
    for one in evaluations:
        key = one.ground_truth, one.videos, int(one.result.instances.sum()), one.result.tiou
        groups.setdefault(key, []).append(one)
    parts = []
    for (ground_truth, videos, instances, tiou), members in groups.items():
        parts.append(f"mAP in percent on {_inline(ground_truth)}: {videos} videos, {instances} instances.")
        rows = [(one.model, *_percents([*one.result.per_tiou, one.result.average])) for one in members]
        parts.append(_table(["model", *(f"@{threshold:g}" for threshold in tiou), "average"], rows))
    own = evaluations[0]
    parts.append(f"Average precision of each class, {_inline(own.model)}:")
    rows = [
        (label, str(count), *_percents([*row, row.mean()]))
        for label, count, row in zip(own.result.labels, own.result.instances, own.result.per_class, strict=True)
    ]
    parts.append(_table(["class", "instances", *(f"@{threshold:g}" for threshold in own.result.tiou), "average"], rows))
    return parts


def _percents(values: Iterable[float]) -> list[str]:
    return [f"{100 * value:.2f}" for value in values]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A pipe table. Two columns are a list of facts; of more, all but the first are figures and right-aligned."""
    cells = [[_cell(text) for text in row] for row in rows]
    if not cells:
        return "Not stated."
    rule = ["---"] * 2 if len(head) == 2 else ["---"] + ["---:"] * (len(head) - 1)
    lines = [head, rule, *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_one_line(line)}" for line in lines) or "Not stated."


def _fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any run of backticks in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def _cell(text: str) -> str:
    return _inline(text).replace("|", "\\|")


def _inline(text: str) -> str:
    """Text from outside in one line, with what Markdown or HTML would read as markup escaped."""
    for character in "\\`*<[":
        text = text.replace(character, "\\" + character)
    return _one_line(text)


def _one_line(text: str) -> str:
    return " ".join(text.split())
