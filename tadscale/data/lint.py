"""Is a set of shards fit for training? Everything that can be known before a cluster is hired."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tadscale.data.describe import Repair
from tadscale.data.manifest import MANIFEST_NAME, VideoRow, read_manifest, unknown_label
from tadscale.data.quarantine import QuarantineEntry
from tadscale.data.scan import Reading, find_shards, folder_of, scan_shards
from tadscale.data.storage import list_names
from tadscale.data.watched import Watch, unwatched
from tadscale.errors import UserError


@dataclass
class LintReport:
    """What is in the shards, and what is wrong with it."""

    videos: Counter[str] = field(default_factory=Counter)
    """Usable videos by subset."""
    hours: float = 0.0
    """Length of the usable videos together."""
    segments: Counter[str] = field(default_factory=Counter)
    """Segments by label."""
    background: int = 0
    """Labelled videos without any segment: allowed."""
    repairs: list[Repair] = field(default_factory=list)
    """Mended on reading: segments that were clipped or left out."""
    still: list[Repair] = field(default_factory=list)
    """Where one picture stands for long: sampled as it is on display, and for a person to look at."""
    bad: list[QuarantineEntry] = field(default_factory=list)
    """Videos that would be quarantined: they cost budget, but do not stop a run by themselves."""
    errors: list[str] = field(default_factory=list)
    """What would stop any run."""
    warnings: list[str] = field(default_factory=list)
    """What is allowed and looks wrong."""

    @property
    def ok(self) -> bool:
        """Nothing is in error and no video is bad."""
        return not self.errors and not self.bad

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        subsets = ", ".join(f"{name} {count}" for name, count in sorted(self.videos.items()))
        yield f"{self.videos.total()} usable videos ({subsets}), {self.hours:.2f} h, {self.background} without any segment"
        yield f"{self.segments.total()} segments of {len(self.segments)} classes"
        yield from (f"mended: {repair.key}: {repair.what}" for repair in self.repairs)
        yield from (f"still: {span.key}: {span.what}" for span in self.still)
        yield from (f"bad: {entry.shard}: {entry.key}: {entry.reason}" for entry in self.bad)
        yield from (f"warning: {warning}" for warning in self.warnings)
        yield from (f"error: {error}" for error in self.errors)


def lint(url: str, reading: Reading | None = None, *, decode_all: bool = False, watch: Watch = unwatched) -> LintReport:
    """Read shards, and compare them with their manifest if there is one. Writes nothing.

    Args:
        url: the folder, or a brace list of shards (see `find_shards`).
        reading: how to understand them; as they were indexed, and by default as our own.
        decode_all: decode every picture of every video, which alone finds all damage inside them, and every window as
            training does, which finds what training would.
        watch: told after each shard how many are done.

    Raises:
        ValueError: there is no shard, or the shards hold features.
        StorageError: the storage cannot be reached or refuses.
    """
    reading, shards = reading or Reading(), find_shards(url)
    _refuse_features(folder_of(shards[0]))
    scan = scan_shards(shards, reading, decode_all=decode_all, watch=watch)
    report = LintReport(repairs=scan.repairs, still=scan.still, bad=scan.bad, warnings=scan.suspicions.warnings())
    for row in scan.rows:
        report.videos[row.subset] += 1
        report.hours += row.duration_s / 3600
        report.segments.update(row.labels)
        report.background += row.labelled and not row.labels
    report.errors += _twins(scan.rows)
    if reading.classes is not None:
        known = reading.classes
        first = {label: row for row in reversed(scan.rows) for label in row.labels if label not in known}
        report.errors += [unknown_label(row, label, known) for label, row in first.items()]
    if MANIFEST_NAME in list_names(folder_of(shards[0])):
        report.errors += _manifest_faults(folder_of(shards[0]), scan.rows)
    return report


def _refuse_features(url: str) -> None:
    """A damaged manifest is reported with the rest."""
    try:
        described = MANIFEST_NAME in list_names(url) and read_manifest(url).features
    except ValueError:
        return
    if described:
        raise UserError(
            f"{url} holds features ({described}), and lint looks at videos: each file of features was checked when "
            "`tadscale data features` packed it"
        )


def _twins(rows: Sequence[VideoRow]) -> list[str]:
    seen: dict[str, VideoRow] = {}
    return [
        f"key {row.key!r} occurs twice, in {seen[row.key].shard} and {row.shard}: rename or remove one"
        for row in rows
        if seen.setdefault(row.key, row) is not row
    ]


def _manifest_faults(url: str, rows: Sequence[VideoRow]) -> list[str]:
    try:
        manifest = read_manifest(url)
    except ValueError as error:
        return [str(error)]
    stated, scanned = ({row.key: row for row in some} for some in (manifest.rows, rows))
    faults = [f"{key}: in {scanned[key].shard}, but not in the manifest" for key in scanned.keys() - stated.keys()]
    for key, row in stated.items():
        if key not in scanned:
            faults.append(f"{key}: in the manifest, but not usable in {row.shard}")
            continue
        unknown = {"label_ids"} if row.layout else {"label_ids", "layout"}  # a manifest without layouts is no fault
        names = [name for name in row._fields if name not in unknown]
        changed = [name for name in names if getattr(row, name) != getattr(scanned[key], name)]
        if changed:
            faults.append(f"{key}: {', '.join(changed)} of the manifest and of {row.shard} differ")
    return [f"{fault}: build the manifest again" for fault in sorted(faults)]
