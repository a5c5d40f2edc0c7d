import pytest
import yaml

from tadscale.cli import main
from tadscale.errors import UserError
from tadscale.runtime.retrain.spec import is_retrain, load_retrain


def test_a_retraining_is_a_job_with_changes_and_a_gate(retrain_file, storage):
    config, job = load_retrain(retrain_file, ["settings.optim.epochs=7", "when.drift.distance=0.5"])
    assert is_retrain(retrain_file) and not is_retrain(retrain_file.with_name("base.yaml"))
    assert (config.when.min_new_videos, config.when.drift.distance) == (5, 0.5)
    assert (job.name, job.storage, job.optim.epochs, job.baseline) == ("again", str(storage), 7, False)
    assert job.gate is not None and job.gate.policy == "better"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"when": {"min_new_video": 3}}, "when.min_new_video: unknown key; did you mean `min_new_videos`?"),
        ({"when": {"drift": {"distance": 2}}}, "when.drift.distance"),
        ({"teacher": {"refresh": "often"}}, "teacher.refresh"),
        ({"settings": {"optim": {"epoch": 1}}}, "did you mean `epochs`"),
        ({"settings": {"tracking": {"registered_model": None}}}, "follows the champion"),
        ({"settings": {"kind": "teacher"}}, "of kind teacher"),
        ({"job": "nowhere.yaml"}, "no such job file"),
    ],
)
def test_what_does_not_hold_is_refused(retrain_file, changes, says):
    tree = yaml.safe_load(retrain_file.read_text()) | changes
    retrain_file.write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError, match=says):
        load_retrain(retrain_file)


def test_validate_shows_both_and_looks_at_the_job(retrain_file, capsys):
    assert main(["validate", str(retrain_file)]) == 0
    first, second = yaml.safe_load_all(capsys.readouterr().out)
    assert (first["kind"], second["kind"], second["name"]) == ("retrain", "distill", "again")
    assert main(["validate", str(retrain_file), "--set", "settings.cluster.deepspeed_preset=/nowhere.json"]) == 1
    assert "the job would not run to its end" in capsys.readouterr().err
    assert main(["plan", str(retrain_file), "--kubernetes"]) == 1
    assert "plan the job that it names" in capsys.readouterr().err
