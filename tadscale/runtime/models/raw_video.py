"""What a job's features were made by, to be carried by the model that it registers: with it the model runs on raw video."""

from typing import NamedTuple

from tadscale.data.extractor_spec import ExtractorSpec, read_extractor_weights
from tadscale.data.manifest import open_manifest
from tadscale.errors import UserError
from tadscale.runtime.stage.job import JobConfig


class RawVideo(NamedTuple):
    """What makes features of videos, or why the model can do without or has to."""

    extractor: ExtractorSpec | None = None
    weights: bytes = b""
    """The file of its weights."""
    lacks: str = ""
    """Why there is none, of a job on features."""


def raw_video(job: JobConfig) -> RawVideo:
    """What made the features that a job trains on, if one and the same made them all and its weights are there.

    Raises:
        UserError: a manifest is not there, or damaged.
        StorageError: the storage cannot be reached.
    """
    if job.data.window.features is None:
        return RawVideo()
    first, *others = sorted({source.url for source in job.data.training_sources})
    made_by = open_manifest(first).extractor
    if made_by is None:
        return RawVideo(
            lacks=f"{first} says of no backbone here that it made its features, as it does where `tadscale data features "
            "JOB.yaml URL` made them"
        )
    carried = made_by.without_place()
    for url in others:
        other = open_manifest(url).extractor
        if other is None or other.without_place() != carried:
            return RawVideo(lacks=f"the features of {first} and of {url} were not made by one backbone in one way")
    try:
        return RawVideo(carried, read_extractor_weights(first, made_by))
    except UserError as error:
        return RawVideo(lacks=str(error))
