"""JSON that others wrote, read within bounds: no key twice, no number or nesting without end."""

import json
import re
from collections import Counter
from typing import Any

from tadscale.data.storage import open_filesystem, with_retry
from tadscale.errors import UserError

MAX_BYTES = 512 * 2**20
MAX_VALUES = 20_000_000
"""In objects and lists together: 3 million detections. A value takes 50 to 100 bytes of memory."""
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:\n]', re.DOTALL)


def read_annotation_bytes(url: str) -> bytes:
    """A file of annotations, unless it is too large, or no file but a device or a pipe.

    Raises:
        UserError: it is.
        StorageError: there is no such file, or it cannot be reached.
    """

    def read() -> bytes:
        filesystem, path = open_filesystem(url)
        info = filesystem.info(path)
        if info["type"] != "file" or info["size"] > MAX_BYTES:
            what = f"holds {info['size']} bytes" if info["type"] == "file" else f"is no file but of type {info['type']}"
            raise UserError(f"{url} {what}: a file of at most {MAX_BYTES} bytes is read; split it by video")
        return filesystem.cat_file(path)

    return with_retry(read, url)


def parse_json(data: bytes, source: str) -> Any:
    """Plain values out of JSON.

    Raises:
        UserError: it is not JSON, too large or too deep, or an object holds a key twice; says where.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise UserError(f"{source} holds more than {MAX_VALUES} values: split it by video")
    try:
        return json.loads(data, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{source} is not JSON text (byte {error.start}): a pickle, an archive? Pass a JSON file."
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{source} is not JSON (line {error.lineno}, column {error.colno}: {error.msg}). "
            "A file cut short by a full disk or an interrupted copy looks like this: write or fetch it again."
        ) from error
    except _Twice as error:
        lines = _lines_of_twins(data, error.key)
        raise UserError(
            f"{source} is not JSON that means one thing: the key {error.key!r} stands twice in one object, in lines "
            f"{', '.join(map(str, lines))}. Only one entry could count: remove or rename the others."
        ) from None
    except RecursionError:
        raise UserError(f"{source} is not JSON of any use: nested too deeply") from None
    except ValueError as error:  # a number of more than 4,300 digits
        raise UserError(f"{source} is not JSON of any use: {error}") from error


class _Twice(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise _Twice(Counter(key for key, _ in pairs).most_common(1)[0][0])
    return content


def _lines_of_twins(data: bytes, key: str) -> list[int]:
    """Where the first object that holds a key several times has it: the parser does not say."""
    line, last, open_objects = 1, (1, ""), [list[int]()]
    for match in TOKEN.finditer(data.decode(json.detect_encoding(data))):
        token = match[0]
        if token in "{[":
            open_objects.append([])
        elif token in "}]":
            lines = open_objects.pop()
            if len(lines) > 1:
                return lines
        elif token == ":" and json.loads(last[1]) == key:
            open_objects[-1].append(last[0])
        elif token[0] == '"':
            last = (line, token)
        line += token.count("\n")
    return []
