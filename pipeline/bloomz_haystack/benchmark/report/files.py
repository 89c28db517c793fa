"""A folder of results -> `table.md`, `results.json` and `report.html` in it."""

import json
import math
from pathlib import Path
from typing import Any

from bloomz_haystack.benchmark.report.html import report_page
from bloomz_haystack.benchmark.report.sheets import table_markdown
from bloomz_haystack.benchmark.report.table import Table, make_table
from bloomz_haystack.benchmark.run.results_folder import read_run
from haystack_integrations.common.bloomz.whole_files import write_whole


def write_report(folder: Path, ties: str = "fair", against: str | None = None) -> Table:
    """Write all that people and machines read, from the kept ranks.

    :param folder: of results.
    :param ties: `fair` or `optimistic`.
    :param against: the row that the others are tested against; None takes the first measured one.
    :returns: the table.
    :raises ValueError: if the folder holds no results, or the arguments do not fit them.
    :raises ImportError: without matplotlib.
    """
    run = read_run(folder)
    table = make_table(run, ties, against)
    write_whole(folder / "table.md", table_markdown(table))
    write_whole(folder / "results.json", json.dumps(table_values(table), ensure_ascii=False, indent=1))
    write_whole(folder / "report.html", report_page(run, table))
    return table


def table_values(table: Table) -> dict[str, Any]:
    """Return the table as plain values.

    :param table: from `make_table`.
    :returns: what `results.json` holds.
    """
    lines = []
    for line in table.lines:
        value = line._asdict()
        if line.abstention:
            value["abstention"] = {key: p and _finite(p._asdict()) for key, p in line.abstention._asdict().items()}
        lines.append(value)
    facts = vars(table.facts)
    expected = table.expected and {"title": table.expected.title, "command": table.expected.command}
    return {"facts": facts, "ties": table.ties, "against": table.against, "expected": expected, "rows": lines}


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {key: None if math.isnan(value) else value for key, value in values.items()}
