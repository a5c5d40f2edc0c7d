"""What other pipelines write beside a video (`KEY.json`, `KEY.cls`, `KEY.txt`), as an entry of ActivityNet's form."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tadscale.data.json_text import parse_json
from tadscale.data.quarantine import DataError
from tadscale.errors import UserError

LINE = re.compile(r"\s*([\d.]+)\s+([\d.]+)\s+(\S.*?)\s*")
EXPECTED = (
    '{"annotations": [{"label", "segment": [start_s, end_s]}]}, {"segments": [...]} of such (or of {"label", "start", '
    '"end"}, or of [start_s, end_s] with "labels" beside them), or {"label"} for all of the video'
)


def read_sidecars(
    key: str, notes: Mapping[str, bytes], classes: Sequence[str] | None, duration_s: float
) -> dict[str, Any]:
    """The annotation of a video out of what lies beside it: its JSON if that is of a known form, else .cls, else .txt.

    Args:
        key: of the video.
        notes: contents by suffix.
        classes: names by number, for labels that are numbers.
        duration_s: of the video: a class without a time is one segment of all of it.

    Raises:
        DataError: there is none, or it is not understood; says what was found.
    """
    unknown = ""
    if "json" in notes:
        document = _parse(key, notes["json"])
        entry = _from_json(key, document, classes, duration_s)
        if entry is not None:
            return entry
        what = f"the keys {sorted(document)[:8]}" if isinstance(document, Mapping) else f"a {type(document).__name__}"
        unknown = f"{key}.json has an unknown form ({what}); expected {EXPECTED}"
    if "cls" in notes:
        return _whole(_name(f"{key}.cls", _text(key, "cls", notes).strip(), classes), duration_s)
    if unknown:
        raise DataError(unknown)
    if "txt" in notes:
        return _from_text(key, _text(key, "txt", notes), classes, duration_s)
    raise DataError("no annotation: neither a .json, .cls or .txt beside the video nor an entry for its key")


def _parse(key: str, data: bytes) -> Any:
    try:
        return parse_json(data, f"{key}.json")
    except UserError as error:
        raise DataError(str(error)) from error


def _text(key: str, suffix: str, notes: Mapping[str, bytes]) -> str:
    try:
        return notes[suffix].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{key}.{suffix} is not text in UTF-8: {error}") from error


def _from_json(key: str, document: Any, classes: Sequence[str] | None, duration_s: float) -> dict[str, Any] | None:
    """None if the form is unknown."""
    if not isinstance(document, Mapping):
        return None
    place, subset = f"{key}.json", document.get("subset") or document.get("split") or ""
    if isinstance(document.get("annotations"), list):
        return {**document, "subset": subset}
    if isinstance(document.get("segments"), list):
        segments, labels = document["segments"], document.get("labels", document.get("label"))
        each = labels if isinstance(labels, list) and len(labels) == len(segments) else [labels] * len(segments)
        annotations = [_segment(place, item, label, classes) for item, label in zip(segments, each, strict=True)]
        return {"subset": subset, "annotations": annotations}
    if "label" not in document:
        return None
    if "segment" in document or "start" in document:
        return {"subset": subset, "annotations": [_segment(place, document, None, classes)]}
    return {"subset": subset, **_whole(_name(place, document["label"], classes), duration_s)}


def _segment(place: str, item: Any, label: Any, classes: Sequence[str] | None) -> dict[str, Any]:
    """One segment; whether its times make sense is for the reader of annotations to say."""
    span = item
    if isinstance(item, Mapping):
        label = item.get("label", label)
        span = item.get("segment", [item.get("start", item.get("start_s")), item.get("end", item.get("end_s"))])
    return {"label": _name(place, label, classes), "segment": span}


def _from_text(key: str, text: str, classes: Sequence[str] | None, duration_s: float) -> dict[str, Any]:
    lines = [line for line in text.splitlines() if line.strip()]
    matches = [LINE.fullmatch(line) for line in lines]
    if lines and all(matches):
        spans = [(match[3], [match[1], match[2]]) for match in matches if match]
        return {"annotations": [{"label": _name(f"{key}.txt", s, classes), "segment": span} for s, span in spans]}
    if len(lines) == 1 and classes is not None and lines[0].strip() in classes:
        return _whole(lines[0].strip(), duration_s)
    raise DataError(
        f"{key}.txt holds {text[:40]!r}: neither lines of START_S END_S LABEL nor a class of the class list (--classes); "
        "a caption is no annotation"
    )


def _whole(label: str, duration_s: float) -> dict[str, Any]:
    return {"annotations": [{"label": label, "segment": [0.0, duration_s]}]}


def _name(place: str, label: Any, classes: Sequence[str] | None) -> str:
    """The name of a class that is given by name or by number."""
    text = str(label) if isinstance(label, str | int) and not isinstance(label, bool) else ""
    if not text:
        raise DataError(f"{place} has the label {label!r}, expected a name or a number")
    if (classes is not None and text in classes) or not text.isdecimal():
        return text
    if classes is None:
        raise DataError(f"{place} has the label {text}, a number: name the classes in their order (--classes)")
    if int(text) >= len(classes):
        raise DataError(f"{place} has the label {text}, and the class list holds {len(classes)} names, from 0 on")
    return classes[int(text)]
