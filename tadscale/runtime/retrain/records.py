"""Where a tick's record lies: beside the stages of the run that it decided on."""

from tadscale.data.storage import join, read_text, write_bytes
from tadscale.report.retrain import retrain_markdown
from tadscale.retrain.record import RetrainRecord
from tadscale.runtime.tracking.run import Run

RECORD_NAME, PARAGRAPH_NAME = "retrain.json", "retrain.md"
TAG_PREFIX = "tadscale.retrain."


def write_record(storage: str, record: RetrainRecord, run: Run | None = None) -> None:
    """Write a record and its paragraph into the run's folder, and into its record in MLflow. Raises `StorageError`."""
    document, paragraph = record.model_dump_json(indent=1), retrain_markdown(record)
    for name, text in ((PARAGRAPH_NAME, paragraph), (RECORD_NAME, document)):
        write_bytes(join(storage, record.derivation.run, name), text.encode())
        if run is not None:
            run.log_text(text, name)


def read_record(storage: str, run: str) -> RetrainRecord | None:
    """The record of a run; None if no tick has begun it. Raises `StorageError`."""
    text = read_text(join(storage, run, RECORD_NAME))
    return RetrainRecord.model_validate_json(text) if text else None


def record_tags(record: RetrainRecord) -> dict[str, str]:
    """What a run in MLflow says of the decision that it comes from."""
    made, decision = record.derivation, record.decision
    tags = {
        "reasons": "; ".join(decision.reasons),
        "champion": "none" if made.champion is None else str(made.champion),
        "new_videos": str(decision.new_videos),
        "start": made.start_says,
        "teacher": made.teacher_says,
    }
    return {f"{TAG_PREFIX}{name}": text for name, text in tags.items()}
