"""What is allowed and looks wrong: each kind is told, and sound annotations are not suspected."""

import pytest

from tadscale.data.decode import VideoInfo, probe_video
from tadscale.data.suspicions import Suspicions
from tests.data.clips import encode_clip, numbered

INFO = VideoInfo(duration_s=60.0, fps=25.0, frames=1500, width=64, height=64)


def warnings(*annotations: dict[str, object]) -> list[str]:
    suspicions, more = Suspicions(), Suspicions()
    for index, annotation in enumerate(annotations):
        (suspicions if index % 2 else more).see(f"v{index}", annotation, INFO)
    suspicions.add(more)
    return suspicions.warnings()


def segments(*spans: tuple[float, float], label: str = "a") -> list[dict[str, object]]:
    return [{"label": label, "segment": list(span)} for span in spans]


def test_sound_annotations_raise_no_suspicion() -> None:
    assert warnings() == []
    assert warnings({"duration": 60.9, "annotations": segments((1, 2), (50, 61))}, {"annotations": []}) == []
    assert warnings({"annotations": None}, {"annotations": [7]}) == []  # for others to refuse


@pytest.mark.parametrize(("factor", "unit"), [(25.0, "frame numbers"), (1e3, "milliseconds"), (1e6, "microseconds")])
def test_other_units_of_time_are_recognised(factor: float, unit: str) -> None:
    spans = [segments((3 * factor, 20 * factor), (30 * factor, end * factor)) for end in (40, 55, 59)]
    [warning] = warnings(*({"annotations": rows} for rows in spans))
    assert f"the times look like {unit}" in warning
    assert "60.0 s" in warning


def test_videos_that_are_brought_to_a_higher_rate_are_told() -> None:
    seen = Suspicions()
    for key, fps in {"a": 10.0, "b": 24.0, "c": 29.97}.items():
        seen.see(key, {"annotations": []}, VideoInfo(60.0, fps, 600, 8, 8), wanted_fps=25.0)
    [warning] = seen.warnings()
    assert warning.startswith("1 videos have fewer pictures a second than they are brought to")
    assert warning.endswith("a: 10 of 25")


def test_files_that_are_cut_short_are_told_of() -> None:
    whole = encode_clip(numbered(140), container="matroska")
    cut = probe_video(whole[: len(whole) // 2])
    seen = Suspicions()
    seen.see("a", {"annotations": []}, probe_video(whole))
    assert seen.warnings() == []
    seen.see("b", {"annotations": []}, cut)
    [warning] = seen.warnings()
    assert warning.startswith("1 videos have fewer pictures than their headers promise")
    assert warning.endswith(f"b: {cut.duration_s:.1f} of 14.0 s")


def test_another_length_than_stated_is_told_with_both() -> None:
    [warning] = warnings(*({"duration": stated, "annotations": []} for stated in (211.5, 60, 20, 30, 40)))
    assert warning.startswith("4 videos are not as long")
    assert "211.5 s stated, 60.0 s in the file" in warning
    assert warning.endswith("; ...")


def test_ambiguous_segments_are_told_to_be_a_class() -> None:
    [warning] = warnings({"annotations": [*segments((0, 1)), *segments((1, 2), (3, 4), label="Ambiguous")]})
    assert warning.startswith("2 segments are 'Ambiguous', which is a class now")


def test_labels_that_differ_by_case_blanks_or_punctuation_are_told_with_their_number() -> None:
    rows = [*segments((0, 1)), *segments((1, 2), (2, 3), label="A "), *segments((4, 5), label="a b")]
    [warning] = warnings({"annotations": rows}, {"annotations": segments((4, 5), label="c")})
    assert "'A ' (2 segments), 'a' (1 segments)" in warning
    assert "'c'" not in warning
    [warning] = warnings({"annotations": [*segments((0, 1), label="High Jump"), *segments((0, 1), label="high_jump")]})
    assert "'High Jump' (1 segments), 'high_jump' (1 segments)" in warning
    assert warnings({"annotations": [*segments((0, 1), label="+"), *segments((0, 1), label="-")]}) == []
