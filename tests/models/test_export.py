"""Every head on every backbone: what is exported of a student is what was trained, less what served training alone."""

import pytest
import torch

from tadscale.data.windows import WindowConfig
from tadscale.models.config import ModelConfig
from tadscale.models.student import BRANCH_HEAD, Student
from tadscale.network import NetworkSpec, load_network, read_weights, save_network
from tests.models.backbones.test_conformance import BACKBONES
from tests.models.backbones.test_conformance import TINY as TINY_BACKBONES
from tests.models.heads.test_conformance import HEADS
from tests.models.heads.test_conformance import TINY as TINY_HEADS

FRAMES, SIZE, CLASSES = 32, 32, ("jump", "throw", "run")


# Every backbone with one head and every head on one backbone in the everyday suite; the other pairs, a minute together, in
# the slow one.
PAIRS = [
    pytest.param(backbone, head, marks=[] if "actionformer" in head or "small3d" in backbone else [pytest.mark.slow])
    for backbone in BACKBONES
    for head in HEADS
]


@pytest.mark.parametrize(("backbone", "head"), PAIRS)
def test_an_exported_student_predicts_what_the_trained_one_does(backbone, head, tmp_path):
    model = ModelConfig(
        backbone=BACKBONES[backbone](**TINY_BACKBONES[backbone]), dim=8, head=HEADS[head](**TINY_HEADS[head])
    )
    window = WindowConfig(frames=FRAMES, stride_frames=FRAMES, fps=10, height=SIZE, width=SIZE)
    spec = NetworkSpec(mode="decomposed", model=model, window=window, classes=CLASSES)
    torch.manual_seed(0)
    trained = spec.build(for_training=True).eval()
    assert isinstance(trained, Student)
    save_network(str(tmp_path), spec, trained.state_dict())
    exported, described = load_network(str(tmp_path))

    video = torch.randint(0, 256, (2, FRAMES, SIZE, SIZE, 3), dtype=torch.uint8)
    mask = torch.arange(FRAMES) < torch.tensor([[FRAMES], [20]])
    with torch.no_grad():
        expected, found = trained(video, mask).joint_predictions, exported.detect(video, mask)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)

    names = set(read_weights(str(tmp_path), described))
    assert not any(name.startswith(BRANCH_HEAD) for name in names)
    assert not any(name.startswith(BRANCH_HEAD) for name in exported.state_dict())
    assert {name.split(".")[0] for name in trained.state_dict()} - {name.split(".")[0] for name in names} == {
        BRANCH_HEAD
    }
