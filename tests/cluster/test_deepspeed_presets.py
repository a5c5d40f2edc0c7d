"""Real DeepSpeed reads every preset and trains with it, and the engine takes it; of stage 3 the engine takes none."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tadscale.runtime.cluster.deepspeed_preset import check_preset

ROOT = Path(__file__).resolve().parents[2]
PRESETS = {path.stem: path for path in sorted((ROOT / "cluster/deepspeed").glob("*.json"))}
NAMES = ["zero1", "zero2"]

TRAIN = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import torch
torch.set_num_threads(1)
import deepspeed, deepspeed.ops
from deepspeed.runtime.config import DeepSpeedConfig
from torch import nn

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # else it is compiled, 30 s
deepspeed.init_distributed("gloo", verbose=False)
for path in sys.argv[1:]:
    completed = json.load(open(path)) | {"train_micro_batch_size_per_gpu": 4, "gradient_clipping": 1.0}
    stage = DeepSpeedConfig(dict(completed)).zero_optimization_stage
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=completed, dist_init_required=False)
    inputs, labels = torch.randn(4, 8), torch.tensor([0, 1, 0, 1])
    losses = []
    for _ in range(5):
        outputs = engine(inputs)
        loss = nn.functional.cross_entropy(outputs.float(), labels)
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    dtypes = [str(outputs.dtype), str(next(engine.module.parameters()).dtype)]
    print("RESULT", json.dumps([path, {"stage": int(stage), "losses": losses, "dtypes": dtypes}]), flush=True)
"""


@pytest.fixture(scope="module")
def trained() -> dict[str, dict[str, Any]]:
    """One process for all: to import DeepSpeed takes longer than to train."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    rank = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    answer = subprocess.run(
        [sys.executable, "-c", TRAIN, *map(str, PRESETS.values())],
        env={**os.environ, **rank, "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    results = (json.loads(line[7:]) for line in answer.stdout.splitlines() if line.startswith("RESULT "))
    return {Path(path).stem: result for path, result in results}


def test_presets_are_these() -> None:
    assert sorted(PRESETS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_deepspeed_trains_with_it(trained: dict[str, dict[str, Any]], name: str) -> None:
    result = trained[name]
    assert result["stage"] == int(name[4])
    assert result["losses"][-1] < 0.9 * result["losses"][0]


@pytest.mark.parametrize("name", NAMES)
def test_arithmetic_in_bfloat16_weights_in_float32(trained: dict[str, dict[str, Any]], name: str) -> None:
    assert trained[name]["dtypes"] == ["torch.bfloat16", "torch.float32"]


@pytest.mark.parametrize("name", NAMES)
def test_engine_takes_it(name: str) -> None:
    check_preset(json.loads(PRESETS[name].read_text()))


def test_engine_refuses_stage_3_and_says_why() -> None:
    spread = json.loads(PRESETS["zero2"].read_text())
    spread["zero_optimization"]["stage"] = 3
    with pytest.raises(ValueError, match=r"stage 3.*spreads the weights.*use stage 2"):
        check_preset(spread)
