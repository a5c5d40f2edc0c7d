"""Small files in the form in which data sets were published, and what becomes of them."""

from pathlib import Path
from typing import Any

from tadscale.data.importers import importer_of
from tadscale.data.importers.convert import Imported, import_annotations
from tadscale.segments import Segment


def write_files(folder: Path, files: dict[str, str]) -> str:
    """Write text files by name; returns the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder)


def import_files(folder: Path, name: str, files: dict[str, str], **settings: Any) -> Imported:
    """Write the files, and import their folder."""
    return import_annotations(importer_of(name)(**settings), [write_files(folder, files)])


def by_key(imported: Imported) -> dict[str, tuple[str, list[Segment]]]:
    """Subset and segments of every video."""
    return {video.video: (video.subset, list(video.segments)) for video in imported.videos}


def counts(imported: Imported) -> dict[str, int]:
    """How many corrections of each kind."""
    return {kind: len(found) for kind, found in imported.corrections.items()}
