"""`bloomz benchmark scale` on a real PostgreSQL: every way finds what is nearest, and no table stays."""

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from typer.testing import CliRunner

from bloomz_haystack.benchmark.scale import postgres_costs
from bloomz_haystack.cli import benchmark_scale as scale_cli
from bloomz_haystack.cli import main as cli

if TYPE_CHECKING:
    from tests.stores.conftest import Postgres

WORDS = [
    "benchmark",
    "scale",
    "--passages",
    "300",
    "--questions",
    "15",
    "--dimension",
    "48",
    "--threads",
    "1",
    "--json",
]


def tables(postgres: "Postgres") -> list[str]:
    with psycopg.connect(postgres.address()) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'bloomz_scale%'")
        return [name for (name,) in found]


@pytest.mark.slow
def test_every_way_of_postgresql_is_measured_and_nothing_stays(
    connected: "Postgres", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale_cli, "quiet_libraries", lambda: None)
    seen: list[str] = []
    ask_all = postgres_costs.ask_all

    def watched(*arguments: Any, **settings: Any) -> Any:  # noqa: ANN401
        seen.extend(tables(connected))
        return ask_all(*arguments, **settings)

    monkeypatch.setattr(postgres_costs, "ask_all", watched)
    result = CliRunner().invoke(cli.app, WORDS)
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    assert measured["server"].startswith("PostgreSQL 18")
    stores = {name: cost for name, cost in measured["stores"].items() if name.startswith("pgvector")}
    breadths = [f"hnsw, ef_search {breadth}" for breadth in (40, 100, 200)]
    assert list(stores) == [
        *(f"pgvector, {kind}, {way}" for kind in ("vector", "halfvec") for way in ("exact", *breadths)),
        "pgvector, halfvec, hnsw, ef_search 100, with words",
    ]
    assert stores["pgvector, vector, exact"]["recall"] == 1.0
    assert all(cost["recall"] is None or cost["recall"] >= 0.95 for cost in stores.values())
    whole_size, index_size = (stores[f"pgvector, vector, {way}"]["disk_bytes"] for way in ("exact", breadths[0]))
    assert index_size > whole_size > 300 * 48 * 4
    assert all(cost["peak_bytes"] > 10**6 for cost in stores.values())
    assert seen  # they were there
    assert tables(connected) == []

    def fail(*_: object, **__: object) -> None:
        raise ValueError("in the middle")

    monkeypatch.setattr(postgres_costs, "ask_all", fail)
    result = CliRunner().invoke(cli.app, WORDS)
    assert result.exit_code == 2
    assert "in the middle" in result.stderr
    assert tables(connected) == []
