"""docs/stores.md keeps its word: its commands run in order, on a real PostgreSQL and Qdrant's local mode."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from typer.testing import CliRunner

import bloomz_haystack
from bloomz_haystack.cli import main as cli

if TYPE_CHECKING:
    from tests.stores.conftest import FillIn, Postgres

PAGE = Path(__file__).parents[2] / "docs/stores.md"
EXAMPLES = Path(bloomz_haystack.__file__).parent / "examples"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Payload indexes have no effect")
def test_the_commands_of_the_page_run(
    connected: "Postgres", fill_in: "FillIn", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("index-pgvector.yaml", "ask-pgvector.yaml"):
        fill_in(name)
    fill_in("index-qdrant.yaml", url=None, api_key=None, path="qdrant")
    fill_in("index-hybrid.yaml")
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 5
    for line in lines:
        result = CliRunner().invoke(cli.app, shlex.split(line)[1:])
        assert result.exit_code == 0, (line, result.stderr)
        assert result.stdout
    with psycopg.connect(connected.address(), autocommit=True) as connection:
        connection.execute("DROP TABLE bloomz_passages_words, bloomz_passages")
