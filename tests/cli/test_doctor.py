"""`tadscale doctor`: its lines, its JSON and its exit code."""

import json

from tadscale.cli import main
from tests.runtime.jobs.preflight.conftest import changed, sound


def test_a_job_that_would_fail_ends_with_exit_code_1_and_one_line_a_probe(tmp_path, monkeypatch, capsys):
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(changed(sound(tmp_path), {"data.test_subset": "tests"})))
    assert main(["doctor", str(path), "--json"]) == 1
    lines = {line["probe"]: line for line in json.loads(capsys.readouterr().out)}
    assert lines["job: subsets"]["status"] == "fail"
    assert "did you mean `test`?" in lines["job: subsets"]["says"]
    assert lines["storage"]["status"] == "ok"
    assert [name for name, line in lines.items() if line["status"] == "fail"] == ["job: subsets"]

    monkeypatch.setattr("tadscale.runtime.jobs.doctor.examine.applicable", lambda *_, **__: ())
    assert main(["doctor", str(path)]) == 0
    assert all(line.split()[0] in ("ok", "warn") for line in capsys.readouterr().out.splitlines())
