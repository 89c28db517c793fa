"""What a terminal is sent, at several widths; what a pipe is sent instead; and how a run ends that is stopped."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner, Result

from bloomz_haystack.answering import Answer, FoundPassage, FoundSentence
from bloomz_haystack.batch.questions import read_questions
from bloomz_haystack.cli import answer_table as answers
from bloomz_haystack.cli import console as drawing
from bloomz_haystack.cli import main as cli
from bloomz_haystack.cli import output as showing
from bloomz_haystack.cli import progress as bars
from bloomz_haystack.cli.errors import mend_streams
from bloomz_haystack.cli.index_report import IndexBar
from bloomz_haystack.cli.progress import TerminalWatcher
from bloomz_haystack.cluster.store_copy import CopySummary
from bloomz_haystack.files.printable import counted, printable
from bloomz_haystack.indexing.files import Problem
from bloomz_haystack.indexing.index import IndexSummary, index_files
from bloomz_haystack.settings import IndexSettings

# What a terminal obeys: screen, window title, link, bell, backspace, line start, C1 controls, direction of writing.
HOSTILE = "\x1b[2J \x1b]0;titre\x07 \x1b]8;;http://e\x1b\\lien "
HOSTILE += "\x08\x08 \r \x9b31m \x85 \u202eexe.doc\u202c \u2066a\u2069 \x7f"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
SECONDS = 600  # an end for what hangs, also on a slow machine
WIDTHS = (40, 80, 200)
TITLES = {
    "fr": "Congés payés et congé parental dans la convention collective nationale de 2024",
    "en": "Paid holidays and parental leave in the national collective agreement of 2024",
}
TEXTS = {
    "fr": "Le congé parental dure trois ans au plus ; il est pris à temps plein ou à temps partiel. " * 3,
    "en": "Parental leave lasts three years at most; it is taken full time or part time, after a year. " * 3,
}


def passage(text: str, **meta: Any) -> FoundPassage:  # noqa: ANN401
    return FoundPassage("0123456789abcdef", text, 0.973, 0.812, meta)


def answer(*passages: FoundPassage) -> Answer:
    return Answer("Combien de temps ?", list(passages), stored=1204)


def drawn(width: int, *passages: FoundPassage) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    answers.show_passages(console, answer(*passages))
    return console.file.getvalue()  # type: ignore[attr-defined]


# ---------------------------------------------------------------- shown, not obeyed


@pytest.mark.parametrize("character", [*HOSTILE.replace(" ", ""), "\u2028", "\u200f", "\udce9", "\n", "\t"])
def test_every_character_that_is_obeyed_is_written_out(character: str) -> None:
    shown = printable(f"é{character}ß")
    assert not OBEYED.search(shown)
    if OBEYED.search(character):
        assert re.fullmatch(r"é(\\x..|\\u....|\\r|\\t)ß", shown)
    assert printable("Où ? — naïve, 東京, 👩‍👩‍👧, a‌b") == "Où ? — naïve, 東京, 👩‍👩‍👧, a‌b"


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_passages_are_shown(width: int) -> None:
    hostile = passage(
        HOSTILE, file_path=f"/x/{HOSTILE}.txt", title=HOSTILE, page_number=HOSTILE, copies=[{"id": HOSTILE}]
    )
    shown = drawn(width, hostile)
    assert not OBEYED.search(shown)
    assert r"\x1b[2J" in shown.replace("\n   ", "")
    (line,) = answers.answer_lines(replace(answer(hostile), question=HOSTILE), named=True)
    assert not OBEYED.search(line.replace("\t", ""))
    assert len(line.split("\t")) == 7
    assert "\n" not in line


def test_json_escapes_them(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    value = {HOSTILE: [HOSTILE, "caf\udce9", "déjà"]}
    monkeypatch.setattr(sys, "stdout", open(1, "w", closefd=False))  # noqa: SIM115
    showing.print_json(value)
    printed = capfdbinary.readouterr().out.decode()
    assert not OBEYED.search(printed.removesuffix("\n"))
    assert "déjà" in printed
    assert json.loads(printed) == value


# ---------------------------------------------------------------- readable at every width


@pytest.mark.parametrize("lang", ["fr", "en"])
@pytest.mark.parametrize("width", WIDTHS)
def test_source_and_text_are_whole_lines(
    width: int, lang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(tmp_path / "ressources-humaines/conventions/annexes/conges-payes.pdf")
    copy = str(tmp_path / "archives/conges-payes.pdf")
    found = passage(
        TEXTS[lang], file_path=file, title=TITLES[lang], page_number=12, copies=[{"file_path": copy, "id": "1"}]
    )
    lines = drawn(width, *[found] * 12).splitlines()
    assert max(cell_len(line) for line in lines) <= width
    source = "…/annexes/conges-payes.pdf, p. 12" if width == 40 else f"{file[len(str(tmp_path)) + 1 :]}, p. 12"
    stripped = [line.strip() for line in lines]
    assert stripped.count(source) == 12
    assert stripped.count("archives/conges-payes.pdf") == 12
    assert stripped.count("probability 0.973 · cosine 0.812") == 12
    words = " ".join(stripped).split()
    assert words.count(TEXTS[lang].split()[1]) == 12 * (TITLES[lang].split() + TEXTS[lang].split()).count(
        TEXTS[lang].split()[1]
    )


@pytest.mark.parametrize("width", [10, 25, 40, 60])
@pytest.mark.parametrize(
    "path", ["a.txt", "dossier/été/rapport.pdf", "東京/" * 9 + "本.md", "x" * 90, "a/" + "é" * 70 + ".txt"]
)
def test_a_path_is_shortened_in_front(path: str, width: int) -> None:
    shown = drawing.shortened_path(path, width)
    assert cell_len(shown) <= width or cell_len(path) <= width
    assert shown == path if cell_len(path) <= width else "…" in shown
    assert shown.endswith(path[-3:])


def test_one_is_singular() -> None:
    assert [counted(n, "passage") for n in (0, 1, 2, 1204)] == [
        "0 passages",
        "1 passage",
        "2 passages",
        "1,204 passages",
    ]


def test_speed_is_counted_without_the_time_to_load(tmp_path: Path, tiny_bloom: Path) -> None:
    (tmp_path / "a.txt").write_text("La tour Eiffel se trouve à Paris.")
    summary = index_files([tmp_path / "a.txt"], tmp_path / "s", IndexSettings(model=str(tiny_bloom)))
    summary.seconds, summary.loading_seconds, summary.passages = 12.5, 10.0, 5
    assert summary.passages_per_second == 2.0
    (tmp_path / "a.txt").write_text("The Eiffel tower stands in Paris.")
    again = index_files([tmp_path / "a.txt"], tmp_path / "s")  # the model is loaded when the first passage needs it
    assert 0 < again.loading_seconds < again.seconds


def test_progress_is_quiet_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    watcher = IndexBar()
    watcher.started(10)
    watcher.advanced(IndexSummary("m", "s", embedded=3), 5)
    watcher.problem(Problem("a\x1b[2J.txt", "broken\x07", 3))
    watcher.stop()
    benchmarking = TerminalWatcher()
    benchmarking.row("a\x1b[2J", 1, 2)
    benchmarking.step("embed", 10)(5)
    benchmarking.note("b\x07")
    benchmarking.stop()
    copying = bars.CopyBar("copying")
    copying.begun -= 60
    copying.advanced(CopySummary(read=500, in_source=1000))
    copying.stop()
    assert capsys.readouterr() == ("", "bloomz: a\\x1b[2J.txt:3: broken\\x07\nbloomz: b\\x07\n")


def test_a_copy_of_more_than_two_seconds_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    now, screen = [0.0], io.StringIO()
    monkeypatch.setattr(bars, "console", lambda stderr: Console(file=screen, force_terminal=True, width=100))
    monkeypatch.setattr(bars, "time", SimpleNamespace(monotonic=lambda: now[0]))
    bar = bars.CopyBar("loading")
    now[0] = 1.9
    bar.advanced(CopySummary(read=500, in_source=2000))
    assert screen.getvalue() == ""
    now[0] = 2.5
    bar.advanced(CopySummary(read=1000, in_source=2000))
    bar.stop()
    assert re.search(r"loading .* 50 % 1,000 passages, 400/s", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue()))


def test_a_wide_table_is_cut_into_parts_that_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = ["system", *(f"Top-{n}" for n in range(1, 14)), "p (bm25-stemmed)"]
    rows = [["bm25, stemmed | racines", *["12.3"] * 13, "–"], ["tiny-fr-en-retriever", *["98.7 ▼ 99.9"] * 13, "0.0001"]]
    markdown = "- questions: 214\n\n" + "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in [heads, ["---"] * 15, *rows]
    )
    monkeypatch.setattr(drawing, "on_terminal", lambda stream: True)
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        drawing.show_markdown(markdown)
        shown = capsys.readouterr().out
        assert max(cell_len(line) for line in shown.splitlines()) <= width
        assert "|---|" not in shown
        assert shown.count("12.3") == shown.count("98.7") == 13
        assert all(head in shown for head in heads[1:14])
        assert "bm25, stemmed | racines" in shown or width == 40
    drawing.show_markdown(markdown, as_it_is=True)
    assert capsys.readouterr().out == markdown + "\n"


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_escapes_where_none_are_wanted(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    control = drawing.console()
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("COLUMNS", "47")
    wanted = drawing.console()
    assert [console.color_system is None for console in (control, wanted)] == [False, True]
    assert wanted.width == 47


# ---------------------------------------------------------------- questions from stdin


def test_questions_are_read_line_by_line() -> None:
    lines = [
        "\ufeffOù ?\r\n".encode(),
        b"\n",
        b"  \t\n",
        b"caf\xe9 ?\n",
        b"a\0b\n",
        b"caf\x81\xe9\n",
        b"Where?",
    ]
    read = list(read_questions(lines))
    assert [(line.number, line.text) for line in read if not line.problem] == [
        (1, "Où ?"),
        (4, "café ?"),
        (7, "Where?"),
    ]
    assert [line.number for line in read if line.problem] == [5, 6]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_bloom: Path) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    (folder / "fr.txt").write_text(
        f"La tour Eiffel {HOSTILE} se trouve à Paris.".replace("\x08", "").replace("\x07", "")
    )
    (folder / "en.txt").write_text("The Eiffel tower stands in Paris.")
    assert (
        index_files(
            [folder / "fr.txt", folder / "en.txt"], folder / "store", IndexSettings(model=str(tiny_bloom))
        ).embedded
        == 2
    )
    return folder / "store"


@pytest.fixture
def bloomz(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    monkeypatch.delenv("BLOOMZ_DEBUG", raising=False)

    def run(*arguments: object, stdin: bytes = b"") -> Result:
        return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=stdin)

    return run


def test_many_questions_one_object_a_line(bloomz: Any, store: Path, tiny_ranker: Path) -> None:  # noqa: ANN401
    options = ("--store", store, "--ranker", tiny_ranker)
    stdin = "Où est la tour ?\n\nWhere is the tower?\n".encode() + b"a\0b\n" + "Où ?".encode()
    result = bloomz("ask", "-", *options, "--json", stdin=stdin)
    assert result.exit_code == 1  # one line could not be answered
    assert [line for line in result.stderr.splitlines() if "line" in line and "Loading" not in line] == [
        "bloomz: line 4: not text (it contains a NUL byte): give UTF-8, one question per line"
    ]
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert [found["query"] for found in objects] == ["Où est la tour ?", "Where is the tower?", "Où ?"]
    alone = json.loads(bloomz("ask", "Où ?", *options, "--json").stdout)
    assert objects[2]["documents"] == alone["documents"]
    lines = bloomz("ask", "-", *options, stdin="Où ?\nWhere?\n".encode()).stdout.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [["Où ?", "1"], ["Où ?", "2"], ["Where?", "1"], ["Where?", "2"]]


def test_a_pipe_gets_one_line_a_passage(bloomz: Any, store: Path, tiny_ranker: Path) -> None:  # noqa: ANN401
    asked = ("ask", "Où ?", "--store", store, "--ranker", tiny_ranker)
    found = json.loads(bloomz(*asked, "--json").stdout)["documents"]
    lines = [line.split("\t") for line in bloomz(*asked).stdout.splitlines()]
    assert [line[:3] for line in lines] == [
        [str(rank), f"{document['score']:.3f}", f"{document['similarity']:.3f}"]
        for rank, document in enumerate(found, start=1)
    ]
    assert {Path(line[3]).name for line in lines} == {"fr.txt", "en.txt"}
    assert [line[4] for line in lines if line[3].endswith("en.txt")] == ["The Eiffel tower stands in Paris."]


@pytest.mark.parametrize("stored", ["--hybrid", "--no-hybrid"])
def test_an_argument_that_is_not_utf_8_is_read_the_same_way_everywhere(
    stored: str,
    bloomz: Any,  # noqa: ANN401
    store: Path,
    tiny_ranker: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "a.txt").write_text("Le café est fermé.")
    model = json.loads((store / "store.json").read_text())["info"]["model"]
    made = bloomz("index", tmp_path / "a.txt", "--store", tmp_path / "s", "--model", model, "--hybrid")
    assert made.exit_code == 0, made.stderr
    result = bloomz("ask", "caf\udce9 fermé", "--store", tmp_path / "s", "--ranker", tiny_ranker, "--json", stored)
    assert json.loads(result.stdout)["query"] == "café fermé"
    refused = bloomz("ask", "caf\udc81", "--store", tmp_path / "s", "--ranker", tiny_ranker, stored)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("bloomz: QUESTION must be UTF-8 or Windows-1252, but got caf\\x81")


# ---------------------------------------------------------------- what a store holds


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    for name in ("a/menu.txt", "b/menu.txt", "b/prix \x1b[31m.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "a/menu.txt").write_text("La cantine ouvre à midi.")
    (folder / "b/menu.txt").write_text("La cantine ouvre à midi.")
    (folder / "b/prix \x1b[31m.txt").write_text("The canteen is 4 euros a meal.")
    (folder / "rows.jsonl").write_text(
        "\n".join(json.dumps({"content": f"Fait {n}", "meta": {"language": "fr" if n % 2 else "en"}}) for n in range(5))
    )
    return folder


@pytest.fixture
def filled(corpus: Path, tmp_path: Path, tiny_bloom: Path) -> Path:
    assert index_files([corpus], tmp_path / "store", IndexSettings(model=str(tiny_bloom))).embedded == 8
    return tmp_path / "store"


def test_copies_take_one_place(
    bloomz: Any,  # noqa: ANN401
    filled: Path,
    corpus: Path,
    tiny_ranker: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(corpus)
    lines = bloomz("ask", "La cantine ?", "--store", filled, "--ranker", tiny_ranker, "--top-k", 9).stdout.splitlines()
    assert len(lines) == 7
    (menu,) = [line.split("\t") for line in lines if "midi" in line]
    assert {menu[3], menu[5]} in ({"a/menu.txt", "also in: b/menu.txt"}, {"b/menu.txt", "also in: a/menu.txt"})
    assert [len(line.split("\t")) for line in lines if "midi" not in line] == [5] * 6


def test_store_info_and_list(bloomz: Any, filled: Path, tiny_bloom: Path) -> None:  # noqa: ANN401
    told = bloomz("store", "info", "--store", filled)
    assert told.exit_code == 0
    assert told.stdout.splitlines()[:3] == [f"store {filled}", f"model {tiny_bloom}", "8 passages in 4 files"]
    info = json.loads(bloomz("store", "info", "--store", filled, "--json").stdout)
    assert {key: info[key] for key in ("model", "passages", "files", "embedding_dim", "hybrid")} == {
        **{"model": str(tiny_bloom), "passages": 8, "files": 4, "embedding_dim": 24, "hybrid": False}
    }
    assert 10_000 < info["bytes"] < 100e6
    files = json.loads(bloomz("store", "list", "--store", filled, "--json").stdout)["files"]
    assert sorted((Path(file["file"]).name, file["passages"]) for file in files) == [
        *[("menu.txt", 1)] * 2,
        ("prix \x1b[31m.txt", 1),
        ("rows.jsonl", 5),
    ]
    lines = bloomz("store", "list", "--store", filled).stdout.splitlines()
    assert [line.split("\t") for line in lines] == [[str(file["passages"]), printable(file["file"])] for file in files]


def test_store_remove_names_the_number_and_wants_a_yes(bloomz: Any, filled: Path, corpus: Path) -> None:  # noqa: ANN401
    def passages() -> int:
        return int(json.loads(bloomz("store", "info", "--store", filled, "--json").stdout)["passages"])

    remove = ("store", "remove", "--store", filled)
    refused = bloomz(*remove, corpus / "rows.jsonl")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith(
        f"bloomz: this would remove 5 passages of 1 file from the store at {filled}: add --yes"
    )
    assert passages() == 8
    (corpus / "b/menu.txt").unlink()  # gone from the disk, not from the store
    done = bloomz(*remove, corpus / "b/menu.txt", "--yes")
    assert (done.exit_code, done.stdout) == (0, "1 passage of 1 file removed, 7 passages left\n")
    french = '{"field": "meta.language", "operator": "==", "value": "fr"}'
    assert bloomz(*remove, "--filter", french, "--yes", "--json").stdout == (
        f'{{"store": "{filled}", "removed": 2, "passages": 5, "files": []}}\n'
    )
    (listed,) = [
        file["file"]
        for file in json.loads(bloomz("store", "list", "--store", filled, "--json").stdout)["files"]
        if file["passages"] == 3
    ]
    assert bloomz(*remove, listed, corpus / "b", "--yes").stdout == "4 passages of 2 files removed, 1 passage left\n"
    assert passages() == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name the files to remove, or give a --filter: one of the two"),
        (["a.txt", "--filter", "{}"], "one of the two"),
        (["no\x1bsuch.txt", "--yes"], "the store holds no passages of no\\x1bsuch.txt"),
        (["--filter", "language=fr", "--yes"], "--filter must be a Haystack filter in JSON"),
        (["--filter", "[1]", "--yes"], "--filter must be a Haystack filter in JSON"),
        (["--filter", '{"field": "meta.x", "operator": "~", "value": 1}', "--yes"], "~"),
        (["--filter", "[" * 100_000, "--yes"], "--filter must be a Haystack filter in JSON"),
    ],
)
def test_store_remove_refuses_in_one_line(arguments: list[str], said: str, bloomz: Any, filled: Path) -> None:  # noqa: ANN401
    result = bloomz("store", "remove", "--store", filled, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr
    assert len(result.stderr) < 500


# ---------------------------------------------------------------- wrong arguments: one line, at once


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ask", "Où ?"], "missing option '--store'"),
        (["ask", "--store", "s"], "missing argument 'QUESTION'"),
        (["ask", "Où ?", "--store", "s", "--top-k", "1000000000000000000000000"], "--top-k must be at most 2147483647"),
        (["ask", "Où ?", "--store", "s", "--top-k", "-3"], "--top-k must be > 0, but got -3"),
        (
            ["ask", "Où ?", "--store", "s", "--candidates", "trois"],
            "--candidates must be a whole number > 0, but got 'trois'",
        ),
        (["ask", "Où ?", "--store", "s", "--candidates", "9" * 5000], "--candidates must be"),
        (["ask", "Où ?", "--store", "s", "--candidates", "\x1b[2J"], "'\\x1b[2J'"),
        (
            ["ask", "Où ?", "--store", "s", "--threshold", "NaN"],
            "--threshold must be a probability from 0 to 1, but got NaN",
        ),
        (["ask", "Où ?", "--store", "s", "--threshold", "x"], "--threshold must be a number, but got 'x'"),
        (["ask", "Où ?", "--store", "s", "--score-prior", "inf"], "--score-prior must be a number >= 0, but got inf"),
        (
            ["ask", "Où ?", "--store", "s", "--precision", "int4"],
            "--precision must be int8, or be left out, but got 'int4'",
        ),
        (["ask", "Où ?", "--store", "missing\x1b[2J"], "no store at missing\\x1b[2J"),
        (["index", "a.txt", "--store", "s", "--batch-tokens", "1e3"], "--batch-tokens must be a whole number"),
        (["mine", "--data", "d", "--out", "o", "--negatives", "0"], "--negatives must be > 0, but got 0"),
        (["mine", "--data", "d", "--out", "o", "--seed", "-1"], "--seed must be >= 0, but got -1"),
        (["benchmark", "quality", "--corpus", "piaf", "--candidates", "1" * 30], "--candidates must be at most"),
        (["benchmark", "quality", "--corpus", "piaf", "--score-prior", "nan"], "--score-prior must be a number >= 0"),
        (["benchmark", "quality", "--corpus", "piaf", "--ties", "x"], "'--ties'"),
        (["benchmark", "speed", "--threads", "-1"], "--threads must be > 0, but got -1"),
        (["benchmark", "growth", "--threads", "1e24"], "--threads must be a whole number > 0, but got '1e24'"),
        (["train", "retriever"], "missing option '--config'"),
        (["store", "info"], "missing option '--store'"),
        (["store", "remove", "--store", "missing"], "no store at missing"),
        (["asq"], "no such command 'asq'"),
        (["ask", "--no-such"], "no such option: --no-such"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], said: str, bloomz: Any, tmp_path: Path) -> None:  # noqa: ANN401
    result = bloomz(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("bloomz: ")
    assert said in result.stderr
    assert len(result.stderr) < 300


@pytest.mark.parametrize(
    "arguments", [["ask", "Où ?", "--store", "missing"], ["index", "missing.txt", "--store", "s"], ["store", "info"]]
)
def test_wrong_arguments_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    watch = (
        "import atexit, sys; atexit.register(lambda: print(sorted({'torch', 'haystack', 'rich'} & set(sys.modules))))"
    )
    code = f"{watch}\nfrom bloomz_haystack.__main__ import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "[]\n")
    assert len(done.stderr.splitlines()) == 1


def test_json_is_printed_without_anything_heavy(tmp_path: Path) -> None:
    watch = "import atexit, sys; atexit.register(lambda: print({'torch', 'haystack', 'rich'} & set(sys.modules)))"
    code = f"{watch}\nfrom bloomz_haystack.cli.output import print_json, print_lines\n"
    code += "print_lines(['été']); print_json({'été': 'summer'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ('été\n{"été": "summer"}\nset()\n', "")


# ---------------------------------------------------------------- stopped


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("seconds", [0, 0.05, 0.3, 1.5])
def test_stopped_during_imports_is_quiet(number: signal.Signals, code: int, seconds: float, store: Path) -> None:
    # Before its first line a Python program cannot help what Python says; "up" is printed at ours.
    script = "from bloomz_haystack.cli.signals import leave_at_once_when_stopped as leave\n"
    script += "leave(); print('up', flush=True)\nfrom bloomz_haystack.__main__ import main\nmain()"
    command = [sys.executable, "-c", script, "ask", "-", "--store", str(store)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    time.sleep(seconds)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert (process.returncode, stdout, stderr) == (code, b"", b"bloomz: stopped; nothing was changed\n")


@pytest.mark.slow
def test_sigterm_at_work_closes_the_store(store: Path, tiny_ranker: Path) -> None:
    script = """if True:
        import os
        from bloomz_haystack.__main__ import main
        from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore as Store
        Store.query_batch = lambda *_, **__: os.kill(os.getpid(), 15)
        close = Store.close
        Store.close = lambda self: (print("closed"), close(self))
        main()"""
    command = [sys.executable, "-c", script, "ask", "Où ?", "--store", str(store), "--ranker", str(tiny_ranker)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, set(done.stdout.split())) == (143, {"closed"})
    assert done.stderr == "bloomz: stopped; nothing was changed\n"


@pytest.mark.parametrize("arguments", [["--help"], ["benchmark", "expected"]])
def test_a_reader_that_goes_away_is_no_error(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "bloomz_haystack", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait(SECONDS)) == (b"", 141)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["benchmark", "expected"]])
def test_an_output_that_is_full_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "bloomz_haystack", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "bloomz: [Errno 28] No space left on device\n")


def test_streams_that_the_caller_closed_go_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    mend_streams()
    assert (sys.stdin.read(), sys.stdin.isatty(), sys.stderr.isatty()) == ("", False, False)
    showing.print_json({"é": 1})
    command = [sys.executable, "-m", "bloomz_haystack", "benchmark", "expected"]
    script = "import os, sys; os.close(2); os.execv(sys.executable, sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "MRR" in done.stdout.upper()


def on_a_terminal(columns: int, *arguments: object) -> str:
    """Run a command on a terminal of its own and give all that it draws."""
    import fcntl
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-m", "bloomz_haystack", *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env={**environment, "TERM": "xterm-256color"}
    )
    os.close(slave)
    read = b""
    while True:
        try:
            read += os.read(master, 65536)
        except OSError:  # nobody has it open any more
            break
    assert process.wait(SECONDS) == 0, read.decode()
    os.close(master)
    return read.decode()


@pytest.mark.slow
def test_ask_on_a_terminal(store: Path, tiny_ranker: Path) -> None:
    sent = on_a_terminal(40, "ask", "Où est la tour Eiffel ?", "--store", store, "--ranker", tiny_ranker)
    ours = re.compile(r"\x1b\[[0-9;]*m")  # bold and colours
    shown = ours.sub("", sent).replace("\r\n", "\n")
    assert ours.search(sent)
    assert not OBEYED.search(shown)
    assert max(map(cell_len, shown.splitlines())) <= 40
    assert "The Eiffel tower stands in Paris." in shown
    assert r"\x1b[2J" in shown


def drawn_text(content: str, sentence: str | None, title: str = "") -> tuple[str, str]:
    """Return the text of a passage as a terminal shows it, and the part of it that is bold."""
    start = content.index(sentence) if sentence else 0
    answer = FoundSentence(sentence, start, start + len(sentence), 0.5, None) if sentence else None
    text = answers._text(FoundPassage("1", content, 0.9, 0.8, {"title": title}, answer))
    return text.plain, "".join(text.plain[span.start : span.end] for span in text.spans)


def test_the_sentence_that_answers_is_bold() -> None:
    assert drawn_text("Il pleut.\n  La piscine ferme.\nOui.", "La piscine ferme.") == (
        "Il pleut. La piscine ferme. Oui.",
        "La piscine ferme.",
    )
    assert drawn_text("The pool is closed. Yes.", "The pool is closed.")[1] == "The pool is closed."
    assert drawn_text("Horaires\nLa piscine ferme.", "La piscine ferme.", title="Horaires")[0] == "La piscine ferme."
    assert drawn_text("La piscine ferme.", None) == ("La piscine ferme.", "")


@pytest.mark.parametrize("before", [0, 30, 3000])
@pytest.mark.parametrize("after", [0, 30, 3000])
def test_a_long_passage_is_shortened_around_that_sentence(before: int, after: int) -> None:
    text, bold = drawn_text("avant " * before + "La piscine ferme." + " after" * after, "La piscine ferme.")
    assert bold == "La piscine ferme."
    assert len(text) <= answers.LONGEST_TEXT
    assert text.startswith("…") == (before == 3000)
    assert text.endswith("…") == (after == 3000)
    if max(before, after) == 3000:
        assert len(text) > answers.LONGEST_TEXT - 20
    text, bold = drawn_text("mot " * 1000, "mot " * 999)
    assert len(text) <= answers.LONGEST_TEXT
    assert text == bold
    assert text.endswith("mot…")


def test_an_escape_in_that_sentence_is_printed() -> None:
    assert drawn_text("a \x1b[31mrouge. b", "\x1b[31mrouge.")[1] == r"\x1b[31mrouge."
