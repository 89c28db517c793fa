"""`expected.yaml` -> what was published for a run, and how a measured value compares with it."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bloomz_haystack.benchmark.run.results_folder import RunFacts

FILE = Path(__file__).with_name("expected.yaml")
LOWER_IS_BETTER = {"top_mean", "top_std", "gold_probability_std"}
EQUAL, BETTER, WORSE = "=", "▲", "▼"
LEGEND = f"{EQUAL} the published value within tolerance, {BETTER} better than it, {WORSE} worse; – not published"


class Expected(NamedTuple):
    """One published table: its title, the command that measures the same, values by row and figure."""

    title: str
    command: str
    rows: dict[str, dict[str, float]]


@cache
def _read() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return values


def expected_for(facts: RunFacts, ties: str) -> Expected | None:
    """Find the published table that a run can be held against.

    :param facts: of the run.
    :param ties: `fair` or `optimistic`; a table that names one is for that one only.
    :returns: the table; None if nothing was published for such a run.
    """
    asked = (facts.kind, facts.query_lang, facts.passage_lang, facts.protocol)
    for table in _read()["tables"]:
        about = (table["corpus"], table["query_lang"], table["passage_lang"], table["protocol"])
        if about == asked and table.get("ties", ties) == ties:
            return Expected(table["title"], table["command"], table["rows"])
    return None


def all_expected() -> list[Expected]:
    """Return every published table.

    :returns: in the order of the file.
    """
    return [Expected(table["title"], table["command"], table["rows"]) for table in _read()["tables"]]


def compare(figure: str, measured: float, published: float) -> str:
    """Hold a measured value against the published one.

    :param figure: its name, which tells the tolerance and which way is better.
    :param measured: value.
    :param published: value.
    :returns: `EQUAL`, `BETTER` or `WORSE`.

    >>> compare("mrr", 78.5, 77.7), compare("mrr", 60.0, 77.7), compare("top_mean", 2.0, 4.0)
    ('=', '▼', '▲')
    """
    # A hair more than the tolerance: 1.0 apart must count as 1.0 in floating point too.
    if abs(measured - published) <= _read()["tolerance"][figure] + 1e-9:
        return EQUAL
    return BETTER if (measured < published) == (figure in LOWER_IS_BETTER) else WORSE
