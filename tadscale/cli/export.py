"""`tadscale export`: a registered model as a graph without code."""

import argparse
from pathlib import Path

from rich.console import Console

from tadscale.cli.common import EXIT_OK, Commands


def add_to(commands: Commands) -> None:
    """Add this command to the parser."""
    export = commands.add_parser(
        "export", help="a registered model as ONNX or torch.export, to be run without this code"
    )
    export.add_argument("model", metavar="MODEL", help="registered name, models:/NAME@alias, or a model's folder")
    export.add_argument("out", metavar="OUT", type=Path, help="folder for the graph and its detector.json")
    export.add_argument("--format", choices=("onnx", "torch_export"), default="onnx")
    export.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help="how weights are stored; what is computed is float32 (default float32)",
    )
    export.add_argument("--tracking-uri", help="MLflow; default: MLFLOW_TRACKING_URI, else the demo's database")
    export.set_defaults(command=_export)


def _export(options: argparse.Namespace, console: Console) -> int:
    from tadscale.runtime.models.open_model import open_model
    from tadscale.runtime.tracking.track import default_store
    from tadscale.serving.export import SIDECAR, export_detector
    from tadscale.serving.predictor import detector_folder

    with open_model(options.model, options.tracking_uri or default_store()) as folder:
        graph = export_detector(detector_folder(folder), options.out, form=options.format, precision=options.precision)
    console.print(
        f"{graph}: {graph.stat().st_size / 1e6:.2f} MB, and how to use it in {graph.with_name(SIDECAR)}", markup=False
    )
    return EXIT_OK
