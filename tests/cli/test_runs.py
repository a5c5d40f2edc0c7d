"""What `tadscale runs` shows of a job."""

import io

import pytest
from rich.console import Console

from tadscale.cli.runs import jobs_table
from tadscale.runtime.tracking.overview import JobSeen


@pytest.mark.parametrize("error", ["motion.name: expected one of [tvl1, dis, raft]", "no shard in [/data/a, /data/b]"])
def test_brackets_in_an_error_are_no_markup(error: str) -> None:
    job = JobSeen(
        name="a[b]", experiment="e", experiment_id="1", run_id="r", status="FAILED", started_unix_s=0, heard_unix_s=0,
        ended_unix_s=1, error=error, stages=(), scores={}, cell="",
    )  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=150).print(jobs_table([job]))
    assert error in out.getvalue() and "a[b]" in out.getvalue()
