"""YAML entries and names of the command line -> ``System`` and ``Ranker``: a row of the table is data, not a class.

Opens no model and asks no network: whether the weights can be had is found out when the row is computed.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import yaml

from haystack_integrations.common.bloomz.int8 import Precision
from haystack_integrations.document_stores.qdrant_edge.fusion import Fusion

Kind = Literal["bm25", "encoder", "hybrid"]
Pooling = Literal["last", "mean", "cls"]
Metric = Literal["cosine", "l2", "dot"]
Words = Literal["bm25s", "store"]

BUNDLED_FILE = Path(__file__).with_name("systems.yaml")
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_CHOICES: dict[str, tuple[str, ...]] = {
    "kind": get_args(Kind),
    "pooling": get_args(Pooling),
    "metric": get_args(Metric),
    "precision": get_args(Precision),
    "words": get_args(Words),
    "fusion": get_args(Fusion),
}
_FLAGS = {"stemming", "context_first"}


@dataclass(frozen=True)
class System:
    """One way to rank passages."""

    name: str  # what is typed on the command line
    label: str  # the row's name in the card
    kind: Kind
    model: str = ""  # bundled name, folder or Hub name
    revision: str | None = None
    pooling: Pooling | None = None  # None: as the model's own files say
    metric: Metric = "cosine"
    query_prefix: str = ""
    passage_prefix: str = ""
    max_length: int | None = None  # tokens; None: the model's own
    precision: Precision | None = None  # Bloom only: "int8" for linears of 8 bits
    stemming: bool = False  # BM25 of bm25s: Snowball stemming and stop words
    words: Words = "bm25s"  # BM25: of that library, or of QdrantEdgeDocumentStore
    of: tuple[str, ...] = ()  # hybrid: names of the systems fused
    fusion: Fusion | None = None  # hybrid: "convex", by scores; "rrf", by ranks; None: see ``Choice.fusion``


@dataclass(frozen=True)
class Ranker:
    """One cross-encoder that reorders the first passages."""

    name: str
    label: str
    model: str
    revision: str | None = None
    context_first: bool = True  # the Bloomz rerankers' order; most others put the question first
    max_length: int | None = None  # tokens of a pair; None: the model's own
    precision: Precision | None = None  # Bloom only: "int8" for linears of 8 bits
    score_prior: float | None = None  # weight of the first stage's scores; None: as the model's config.json says


class Choice(NamedTuple):
    """The rows asked for, in order, and every system they may be made of, by name."""

    rows: list[System]
    known: dict[str, System]

    def parts(self, system: System) -> list[System]:
        """Give the systems a hybrid fuses.

        :param system: one of the rows.
        :returns: its parts, or the system itself when it is no hybrid.
        """
        return [self.known[name] for name in system.of] if system.kind == "hybrid" else [system]

    def fusion(self, system: System) -> Fusion:
        """Say how a hybrid fuses.

        :param system: one of the rows.
        :returns: what it says itself; else by scores where those of vectors are cosines, by ranks where they are not.
        """
        return system.fusion or ("convex" if all(part.metric == "cosine" for part in self.parts(system)) else "rrf")


Entry = TypeVar("Entry", System, Ranker)


def read_systems(file: Path | None = None) -> tuple[dict[str, System], dict[str, Ranker]]:
    """Read the bundled entries, and a user's over them.

    :param file: YAML with ``systems`` and ``rankers``, each name -> entry; None reads the bundled ones only.
    :returns: systems and rankers by name, in the order of the files.
    :raises ValueError: naming the file, the entry and the key that is unknown, missing or of a wrong type.
    """
    systems: dict[str, System] = {}
    rankers: dict[str, Ranker] = {}
    for path in (BUNDLED_FILE, file):
        if path is not None:
            values = _read_yaml(path)
            systems |= {name: _entry(System, path, name, given) for name, given in values["systems"].items()}
            rankers |= {name: _entry(Ranker, path, name, given) for name, given in values["rankers"].items()}
    for system in systems.values():
        _check_system(file or BUNDLED_FILE, system, systems)
    return systems, rankers


def choose_systems(
    wanted: str,
    systems: Mapping[str, System],
    *,
    pooling: Pooling | None = None,
    metric: Metric = "cosine",
    query_prefix: str = "",
    passage_prefix: str = "",
    max_length: int | None = None,
    precision: Precision | None = None,
) -> Choice:
    """Turn what was typed into rows.

    :param wanted: "all", or names separated by commas; each a known entry, a folder, a Hub name ``owner/name``, or
        several of these joined by ``+``, which fuses them, by ranks if one of them says so.
    :param systems: from ``read_systems``.
    :param pooling: of the folders and Hub names among ``wanted``; None: as the model's own files say.
    :param metric: likewise.
    :param query_prefix: likewise, put before each question.
    :param passage_prefix: likewise, put before each passage.
    :param max_length: likewise, tokens kept of a text; None: the model's own.
    :param precision: likewise, "int8" for linears of 8 bits.
    :returns: the rows, in the order typed, each once.
    :raises ValueError: listing the known names, for a name that is none of these.
    """
    for key, value in (("pooling", pooling), ("metric", metric), ("precision", precision)):
        if value is not None and value not in _CHOICES[key]:
            raise ValueError(f"{key} must be one of {', '.join(_CHOICES[key])}, but got {value!r}")
    own = System("", "", "encoder", "", None, pooling, metric, query_prefix, passage_prefix, max_length, precision)
    known = dict(systems)
    if wanted.strip() == "all":
        return Choice(list(known.values()), known)
    rows = []
    for name in _names(wanted):
        pieces = [name] if name in known or _is_folder(name) else [piece.strip() for piece in name.split("+")]
        for piece in pieces:
            if piece not in known:
                model = _own_model(piece, known, "system")
                known[piece] = replace(own, name=piece, label=_label(piece), model=model)
        if len(pieces) > 1:
            known[name] = _fuse(name, pieces, known)
        rows.append(known[name])
    return Choice(rows, known)


def choose_ranker(
    wanted: str,
    rankers: Mapping[str, Ranker],
    *,
    context_first: bool = True,
    max_length: int | None = None,
    precision: Precision | None = None,
    score_prior: float | None = None,
) -> Ranker:
    """Turn what was typed into a ranker.

    :param wanted: a known entry, a folder or a Hub name ``owner/name``.
    :param rankers: from ``read_systems``.
    :param context_first: of a folder or Hub name: whether the context comes before the question in the pair.
    :param max_length: likewise, tokens of a pair; None: the model's own.
    :param precision: likewise, "int8" for linears of 8 bits.
    :param score_prior: likewise, how much the scores of the first stage count; None: as its config.json says.
    :returns: the ranker.
    :raises ValueError: listing the known names, for a name that is none of these.
    """
    if wanted in rankers:
        return rankers[wanted]
    if fault := _fault("score_prior", score_prior):
        raise ValueError(f"score_prior must be {fault}, but got {score_prior!r}")
    model = _own_model(wanted, rankers, "ranker")
    label = _label(wanted)
    return Ranker(wanted, label, model, None, context_first, max_length, precision, score_prior)


def _read_yaml(path: Path) -> dict[str, dict[str, Any]]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read the systems of {path}: {' '.join(str(error).split())}") from error
    sections = ("systems", "rankers")
    values = {} if values is None else values
    if not isinstance(values, dict) or set(values) - set(sections):
        got = sorted(map(str, set(values) - set(sections))) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"{path}: expected the keys systems and rankers, but got {got}")
    for section in sections:
        values[section] = values.get(section) or {}
        if not isinstance(values[section], dict) or not all(isinstance(name, str) for name in values[section]):
            raise ValueError(f"{path}: {section} must map names to entries, but got {values[section]!r}")
    return values


def _entry(kind: type[Entry], path: Path, name: str, given: object) -> Entry:
    known = [item.name for item in fields(kind) if item.name != "name"]
    if not isinstance(given, dict):
        raise ValueError(f"{path}: entry {name!r} must be a mapping of {', '.join(known)}, but got {given!r}")
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"{path}: entry {name!r} has an unknown key {key!r}; known are {', '.join(known)}")
        if fault := _fault(key, value):
            raise ValueError(f"{path}: entry {name!r}: {key} must be {fault}, but got {value!r}")
    values = {"label": name, **given, "name": name}
    if "of" in values:
        values["of"] = tuple(values["of"])
    for item in fields(kind):
        if item.default is MISSING and item.name not in values:
            raise ValueError(f"{path}: entry {name!r} lacks the key {item.name!r}")
    return kind(**values)


def _fault(key: str, value: object) -> str | None:
    """What the value of a key should have been, or None where it is right."""
    optional = key in ("revision", "pooling", "max_length", "precision", "fusion", "score_prior")
    if value is None and optional:
        return None
    if key in _CHOICES:
        return None if value in _CHOICES[key] else f"one of {', '.join(_CHOICES[key])}"
    if key in _FLAGS:
        return None if isinstance(value, bool) else "true or false"
    if key == "max_length":
        return (
            None if isinstance(value, int) and not isinstance(value, bool) and value > 0 else "a number of tokens > 0"
        )
    if key == "score_prior":
        right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
        return None if right else "a number >= 0"
    if key == "of":
        right = isinstance(value, list) and len(value) > 1 and all(isinstance(name, str) for name in value)
        return None if right else "a list of at least two names"
    return None if isinstance(value, str) else "a text"


def _check_system(path: Path, system: System, systems: Mapping[str, System]) -> None:
    if system.kind == "encoder" and not system.model:
        raise ValueError(f"{path}: entry {system.name!r} lacks the key 'model', which an encoder needs")
    if (system.kind == "hybrid") != bool(system.of):
        raise ValueError(f"{path}: entry {system.name!r} is a {system.kind}: a hybrid, and only a hybrid, has 'of'")
    for part in system.of:
        if part not in systems or systems[part].kind == "hybrid":
            plain = [name for name, other in systems.items() if other.kind != "hybrid"]
            raise ValueError(f"{path}: entry {system.name!r} fuses {part!r}, which is not one of {', '.join(plain)}")
        if system.fusion == "convex" and systems[part].metric != "cosine":
            raise ValueError(
                f"{path}: entry {system.name!r} fuses the scores of {part!r}, which are {systems[part].metric} and not "
                "cosine: leave fusion out, or make it rrf"
            )


def _names(wanted: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip()))
    if not names:
        raise ValueError('no system was named: give "all", or names separated by commas')
    return names


def _fuse(name: str, pieces: list[str], known: Mapping[str, System]) -> System:
    parts = tuple(dict.fromkeys(part for piece in pieces for part in known[piece].of or (piece,)))
    label = " + ".join(known[part].label for part in parts)
    return System(
        name, label, "hybrid", of=parts, fusion="rrf" if any(known[piece].fusion == "rrf" for piece in pieces) else None
    )


def _own_model(name: str, known: Iterable[str], what: str) -> str:
    if _is_folder(name) or _HUB_NAME.fullmatch(name):
        return name
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(
        f"unknown {what} {name!r}{hint}: expected a folder, a Hub name owner/name, or one of {', '.join(known)}"
    )


def _is_folder(name: str) -> bool:
    return bool(name) and Path(name).expanduser().is_dir()


def _label(name: str) -> str:
    """A folder is shown by its last name: a table is published, the paths of a machine are not."""
    return Path(name).expanduser().resolve().name if _is_folder(name) else name
