"""An exported detector as an MLflow model: safetensors, JSON and source code. No pickle, nothing of the training stack.

- `MLmodel`, `requirements.txt` and the like: MLflow's own;
- `pyfunc.py`: what MLflow runs to load the model (models from code);
- `code/tadscale/`: the files of tadscale that detection imports;
- `artifacts/detector/`: `network.json` says what the detector is, `weights.safetensors` holds its weights;
  `extractor.safetensors` those of the backbone that makes its features of videos, where it reads features of a known make;
- `model_card.md`: what to know before using it.
"""

import base64
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from tadscale.data.encode import encode_h264
from tadscale.data.extractor_spec import EXTRACTOR_WEIGHTS_NAME
from tadscale.network import NetworkSpec, save_network
from tadscale.runtime.models.shipped_code import ROOT, copy_shipped_files
from tadscale.runtime.tracking.client import prepare_environment
from tadscale.serving.predictor import PACKAGED_AT

REQUIREMENTS = ("torch", "numpy", "av", "safetensors", "pydantic", "fsspec", "pandas", "mlflow")
"""All that detection imports. Videos on S3 need s3fs on top."""
CARD_NAME = "model_card.md"
PYFUNC = ROOT / "serving" / "pyfunc.py"


def package_model(
    directory: Path, spec: NetworkSpec, weights: Mapping[str, Tensor], *, card: str = "", extractor: bytes = b""
) -> NetworkSpec:
    """Write an exported detector as a folder that `mlflow.pyfunc.load_model` and `Predictor.from_directory` load.

    Args:
        directory: does not exist yet, or is empty.
        spec: what the detector is; its `weights_sha256` is filled in here.
        weights: the trained network's tensors (the averaged ones, as evaluated); a student's branch detector is left out.
        card: the model card, in Markdown.
        extractor: the file of the weights that `spec.extractor` names, where it names some.

    Returns:
        The spec as written.

    Raises:
        ValueError: the weights do not fit the spec.
    """
    with TemporaryDirectory() as folder:
        detector = Path(folder, PACKAGED_AT.name)
        written = save_network(str(detector), spec, weights)
        if spec.extractor is not None:
            (detector / EXTRACTOR_WEIGHTS_NAME).write_bytes(extractor)
        _save_pyfunc(directory, detector, copy_shipped_files(Path(folder)), spec.inference.nms.top_k)
    _forget_paths(directory / "MLmodel")
    if card:
        (directory / CARD_NAME).write_text(card, encoding="utf-8")
    return written


def requirements() -> list[str]:
    """What a consumer installs: the versions that the model was packaged with, without local labels such as `+cpu`."""
    return [f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS]


def _save_pyfunc(directory: Path, detector: Path, code: Path, top_k: int) -> None:
    prepare_environment()
    from mlflow.pyfunc import save_model

    save_model(
        str(directory),
        python_model=str(PYFUNC),
        artifacts={PACKAGED_AT.name: str(detector)},
        code_paths=[str(code)],
        signature=_signature(top_k),
        input_example=[_example_video()],
        pip_requirements=requirements(),
    )


def _signature(top_k: int) -> Any:
    """What goes in and out. The input has no schema: of a table MLflow would pass on the first column, and not `video`, and
    of a named column it would refuse the plain list."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    output = {"video": DataType.string, "label": DataType.string}
    output |= dict.fromkeys(("start_s", "end_s", "score"), DataType.double)
    return ModelSignature(
        outputs=Schema([ColSpec(kind, name) for name, kind in output.items()]),
        params=ParamSchema([ParamSpec("min_score", DataType.double, 0.0), ParamSpec("top_k", DataType.long, top_k)]),
    )


def _example_video() -> str:
    """An input that works as it stands, with no file anywhere: two seconds of a square on its way, as a data: URL."""
    frames = np.full((20, 64, 64, 3), 40, np.uint8)  # [T, H, W, 3]
    for index, picture in enumerate(frames):
        picture[24:40, 2 * index : 2 * index + 16] = 220
    return "data:video/mp4;base64," + base64.b64encode(encode_h264(frames, fps=10.0)).decode()


def _forget_paths(mlmodel: Path) -> None:
    """Leave this machine's folders out of `MLmodel`; loading reads names relative to the model only."""
    document = yaml.safe_load(mlmodel.read_text(encoding="utf-8"))
    flavor = document["flavors"]["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    mlmodel.write_text(yaml.safe_dump(document), encoding="utf-8")
