"""The model card says what it was given, and names cannot break its layout."""

from dataclasses import replace

import numpy as np

from tadscale.metrics import MeanAveragePrecision
from tadscale.report.model_card import Evaluation, ModelCard, model_card


def result(value: float, tiou: tuple[float, ...] = (0.3, 0.5)) -> MeanAveragePrecision:
    per_class = np.full((2, len(tiou)), value) + np.array([[0.1], [-0.1]])
    return MeanAveragePrecision(tiou=tiou, labels=("jump", "run|fast"), per_class=per_class, instances=np.array([3, 4]))


CARD = ModelCard(
    name="sprites_student",
    summary="Finds actions in RGB video.",
    job="head: tadtr\nnote: '```'\n",
    facts={"seed": "7"},
    data_digests={"manifest": "sha256:abc"},
    data={"training": "5 videos"},
    windows={"length": "128 frames, 12.8 s"},
    motion="tvl1/5-levels",
    classes=["jump", "run|fast"],
    evaluations=[
        Evaluation(model="student", ground_truth="gt.json, test", videos=5, result=result(0.5)),
        Evaluation(model="RGB baseline", ground_truth="gt.json, test", videos=5, result=result(0.4)),
        Evaluation(model="student", ground_truth="other.json", videos=2, result=result(0.25, (0.75,))),
    ],
    protocol="The 200 best detections of each video.",
    licence="Apache-2.0, and what the videos' licence says.",
    loading='mlflow.pyfunc.load_model("models:/sprites_student@champion")',
    intended_use=["Videos like those it was trained on."],
    limits=["Not evaluated on people."],
)


def test_evaluations_of_one_ground_truth_share_a_table() -> None:
    text = model_card(CARD)
    assert "| student | 50.00 | 50.00 | 50.00 |\n| RGB baseline | 40.00 | 40.00 | 40.00 |" in text
    assert "mAP in percent on gt.json, test: 5 videos, 7 instances." in text
    assert "| model | @0.75 | average |\n| --- | ---: | ---: |\n| student | 25.00 | 25.00 |" in text
    assert "| jump | 3 | 60.00 | 60.00 | 60.00 |" in text


def test_everything_given_is_in_it() -> None:
    text = model_card(CARD)
    for part in ("# sprites_student", "tvl1/5-levels", "sha256:abc", "| seed | 7 |", "2: jump, run|fast", "on people",
                 "## How to load it\n\n```python\nmlflow.pyfunc", "| training | 5 videos |",
                 "| length | 128 frames, 12.8 s |", "The 200 best detections", "## Licence\n\nApache-2.0"):  # fmt: skip
        assert part in text


def test_pipes_and_fences_do_not_break_the_layout() -> None:
    text = model_card(CARD)
    assert "| run\\|fast | 4 |" in text
    assert "````yaml\nhead: tadtr\nnote: '```'\n````" in text
    assert "\\<b>" in model_card(replace(CARD, name="<b>"))


def test_what_is_missing_is_said() -> None:
    text = model_card(replace(CARD, evaluations=(), limits=(), data_digests={}))
    assert "Not evaluated." in text
    assert text.count("Not stated.") == 2
