"""A stage's curves in its run: every step once, whatever was killed or away on the way."""

import io
import json
from dataclasses import fields

from tadscale.data.storage import read_bytes
from tadscale.engine.loop import StepRecord
from tadscale.runtime.tracking.run import Run

LOSS, RATE, DATA_WAIT, ETA, TOTAL = "train/loss", "windows_per_s", "data_wait_share", "eta_s", "total_steps"
DATA_EVERY_STEPS = 10
"""How often the data plane's figures are sent: they are of the last 50 steps, and every one is a row in the store."""
RECORDED_TAG = "tadscale.recorded"  # digest of the network that the stage left, once its run has all of it
_FIELDS = {field.name for field in fields(StepRecord)}


class StageCurves:
    """Sends each step's figures, but those that the run has already.

    After a kill the steps past the last checkpoint are trained again, to the same losses; and the last points before the
    kill were never sent. What is missing at the end is taken from the stage's log.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._recorded = run.tag(RECORDED_TAG)
        # A recorded stage is mostly passed through: its points, which may be a million, are asked for by `add` alone.
        self._known = None if self._recorded else run.logged_steps(LOSS)

    def add(self, record: StepRecord) -> None:
        """Send a step's figures."""
        known = self._known = self._run.logged_steps(LOSS) if self._known is None else self._known
        if record.step not in known:
            total = {} if known else {TOTAL: float(record.total_steps)}
            self._run.log_metrics(step_metrics(record) | total, record.step)
            known.add(record.step)

    def are_recorded(self, network_sha256: str) -> bool:
        """Whether the run has, since an earlier try, all of the stage that left this network."""
        return bool(network_sha256) and network_sha256 == self._recorded

    def complete(self, log_url: str) -> None:
        """Send what the stage's finished log has and the run has not."""
        for line in io.BytesIO(read_bytes(log_url)):
            self.add(StepRecord(**{name: value for name, value in json.loads(line).items() if name in _FIELDS}))
        self._run.flush()


def step_metrics(record: StepRecord) -> dict[str, float]:
    """A step's figures under the names that they have in MLflow; the data plane's at every tenth step and at the last."""
    told = record.step % DATA_EVERY_STEPS == 0 or record.step + 1 == record.total_steps
    figures = {f"data/{name}": value for name, value in record.data.items()} if told else {}
    figures |= {f"train/{name}": value for name, value in record.losses.items()}
    return figures | {
        "lr": record.lr,
        "grad_norm": record.grad_norm,
        RATE: record.windows_per_s,
        DATA_WAIT: record.data_wait_share,
        ETA: record.eta_s,
        "mean_windows_per_s": record.mean_windows_per_s,
        "memory_mib": record.memory_mib,
        "shared_memory_mib": record.shared_memory_mib,
        "gpu_memory_mib": record.gpu_memory_mib,
    }
