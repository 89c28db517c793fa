"""The command line: exit codes, one-line errors, pure stdout, and what a kill leaves behind."""

import gc
import json
import logging
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from bloomz_haystack.cli import main as cli
from bloomz_haystack.cli.errors import one_line_errors
from bloomz_haystack.indexing.index import index_files
from bloomz_haystack.models.hub_offline import stay_offline_if_unreachable
from bloomz_haystack.settings import TINY_RANKER, TINY_RETRIEVER, IndexSettings
from haystack_integrations.common.bloomz.checkpoint import BUNDLED_FOLDER, BUNDLED_RANKER, BUNDLED_RETRIEVER
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

Bloomz = Callable[..., Result]
SECONDS = 600  # an end for what hangs, also on a slow machine


@pytest.fixture
def bloomz(monkeypatch: pytest.MonkeyPatch) -> Bloomz:
    """Run a command in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("BLOOMZ_DEBUG", raising=False)
    return lambda *arguments: CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def in_subprocess(*arguments: object, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does; ``code`` is run before, in the same interpreter."""
    script = f"import sys\n{code}\nfrom bloomz_haystack.cli.main import main\nmain()"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {"OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False, timeout=SECONDS
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "fr.txt").write_text("La tour Eiffel se trouve à Paris.")
    (folder / "en.txt").write_text("The Eiffel tower stands in Paris.")
    return folder


@pytest.fixture(scope="module")
def made_store(tmp_path_factory: pytest.TempPathFactory, tiny_bloom: Path) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "fr.txt").write_text("La tour Eiffel se trouve à Paris.")
    (folder / "en.txt").write_text("The Eiffel tower stands in Paris.")
    assert (
        index_files(
            [folder / "fr.txt", folder / "en.txt"], folder / "store", IndexSettings(model=str(tiny_bloom))
        ).embedded
        == 2
    )
    return folder / "store"


@pytest.fixture
def store(made_store: Path, tmp_path: Path) -> Path:
    """A store of two passages, of this test alone."""
    return Path(shutil.copytree(made_store, tmp_path / "store"))


def errors_of(result: Result) -> list[str]:
    """Lines of stderr, less the bar of transformers, which only ``quiet_libraries`` silences."""
    return [line for line in result.stderr.splitlines() if line and "Loading weights" not in line]


# ---------------------------------------------------------------- help, version


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    heavy = "{'torch', 'haystack', 'transformers', 'numpy', 'rich'} & set(sys.modules)"
    watch = f"import atexit; atexit.register(lambda: print(len(sys.modules), sorted({heavy}), file=sys.stderr))"
    done = in_subprocess("--help", code=watch)
    modules, _, found = done.stderr.partition(" ")
    assert (done.returncode, found) == (0, "[]\n")
    assert "index" in done.stdout
    assert int(modules) < 400  # 250 are
    control = in_subprocess("--help", code=f"import numpy; {watch}")
    assert control.stderr.endswith(" ['numpy']\n")


@pytest.mark.slow
@pytest.mark.skipif(not (BUNDLED_FOLDER / BUNDLED_RANKER / "model.safetensors").exists(), reason="no bundled weights")
def test_ask_imports_what_it_uses(tmp_path: Path, corpus: Path) -> None:
    """Of 3.8 thousand modules 2.1 thousand are left; these were most of the rest."""
    heavy = (
        "transformers torch._dynamo torch._inductor torch.distributed.tensor accelerate sympy scipy pandas matplotlib"
    )
    names = f"{set(heavy.split())} | {{'sklearn', 'datasets', 'bm25s', 'fastapi'}}"
    watch = (
        f"import atexit; atexit.register(lambda: print('HEAVY', sorted(({names}) & set(sys.modules)), file=sys.stderr))"
    )
    index_files([corpus], tmp_path / "store", IndexSettings(model=BUNDLED_RETRIEVER))
    asked = in_subprocess("ask", "Où ?", "--store", tmp_path / "store", "--json", code=watch)
    assert asked.returncode == 0
    assert len(json.loads(asked.stdout)["documents"]) == 2
    assert asked.stderr == "HEAVY []\n"
    control = in_subprocess("--version", code=f"import sympy; {watch}")
    assert control.stderr == "HEAVY ['sympy']\n"


def test_version(bloomz: Bloomz) -> None:
    named = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["version"]
    assert [bloomz(flag).stdout for flag in ("-V", "--version")] == [f"bloomz-haystack {named}\n"] * 2


def test_names_of_the_bundled_models_are_those_of_the_engine() -> None:
    assert (TINY_RETRIEVER, TINY_RANKER) == (BUNDLED_RETRIEVER, BUNDLED_RANKER)


# ---------------------------------------------------------------- as a user, in a process of its own


@pytest.mark.slow
def test_index_then_ask_print_pure_json(corpus: Path, tmp_path: Path, tiny_bloom: Path, tiny_ranker: Path) -> None:
    store = tmp_path / "store"
    (corpus / "broken.pdf").write_bytes(b"garbage")
    indexed = in_subprocess("index", corpus, "--store", store, "--model", tiny_bloom, "--json")
    assert indexed.returncode == 1
    assert indexed.stderr == f"bloomz: {corpus}/broken.pdf: Stream has ended unexpectedly\n"
    summary = json.loads(indexed.stdout)
    assert summary.pop("seconds") > 0
    assert summary.pop("passages_per_second") > 0
    assert summary == {
        **{"files": 2, "passages": 2, "embedded": 2, "unchanged": 0, "removed": 0, "other_kinds": {}, "empty": []},
        "problems": [{"file": f"{corpus}/broken.pdf", "reason": "Stream has ended unexpectedly", "line": None}],
        "notes": [],
        "model": str(tiny_bloom),
        "store": str(store),
    }
    question = "Où est la tour Eiffel ?"
    asked = in_subprocess("ask", question, "--store", store, "--ranker", tiny_ranker, "--json")
    assert (asked.returncode, asked.stderr) == (0, "")
    answer = json.loads(asked.stdout)
    assert list(answer) == ["query", "documents", "seconds"]
    assert answer["query"] == question
    assert list(answer["seconds"]) == ["embed", "retrieve", "rank", "read"]
    assert {document["content"] for document in answer["documents"]} == {
        "La tour Eiffel se trouve à Paris.",
        "The Eiffel tower stands in Paris.",
    }
    for document in answer["documents"]:
        assert list(document) == ["id", "content", "score", "similarity", "meta", "answer"]
        assert 0 <= document["score"] <= 1
        assert -1 <= document["similarity"] <= 1


def test_the_prefix_cache_serves_the_next_question(
    bloomz: Bloomz, store: Path, tmp_path: Path, tiny_ranker: Path
) -> None:
    options = ["--store", store, "--ranker", tiny_ranker, "--json"]
    kept = ["--prefix-cache", "1MB", "--prefix-cache-folder", tmp_path / "kept"]
    plain = json.loads(bloomz("ask", "Où ?", *options).stdout)
    first, second = (json.loads(bloomz("ask", "Où ?", *options, *kept).stdout) for _ in range(2))
    assert [first["prefix_cache"][name] for name in ("hits", "misses", "entries")] == [0, 2, 2]
    assert [second["prefix_cache"][name] for name in ("hits", "misses", "entries")] == [2, 0, 2]
    for answer in (first, second):
        assert list(answer) == ["query", "documents", "seconds", "prefix_cache"]
        assert list(answer["prefix_cache"]) == ["hits", "misses", "entries", "bytes", "evictions", "budget"]
        scores = [document["score"] for document in answer["documents"]]
        assert scores == pytest.approx([document["score"] for document in plain["documents"]], abs=1e-3)
    for mistake, told in ((["--prefix-cache", "two"], "got 'two'"), (kept[2:], "set prefix_cache too")):
        result = bloomz("ask", "Où ?", *options, *mistake)
        assert (result.exit_code, len(errors_of(result))) == (2, 1)
        assert told in result.stderr


@pytest.mark.slow
def test_kill_9_in_the_middle_then_the_rest(bloomz: Bloomz, tmp_path: Path, tiny_bloom: Path) -> None:
    file, store = tmp_path / "rows.jsonl", tmp_path / "store"
    file.write_text("\n".join(json.dumps({"content": f"Fait {n}, fact {n}"}) for n in range(100)))
    deadly = (
        "import os\n"
        "from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder as E\n"
        "embed, calls = E.embed, []\n"
        "def embed_or_die(self, documents, **options):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 3: os.kill(os.getpid(), 9)\n"
        "    return embed(self, documents, **options)\n"
        "E.embed = embed_or_die"
    )
    killed = in_subprocess("index", file, "--store", store, "--model", tiny_bloom, code=deadly)
    assert killed.returncode == -9
    result = bloomz("index", file, "--store", store, "--json")
    summary = json.loads(result.stdout)
    assert summary["unchanged"] >= 32  # two blocks
    assert summary["embedded"] == 100 - summary["unchanged"] > 0
    documents = QdrantEdgeDocumentStore(str(store), 24)
    assert documents.count_documents() == 100
    documents.close()


def test_a_store_in_use_elsewhere_is_refused_in_one_line(
    bloomz: Bloomz, store: Path, corpus: Path, tiny_ranker: Path
) -> None:
    hold = f"import qdrant_edge; s = qdrant_edge.EdgeShard.load(r'{store}/shard'); print('held', flush=True); input()"
    holder = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        results = [
            bloomz("ask", "Où ?", "--store", store, "--ranker", tiny_ranker, "--wait", 0.2),
            bloomz("index", corpus, "--store", store, "--wait", 0.2),
        ]
    finally:
        holder.communicate("\n")
    for result in results:
        assert (result.exit_code, result.stdout) == (2, "")
        line = errors_of(result)[-1]  # a note that it waits may stand before
        assert line.startswith(f"bloomz: the document store at {store} is open in another process: stop that process")


# ---------------------------------------------------------------- answers on a terminal


def test_answer_shows_probability_cosine_source_and_text(bloomz: Bloomz, store: Path, tiny_ranker: Path) -> None:
    asked = ("ask", "Where is it?", "--store", store, "--ranker", tiny_ranker, "--top-k", 1)
    shown, data = bloomz(*asked), json.loads(bloomz(*asked, "--json").stdout)
    (document,) = data["documents"]
    for part in (f"{document['score']:.3f}", f"{document['similarity']:.3f}", document["content"], ".txt"):
        assert part in shown.stdout
    assert "2 passages in the store; embed" in shown.stderr


def test_index_and_ask_by_words_too(bloomz: Bloomz, store: Path, corpus: Path, tiny_ranker: Path) -> None:
    assert bloomz("index", corpus, "--store", store, "--hybrid").exit_code == 0
    asked = ("ask", "Eiffel tower?", "--store", store, "--ranker", tiny_ranker)
    words, vectors = (json.loads(bloomz(*asked, flag, "--json").stdout) for flag in ("--hybrid", "--no-hybrid"))
    similarities = [sorted(document["similarity"] for document in found["documents"]) for found in (words, vectors)]
    assert similarities[0] != pytest.approx(similarities[1])
    found = json.loads(bloomz(*asked, "--json").stdout)["documents"]  # by itself, since the store keeps words
    assert all((document["similarity"] > 0.75) == ("tower" in document["content"]) for document in found)


def test_nothing_above_the_threshold_is_a_sentence(bloomz: Bloomz, store: Path, tiny_ranker: Path) -> None:
    asked = ("ask", "Où ?", "--store", store, "--ranker", tiny_ranker, "--threshold", 1)
    shown = bloomz(*asked)
    assert shown.exit_code == 0
    assert shown.stdout == "No passage reaches a probability of 1: lower --threshold, or ask otherwise.\n"
    assert json.loads(bloomz(*asked, "--json").stdout)["documents"] == []


def test_an_empty_store_is_a_sentence(bloomz: Bloomz, tmp_path: Path, tiny_bloom: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    result = bloomz("index", tmp_path / "a.txt", "--store", tmp_path / "store", "--model", tiny_bloom)
    assert result.exit_code == 1
    assert result.stdout.startswith("Nothing was indexed")
    assert "1 file without text" in result.stdout
    shown = bloomz("ask", "Où ?", "--store", tmp_path / "store")
    assert (shown.exit_code, shown.stdout) == (0, "The store is empty: index some files first.\n")


def test_summary_says_what_was_done(bloomz: Bloomz, store: Path, corpus: Path) -> None:
    for name in ("x.odt", "y.rtf", "z.rtf"):
        (corpus / name).write_text("a")
    (corpus / "[red]café.jsonl").write_text("oops\n")
    result = bloomz("index", corpus, "--store", store)
    assert result.exit_code == 1
    assert "2 passages in 3 files: 2 embedded, 0 unchanged, 0 removed from the store\n" in result.stdout
    assert "3 files of other kinds left aside: 2 .rtf, 1 .odt\n" in result.stdout
    assert errors_of(result) == [f"bloomz: {corpus}/[red]café.jsonl:1: not JSON: Expecting value at column 1"]


def test_the_bundled_models_are_noted_once_a_store_and_never_with_json(
    bloomz: Bloomz, store: Path, corpus: Path, tiny_ranker: Path
) -> None:
    def notes(*arguments: object) -> int:
        result = bloomz(*arguments, "--store", store)
        assert result.exit_code == 0
        return result.stderr.count("bundled tiny models")

    assert notes("ask", "Où ?", "--ranker", tiny_ranker) == 0
    assert notes("ask", "Où ?", "--json") == 0
    assert [notes("ask", "Où ?"), notes("ask", "Where?"), notes("index", corpus)] == [1, 0, 0]


# ---------------------------------------------------------------- mistakes: one line, exit code 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ask", "  ", "--store", "STORE"], "the question is empty"),
        (["ask", "Où ?", "--store", "missing"], "make one with: bloomz index PATH --store missing"),
        (["ask", "Où ?", "--store", "STORE", "--top-k", "0"], "--top-k must be > 0, but got 0"),
        (["ask", "Où ?", "--store", "STORE", "--candidates", "-1"], "--candidates must be > 0, but got -1"),
        (["ask", "Où ?", "--store", "STORE", "--threshold", "1.5"], "--threshold must be a probability from 0 to 1"),
        (["ask", "Où ?", "--store", "STORE", "--threshold", "nan"], "--threshold must be a probability from 0 to 1"),
        (["ask", "Où ?", "--store", "STORE", "--ranker", "no/where"], "cannot load 'no/where'"),
        (["ask", "Où ?", "--store", "STORE", "--model", "a/b"], "was made with the model"),
        (["ask", "Où ?", "--store", "STORE", "--hybrid"], "keeps no words to search: add them with bloomz index"),
        (["ask", "Où ?", "--store", "CORPUS"], "is not a document store"),
        (["index", "missing.txt", "--store", "STORE"], "no such file or folder: missing.txt"),
        (["index", "CORPUS", "--store", "STORE", "--batch-tokens", "0"], "--batch-tokens must be > 0, but got 0"),
        (["index", "/dev/zero", "--store", "STORE", "--prune"], "not a regular file or a folder: /dev/zero"),
        (["index", "CORPUS", "--store", "STORE", "--passage-words", "0"], "--passage-words must be > 0, but got 0"),
        (["index", "CORPUS", "--store", "new", "--model", "no/where"], "cannot load 'no/where'"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], said: str, bloomz: Bloomz, store: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corpus.parent)
    places = {"STORE": store, "CORPUS": corpus}
    result = bloomz(*[places.get(argument, argument) for argument in arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = errors_of(result)
    assert line.startswith("bloomz: ")
    assert said in line


def test_an_unknown_kind_of_file_given_by_name_is_a_problem(bloomz: Bloomz, store: Path, corpus: Path) -> None:
    (corpus / "x.odt").write_text("a")
    result = bloomz("index", corpus / "x.odt", "--store", store)
    assert result.exit_code == 1
    assert errors_of(result)[0].startswith(f"bloomz: {corpus}/x.odt: cannot read a .odt file: give .txt, .md")


def test_ctrl_c_keeps_what_was_written(
    bloomz: Bloomz, tmp_path: Path, tiny_bloom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder

    embed = BloomzDocumentEmbedder.embed
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": f"Fait {n}"}) for n in range(20)))

    def embed_once(self: BloomzDocumentEmbedder, documents: list, **options: Callable[..., None]) -> object:
        if len(documents) < 16:
            raise KeyboardInterrupt
        return embed(self, documents, **options)

    monkeypatch.setattr(BloomzDocumentEmbedder, "embed", embed_once)
    result = bloomz("index", tmp_path / "rows.jsonl", "--store", tmp_path / "store", "--model", tiny_bloom)
    assert result.exit_code == 130
    assert errors_of(result) == ["bloomz: stopped; everything already written is kept; run the same command to resume"]
    documents = QdrantEdgeDocumentStore(str(tmp_path / "store"), 24)  # it was closed: this process may open it
    assert documents.count_documents() == 16
    documents.close()


def test_a_mistake_of_ours_shows_its_traceback(bloomz: Bloomz, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bloomz_haystack.answering import Answerer

    def broken(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(Answerer, "ask", broken)
    assert isinstance(bloomz("ask", "Où ?", "--store", store).exception, KeyError)
    monkeypatch.setenv("BLOOMZ_DEBUG", "1")
    assert isinstance(bloomz("ask", "Où ?", "--store", "missing").exception, ValueError)


@pytest.mark.parametrize("verb", ["retriever", "ranker"])
def test_training_errors_are_one_line(verb: str, bloomz: Bloomz, monkeypatch: pytest.MonkeyPatch) -> None:
    from bloomz_haystack.training import train

    def refuse(config_path: Path, out: Path, resume: bool, *, data: str | None, base: str | None) -> None:
        if not resume:
            raise train.DivergedError("loss is nan")
        raise ValueError(f"unknown key in {config_path} for {out}, resume {resume}, {data} {base}")

    monkeypatch.setattr(train, f"train_{verb}", refuse)
    given = ["--config", "c.yaml", "--out", "o", "--data", "d", "--base", "b"]
    result = bloomz("train", verb, *given, "--resume")
    assert (result.exit_code, result.stderr) == (2, "bloomz: unknown key in c.yaml for o, resume True, d b\n")
    diverged = bloomz("train", verb, *given)
    assert (diverged.exit_code, diverged.stderr) == (1, "bloomz: loss is nan\n")


# ---------------------------------------------------------------- the Hub


def test_the_hub_is_asked_only_for_what_is_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    assert not stay_offline_if_unreachable([str(tmp_path), "tiny"], bundled=["tiny"])
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert stay_offline_if_unreachable(["some/model"], bundled=["tiny"])
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_a_missing_extra_is_one_line_and_another_import_error_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLOOMZ_DEBUG", raising=False)
    with pytest.raises(typer.Exit) as refused, one_line_errors(stopped=""):
        raise ImportError('bm25s is needed for BM25: pip install "bloomz-haystack[benchmark]"')
    assert refused.value.exit_code == 2
    with pytest.raises(ImportError, match="cannot import"), one_line_errors(stopped=""):
        raise ImportError("cannot import name 'rank'")


def test_verbose_says_how_int8_is_computed(
    store: Path, tiny_ranker: Path, bloomz: Bloomz, caplog: pytest.LogCaptureFixture
) -> None:
    engine = logging.getLogger("haystack_integrations.common.bloomz")
    ask = ["ask", "Où ?", "--store", store, "--ranker", tiny_ranker, "--precision", "int8"]
    try:
        for arguments, told in ((ask, 0), ([*ask, "--verbose"], 2), (["--verbose", *ask], 2)):
            gc.collect()  # else the models of the last question are still there, and nothing is loaded
            caplog.clear()
            engine.setLevel(logging.NOTSET)
            assert bloomz(*arguments).exit_code == 0
            assert sum("int8 linears 24 -> 72 by " in message for message in caplog.messages) == told
    finally:
        engine.setLevel(logging.NOTSET)


@pytest.mark.parametrize(("users", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_do_not_spin_unless_the_user_says_so(users: dict[str, str], expected: str) -> None:
    code = (
        f"import atexit, os, sys; os.environ.pop('OMP_WAIT_POLICY', None); os.environ.update({users!r});"
        "atexit.register(lambda: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules))"
    )
    done = in_subprocess("--version", code=code)
    assert done.stdout.splitlines()[-1] == f"{expected} False", "set before torch is imported"
