"""README and docs keep their word: Python prints what stands below it, commands run, links lead somewhere."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from bloomz_haystack.cli.main import app
from bloomz_haystack.training.data.rows import parse_row

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Followed elsewhere: those with files to write in tests/test_tutorials.py, the last one below.
FOLLOWED = ("start", "tutorial", "own-documents")
RUN_HERE = [
    page
    for page in PAGES
    if page.stem not in FOLLOWED and re.search("^```(python|sh)\n", page.read_text(encoding="utf-8"), re.MULTILINE)
]
MEASURE, COMMAND_LINE = ROOT / "docs/measure.md", ROOT / "docs/command-line.md"  # whose commands run once, below
OWN_DOCUMENTS = (ROOT / "docs/own-documents.md").read_text(encoding="utf-8")
# A text block right below a Python block is what it prints.
PYTHON = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", flags=re.MULTILINE | re.DOTALL)
# What the commands of a page may start with, and what is run here.
INSTALLS = (["git", "clone"], ["cd", "bloomz-haystack"], ["pip", "install"])
VERBS = ("index", "embed", "load", "ask", "store", "benchmark", "train", "mine")

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


def run_in_order(commands: list[tuple[list[str], str]], folder: Path) -> list[str]:
    """Return what each prints. One interpreter for all: each start would cost seconds of imports."""
    result = run([sys.executable, "-c", IN_ORDER, json.dumps(commands)], folder)
    assert result.returncode == 0, result.stderr
    return result.stdout.split(END)[:-1]


def shell_lines(page: str) -> list[str]:
    """Return the lines of a page's shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def commands_of(page: str) -> list[tuple[list[str], str]]:
    """Return what a page's shell blocks call, with what is piped into it; targets of make exist, the rest installs."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    commands = []
    for line in shell_lines(page):
        given, _, command = line.rpartition(" | ")
        words = shlex.split(command, comments=True)
        stdin = subprocess.run(["sh", "-c", given], capture_output=True, text=True, check=True).stdout
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == "bloomz" and words[1] in VERBS:
            commands.append((words[1:], stdin))
        else:
            assert words[:2] in INSTALLS, line
    return commands


def put_clone(folder: Path) -> None:
    """Make a folder look like a clone to a command."""
    for name in ("pipeline", "notebooks"):
        (folder / name).symlink_to(ROOT / name)


def test_there_are_blocks_to_run() -> None:
    assert len(PYTHON.findall(README)) >= 2
    assert len(commands_of(README)) >= 5
    assert sum(len(PYTHON.findall(page.read_text(encoding="utf-8"))) for page in PAGES) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_HERE, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_prints_what_the_page_says(page: Path, tmp_path: Path) -> None:
    put_clone(tmp_path)
    blocks = PYTHON.findall(page.read_text(encoding="utf-8"))
    marked = "\n".join(f"{code}\nprint({END!r}, flush=True)" for code, _ in blocks)
    result = run([sys.executable, "-c", marked], tmp_path)
    assert result.returncode == 0, result.stderr
    for printed, (_, expected) in zip(result.stdout.split(END), blocks, strict=False):
        assert not expected or printed.split() == expected.split()


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_HERE, ids=lambda page: str(page.relative_to(ROOT)))
def test_shell_commands_run_in_order(page: Path, tmp_path: Path) -> None:
    put_clone(tmp_path)
    commands = commands_of(page.read_text(encoding="utf-8"))
    if commands and page not in (MEASURE, COMMAND_LINE):
        assert all(run_in_order(commands, tmp_path))


@pytest.mark.slow
def test_the_command_line_page_prints_what_it_says(tmp_path: Path) -> None:
    put_clone(tmp_path)
    commands = commands_of(COMMAND_LINE.read_text(encoding="utf-8"))
    printed = run_in_order(commands, tmp_path)
    assert all(printed)
    (many,) = [said for (words, _), said in zip(commands, printed, strict=True) if words[:2] == ["ask", "-"]]
    assert [json.loads(line)["query"] for line in many.split("\n") if line] == [
        "Combien de sommeil faut-il ?",
        "How much sleep?",
    ]


@pytest.mark.slow
def test_the_table_of_the_page_is_the_one_printed(tmp_path: Path) -> None:
    put_clone(tmp_path)
    page = MEASURE.read_text(encoding="utf-8")
    printed = run_in_order(commands_of(page), tmp_path)
    assert all(printed)
    table = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in printed[-1].splitlines() if line.startswith("|")
    ]
    top_1, mrr = table[0].index("Top-1"), table[0].index("MRR")
    shown = re.findall(r"^\| ((?:BM25|tiny)[^|]*) \| ([\d.]+) \| ([\d.]+) \|$", page, flags=re.MULTILINE)
    assert len(shown) == 3
    for system, first, reciprocal in shown:
        measured = next(row for row in table if row[0] == system)
        assert [measured[top_1], measured[mrr]] == [first, reciprocal]


@pytest.mark.slow
def test_the_page_on_your_own_documents_runs_as_written(tmp_path: Path) -> None:
    put_clone(tmp_path)
    for name, settings in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", OWN_DOCUMENTS, flags=re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(settings, encoding="utf-8")
    commands = commands_of(OWN_DOCUMENTS)
    assert {words[0] for words, _ in commands} == {"mine", "train", "benchmark", "index", "ask"}
    printed = run_in_order(commands, tmp_path)
    assert "27 questions" in printed[0]
    assert "runs/retriever" in printed[4].replace(str(tmp_path), "")
    for folder in ("runs/retriever", "runs/ranker"):
        assert (tmp_path / folder / "README.md").exists()


@pytest.mark.parametrize("page", [OWN_DOCUMENTS, (ROOT / "docs/train.md").read_text(encoding="utf-8")])
def test_rows_of_the_pages_are_rows(page: str) -> None:
    rows = re.findall(r"^```json\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert [parse_row(json.loads(row)).queries["french"] for row in rows] == ["Qui paie après une fuite ?"]


def test_the_readme_is_short_and_begins_with_what_a_newcomer_looks_for() -> None:
    assert len(README.splitlines()) <= 130
    first = PYTHON.search(README)
    assert first is not None
    assert sum(bool(line) for line in first[1].splitlines()) <= 3
    top = "\n".join(README.splitlines()[:40])
    for needed in ("| ", "make demo", "make test", "```python", "print("):
        assert needed in top


def test_commands_that_are_only_shown_have_the_options_they_name() -> None:
    shown = [
        line
        for page in PAGES
        for block in re.findall(r"^```(?:bash|sh|text)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("bloomz ")
    ]
    assert len(shown) >= 40
    for line in shown:
        command: Any = typer.main.get_command(app)
        words = shlex.split(line, comments=True)[1:]
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_each_page_has_its_place_in_the_site() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    placed = set(re.findall(r"[\w/-]+\.md", yaml.safe_dump(site["nav"])))
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES[1:]}
    left_out = set(re.findall(r"[\w-]+\.md", site["exclude_docs"]))
    elsewhere = {"results.md", "changelog.md"}  # whose text stands elsewhere
    assert pages - left_out == placed - elsewhere, "name each page of docs/ under nav: in mkdocs.yml"


def test_each_figure_is_shown_in_light_and_in_dark() -> None:
    shown = re.findall(
        r"figures/([\w-]+\.svg)#gh-(light|dark)-mode-only", "".join(page.read_text(encoding="utf-8") for page in PAGES)
    )
    assert {name for name, _ in shown} == {figure.name for figure in (ROOT / "docs/figures").glob("*.svg")}
    assert all(name.endswith(f"-{scheme}.svg") for name, scheme in shown)
    assert len(shown) >= 10


@pytest.mark.slow
def test_the_figures_are_what_the_script_draws(tmp_path: Path) -> None:
    """By their words, since the numbers move in their last digits with the processor."""
    result = run([sys.executable, str(ROOT / "docs/figures/drawings.py"), str(tmp_path)], tmp_path)
    assert result.returncode == 0, result.stderr
    drawn = sorted(tmp_path.glob("*.svg"))
    kept = sorted((ROOT / "docs/figures").glob("*.svg"))
    assert [figure.name for figure in drawn] == [figure.name for figure in kept]
    for ours, theirs in zip(drawn, kept, strict=True):
        texts = [
            re.findall(r">([^<]*[a-z][^<]*)</text>", figure.read_text(encoding="utf-8")) for figure in (ours, theirs)
        ]
        assert texts[0]
        assert re.sub(r"[\d,.]+", "#", str(texts[0])) == re.sub(r"[\d,.]+", "#", str(texts[1]))


def test_the_file_map_is_the_disk() -> None:
    named = re.findall(r"^    (\S+/)\s", README[README.index("## File map") :], flags=re.MULTILINE)
    assert len(named) >= 8
    assert [path for path in named if not (ROOT / path).is_dir()] == []
    top = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and not path.name.startswith((".", "runs", "demo", "dist", "site"))
    }
    mapped = {path.split("/")[0] for path in named}
    assert top - mapped <= {"__pycache__", "build"}


def test_the_integration_page_has_what_haystack_asks_for() -> None:
    """Front matter and sections as in deepset-ai/haystack-integrations; its code runs with that of all pages."""
    page = (ROOT / "docs/integration-page.md").read_text(encoding="utf-8")
    _, front, body = page.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert {"layout", "name", "description", "authors", "pypi", "repo", "type", "report_issue", "version"} <= set(facts)
    assert (facts["layout"], facts["type"], facts["toc"]) == ("integration", "Model Provider", True)
    assert all(author["name"] for author in facts["authors"])
    sections = re.findall(r"^## (.+)$", body, flags=re.MULTILINE)
    assert sections == re.findall(r"^- \[(.+)\]\(#", body, flags=re.MULTILINE)
    assert sections == ["Overview", "Installation", "Usage", "License"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert facts["pypi"] == f"https://pypi.org/project/{project['name']}/"
