"""The folder of a run: `manifest.json` says what makes its vectors, `parts.json` which parts there are, with SHA-256.

Any number of processes may fill one folder, each its shard: no part's name or content depends on how many there are,
and each shard has a list of its own, `parts-3-of-16.json`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from bloomz_haystack.cluster.encoding import ModelFacts
from bloomz_haystack.cluster.work import InputFacts
from bloomz_haystack.files.json_values import load_json
from bloomz_haystack.files.shard import Shard
from bloomz_haystack.settings import EmbedSettings
from haystack_integrations.common.bloomz.whole_files import write_whole

MANIFEST = "manifest.json"


class RunManifest(NamedTuple):
    """All that decides which vectors a run gives."""

    model: ModelFacts
    passage_words: int
    part_passages: int
    batch_tokens: int
    inputs: list[InputFacts]

    def as_json(self) -> dict[str, Any]:
        """Return what `manifest.json` holds."""
        return {
            **self.model._asdict(),
            **self._asdict(),
            "model": self.model.model,
            "inputs": [i._asdict() for i in self.inputs],
        }

    @property
    def run(self) -> str:
        """Fingerprint of what the vectors depend on: not on the model's name, nor on where a file of passages lies."""
        values = {name: value for name, value in self.as_json().items() if name not in ("model", "revision")}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def manifest_of(model: ModelFacts, settings: EmbedSettings, inputs: list[InputFacts]) -> RunManifest:
    """Return the manifest of a run.

    :param model: that makes the vectors.
    :param settings: of the run.
    :param inputs: that it reads.
    :returns: the manifest.
    """
    return RunManifest(model, settings.passage_words, settings.part_passages, settings.batch_tokens, inputs)


def read_manifest(folder: Path) -> RunManifest:
    """Read the manifest of a folder.

    :param folder: of a run.
    :returns: the manifest.
    :raises ValueError: if there is none, or it is damaged.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise ValueError(f"{folder} holds no {MANIFEST}: make it with: bloomz embed INPUT --out {folder}")
    values = load_json(file)
    try:
        model = ModelFacts(**{name: values[name] for name in ModelFacts._fields})
        own = {name: values[name] for name in ("passage_words", "part_passages", "batch_tokens")}
        return RunManifest(model, **own, inputs=[InputFacts(**facts) for facts in values["inputs"]])
    except (TypeError, KeyError) as error:
        raise ValueError(f"{file} is damaged, or of another version ({type(error).__name__}: {error})") from None


def claim_folder(folder: Path, manifest: RunManifest) -> None:
    """Make the folder of a run, or go on in it.

    :param folder: new, empty, or of the same run; other processes may be at work in it.
    :param manifest: of the run.
    :raises ValueError: if it holds something else, or other vectors; says what both are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).exists():
        _check_same(folder, read_manifest(folder), manifest)
        return
    if strangers := sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(MANIFEST)):
        raise ValueError(
            f"{folder} holds other files ({', '.join(strangers[:3])}) and no {MANIFEST}: give a new folder"
        )
    write_whole(folder / MANIFEST, json.dumps(manifest.as_json(), ensure_ascii=False, indent=1))


def _check_same(folder: Path, old: RunManifest, new: RunManifest) -> None:
    if old.run == new.run:
        return
    if old.model.weights != new.model.weights:
        names = [f"{model.model} ({model.weights})" for model in (old.model, new.model)]
        raise ValueError(f"{folder} holds vectors of the model {names[0]}, but got {names[1]}: {_REMEDY}")
    before, now = old.as_json(), new.as_json()
    for name in (name for name in before if before[name] != now[name] and name not in ("model", "revision", "inputs")):
        what = name.replace("_", "-")
        raise ValueError(f"{folder} was begun with {what} {before[name]}, but got {now[name]}: {_REMEDY}")
    for first, second in zip(old.inputs, new.inputs, strict=False):
        if first != second:
            raise ValueError(f"{folder} was begun with the input {_named(first)}, but got {_named(second)}: {_REMEDY}")
    raise ValueError(f"{folder} was begun with {len(old.inputs)} inputs, but got {len(new.inputs)}: {_REMEDY}")


_REMEDY = "give the same again, or another --out"


def _named(facts: InputFacts) -> str:
    return f"{facts.input} ({facts.files} files, {facts.bytes} bytes, sha256 {facts.sha256[:8]})"


class ListedPart(NamedTuple):
    """A part, as the list names it."""

    file: str
    rows: int
    sha256: str


class PartList(NamedTuple):
    """The parts of one shard, all there."""

    run: str
    shard: Shard
    parts: list[ListedPart]

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"parts{self.shard.suffix}.json"


def write_part_list(folder: Path, listed: PartList) -> None:
    """Write the list of a shard that is done.

    :param folder: of the run.
    :param listed: its parts.
    """
    parts = [part._asdict() for part in sorted(listed.parts)]
    passages = sum(part.rows for part in listed.parts)
    values = {"run": listed.run, "shard": list(listed.shard), "passages": passages, "parts": parts}
    write_whole(folder / listed.name, json.dumps(values, indent=1))


def all_parts(folder: Path, run: str) -> list[ListedPart]:
    """Return the parts of all shards.

    :param folder: of a run.
    :param run: its fingerprint.
    :returns: the parts, in their order.
    :raises ValueError: if a shard is not done, or a list is damaged or of another run.
    """
    lists = [_read_part_list(file, run) for file in sorted(folder.glob("parts*.json"))]
    done: dict[int, dict[int, PartList]] = {}
    for listed in lists:
        done.setdefault(listed.shard.total, {})[listed.shard.place] = listed
    for count, shards in done.items():
        if len(shards) == count:
            return sorted(part for listed in shards.values() for part in listed.parts)
    count = max(done, default=1)
    missing = [f"{index}/{count}" for index in range(count) if index not in done.get(count, {})]
    named = ", ".join(missing[:5]) + ", ..." * (len(missing) > 5)
    raise ValueError(
        f"{folder} is not complete: run the same bloomz embed again" + f" with --shard {named}" * (count > 1)
    )


def _read_part_list(file: Path, run: str) -> PartList:
    values = load_json(file)
    try:
        listed = PartList(values["run"], Shard(*values["shard"]), [ListedPart(**part) for part in values["parts"]])
    except (TypeError, KeyError) as error:
        raise ValueError(f"{file} is damaged, or of another version ({type(error).__name__}: {error})") from None
    if listed.run != run:
        raise ValueError(f"{file} is of another run than {MANIFEST} beside it: remove it, or load another folder")
    return listed
