"""The small file beside the shard, `store.json`: what the vectors are, and what the application wants to remember.

Written whole: a crash or a full disk leaves the old file or the new one, never half of one. This file knows nothing of
Edge.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from haystack.document_stores.errors import DocumentStoreError

from haystack_integrations.common.bloomz.whole_files import write_whole
from haystack_integrations.document_stores.qdrant_edge.facts import SURROGATE, is_text

FILE_NAME = "store.json"
FORMAT_VERSION = 3  # 2 had no elements of lists, words as written, absolute paths; 1 kept the facts one level deeper


@dataclass(frozen=True)
class StoreDescription:
    """What `store.json` holds."""

    embedding_dim: int
    datatype: str
    info: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    hybrid: bool = False  # whether words are kept beside the vectors; an older file does not say
    complete: bool = True  # False while the shard is being made: nothing was written yet


def read_description(folder: Path) -> StoreDescription | None:
    """Read `store.json`, without opening the shard: works while another process holds it.

    :param folder: the folder of the store.
    :returns: its description; None where there is no store yet (no folder, an empty one, or one killed in the making).
    :raises ValueError: if the folder holds something else.
    :raises DocumentStoreError: if the file is damaged, or made by another version.
    """
    file = folder / FILE_NAME
    try:
        text = file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        _check_free(folder)
        return None
    except NotADirectoryError:
        raise ValueError(f"{folder} is a file, but a document store needs a folder: give another path") from None
    except PermissionError:
        raise DocumentStoreError(
            f"{file} may not be read by this user: give the right with chmod or chown; nothing is damaged"
        ) from None
    except OSError as error:
        raise DocumentStoreError(f"{file} cannot be read ({error.strerror}): look at the disk it is on") from error
    except UnicodeDecodeError as error:
        raise DocumentStoreError(_damaged(file, str(error))) from error
    try:
        data = json.loads(text)
        version = data["format_version"]
        if isinstance(version, int) and version != FORMAT_VERSION:
            remedy = "upgrade bloomz-haystack" if version > FORMAT_VERSION else "index the documents into a new store"
            raise DocumentStoreError(
                f"{file} has format {version}, and this version reads format {FORMAT_VERSION}: {remedy}"
            )
        description = StoreDescription(**data)
    except (ValueError, TypeError, KeyError) as error:
        raise DocumentStoreError(_damaged(file, f"{type(error).__name__}: {error}")) from error
    kinds = {"embedding_dim": int, "info": dict, "hybrid": bool, "complete": bool}
    if not all(isinstance(getattr(description, name), kind) for name, kind in kinds.items()):
        raise DocumentStoreError(_damaged(file, "a field has the wrong type"))
    return description if description.complete else None


def write_description(folder: Path, description: StoreDescription) -> None:
    """Write `store.json`, all or nothing.

    :param folder: the folder of the store; it exists.
    :param description: what to write.
    :raises OSError: if the disk is full or the folder cannot be written; the old file is then as it was.
    """
    write_whole(folder / FILE_NAME, json.dumps(asdict(description), ensure_ascii=False, indent=1))


def check_info(values: Mapping[str, object]) -> None:
    """Refuse what `info` cannot hold.

    :param values: names and texts.
    :raises TypeError: if a value is not a string.
    :raises ValueError: if one holds a lone surrogate.
    """
    for name, value in values.items():
        if not isinstance(value, str):
            raise TypeError(f"update_info: {name} must be a string, but got {value!r} of type {type(value).__name__}")
        if not is_text(value) or not is_text(name):
            raise ValueError(f"update_info: {name!r} {SURROGATE}")


def _check_free(folder: Path) -> None:
    """Refuse to settle in a folder that holds someone else's files."""
    if not folder.exists():
        return
    # A temporary of ours may be left by a process that was killed while it made the store.
    strangers = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(f"{FILE_NAME}."))
    if strangers:
        raise ValueError(
            f"{folder} holds other files ({', '.join(strangers[:3])}) and no {FILE_NAME}, so it is not a document "
            "store: give a new or an empty folder"
        )


def _damaged(file: Path, reason: str) -> str:
    return (
        f"{file} is damaged ({reason}): restore it from a copy, or delete the folder {file.parent} and index again"
    ).replace("\n", " ")
