"""The places that a job names: whether they can be opened at all, and whether what is written there stays."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from tadscale.data.storage import open_filesystem
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.models.open_model import MODELS, parse_model
from tadscale.runtime.stage.local_paths import is_relative, uploaded_folder
from tadscale.runtime.stage.places import PLACES, places

NEEDED = (
    "torch",
    "ray",
    "deepspeed",
    "mlflow",
    "av",
    "cv2",
    "numpy",
    "scipy",
    "pyarrow",
    "safetensors",
    "webdataset",
    "matplotlib",
)
"""What a job imports, by the names that it imports; `tadscale doctor` looks for the same."""


def packages(facts: Facts) -> Iterator[str]:
    """What a job imports is installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        yield f"not installed here: {', '.join(missing)}; pip install 'tadscale[train]'"


def urls(facts: Facts) -> Iterator[str]:
    """Every place is of a scheme that is read, and holds no credentials."""
    for name, url in _named(facts).items():
        try:
            parse_model(url) if url.startswith(MODELS) else open_filesystem(url)
        except (ValueError, OSError) as error:
            yield f"{name}: {error}"


def lasting(facts: Facts) -> Iterator[str]:
    """Nothing is written into the copy of a folder that Ray makes for a submitted job, and deletes."""
    uploaded = uploaded_folder(Path.cwd())
    if uploaded is None:
        return
    job = facts.given
    written = {"storage": job.storage} | ({"data.url": job.data.url} if job.data.sprites else {})
    for name, url in written.items():
        if is_relative(url):
            yield (
                f"{name}: {url} is relative, and this job runs in a copy of the folder that was submitted with "
                f"--working-dir ({uploaded}), which Ray deletes with all that is written there: give an absolute path or "
                "s3://..., or start the cluster in the repository and submit without --working-dir"
            )


def _named(facts: Facts) -> dict[str, str]:
    """Every place by its setting."""
    sources = {f"data.sources[{index}].url": source.url for index, source in enumerate(facts.job.data.sources)}
    return places(facts.job, PLACES) | sources
