"""What inference costs: every part of two-stream is counted, and the student's own is none of them."""

from benchmarks.inference import main, with_two_stream


def test_two_stream_is_all_but_the_student():
    costs = with_two_stream({"student": 9.0, "baseline": 1.0, "motion": 2.0, "motion's detector": 4.0})
    assert costs["two-stream (the last three)"] == 7.0


def test_a_job_is_measured(capsys):
    main(["jobs/distill.yaml", "--repeats", "1", "--set", "data.window.frames=16", "--set", "motion.name=dis"])
    out = capsys.readouterr().out
    assert "10 pictures of 56 x 56, dis" in out
    assert out.count("x the student") == 5 and "  1.00 x the student" in out
