"""Inputs -> a folder of parts: the `embed` verb, without its command line.

A part that is there and whole is not computed again, so that the same command goes on where it was stopped.
"""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomz_haystack.cluster.encoding import BlockEncoder, PartMaker, UnitTask, sha256_if_there
from bloomz_haystack.cluster.manifest import (
    ListedPart,
    PartList,
    RunManifest,
    claim_folder,
    manifest_of,
    write_part_list,
)
from bloomz_haystack.cluster.parts import EmbeddedPart, arrow_modules, read_part
from bloomz_haystack.cluster.work import BulkWork, WorkUnit, find_work
from bloomz_haystack.files.shard import ALL_BLOCKS, Shard
from bloomz_haystack.indexing.files import Note, Problem, name_in_store
from bloomz_haystack.indexing.index import IndexProgress, IndexSummary
from bloomz_haystack.settings import EmbedSettings
from haystack_integrations.common.bloomz.whole_files import replacing

_PART = re.compile(r"part-(\d{6,})-(\d{4,})\.parquet(\.[0-9a-f]{12}\.part)?")
_OTHERS = re.compile(r"(manifest|parts(-\d+-of-\d+)?)\.json(\.[0-9a-f]{12}\.part)?")


@dataclass
class EmbedSummary(IndexSummary):
    """What a run did, and what its shard holds; `store` is the folder of the parts, `unchanged` what was there."""

    shard: Shard = ALL_BLOCKS
    parts: int = 0
    truncated: int = 0  # passages that lost their end


def embed_inputs(
    paths: Iterable[str | Path],
    out: str | Path,
    settings: EmbedSettings | None = None,
    *,
    shard: Shard = ALL_BLOCKS,
    progress: IndexProgress | None = None,
    maker: PartMaker | None = None,
) -> EmbedSummary:
    """Embed passages into files.

    :param paths: folders, files, and .jsonl or .parquet files of passages.
    :param out: folder of the parts; made if needed. Shards may share it, at the same time.
    :param settings: None: the defaults.
    :param shard: which units of work to do; those of all shards together are one run, bit for bit.
    :param progress: receives the progress.
    :param maker: makes the parts; None: this process.
    :returns: what was done; `problems` names what could not be read.
    :raises ValueError: if a path does not exist, or the folder is that of another run.
    :raises ImportError: without pyarrow.
    """
    start, out, settings = time.perf_counter(), Path(out), settings or EmbedSettings()
    arrow_modules()
    work = find_work(map(Path, paths), out, settings)
    summary = EmbedSummary(settings.model, str(out), shard=shard)
    summary.other_kinds = dict(work.found.other_kinds.most_common())
    run = _Run(work, out, summary, progress or IndexProgress())
    run.remark(work.found.problems)
    if work.units:
        maker = maker or BlockEncoder(settings)
        try:
            manifest = manifest_of(maker.facts(), settings, work.inputs)
            summary.model, summary.loading_seconds = manifest.model.model, time.perf_counter() - start
            claim_folder(out, manifest)
            run.embed(manifest, maker)
        finally:
            maker.close()
    summary.seconds = time.perf_counter() - start
    return summary


class _Run:
    """One run of one shard."""

    def __init__(self, work: BulkWork, out: Path, summary: EmbedSummary, progress: IndexProgress) -> None:
        self.units = [unit for unit in work.units if summary.shard.takes(unit.number)]
        self.all_units = len(work.units)
        self.out, self.summary, self.progress = out, summary, progress
        self.listed: list[ListedPart] = []
        self.bytes_done = 0

    def embed(self, manifest: RunManifest, maker: PartMaker) -> None:
        sizes = {unit.number: unit.bytes for unit in self.units}
        self.progress.started(sum(sizes.values()))
        self.summary.files = sum(len(unit.files) for unit in self.units)
        for part in maker.parts(self._tasks(manifest.run, sizes), manifest.run):
            with replacing(self.out / part.facts.name) as file:
                file.write_bytes(part.data)
            self.summary.embedded += part.rows
            self._take(part, sizes)
        write_part_list(self.out, PartList(manifest.run, self.summary.shard, self.listed))

    def remark(self, remarks: Iterable[Problem | Note]) -> None:
        for remark in remarks:
            kept: list[Any] = self.summary.problems if isinstance(remark, Problem) else self.summary.notes
            kept.append(remark)
            self.progress.problem(remark)

    def _take(self, part: EmbeddedPart, sizes: dict[int, int]) -> None:
        self.listed.append(ListedPart(part.facts.name, part.rows, part.sha256))
        self.summary.parts += 1
        self.summary.passages += part.rows
        self.summary.truncated += part.facts.truncated
        self.remark(part.facts.remarks())
        self.bytes_done += sizes[part.facts.unit] if part.facts.last else 0
        self.progress.advanced(self.summary, self.bytes_done)

    def _tasks(self, run: str, sizes: dict[int, int]) -> Iterator[UnitTask]:
        """Yield what is left to do; take what is there."""
        names = self._names()
        for unit in self.units:
            parts = {part.facts.block: part for part in self._whole(names.get(unit.number, []), unit, run)}
            for part in parts.values():
                self.summary.unchanged += part.rows
                self._take(part, sizes)
            if not any(part.facts.last and part.facts.block + 1 == len(parts) for part in parts.values()):
                yield UnitTask(unit, frozenset(parts))

    def _names(self) -> dict[int, list[str]]:
        """Return the files that are there by unit; name those that are nobody's."""
        names: dict[int, list[str]] = {}
        for name in sorted(entry.name for entry in self.out.iterdir()):
            found = _PART.fullmatch(name)
            if found and int(found[1]) < self.all_units:
                names.setdefault(int(found[1]), []).append(name)
            elif not _OTHERS.fullmatch(name):
                self.remark([Note(name_in_store(self.out / name), "not of this run: left alone")])
        return names

    def _whole(self, names: list[str], unit: WorkUnit, run: str) -> Iterator[EmbeddedPart]:
        for name in names:
            path = self.out / name
            if name.endswith(".part"):  # of a run that was killed
                path.unlink(missing_ok=True)
                continue
            try:
                part, _ = read_part(path)
                if part.facts.run != run or part.facts.name != name:
                    raise ValueError(f"{path} is a part of another run")
            except ValueError as error:
                reason = str(error).removeprefix(f"{path} ")
                self.remark([Note(name_in_store(path), f"{reason}: embedded again")])
                continue
            _check_unchanged(part, unit)
            yield part


def _check_unchanged(part: EmbeddedPart, unit: WorkUnit) -> None:
    before = {file["path"]: file["sha256"] for file in part.facts.files}
    for file in unit.files:
        path = name_in_store(file.path)
        if before.get(path) != sha256_if_there(file.path):
            raise ValueError(
                f"{path} has changed since {part.facts.name} was made of it: remove the files "
                f"part-{part.facts.unit:06d}-*.parquet, or give another --out"
            )
