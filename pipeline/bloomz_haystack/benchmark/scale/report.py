"""Costs of stores -> a Markdown table for people, and plain values for machines. Measures nothing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from bloomz_haystack.benchmark.scale.passages import ScalePassages
from bloomz_haystack.benchmark.scale.store_costs import StoreCost
from bloomz_haystack.files.markdown import markdown_table

SCALE_HEADS = ("store", "recall@{top_k}", "p50 ms", "p95 ms", "CPU ms", "build s", "build CPU s", "disk", "memory")


class ScaleRun(NamedTuple):
    """What was measured, and with what."""

    passages: int
    dimension: int
    questions: int
    top_k: int
    origin: str
    server: str | None  # of PostgreSQL
    threads: int
    costs: list[StoreCost]


def scale_run(
    passages: ScalePassages, top_k: int, server: str | None, threads: int, costs: Sequence[StoreCost]
) -> ScaleRun:
    """Return a run without its texts and vectors.

    :param passages: that were written.
    :param top_k: passages asked for.
    :param server: versions and settings of PostgreSQL; None without one.
    :param threads: of our process.
    :param costs: of each way.
    :returns: what the report shows.
    """
    count, dimension = passages.vectors.shape
    return ScaleRun(count, dimension, len(passages.questions), top_k, passages.origin, server, threads, list(costs))


def scale_markdown(run: ScaleRun) -> str:
    """Return the table for people.

    :param run: measured.
    :returns: Markdown: what was run, then a row for each way.
    """
    setting = (
        f"{run.passages:,} passages with their words, vectors of {run.dimension} numbers ({run.origin}); "
        f"{run.questions:,} questions, one at a time; {run.threads} thread(s). {run.server or 'No PostgreSQL'}. "
        "Recall is against numpy in float64. CPU: of our process and of PostgreSQL's that serves it, on this machine, "
        "parallel workers not counted. Memory: of Edge what building and searching took, mapped files counted; of "
        "PostgreSQL the peak of that process, shared buffers counted."
    )
    heads = [head.format(top_k=run.top_k) for head in SCALE_HEADS]
    return setting + "\n\n" + markdown_table(heads, [_cells(cost) for cost in run.costs], numbers=True)


def scale_values(run: ScaleRun) -> dict[str, Any]:
    """Return the same as plain values.

    :param run: measured.
    :returns: settings, and `stores`: by name recall, milliseconds, seconds, bytes.
    """
    stores = {cost.name: {key: value for key, value in cost._asdict().items() if key != "name"} for cost in run.costs}
    settings = {key: value for key, value in run._asdict().items() if key != "costs"}
    return {**settings, "stores": stores}


def _cells(cost: StoreCost) -> list[str]:
    memory = "" if cost.peak_bytes is None else f"{cost.peak_bytes / 1e6:,.0f} MB"
    asked = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in (cost.p50_ms, cost.p95_ms, cost.cpu_ms)]
    built = [f"{value:,.0f}" for value in (cost.build_seconds, cost.build_cpu_seconds)]
    recall = "" if cost.recall is None else f"{cost.recall:.4f}"
    return [cost.name, recall, *asked, *built, f"{cost.disk_bytes / 1e6:,.0f} MB", memory]
