"""What a trained network is on disk: written, read back, verified; and as it was first written."""

import hashlib
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tadscale.models.backbones.tsm_resnet import TsmR18Config
from tadscale.models.heads.tadtr.network import TadTRConfig
from tadscale.network import load_network, misfit, read_spec, save_network, spec_digest
from tadscale.serving.path import DetectionPath
from tadscale.serving.predictor import Predictor
from tests.serving.tiny import SPEC, clip, student_weights


def as_format_1(folder: Path) -> None:
    """The tiny student as it was exported at first: `model.json`, its head one level deeper, other names of branches."""
    old = {"motion_branch": "motion", "appearance_branch": "appearance"}
    names = {name: name.split(".", 1) for name in student_weights() if not name.startswith("branch_head.")}
    weights = {f"{old.get(first, first)}.{rest}": student_weights()[name] for name, (first, rest) in names.items()}
    data = safetensors.torch.save(weights)
    (folder / "weights.safetensors").write_bytes(data)
    spec = SPEC.model_dump(mode="json", exclude={"format", "model", "in_channels", "plan_digest", "code_version"})
    network = SPEC.model.model_dump(mode="json")
    head = network["head"]
    network["head"] = {"name": head.pop("name"), "actionformer": head}
    unknown = {"plan_digest": None, "code_version": None}
    document = spec | unknown | {"format": 1, "network": network, "weights_sha256": hashlib.sha256(data).hexdigest()}
    (folder / "model.json").write_text(json.dumps(document))


def test_what_this_checkout_does_not_have_is_named_in_plain_words(tmp_path):
    save_network(str(tmp_path), SPEC, student_weights())
    path = tmp_path / "network.json"
    document = json.loads(path.read_text())
    head = document["model"]["head"]
    document["model"]["head"] = {**head, "later": 1}
    path.write_text(json.dumps(document))
    with pytest.raises(
        ValueError, match=r"head\.\w+\.later: Extra inputs are not permitted\): use the version"
    ) as refused:
        read_spec(str(tmp_path))
    assert "pydantic" not in str(refused.value)
    document["model"] |= {"head": {**head, "name": "mine"}, "backbone": {"name": "theirs"}}
    path.write_text(json.dumps(document))
    named = "with the backbone `theirs` and the head `mine`, which this tadscale does not have: use the checkout"
    with pytest.raises(ValueError, match=named) as refused:
        read_spec(str(tmp_path))
    assert "pydantic" not in str(refused.value) and "name_of" not in str(refused.value)


def test_what_is_saved_is_what_is_loaded_and_twice_the_same(tmp_path):
    for name in "ab":
        written = save_network(str(tmp_path / name), SPEC, student_weights())
    network, spec = load_network(str(tmp_path / "a"))
    assert spec == written == read_spec(str(tmp_path / "b"))
    state = network.state_dict()
    assert state and all(torch.equal(state[name], student_weights()[name]) for name in state)
    for name in ("network.json", "weights.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_model_of_format_1_detects_the_same(tmp_path):
    (tmp_path / "old").mkdir()
    as_format_1(tmp_path / "old")
    save_network(str(tmp_path / "new"), SPEC, student_weights())
    video = clip(2.0)
    old, new = (Predictor.from_directory(tmp_path / name, "cpu") for name in ("old", "new"))
    assert old.spec.model == SPEC.model and old.spec.inference == SPEC.inference
    assert len(old.detect(video, "v")[1]) > 3
    assert old.detect(video, "v") == new.detect(video, "v")


def test_a_network_with_temporal_shift_from_before_it_was_a_setting_is_read_the_other_way_round(tmp_path):
    model = SPEC.model.model_copy(update={"backbone": TsmR18Config(width=8)})
    spec = SPEC.model_copy(update={"mode": "baseline", "model": model})
    save_network(str(tmp_path), spec, spec.build().state_dict())
    assert read_spec(str(tmp_path)).model.backbone.shift_first == "next"
    path = tmp_path / "network.json"
    document = json.loads(path.read_text())
    del document["model"]["backbone"]["shift_first"]
    path.write_text(json.dumps(document))
    assert read_spec(str(tmp_path)).model.backbone.shift_first == "previous"


def test_what_a_description_says_of_suppression_is_what_is_done(tmp_path):
    """Whatever the head would choose today: a registered model detects as it did."""
    head = TadTRConfig(dim=8, heads=2, queries=4)
    spec = SPEC.model_copy(update={"mode": "baseline", "model": SPEC.model.model_copy(update={"head": head})})
    save_network(str(tmp_path), spec, spec.build().state_dict())
    assert SPEC.inference.nms.method == "soft" != head.suppression.method
    assert DetectionPath.of(read_spec(str(tmp_path))).inference == SPEC.inference


def test_damaged_weights_are_never_parsed(tmp_path):
    save_network(str(tmp_path), SPEC, student_weights())
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ValueError, match=r"weights.safetensors has digest .* the file is damaged"):
        load_network(str(tmp_path))


def test_weights_that_the_code_of_now_has_no_place_for_are_named_without_being_read(tmp_path):
    save_network(str(tmp_path), SPEC, student_weights())
    assert misfit(str(tmp_path)) == ""
    path = tmp_path / "weights.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    gone, *_, reshaped = sorted(name for name, tensor in tensors.items() if tensor.dim())
    del tensors[gone]
    path.write_bytes(safetensors.torch.save(tensors | {reshaped: torch.zeros(7, 7), "new.bias": torch.zeros(1)}))
    says = misfit(str(tmp_path))
    assert f"{gone} is missing, new.bias is unknown, {reshaped} is [7, 7], not " in says
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match="does not begin as a file of weights does"):
        misfit(str(tmp_path))


def test_weights_of_another_network_are_not_written(tmp_path):
    other = SPEC.model_copy(update={"classes": ("a", "b", "c")})
    with pytest.raises(ValueError, match=r"the weights does not fit the architecture \(.* was changed since$"):
        save_network(str(tmp_path), other, student_weights())
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_network_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"is no trained network: it has no network.json"):
        read_spec(str(tmp_path))


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_neither_written_nor_loaded(number, tmp_path):
    """They would load, find nothing, and say nothing."""
    weights = student_weights()
    name = next(name for name in weights if name.startswith("backbone."))
    broken = weights | {name: torch.full_like(weights[name], number)}
    with pytest.raises(ValueError, match=rf"the weights: {name} hold infinite numbers or NaN"):
        save_network(str(tmp_path / "a"), SPEC, broken)
    assert not (tmp_path / "a").exists()
    written = save_network(str(tmp_path / "b"), SPEC, weights)
    kept = {name: broken[name] for name in safetensors.torch.load_file(tmp_path / "b" / "weights.safetensors")}
    data = safetensors.torch.save(kept)
    (tmp_path / "b" / "weights.safetensors").write_bytes(data)
    described = written.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    (tmp_path / "b" / "network.json").write_text(described.model_dump_json())
    for load in (lambda: load_network(str(tmp_path / "b")), lambda: Predictor.from_directory(tmp_path / "b", "cpu")):
        with pytest.raises(ValueError, match=f"{name} hold infinite numbers or NaN"):
            load()


def test_a_description_that_is_not_the_trained_one_is_refused(tmp_path):
    written = save_network(str(tmp_path), SPEC, student_weights())
    digest = spec_digest(str(tmp_path))
    assert read_spec(str(tmp_path), digest) == written
    path = tmp_path / "network.json"
    path.write_text(path.read_text().replace('"jump"', '"jumq"'))
    with pytest.raises(ValueError, match=r"network.json has digest .* damaged or replaced since"):
        read_spec(str(tmp_path), digest)
