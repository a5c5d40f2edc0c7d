"""Class scores of whole videos: both forms in use, and what is refused."""

import pytest

from tadscale.data.video_scores import parse_video_scores


def test_the_form_of_the_classification_task() -> None:
    entries = {"v": [{"label": "run", "score": "0.7"}], "w.mp4": [{"label": "jump", "score": 0.2}]}
    scores = parse_video_scores({"results": entries}, "file")
    assert (scores.videos, scores.labels) == (("v", "w"), ("jump", "run"))
    assert scores.score.tolist() == [[0, 0.7], [0.2, 0]]


def test_the_form_with_a_list_of_classes() -> None:
    scores = parse_video_scores({"results": {"v": [0.1, 0.9]}, "class": ["run", "jump"]}, "file")
    assert scores.labels == ("run", "jump")
    assert scores.score.tolist() == [[0.1, 0.9]]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"database": {}}, "no object"),
        ({"results": {"v": [0.1]}, "class": ["run", "jump"]}, "1 scores for the 2 names"),
        ({"results": {"v": [0.1]}}, "class"),
        ({"results": {"v": 1}}, "expected a list"),
        ({"results": {"v": []}}, "is empty"),
        (
            {"results": {"v": [{"label": "run", "score": 0.9}, {"label": "run", "score": 0.1}]}},
            "scores 'run' twice, as 0.9 and 0.1",
        ),
        ({"results": {"v": [-2.0]}, "class": ["run"]}, "softmax"),
        ({"results": {"v": ["x"]}, "class": ["run"]}, "expected a number"),
        ({"results": {"v": [10**400]}, "class": ["run"]}, r"results\['v'\] holds 1000+, expected a number"),
        ({"results": {"v": [0.1]}, "class": [7]}, r'"class"\[0\] is 7, expected the name'),
        ({"results": {"v": [0.1]}, "class": "r"}, '"class" is str, expected a list'),
        ({"results": {"v": [0.1, 0.2]}, "class": ["run", "run"]}, "names 'run' twice"),
        ({"results": {"v": [{"label": 7, "score": 1}]}}, r"results\['v'\]\[0\].label is 7, expected the name"),
        ({"results": {"v": [0.1], "v.mp4": [0.2]}, "class": ["run"]}, r"\['v'\] and results\['v.mp4'\] are one video"),
    ],
)
def test_other_files_are_refused_with_the_place(document, message) -> None:
    with pytest.raises(ValueError, match=f"file.*{message}"):
        parse_video_scores(document, "file")
