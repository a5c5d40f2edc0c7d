"""The verdict as people see it."""

from pathlib import Path

from tadscale.gate.config import GateConfig
from tadscale.gate.evidence import ClassDifference, Difference, Evidence
from tadscale.gate.verdict import Cost, Verdict, judge
from tadscale.report.gate import gate_markdown, plot_gate

FIGURES = {"challenger": 0.3, "champion": 0.5, "low": -0.3, "high": -0.1, "worse_share": 0.999}


def verdict(label: str = "long jump") -> Verdict:
    evidence = Evidence(
        overall=Difference(challenger=0.61, champion=0.5, low=0.02, high=0.2, worse_share=0.004),
        classes=(ClassDifference(label=label, instances=40, videos=30, regressed=True, **FIGURES),),
        videos=60,
        instances=140,
        tiou=(0.3, 0.5),
        confidence=0.95,
        draws=2000,
    )
    cost = Cost(weights_bytes=1234)
    return judge(evidence, GateConfig(), challenger=cost, champion=Cost(weights_bytes=99, seconds_per_video_second=0.5))


def test_the_page_has_decision_reasons_and_figures() -> None:
    page = gate_markdown(verdict(), "tiny: version 2 against 1")
    assert page.startswith("# tiny: version 2 against 1\n\n**promote** (policy better, margin 0.0")
    assert "- average mAP differs by +11.00 points, 95% interval +2.00 points to +20.00 points" in page
    assert "- worse in the class long jump: 50.0 to 30.0 %" in page
    assert "| average mAP | 50.00 | 61.00 | +11.00 | +2.00 to +20.00 | 0.4% |" in page
    assert "| **long jump** (regressed) | 50.00 | 30.00 | -20.00 | -30.00 to -10.00 | 99.9% |" in page
    assert "| weights, bytes | 99 | 1234 |" in page and "| seconds per video second | 0.5 | not measured |" in page


def test_a_class_cannot_break_the_table() -> None:
    [row] = [line for line in gate_markdown(verdict("a|b"), "x").splitlines() if line.startswith("| **a")]
    assert row.count("|") == 7


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    plot_gate(verdict(), "tiny", tmp_path / "gate.png")
    assert (tmp_path / "gate.png").read_bytes().startswith(b"\x89PNG")
