"""The growth benchmark: exponents are right, the marks are those of the run, and indexing keeps nothing it has written.

No test looks at how fast anything was.
"""

import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bloomz_haystack.benchmark.speed import growth, growth_report
from bloomz_haystack.benchmark.speed.growth import Series, Sizes, exponent
from bloomz_haystack.benchmark.speed.threads import VARIABLES
from bloomz_haystack.cli import benchmark_speed as growth_cli
from bloomz_haystack.cli import main as cli
from bloomz_haystack.indexing import index as indexing
from bloomz_haystack.indexing.index import IndexProgress, IndexSummary, index_files
from bloomz_haystack.settings import IndexSettings

FILES, LINES = 24, 40


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_the_exponent_is_that_of_the_curve(power: float) -> None:
    sizes = [10, 30, 100, 1000]
    assert exponent(sizes, [7 * size**power for size in sizes]) == pytest.approx(power, abs=1e-9)


def test_marks_are_the_ends_of_blocks_past_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "own_memory", lambda: 42)
    moved: list[int] = []
    marks = growth._Marks([10, 20, 30, 100], moved.append)
    marks.started(0)
    for embedded in (8, 25, 28, 40, 100, 100):
        marks.advanced(IndexSummary("m", "s", embedded=embedded), 0)
    assert marks.sizes == [25, 40, 100]
    assert marks.memory == [42, 42, 42]
    assert marks.seconds == sorted(marks.seconds)
    assert sum(moved) == 100


def test_table_and_values_say_the_same(tmp_path: Path) -> None:
    known = Series("tokens", "tokens a text", "embed", "above", [10, 100], [0.5, 5.0], [10**6, 10**6])
    unknown = known._replace(name="candidates", memory=[None, None])
    told = growth_report.growth_values([known, unknown], 1)
    json.dumps(told)
    assert told["series"]["tokens"]["seconds_exponent"] == pytest.approx(1)
    assert told["series"]["tokens"]["memory_exponent"] == pytest.approx(0)
    assert told["series"]["candidates"]["memory_exponent"] is None
    table = growth_report.growth_markdown([known, unknown])
    assert "| 100 | 5 | 50 | 1.0 MB |" in table
    assert "to the power of 1.00, memory not known" in table
    growth_report.draw_growth([known, unknown], tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_the_verb_measures_draws_and_leaves_no_passages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth_cli, "quiet_libraries", lambda: None)
    for name in (*VARIABLES, "TOKENIZERS_PARALLELISM", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    monkeypatch.setattr(growth, "QUICK", Sizes((16, 48), (16, 64), (2, 4)))
    out = tmp_path / "growth"
    result = CliRunner().invoke(cli.app, ["benchmark", "growth", "--quick", "--threads", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "| 48 |" in result.stdout
    assert sorted(path.name for path in out.iterdir()) == ["growth.md", "growth.png"]
    assert (out / "growth.md").read_text(encoding="utf-8").strip() == result.stdout.strip()


class _Traced(IndexProgress):
    """Python's own memory after each block; a leak can be put in, to see that it would be seen."""

    def __init__(self, leak: Callable[[], object]) -> None:
        self.leak = leak
        self.leaked: list[object] = []
        self.seen: list[tuple[int, int]] = []

    def advanced(self, summary: IndexSummary, bytes_done: int) -> None:
        self.leaked.append(self.leak())
        self.seen.append((summary.embedded, tracemalloc.get_traced_memory()[0]))

    def bytes_per_passage(self) -> float:
        (first, before), (last, after) = self.seen[len(self.seen) // 2], self.seen[-1]
        return (after - before) / (last - first)


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize(("leak", "grows"), [(lambda: None, False), (lambda: bytes(32 * 200), True)])
@pytest.mark.usefixtures("traced")
def test_indexing_keeps_nothing_of_what_it_has_written(
    tiny_bloom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leak: Callable[[], object], grows: bool
) -> None:
    monkeypatch.setattr(indexing, "LARGEST_BLOCK", 32)
    source = tmp_path / "files"
    source.mkdir()
    for name in range(FILES):
        lines = [json.dumps({"content": f"La page {line} of {name}."}) + "\n" for line in range(LINES)]
        (source / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    watcher = _Traced(leak)
    assert (
        index_files([source], tmp_path / "store", IndexSettings(model=str(tiny_bloom)), progress=watcher).embedded
        == FILES * LINES
    )
    assert (watcher.bytes_per_passage() > 100) is grows, watcher.seen
