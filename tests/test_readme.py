"""The README keeps its word: its Python prints what stands below it, its commands run, its file map is the disk."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bloomz_haystack.training.data.rows import parse_row

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
# A text block right below a Python block is what it prints.
PYTHON = [
    (code, printed or None)
    for code, printed in re.findall(
        r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", README, flags=re.MULTILINE | re.DOTALL
    )
]
SHELL = [line for language, code in BLOCKS if language == "sh" for line in code.splitlines() if line.strip()]
PAGE = (ROOT / "notebooks/own-documents.md").read_text(encoding="utf-8")

END = "=== end of a command ==="
IN_ORDER = f"""
import io, json, sys
from bloomz_haystack.cli.main import app
for arguments, stdin in json.loads(sys.argv[1]):
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()))
    code = app(arguments, standalone_mode=False)
    assert not code, (arguments, code)
    print("{END}", flush=True)
"""


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would, offline."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_there_are_blocks_to_run() -> None:
    assert len(PYTHON) >= 1
    assert len(SHELL) >= 4


@pytest.mark.slow
@pytest.mark.parametrize(("code", "printed"), PYTHON)
def test_python_prints_what_the_readme_says(code: str, printed: str | None, tmp_path: Path) -> None:
    result = run([sys.executable, "-c", code], tmp_path)
    assert result.returncode == 0, result.stderr
    if printed is not None:
        assert result.stdout.split() == printed.split()


@pytest.mark.slow
def test_shell_commands_run_in_order(tmp_path: Path) -> None:
    for folder in ("pipeline", "notebooks"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    commands = []
    for line in SHELL:
        given, _, command = line.rpartition(" | ")
        words = shlex.split(command, comments=True)
        stdin = subprocess.run(["sh", "-c", given], capture_output=True, text=True, check=True).stdout
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == "bloomz" and words[1] in ("index", "ask", "store", "benchmark"):
            commands.append((words[1:], stdin))
        else:
            assert words[:2] in (["git", "clone"], ["cd", "bloomz-haystack"], ["pip", "install"]), line
    assert len(commands) >= 8
    printed = run_in_order(commands, tmp_path)
    assert all(printed)
    (many,) = [said for (words, _), said in zip(commands, printed, strict=True) if words[:2] == ["ask", "-"]]
    assert [json.loads(line)["query"] for line in many.split("\n") if line] == [
        "Combien de sommeil faut-il ?",
        "How much sleep?",
    ]
    table = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in printed[-1].splitlines() if line.startswith("|")
    ]
    top_1, mrr = table[0].index("Top-1"), table[0].index("MRR")
    shown = re.findall(r"^\| ((?:BM25|tiny)[^|]*) \| ([\d.]+) \| ([\d.]+) \|$", README, flags=re.MULTILINE)
    assert len(shown) == 3  # of the fair ranks
    for system, first, reciprocal in shown:
        measured = next(row for row in table if row[0] == system)
        assert [measured[top_1], measured[mrr]] == [first, reciprocal]


def run_in_order(commands: list[tuple[list[str], str]], folder: Path) -> list[str]:
    """Give what each prints. One interpreter for all: each start would cost seconds of imports."""
    result = run([sys.executable, "-c", IN_ORDER, json.dumps(commands)], folder)
    assert result.returncode == 0, result.stderr
    return result.stdout.split(END)[:-1]


@pytest.mark.slow
def test_the_page_on_your_own_documents_runs_as_written(tmp_path: Path) -> None:
    for folder in ("pipeline", "notebooks"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for name, settings in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(settings, encoding="utf-8")
    commands = [
        (shlex.split(line)[1:], "")
        for block in re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    assert {command[0] for command, _ in commands} == {"mine", "train", "benchmark", "index", "ask"}
    printed = run_in_order(commands, tmp_path)
    assert "27 questions" in printed[0]
    assert "runs/retriever" in printed[4].replace(str(tmp_path), "")
    for folder in ("runs/retriever", "runs/ranker"):
        assert (tmp_path / folder / "README.md").exists()
    rows = re.findall(r"^```json\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert [parse_row(json.loads(row)).queries["french"] for row in rows] == ["Qui paie après une fuite ?"]


def test_the_first_forty_lines_hold_what_a_newcomer_looks_for() -> None:
    top = "\n".join(README.splitlines()[:40])
    for needed in ("| ", "make demo", "make test", "```python", "print("):
        assert needed in top


def test_the_file_map_is_the_disk() -> None:
    named = re.findall(r"^    (\S+/)\s", README[README.index("## File map") :], flags=re.MULTILINE)
    assert len(named) >= 8
    assert [path for path in named if not (ROOT / path).is_dir()] == []
    top = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and not path.name.startswith((".", "runs", "demo", "dist"))
    }
    mapped = {path.split("/")[0] for path in named}
    assert top - mapped <= {"__pycache__", "build"}
