"""A JSON file -> its value, and the objects and texts inside it, checked; errors name the file and the place in it."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def load_json(path: Path) -> Any:  # noqa: ANN401
    """Load one JSON value.

    :param path: `.json` or `.json.gz`, in UTF-8, with or without a byte order mark.
    :returns: the value.
    :raises ValueError: if the file is missing, empty, torn, not UTF-8 or not JSON.
    """
    text = _read(path)
    if not text.strip():
        raise ValueError(f"{path} is empty")
    return parse_json(text, f"{path}")


def parse_json(text: str, place: str) -> Any:  # noqa: ANN401
    """Return the value that a text holds.

    :param text: JSON.
    :param place: of the text, for the error, e.g. "rows.jsonl, line 3".
    :returns: the value.
    :raises ValueError: if it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: not JSON ({error})") from None


def objects_in(holder: object, key: str, path: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each object of a list that a format promises, with its place.

    :param holder: the object that has the list.
    :param key: of the list.
    :param path: of the file, for the error.
    :param kind: what the list holds and where, e.g. "article" or "article 2, paragraph".
    :yields: the place, e.g. "article 2, paragraph 1", and the object.
    :raises ValueError: if there is no such list, or it holds something else.
    """
    values = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(values, list):
        place = kind.rpartition(",")[0]
        raise ValueError(f"{path}{place and ', ' + place}: expected an object with a list named {key!r}")
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise ValueError(f"{path}, {kind} {number}: expected an object, but got {type(value).__name__}")
        yield f"{kind} {number}", value


def text_in(holder: dict[str, Any], key: str, path: Path, place: str, *, empty: bool = False) -> str:
    """Return a text that a format promises.

    :param holder: the object that has the text.
    :param key: of the text.
    :param path: of the file, for the error.
    :param place: of the object, for the error.
    :param empty: whether white space alone is accepted.
    :returns: the text.
    :raises ValueError: if there is no such text.
    """
    value = holder.get(key)
    if not isinstance(value, str) or not (empty or value.strip()):
        raise ValueError(f"{path}, {place}: expected a text named {key!r}, but got {value!r}")
    return value


def _read(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return content.decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is torn or not gzip ({error}): copy or make it again") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}): convert the file") from None
