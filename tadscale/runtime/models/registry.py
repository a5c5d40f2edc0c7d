"""The model registry: versions under one name, of which one is `champion`, one may be `challenger`.

Promotion remembers whom it deposed in a tag of the registered model, so that `rollback` is one verb.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tadscale.errors import UserError
from tadscale.network import SPEC_NAME, read_spec
from tadscale.runtime.models.packaging import CARD_NAME
from tadscale.runtime.tracking.client import make_client
from tadscale.runtime.tracking.redact import redact, redact_text
from tadscale.runtime.tracking.run import Run
from tadscale.serving.predictor import detector_folder

CHAMPION, CHALLENGER = "champion", "challenger"
FORMER_CHAMPIONS_TAG = "tadscale.former_champions"  # JSON list of versions, the latest last
REMEMBERED = 100
METRIC_PREFIX = "metric."
DETECTOR_TAG = "tadscale.detector_sha256"  # digest of network.json, which holds that of the weights
MAX_DESCRIPTION = 5000  # characters, the column's width in MLflow's database


PLACE_BOUND = {"MLmodel", CARD_NAME}  # files of a package that say where and when it was made


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """One version of a registered model."""

    name: str
    version: int
    aliases: tuple[str, ...]
    run_id: str
    created_ms: int
    """Milliseconds since 1970."""
    tags: dict[str, str]
    """Without the metrics."""
    metrics: dict[str, float]
    """Such as `average_mAP`, as registered."""


class Registry:
    """The models of one MLflow store."""

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        self._client = make_client(tracking_uri)

    def register(
        self,
        run: Run,
        name: str,
        package: Path,
        *,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        card: str = "",
    ) -> ModelVersion:
        """Store a packaged model with a run and make it the next version: champion if there is none, else challenger.

        A detector that this run has registered already, before it was interrupted, is not registered twice.

        Args:
            run: the run that made it; the package becomes its artifact `model-DIGEST`.
            name: of the registered model; made if it is new.
            package: folder written by `tadscale.runtime.models.packaging.package_model`.
            metrics: what the version is judged by, such as `average_mAP`.
            tags: digests, job name.
            card: the model card, which becomes the version's description (its beginning, if it is long).
        """
        digest = _sha256(detector_folder(package) / SPEC_NAME)
        self._ensure_name(name)
        for earlier in self._client.search_model_versions(f"run_id='{run.run_id}'"):
            if (earlier.name, earlier.tags.get(DETECTOR_TAG)) == (name, digest):
                return self.version(name, int(earlier.version))
        folder = f"model-{digest[:12]}"
        run.log_folder(package, folder)
        entries = {f"{METRIC_PREFIX}{key}": repr(float(value)) for key, value in metrics.items()}
        created = self._client.create_model_version(
            name,
            source=f"{run.artifact_uri}/{folder}",
            run_id=run.run_id,
            tags=redact({**tags, **entries}) | {DETECTOR_TAG: digest},
            description=_shortened(redact_text(card)),
        )
        alias = CHALLENGER if self._aliases(name).get(CHAMPION) else CHAMPION
        self._client.set_registered_model_alias(name, alias, str(created.version))
        return self.version(name, int(created.version))

    def list_versions(self, name: str) -> list[ModelVersion]:
        """All versions, the newest first.

        Raises:
            UserError: there is no such model.
        """
        self._aliases(name)  # a name that does not exist has no versions either, and no error
        versions = self._client.search_model_versions(f"name='{name}'")
        # The search leaves aliases out: each version is asked for by itself.
        return [self.version(name, number) for number in sorted((int(one.version) for one in versions), reverse=True)]

    def version(self, name: str, selector: int | str) -> ModelVersion:
        """One version, by its number or by an alias.

        Raises:
            UserError: there is none.
        """
        entry = self._find(name, selector)
        tags = dict(entry.tags)
        metrics = {key: float(tags.pop(key)) for key in sorted(tags) if key.startswith(METRIC_PREFIX)}
        return ModelVersion(
            name=name,
            version=int(entry.version),
            aliases=tuple(sorted(entry.aliases)),
            run_id=entry.run_id,
            created_ms=entry.creation_timestamp,
            tags=tags,
            metrics={key.removeprefix(METRIC_PREFIX): value for key, value in metrics.items()},
        )

    def promote(self, name: str, selector: int | str = CHALLENGER) -> ModelVersion:
        """Make a version the champion; the one before is remembered for `rollback`.

        Raises:
            UserError: there is no such version.
        """
        chosen = self.version(name, selector)
        aliases = self._aliases(name)
        reigning = aliases.get(CHAMPION)
        if reigning == chosen.version:
            return chosen
        if reigning is not None:
            self._remember(name, [*self._former_champions(name), reigning])
        self._client.set_registered_model_alias(name, CHAMPION, str(chosen.version))
        if aliases.get(CHALLENGER) == chosen.version:
            self._client.delete_registered_model_alias(name, CHALLENGER)
        return self.version(name, chosen.version)

    def rollback(self, name: str) -> ModelVersion:
        """Make the previous champion the champion again; versions that have been deleted since are passed over.

        Raises:
            UserError: there was no champion before this one.
        """
        existing = {version.version for version in self.list_versions(name)}
        former = [version for version in self._former_champions(name) if version in existing]
        if not former:
            raise UserError(f"the model {name} has had no champion before this one: promote the version that you want")
        self._client.set_registered_model_alias(name, CHAMPION, str(former[-1]))
        self._remember(name, former[:-1])
        return self.version(name, former[-1])

    @contextmanager
    def fetch(self, name: str, selector: int | str = CHAMPION) -> Iterator[Path]:
        """The folder of a version's packaged model, downloaded for as long as the `with` block lasts.

        Raises:
            UserError: there is no such version.
        """
        from mlflow.artifacts import download_artifacts

        number = str(self._find(name, selector).version)
        uri = self._client.get_model_version_download_uri(name, number)
        with TemporaryDirectory() as folder:
            yield Path(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=self.tracking_uri))

    def record(self, name: str, selector: int | str = CHAMPION) -> dict[str, Any]:
        """What a version is, as one JSON document that can be compared between two runs of the same job.

        Left out is what differs between any two runs: run ids, times, places of storage (and the model card, which names
        them), the order of registration.
        """
        version = self.version(name, selector)
        with self.fetch(name, version.version) as package:
            spec = read_spec(str(detector_folder(package))).model_dump(mode="json")
            files = sorted(path for path in package.rglob("*") if path.is_file() and path.name not in PLACE_BOUND)
            digests = {path.relative_to(package).as_posix(): _sha256(path) for path in files}
            requirements = (package / "requirements.txt").read_text(encoding="utf-8").split()
        return {
            "name": name,
            "aliases": list(version.aliases),
            "tags": version.tags,
            "metrics": version.metrics,
            "detector": spec,
            "files": digests,
            "requirements": requirements,
        }

    def _find(self, name: str, selector: int | str) -> Any:
        from mlflow.exceptions import MlflowException

        aliases = self._aliases(name)
        text = str(selector)
        number = text if text.isdecimal() else aliases.get(text)
        try:
            if number is not None:
                return self._client.get_model_version(name, str(number))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        known = ", ".join(f"{alias} (version {version})" for alias, version in sorted(aliases.items())) or "none"
        raise UserError(
            f"the model {name} has no version or alias {text!r}; its aliases: {known}. "
            f"See: tadscale registry list {name}"
        )

    def _aliases(self, name: str) -> dict[str, int]:
        from mlflow.exceptions import MlflowException

        try:
            return {alias: int(version) for alias, version in self._client.get_registered_model(name).aliases.items()}
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            names = ", ".join(sorted(model.name for model in self._client.search_registered_models())) or "none"
            raise UserError(
                f"no model {name!r} is registered at {redact_text(self.tracking_uri)}; registered are: {names}. "
                "Check the name, and MLFLOW_TRACKING_URI."
            ) from error

    def _ensure_name(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _former_champions(self, name: str) -> list[int]:
        return json.loads(self._client.get_registered_model(name).tags.get(FORMER_CHAMPIONS_TAG, "[]"))

    def _remember(self, name: str, versions: list[int]) -> None:
        self._client.set_registered_model_tag(name, FORMER_CHAMPIONS_TAG, json.dumps(versions[-REMEMBERED:]))


def _shortened(card: str) -> str:
    if len(card) <= MAX_DESCRIPTION:
        return card
    remark = "\n\n(The whole card is model_card.md in the model's folder.)"
    return card[: MAX_DESCRIPTION - len(remark)] + remark


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
