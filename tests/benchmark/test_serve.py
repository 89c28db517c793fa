"""`bloomz benchmark serve`: services side by side, on 127.0.0.1, under several clients."""

import json
import math
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bloomz_haystack.benchmark.speed import services
from bloomz_haystack.benchmark.speed.memory import peak_memory
from bloomz_haystack.benchmark.speed.serve import (
    Load,
    ServeOptions,
    ServeRow,
    check_agreement,
    distinct_questions,
    serve_markdown,
    serve_row,
)
from bloomz_haystack.benchmark.speed.services import HAYHOOKS, NAIVE, OURS, RunningService
from bloomz_haystack.cli.main import app


def test_no_question_comes_twice() -> None:
    questions = distinct_questions()
    assert len({next(questions) for _ in range(1000)}) == 1000


def test_a_service_that_only_refused_has_no_percentiles() -> None:
    row = serve_row(OURS, 8, [Load([], 5, 1, 2.0)], 10)
    assert (row.throughput, row.answers, row.refused, row.failed) == (0.0, 0, 5, 1)
    assert math.isnan(row.p50)


def test_the_table_says_what_was_not_there() -> None:
    row = ServeRow(OURS, 8, 24.9, 0.3, 0.4, 0.5, 100, 3, 0, 500_000_000)
    table = serve_markdown([row], ServeOptions())
    assert "hayhooks: not available here" in table
    assert "| 8 | bloomz serve | 24.9 | 300 | 400 | 500 | 3 | 0 | 500 MB |" in table
    assert "not available" not in serve_markdown([row], ServeOptions(hayhooks=Path("python")))


class Fixed(RunningService):
    """A service that finds the same for any question."""

    def passages(self, question: str) -> list[str]:
        """Return its name."""
        return [self.path]


def test_services_that_find_other_passages_are_not_timed() -> None:
    same = [Fixed(name, 0, 0, "a", list) for name in (OURS, NAIVE)]
    check_agreement(same)
    with pytest.raises(ValueError, match="hayhooks finds other passages than bloomz serve"):
        check_agreement([*same, Fixed(HAYHOOKS, 0, 0, "b", list)])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_of_a_process_that_is_gone_is_not_told() -> None:
    assert peak_memory(2**30) is None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--clients", "1,x"], "--clients must be numbers from 1 to 256, as 1,8,32, but got '1,x'"),
        (["--clients", "0"], "--clients must be numbers"),
        (["--hayhooks-python", "nowhere"], "--hayhooks-python nowhere is no file"),
        (["--store", "nowhere"], "no store at nowhere"),
    ],
)
def test_a_bad_option_is_one_line(arguments: list[str], error: str) -> None:
    result = CliRunner().invoke(app, ["benchmark", "serve", *arguments])
    assert result.exit_code == 2
    assert error in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_ours_and_the_naive_one_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "START_SECONDS", 600)  # a slow machine may take as long as it will
    arguments = ["benchmark", "serve", "--clients", "1,4", "--seconds", "1", "--rounds", "1", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    rows = [ServeRow(**row) for row in json.loads(result.stdout)["rows"]]
    assert [(row.service, row.clients) for row in rows] == [(OURS, 1), (NAIVE, 1), (OURS, 4), (NAIVE, 4)]
    assert all(row.answers > 0 and row.failed == 0 and row.p50 <= row.p95 <= row.p99 for row in rows)
