"""The model registry: versions under one name, of which one is `champion`, one may be `challenger`.

Every command can be killed at any point and be repeated: what it had done stands, what was left is done, and the name is at
no time without a champion that it had. How, says `succession.py`. On a SQLite store the commands wait for each other.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from json import dumps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tadscale.data.storage import StorageError
from tadscale.errors import UserError
from tadscale.network import SPEC_NAME, NetworkSpec, read_spec
from tadscale.runtime.models.champion_alias import ChampionAlias, ChampionChanged, ChampionGone
from tadscale.runtime.models.moves import Move, read_moves
from tadscale.runtime.models.package_files import check_upload, download, file_digest, file_digests
from tadscale.runtime.models.packaging import CARD_NAME
from tadscale.runtime.models.succession import CHALLENGER, CHAMPION, ROLLBACK_TAG, Succession
from tadscale.runtime.tracking.client import make_client
from tadscale.runtime.tracking.patience import NotAllowed, PatientClient
from tadscale.runtime.tracking.redact import redact, redact_text
from tadscale.runtime.tracking.run import Run
from tadscale.runtime.tracking.store_lock import exclusive
from tadscale.serving.predictor import PACKAGED_AT, detector_folder

METRIC_PREFIX = "metric."
DETECTOR_TAG = "tadscale.detector_sha256"  # digest of network.json, which holds that of the weights
MAX_DESCRIPTION = 5000  # characters, the column's width in MLflow's database
GATE_PREFIX = "tadscale.gate."  # tags of a version: what it came to when it was compared with the champion
LOCK = "registry"

PLACE_BOUND = {"MLmodel", CARD_NAME}  # files of a package that say where and when it was made

log = logging.getLogger(__name__)


class NotRegistered(UserError):
    """There is no model of that name, or no version or alias of it."""


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """One version of a registered model."""

    name: str
    version: int
    aliases: tuple[str, ...]
    run_id: str
    """Of the run that made it; empty if it was brought without one."""
    created_ms: int
    """Milliseconds since 1970."""
    tags: dict[str, str]
    """Without the metrics."""
    metrics: dict[str, float]
    """Such as `average_mAP`, as registered."""


class Registry:
    """The models of one MLflow store.

    Args:
        tracking_uri: of the store.
        patience_s: how long a call waits for a store that is away, before it raises `TrackingAway`.
    """

    def __init__(self, tracking_uri: str, patience_s: float = 0.0) -> None:
        self.tracking_uri = tracking_uri
        self.patience_s = patience_s
        self._client = PatientClient(make_client(tracking_uri), redact_text(tracking_uri), patience_s)

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
        """Store a packaged model with a run and make it the next version: champion if there was none ever, else challenger.

        A detector that is registered under the name already, by whichever run, is not registered twice: its version is
        given the alias that an interruption may have kept from it, and returned.

        Args:
            run: the run that made it; the package becomes its artifact `model-DIGEST`.
            name: of the registered model; made if it is new.
            package: folder written by `tadscale.runtime.models.packaging.package_model`.
            metrics: what the version is judged by, such as `average_mAP`.
            tags: digests, job name.
            card: the model card, which becomes the version's description (its beginning, if it is long).

        Raises:
            ValueError: the folder holds no detector.
            StorageError: the artifact store does not give back what it was given.
        """
        digest = file_digest(detector_folder(package) / SPEC_NAME)
        self._ensure_name(name)
        folder = f"model-{digest[:12]}"
        if self._number_of(name, digest) is None:
            # Of two that register one detector at once the second would read what the first is still writing.
            with exclusive(self.tracking_uri, f"upload-{digest[:12]}"):
                run.log_folder(package, folder)
                check_upload(run, package, folder)
        entries = {f"{METRIC_PREFIX}{key}": repr(float(value)) for key, value in metrics.items()}
        with exclusive(self.tracking_uri, LOCK):
            number = self._number_of(name, digest)
            if number is None:
                created = self._client.create_model_version(
                    name,
                    source=f"{run.artifact_uri}/{folder}",
                    run_id=run.run_id,
                    tags=redact({**tags, **entries}) | {DETECTOR_TAG: digest},
                    description=_shortened(redact_text(card)),
                )
                number = int(created.version)
            self._present(name, number)
        return self.version(name, number)

    def list_versions(self, name: str) -> list[ModelVersion]:
        """All versions, the newest first.

        Raises:
            UserError: there is no such model.
        """
        self._model(name)  # a name that does not exist has no versions either, and no error
        # The search leaves aliases out: each version is asked for by itself.
        return [self.version(name, number) for number in reversed(self.numbers(name))]

    def numbers(self, name: str) -> list[int]:
        """The versions that exist, oldest first; none if there is no such model."""
        return sorted(int(one.version) for one in self._client.search_model_versions(f"name='{name}'"))

    def version(self, name: str, selector: int | str) -> ModelVersion:
        """One version, by its number or by an alias.

        Raises:
            NotRegistered: there is none.
            ChampionGone: the champion is asked for, and was deleted.
        """
        entry = self._find(name, selector)
        tags = dict(entry.tags)
        metrics = {key: float(tags.pop(key)) for key in sorted(tags) if key.startswith(METRIC_PREFIX)}
        return ModelVersion(
            name=name,
            version=int(entry.version),
            aliases=tuple(sorted(entry.aliases)),
            run_id=entry.run_id or "",
            created_ms=entry.creation_timestamp,
            tags=tags,
            metrics={key.removeprefix(METRIC_PREFIX): value for key, value in metrics.items()},
        )

    def promote(
        self,
        name: str,
        selector: int | str = CHALLENGER,
        *,
        why: str = "by hand",
        by: str | None = None,
        expected: int | None = None,
    ) -> ModelVersion:
        """Make a version the champion; the one before is remembered for `rollback`.

        Args:
            name: of the registered model.
            selector: a version's number or an alias.
            why: for the record.
            by: for the record; by default account and machine.
            expected: the version that must be champion still, because it is the one that this one was compared with.

        Raises:
            UserError: there is no such version.
            ChampionChanged: the champion is not the expected one, or somebody else is about to change it.
        """
        with exclusive(self.tracking_uri, LOCK) as alone:
            alias = self._alias(name)
            if expected is not None and not alone:
                alias.claim()
            chosen, line = self.version(name, selector), alias.read()
            if expected is not None and line.champion != expected:
                reigning = f"version {line.champion}" if line.champion else "none"
                raise ChampionChanged(
                    f"{name} version {chosen.version} was compared with version {expected}, and the champion is {reigning} "
                    "now: it stays so; compare with that one"
                )
            alias.succeed(line, chosen.version, why, by)
            promoted = self.version(name, chosen.version)
            if CHALLENGER in promoted.aliases:  # last: `promote NAME` finds whom it means until all is done
                self._client.delete_registered_model_alias(name, CHALLENGER)
        return replace(promoted, aliases=tuple(one for one in promoted.aliases if one != CHALLENGER))

    def rollback(self, name: str, *, why: str = "rolled back by hand", by: str | None = None) -> ModelVersion:
        """Make the previous champion the champion again; versions that have been deleted since are passed over.

        Raises:
            UserError: there was no champion before this one.
        """
        with exclusive(self.tracking_uri, LOCK):
            alias = self._alias(name)
            line = alias.read()
            heir = line.cut_short or line.heir(self.numbers(name))
            if heir is None:
                raise UserError(
                    f"the model {name} has had no champion before this one: promote the version that you want"
                )
            if line.cut_short is None:
                alias.set("tag", ROLLBACK_TAG, dumps([line.champion, heir]))
                alias.move(line, heir, why, by)
            restored = self.version(name, heir)
            alias.end_rollback(replace(line, champion=heir, rollback=(line.champion, heir)))
        return restored

    def moves(self, name: str) -> list[Move]:
        """How the alias `champion` came to stand where it does, the oldest move first.

        Raises:
            UserError: there is no such model.
        """
        return [noted.move for noted in read_moves(self._model(name).tags)]

    def set_version_tags(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version, secrets hidden; one that exists gets the new value."""
        for key, value in redact(dict(tags)).items():
            self._client.set_model_version_tag(name, str(version), key, value)

    def run_of(self, version: ModelVersion) -> Any:
        """The run that made a version, as MLflow has it; None if it was deleted for good, or there never was one."""
        from mlflow.exceptions import MlflowException

        if not version.run_id:
            return None
        try:
            return self._client.get_run(version.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    @contextmanager
    def fetch(self, name: str, selector: int | str = CHAMPION) -> Iterator[Path]:
        """The folder of a version's packaged model, downloaded for as long as the `with` block lasts.

        Raises:
            UserError: there is no such version.
            StorageError: its artifacts are gone or out of reach.
        """
        number = str(self._find(name, selector).version)
        uri = self._client.get_model_version_download_uri(name, number)
        with TemporaryDirectory() as folder:
            yield download(uri, folder, self.tracking_uri, f"{name} version {number}")

    def describe(self, name: str, selector: int | str = CHAMPION) -> NetworkSpec:
        """What a version is, without its weights being downloaded. Raises as `fetch`."""
        number = str(self._find(name, selector).version)
        uri = self._client.get_model_version_download_uri(name, number)
        with TemporaryDirectory() as folder:
            where = f"{uri.rstrip('/')}/{PACKAGED_AT.as_posix()}/{SPEC_NAME}"
            try:
                described = download(where, folder, self.tracking_uri, f"{name} version {number}")
            except StorageError:  # an earlier version's packages have it under another name
                described = (
                    detector_folder(download(uri, folder, self.tracking_uri, f"{name} version {number}")) / SPEC_NAME
                )
            return read_spec(str(described.parent))

    def record(self, name: str, selector: int | str = CHAMPION) -> dict[str, Any]:
        """What a version is, as one JSON document that can be compared between two runs of the same job.

        Left out is what differs between any two runs: run ids, times, places of storage (and the model card, which names
        them), the order of registration, and what a gate said of it.
        """
        version = self.version(name, selector)
        with self.fetch(name, version.version) as package:
            spec = read_spec(str(detector_folder(package))).model_dump(mode="json")
            digests = {
                path: sha256 for path, sha256 in file_digests(package).items() if Path(path).name not in PLACE_BOUND
            }
            requirements = (package / "requirements.txt").read_text(encoding="utf-8").split()
        return {
            "name": name,
            "aliases": list(version.aliases),
            "tags": {key: value for key, value in version.tags.items() if not key.startswith(GATE_PREFIX)},
            "metrics": version.metrics,
            "detector": spec,
            "files": digests,
            "requirements": requirements,
        }

    def _alias(self, name: str) -> ChampionAlias:
        """Raises `UserError` if there is no such model."""
        self._model(name)
        return ChampionAlias(self._client, name)

    def _find(self, name: str, selector: int | str) -> Any:
        from mlflow.exceptions import MlflowException

        model, text = self._model(name), str(selector)
        aliases = model.aliases
        number = text if text.isdecimal() else aliases.get(text)
        try:
            if number is not None:
                return self._client.get_model_version(name, str(number))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        if text == CHAMPION:
            self._check_vacancy(name, model)
        known = ", ".join(f"{alias} (version {version})" for alias, version in sorted(aliases.items())) or "none"
        raise NotRegistered(
            f"the model {name} has no version or alias {text!r}; its aliases: {known}. "
            f"See: tadscale registry list {name}"
        )

    def _check_vacancy(self, name: str, model: Any) -> None:
        """Raises `ChampionGone` where somebody reigned, nobody does, and there are versions left."""
        line = Succession.read(model.aliases, model.tags)
        if line.is_vacant and (numbers := self.numbers(name)):
            raise ChampionGone(name, line, numbers)

    def _model(self, name: str) -> Any:
        """The registered model with its aliases and tags, read in one call. Raises `NotRegistered` if there is none."""
        from mlflow.exceptions import MlflowException

        hidden = ""
        try:
            return self._client.get_registered_model(name)
        except (MlflowException, NotAllowed) as error:
            if isinstance(error, NotAllowed):  # what a server with users says of what is not there, too
                hidden = ", or it is there and another user's"
            elif error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            names = ", ".join(sorted(model.name for model in self._client.search_registered_models())) or "none"
            raise NotRegistered(
                f"no model {name!r} is registered at {redact_text(self.tracking_uri)}{hidden}; registered are: {names}. "
                "Check the name, and MLFLOW_TRACKING_URI."
            ) from error

    def _number_of(self, name: str, digest: str) -> int | None:
        """The version that holds a detector, the first if there are several."""
        found = self._client.search_model_versions(f"name='{name}' and tags.`{DETECTOR_TAG}` = '{digest}'")
        return min((int(one.version) for one in found), default=None)

    def _present(self, name: str, number: int) -> None:
        """Give a version the alias that is its due.

        Where nobody has ever reigned, the first version does: of two first registrations at once both name the same one.
        Where the champion was deleted, nobody does before a person says who: no gate could have held this one against it.
        """
        alias, numbers = self._alias(name), self.numbers(name)
        line = alias.read()
        if line.champion is None and (not line.reigns or number == numbers[0]):  # or all others were deleted
            line = alias.move(line, numbers[0], "registered where there was no champion", None)
        if not line.reigns:
            alias.record(line)
        if line.is_vacant:
            log.warning("version %d stays challenger: %s", number, ChampionGone(name, line, numbers))
        if number == numbers[-1] != line.champion:
            alias.set("alias", CHALLENGER, str(number))

    def _ensure_name(self, name: str) -> None:
        """Make the model if there is none. Raises `NotAllowed` if there is one, and it is another user's."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            try:
                self._client.get_registered_model(name)
            except NotAllowed as refusal:
                raise NotAllowed(
                    f"the model {name} is there already, and another user's: have its owner or an administrator give this "
                    "one permission to manage it, or set another name; the same command then goes on from what is finished"
                ) from refusal


def _shortened(card: str) -> str:
    if len(card) <= MAX_DESCRIPTION:
        return card
    remark = "\n\n(The whole card is model_card.md in the model's folder.)"
    return card[: MAX_DESCRIPTION - len(remark)] + remark
