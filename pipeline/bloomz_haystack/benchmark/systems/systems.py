"""YAML entries and names of the command line -> `System` and `Ranker`: a row of the table is data, not a class.

Opens no model and asks no network: whether the weights can be had is found out when the row is computed.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from bloomz_haystack.files.yaml_schema import check_values, read_yaml
from haystack_integrations.common.bloomz.int8 import Precision
from haystack_integrations.document_stores.qdrant_edge.fusion import Fusion

BUNDLED_FILE = Path(__file__).with_name("systems.yaml")
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class System:
    """One way to rank passages."""

    name: str  # what is typed on the command line
    label: str  # the row's name in the card
    kind: Literal["bm25", "encoder", "hybrid"]
    model: str = ""  # bundled name, folder or Hub name
    revision: str | None = None
    pooling: Literal["last", "mean", "cls"] | None = None  # None: as the model's own files say
    metric: Literal["cosine", "l2", "dot"] = "cosine"
    query_prefix: str = ""
    passage_prefix: str = ""
    max_length: Annotated[int, Field(gt=0)] | None = None  # tokens; None: the model's own
    precision: Precision | None = None  # Bloom only: "int8" for linears of 8 bits
    stemming: bool = False  # BM25 of bm25s: Snowball stemming and stop words
    words: Literal["bm25s", "store"] = "bm25s"  # BM25: of that library, or of QdrantEdgeDocumentStore
    of: tuple[str, ...] = ()  # hybrid: names of the systems fused
    fusion: Fusion | None = None  # hybrid: "convex", by scores; "rrf", by ranks; None: see `Choice.fusion`

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "encoder" and not self.model:
            raise ValueError("lacks the key 'model', which an encoder needs")
        if (self.kind == "hybrid") != bool(self.of):
            raise ValueError(f"is of kind {self.kind!r}: a hybrid, and only a hybrid, has 'of'")
        if len(self.of) == 1:
            raise ValueError("of: expected a list of at least two names")
        return self


@dataclass(frozen=True, config=_STRICT)
class Ranker:
    """One cross-encoder that reorders the first passages."""

    name: str
    label: str
    model: str
    revision: str | None = None
    context_first: bool = True  # the Bloomz rerankers' order; most others put the question first
    max_length: Annotated[int, Field(gt=0)] | None = None  # tokens of a pair; None: the model's own
    precision: Precision | None = None  # Bloom only: "int8" for linears of 8 bits
    # Weight of the first stage's scores; None: as the model's config.json says.
    score_prior: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


@dataclass(frozen=True, config=_STRICT)
class SystemsFile:
    """What a file of systems and rankers holds, by name."""

    systems: dict[str, System] = Field(default_factory=dict)
    rankers: dict[str, Ranker] = Field(default_factory=dict)


class Choice(NamedTuple):
    """The rows asked for, in order, and every system they may be made of, by name."""

    rows: list[System]
    known: dict[str, System]

    def parts(self, system: System) -> list[System]:
        """Return the systems that a hybrid fuses.

        :param system: one of the rows.
        :returns: its parts, or the system itself when it is no hybrid.
        """
        return [self.known[name] for name in system.of] if system.kind == "hybrid" else [system]

    def fusion(self, system: System) -> Fusion:
        """Return how a hybrid fuses.

        :param system: one of the rows.
        :returns: what it says itself; else by scores where those of vectors are cosines, by ranks where they are not.
        """
        return system.fusion or ("convex" if all(part.metric == "cosine" for part in self.parts(system)) else "rrf")


def read_systems(file: Path | None = None) -> tuple[dict[str, System], dict[str, Ranker]]:
    """Return the bundled entries, and a user's over them.

    :param file: YAML with `systems` and `rankers`, each name -> entry; None reads the bundled ones only.
    :returns: systems and rankers by name, in the order of the files.
    :raises ValueError: in one line, naming the file, the entry and the key that is unknown, missing or of a wrong type.
    """
    systems: dict[str, System] = {}
    rankers: dict[str, Ranker] = {}
    for path in (BUNDLED_FILE, file):
        if path is not None:
            entries = check_values(_named(read_yaml(path)), SystemsFile, str(path))
            systems |= entries.systems
            rankers |= entries.rankers
    for system in systems.values():
        _check_parts(file or BUNDLED_FILE, system, systems)
    return systems, rankers


def choose_systems(wanted: str, systems: Mapping[str, System], own: Mapping[str, object] | None = None) -> Choice:
    """Return the rows that a text asks for.

    :param wanted: "all", or names separated by commas; each a known entry, a folder, a Hub name `owner/name`, or
        several of these joined by `+`, which fuses them, by ranks if one of them says so.
    :param systems: from `read_systems`.
    :param own: keys and values of the entries of the folders and Hub names among `wanted`.
    :returns: the rows, in the order typed, each once.
    :raises ValueError: listing the known names, for a name that is none of these.
    """
    known = dict(systems)
    if wanted.strip() == "all":
        return Choice(list(known.values()), known)
    rows = []
    for name in _names(wanted):
        pieces = [name] if name in known or _is_folder(name) else [piece.strip() for piece in name.split("+")]
        for piece in pieces:
            if piece not in known:
                model = _own_model(piece, known, "system")
                entry = {"name": piece, "label": _label(piece), "kind": "encoder", "model": model, **(own or {})}
                known[piece] = check_values(entry, System, f"system {piece!r}")
        if len(pieces) > 1:
            known[name] = _fuse(name, pieces, known)
        rows.append(known[name])
    return Choice(rows, known)


def choose_ranker(wanted: str, rankers: Mapping[str, Ranker], own: Mapping[str, object] | None = None) -> Ranker:
    """Return the ranker that a text asks for.

    :param wanted: a known entry, a folder or a Hub name `owner/name`.
    :param rankers: from `read_systems`.
    :param own: keys and values of the entry of a folder or Hub name.
    :returns: the ranker.
    :raises ValueError: listing the known names, for a name that is none of these.
    """
    if wanted in rankers:
        return rankers[wanted]
    model = _own_model(wanted, rankers, "ranker")
    entry = {"name": wanted, "label": _label(wanted), "model": model, **(own or {})}
    return check_values(entry, Ranker, f"ranker {wanted!r}")


def _named(values: Any) -> Any:  # noqa: ANN401
    """Write the name into each entry, and as its label where it has none."""
    if not isinstance(values, dict):
        return values
    return {
        section: {
            name: {"label": name, **entry, "name": name} if isinstance(entry, dict) else entry
            for name, entry in entries.items()
        }
        if isinstance(entries, dict)
        else entries or {}
        for section, entries in values.items()
    }


def _check_parts(path: Path, system: System, systems: Mapping[str, System]) -> None:
    for part in system.of:
        if part not in systems or systems[part].kind == "hybrid":
            plain = [name for name, other in systems.items() if other.kind != "hybrid"]
            raise ValueError(
                f"{path}: systems.{system.name}: of: expected names among {', '.join(plain)}, got {part!r}"
            )
        if system.fusion == "convex" and systems[part].metric != "cosine":
            raise ValueError(
                f"{path}: systems.{system.name}: fusion: 'convex' adds cosines, but the metric of {part!r} is "
                f"{systems[part].metric!r}: leave fusion out, or make it rrf"
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
