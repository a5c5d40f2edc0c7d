"""Runs in the consumer's environment, beside `model/`, `clip.mp4` and `expected.json`; see consumer_venv.sh."""

import importlib.util
import json
import sys
from importlib.metadata import distributions

for name in ("tadscale", "ray", "deepspeed", "webdataset", "s3fs", "cv2", "matplotlib", "boto3"):
    here = importlib.util.find_spec(name) is not None
    print(f"{name}: {'installed' if here else 'not installed'}")  # noqa: T201
    if here and name in ("tadscale", "ray", "deepspeed"):
        sys.exit(f"{name} is installed: this is no consumer's environment")

import mlflow  # noqa: E402

with open("expected.json") as file:
    expected = json.load(file)
rows = mlflow.pyfunc.load_model("model").predict(["clip.mp4"]).to_numpy().tolist()

import tadscale  # noqa: E402

assert len(rows) == len(expected) > 0
for got, wanted in zip(rows, expected, strict=True):
    assert got[:2] == wanted[:2], (got, wanted)
    assert all(abs(a - b) < 1e-5 for a, b in zip(got[2:], wanted[2:], strict=True)), (got, wanted)
print(f"{len(list(distributions()))} packages; tadscale from {tadscale.__file__}")  # noqa: T201
print(f"{len(rows)} detections, equal to the training side's; the best: {rows[0]}")  # noqa: T201
