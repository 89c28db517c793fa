"""``bloomz benchmark``: ranks that are kept, tables that come back from them, and what goes wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Document
from transformers import AutoModel, AutoTokenizer
from typer.testing import CliRunner, Result

from bloomz_haystack.benchmark.report import expected
from bloomz_haystack.benchmark.report.plots import theme_shares
from bloomz_haystack.benchmark.report.worst_questions import worst_questions
from bloomz_haystack.benchmark.run import first_stage, quality
from bloomz_haystack.benchmark.run.results_folder import read_row, read_run
from bloomz_haystack.cli import benchmark as benchmark_cli
from bloomz_haystack.cli import main as cli
from haystack_integrations.common.bloomz.checkpoint import open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.scorer import Scorer, probabilities
from haystack_integrations.components.rankers.bloomz import BloomzRanker
from haystack_integrations.components.retrievers.qdrant_edge import (
    QdrantEdgeEmbeddingRetriever,
    QdrantEdgeHybridRetriever,
)
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

Bloomz = Callable[..., Result]

PASSAGES = [
    ("Fleuves / Rivers", "La Tamise traverse Londres et Oxford.", ["Quel fleuve traverse Londres ?"]),
    ("Fleuves / Rivers", "La Loire est le plus long fleuve de France.", ["Quel est le plus long fleuve de France ?"]),
    ("Villes / Cities", "Brest est un port de Bretagne.", ["Où est le port de Brest ?", "Where is it?"]),
    ("Villes / Cities", "Lyon est au confluent du Rhône et de la Saône.", []),
]


@pytest.fixture
def bloomz(monkeypatch: pytest.MonkeyPatch) -> Bloomz:
    """Run a command in this process, without touching its logging: other tests look at the logs."""
    monkeypatch.setattr(benchmark_cli, "quiet_libraries", lambda: None)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(cli.app, ["benchmark", *map(str, arguments)])


@pytest.fixture(scope="module")
def squad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four passages, four answerable questions, one that has no answer."""
    articles: dict[str, list[dict[str, Any]]] = {}
    for number, (theme, context, questions) in enumerate(PASSAGES):
        asked = [{"id": f"{number}-{i}", "question": text, "is_impossible": False} for i, text in enumerate(questions)]
        if not questions:
            asked = [{"id": "none", "question": "Combien d'habitants à Lyon ?", "is_impossible": True}]
        articles.setdefault(theme, []).append({"context": context, "qas": asked})
    data = [{"title": theme, "paragraphs": paragraphs} for theme, paragraphs in articles.items()]
    path = tmp_path_factory.mktemp("squad") / "small-fr.json"
    path.write_text(json.dumps({"data": data}), encoding="utf-8")
    return path


def french(squad: Path, out: Path, *more: object) -> list[object]:
    """The arguments of a French run."""
    return ["quality", "--corpus", "squad", "--data", squad, "--out", out, *more]


def texts() -> tuple[list[str], list[str], np.ndarray]:
    asked = [(text, gold) for gold, (_, _, questions) in enumerate(PASSAGES) for text in questions]
    return [text for text, _ in asked], [context for _, context, _ in PASSAGES], np.array([gold for _, gold in asked])


def plain_ranks(scores: np.ndarray, gold: np.ndarray) -> list[float]:
    """One question at a time, by sorting."""
    return [1.0 + sum(float(s) > float(row[g]) for s in row) for row, g in zip(scores, gold, strict=True)]


def test_ranks_of_vectors_and_of_a_ranker_are_those_of_the_engine(
    bloomz: Bloomz, squad: Path, tmp_path: Path, tiny_bloom: Path, tiny_ranker: Path
) -> None:
    out = tmp_path / "out"
    result = bloomz(*french(squad, out, "--systems", tiny_bloom, "--rerank", tiny_ranker, "--candidates", 4, "--json"))
    assert result.exit_code == 0, result.stderr
    questions, passages, gold = texts()
    encoder = Encoder(open_checkpoint(str(tiny_bloom), "embed", device="cpu"))
    scorer = Scorer(open_checkpoint(str(tiny_ranker), "rank", device="cpu"))
    by_vectors = plain_ranks(encoder.encode(questions) @ encoder.encode(passages).T, gold)
    odds = np.stack([scorer.score(question, passages) for question in questions])
    by_ranker = plain_ranks(odds, gold)
    first, second = read_run(out).rows
    assert first.fair.tolist() == by_vectors
    assert second.fair.tolist() == by_ranker
    np.testing.assert_allclose(second.gold_probability, probabilities(odds)[np.arange(4), gold], atol=1e-6)
    told = json.loads(result.stdout)
    assert told["rows"][0]["figures"]["mrr"] == pytest.approx(100 * np.mean(1 / np.array(by_vectors)))
    assert told["rows"][1]["figures"]["gold_probability_mean"] == pytest.approx(second.gold_probability.mean())
    assert [told["facts"][key] for key in ("questions", "passages", "themes", "unanswerable")] == [4, 4, 2, 1]


def test_a_row_that_cannot_be_had_says_so_and_the_rest_is_computed(bloomz: Bloomz, squad: Path, tmp_path: Path) -> None:
    result = bloomz(*french(squad, tmp_path / "out", "--systems", "e5-base,bm25"))
    assert result.exit_code == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith("| ")]
    missing = next(line for line in rows if line.startswith("| E5-base (not available here)"))
    assert "(59.9)" in missing  # published Top-1, although it could not be measured
    # three questions share words with their passage alone; the English one shares none: ranks 1, 1, 1, 2.5
    measured = next(line for line in rows if line.startswith("| BM25 |"))
    assert "| 1.4 ▲ 16.8 |" in measured
    assert "| 75.0 ▲ 71.7 |" in measured
    assert "| 85.0 ▲ 79.2 |" in measured
    assert "not available here" in result.stderr


def test_a_second_table_comes_from_the_kept_ranks(
    bloomz: Bloomz, squad: Path, tmp_path: Path, tiny_bloom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first = bloomz(*french(squad, out, "--systems", f"bm25,{tiny_bloom}"))
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "Where is it?" in page

    def refuse(*_: object) -> None:
        raise AssertionError("a model was opened")

    monkeypatch.setattr(first_stage, "open_text_model", refuse)
    monkeypatch.setattr(first_stage, "Bm25", refuse)
    again = bloomz("table", out)
    assert again.exit_code == 0, again.stderr
    assert again.stdout == first.stdout
    resumed = bloomz(*french(squad, out, "--systems", f"bm25,{tiny_bloom}", "--resume"))
    assert resumed.exit_code == 0, resumed.stderr
    assert bloomz("table", out, "--ties", "optimistic").stdout.count("| 100.0") > first.stdout.count("| 100.0")


def test_an_interrupted_run_keeps_finished_rows_and_goes_on(
    bloomz: Bloomz, squad: Path, tmp_path: Path, tiny_bloom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(first_stage, "open_text_model", stop)
        result = bloomz(*french(squad, out, "--systems", f"bm25,{tiny_bloom}"))
    assert result.exit_code == 130
    assert "--resume" in result.stderr
    assert [row.name for row in read_run(out).rows] == ["bm25"]
    written = (out / "rows/bm25.json").stat().st_mtime_ns
    assert bloomz(*french(squad, out, "--systems", f"bm25,{tiny_bloom}", "--resume")).exit_code == 0
    assert [row.name for row in read_run(out).rows] == ["bm25", str(tiny_bloom)]
    assert (out / "rows/bm25.json").stat().st_mtime_ns == written
    # a torn row counts as not there
    ranks = out / "rows/bm25.jsonl"
    ranks.write_bytes(ranks.read_bytes()[:-20])
    assert read_row(out, "bm25") is None
    assert bloomz(*french(squad, out, "--systems", "bm25", "--resume")).exit_code == 0
    kept = read_row(out, "bm25")
    assert kept is not None
    assert kept.fair.tolist() == [1.0, 1.0, 1.0, 2.5]


def test_a_hybrid_fuses_and_unanswered_questions_tell_when_to_keep_silent(
    bloomz: Bloomz, squad: Path, tmp_path: Path, tiny_bloom: Path, tiny_ranker: Path
) -> None:
    out = tmp_path / "out"
    names = f"bm25+{tiny_bloom}"
    result = bloomz(*french(squad, out, "--systems", names, "--rerank", tiny_ranker, "--abstention"))
    assert result.exit_code == 0, result.stderr
    fused, reranked = read_run(out).rows
    assert len(fused.fair) == 4
    assert fused.unanswerable_score.shape == reranked.unanswerable_score.shape == (1,)
    told = json.loads((out / "results.json").read_text())["rows"][1]["abstention"]
    scores = np.concatenate([reranked.first_score, reranked.unanswerable_score])
    right = np.concatenate([reranked.optimistic == 1, [False]])
    points = [
        2 * (right & (scores >= threshold)).sum() / ((scores >= threshold).sum() + 4) for threshold in sorted(scores)
    ]
    assert told["best"]["f1"] == pytest.approx(max(points))
    assert told["card"]["threshold"] == 0.8
    assert "| abstention |" in result.stdout


def test_the_hybrid_is_what_the_retriever_of_the_store_gives(
    bloomz: Bloomz, squad: Path, tmp_path: Path, tiny_bloom: Path
) -> None:
    """Ranks by both fusions, and those of words alone, against the component asked question by question."""
    out, (asked, contexts, gold) = tmp_path / "out", texts()
    systems = tmp_path / "systems.yaml"
    systems.write_text(
        f"systems:\n  own: {{kind: encoder, model: '{tiny_bloom}', pooling: last}}\n"
        "  by-scores: {kind: hybrid, of: [bm25-store, own]}\n"
        "  by-ranks: {kind: hybrid, of: [bm25-store, own], fusion: rrf}\n"
    )
    names = f"bm25-store,by-scores,by-ranks,bm25-store+{tiny_bloom}"
    result = bloomz(*french(squad, out, "--systems-file", systems, "--systems", names))
    assert result.exit_code == 0, result.stderr
    encoder = Encoder(open_checkpoint(str(tiny_bloom), "embed"))
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), 24, hybrid=True)
    documents = [Document(id=str(place), content=text) for place, text in enumerate(contexts)]
    store.write_embeddings(documents, encoder.encode(contexts))
    vectors = encoder.encode(asked)
    settings: list[dict[str, Any]] = [{"weights": [0, 1]}, {}, {"fusion": "rrf"}, {}]
    for row, given in zip(read_run(out).rows, settings, strict=True):
        retriever = QdrantEdgeHybridRetriever(store, **given)
        for found, right, fair, score in zip(
            retriever.run_batch(asked, vectors)["documents"], gold, row.fair, row.first_score, strict=True
        ):
            scores = {int(document.id): document.score or 0 for document in found}
            own, rest = scores.get(int(right), -1), [scores.get(place, -1) for place in range(4)]
            assert fair == sum(s > own for s in rest) + (1 + rest.count(own)) / 2
            assert "weights" in given or score == pytest.approx(found[0].score)
    by_scores, by_ranks, plus = read_run(out).rows[1:]
    np.testing.assert_array_equal(plus.first_score, by_scores.first_score)
    assert (by_ranks.first_score != by_scores.first_score).all()  # negative control
    store.close()


def test_a_score_prior_counts_with_the_scores_of_the_retrievers(
    bloomz: Bloomz, squad: Path, tmp_path: Path, tiny_bloom: Path, tiny_ranker: Path
) -> None:
    """Against the components asked question by question; and a row measured with another prior is not left."""
    out, (asked, contexts, gold) = tmp_path / "out", texts()
    names = f"bm25-store,{tiny_bloom},bm25-store+{tiny_bloom}"
    arguments = [*french(squad, out, "--systems", names, "--rerank", tiny_ranker), "--resume", "--score-prior"]
    encoder = Encoder(open_checkpoint(str(tiny_bloom), "embed"))
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), 24, hybrid=True)
    documents = [Document(id=str(place), content=text) for place, text in enumerate(contexts)]
    store.write_embeddings(documents, encoder.encode(contexts))
    vectors = encoder.encode(asked)
    found = [
        QdrantEdgeHybridRetriever(store, weights=[0, 1]).run_batch(asked, vectors)["documents"],
        [QdrantEdgeEmbeddingRetriever(store).run(query_embedding=v.tolist())["documents"] for v in vectors],
        QdrantEdgeHybridRetriever(store).run_batch(asked, vectors)["documents"],
    ]
    seen = []
    for prior in (0.0, 3.0):
        result = bloomz(*arguments, prior)
        assert result.exit_code == 0, result.stderr
        ranker = BloomzRanker(str(tiny_ranker), score_prior=prior)
        rows = {row.name: row for row in read_run(out).rows if "ranker" in row.settings}
        for name, of_questions in zip(names.split(","), found, strict=True):
            row = rows[f"{name} > {tiny_ranker} (4)"]
            for question, own, right, told in zip(asked, of_questions, gold, row.gold_probability, strict=True):
                ranked = ranker.run(query=question, documents=own)["documents"]
                given = {document.id: document.score for document in ranked}
                assert str(right) not in given or given[str(right)] == pytest.approx(told, abs=1e-5)
                seen.append(told)
    store.close()
    without, with_prior = np.split(np.array(seen), 2)
    assert (with_prior <= without).all()
    assert (with_prior < without).any()


def test_themes_and_worst_questions(bloomz: Bloomz, squad: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bloomz(*french(squad, out, "--systems", "bm25"))
    run = read_run(out)
    themes, shares = theme_shares(run, run.rows[0], "fair")
    assert themes == ["Fleuves / Rivers (2)", "Villes / Cities (2)"]
    assert shares.tolist() == [[100, 0, 0, 0, 0], [50, 50, 0, 0, 0]]  # 2.5 lies among ranks 2 to 5
    worst = worst_questions(run, run.rows[0], count=1)[0]
    assert (worst.question, worst.rank) == ("Where is it?", 2.5)
    assert worst.gold == PASSAGES[2][1]
    assert worst.first == PASSAGES[0][1]  # of all that score 0 the first


def test_the_rerankers_protocol_scores_every_context(
    bloomz: Bloomz, squad: Path, tmp_path: Path, tiny_ranker: Path
) -> None:
    out = tmp_path / "out"
    arguments = french(squad, out, "--protocol", "reranker", "--systems", "bm25", "--rerank", tiny_ranker)
    assert bloomz(*arguments).exit_code == 0
    run = read_run(out)
    assert run.facts.questions == 3  # the first of each passage that has one
    assert run.rows[1].name.endswith("(4)")
    assert not np.isnan(run.rows[1].gold_probability).any()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--systems", "bm52"], "did you mean 'bm25'"),
        (["--systems", "bm25", "--rerank", "nobody"], "tiny-fr-en-ranker"),
        (["--systems", "bm25", "--candidates", "0"], "--candidates must be > 0, but got 0"),
        (["--systems", "bm25", "--passage-lang", "en"], "is one file, of one language"),
        (["--systems", "bm25", "--against", "nobody"], "choose from bm25"),
        (["--systems", "a/b", "--systems-file", "rien.yaml"], "cannot read rien.yaml"),
    ],
)
def test_mistakes_are_one_line(bloomz: Bloomz, squad: Path, tmp_path: Path, more: list[str], told: str) -> None:
    result = bloomz(*french(squad, tmp_path / "out", *more))
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "key"),
    [
        (["--pooling", "mean"], "pooling"),
        (["--metric", "l2"], "metric"),
        (["--query-prefix", "q: "], "query_prefix"),
        (["--passage-prefix", "p: "], "passage_prefix"),
    ],
)
def test_options_that_a_systems_file_replaces_still_work_for_a_version(
    bloomz: Bloomz, squad: Path, tmp_path: Path, tiny_bloom: Path, option: list[str], key: str
) -> None:
    result = bloomz(*french(squad, tmp_path / "out", "--systems", tiny_bloom, *option))
    assert result.exit_code == 0, result.stderr
    assert f"give {key} in an entry of a --systems-file" in result.stderr
    (row,) = read_run(tmp_path / "out").rows
    assert row.settings[key] == option[1]
    assert option[0] not in bloomz("quality", "--help").stdout


def test_hidden_options_of_rankers(bloomz: Bloomz, squad: Path, tmp_path: Path, tiny_ranker: Path) -> None:
    more = ("--systems", "bm25", "--rerank", tiny_ranker, "--question-first", "--score-prior", "1")
    result = bloomz(*french(squad, tmp_path / "out", *more))
    assert result.exit_code == 0, result.stderr
    assert "give context_first, score_prior in an entry of a --systems-file" in result.stderr
    ranker = read_run(tmp_path / "out").rows[1].settings["ranker"]
    assert (ranker["context_first"], ranker["score_prior"]) == (False, 1)
    wrong = bloomz(*french(squad, tmp_path / "out", "--systems", "a/b", "--pooling", "sum"))
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 2)  # the note, the error
    assert "system 'a/b': pooling: expected 'last', 'mean' or 'cls', but got 'sum'" in wrong.stderr


def test_the_report_shows_names_and_texts_and_runs_none(bloomz: Bloomz, tmp_path: Path) -> None:
    evil = "<script>alert('é')</script> | *a* & <b>b</b>"
    qas = [{"id": "0", "question": f"Qui ? {evil}", "answers": [{"text": "r", "answer_start": 0}]}]
    contexts: list[dict[str, Any]] = [{"context": f"Où ? {evil}", "qas": []}, {"context": "rien", "qas": qas}]
    data = {"data": [{"title": evil, "paragraphs": contexts}]}
    (tmp_path / "evil.json").write_text(json.dumps(data), encoding="utf-8")
    (tmp_path / "systems.yaml").write_text(json.dumps({"systems": {"evil": {"kind": "bm25", "label": evil}}}))
    out = tmp_path / "out"
    result = bloomz(
        *french(tmp_path / "evil.json", out, "--systems", "evil", "--systems-file", tmp_path / "systems.yaml")
    )
    assert result.exit_code == 0, result.stderr
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<script>") == 1  # ours
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert page.count("&lt;script&gt;") == 4  # the full name, a question, its theme, a passage
    assert page.count("<td>2.0</td>") == 1  # Top-mean
    assert page.count("<table>") == 2


def test_another_corpus_in_the_same_folder_is_refused(bloomz: Bloomz, squad: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert bloomz(*french(squad, out, "--systems", "bm25")).exit_code == 0
    result = bloomz(*french(squad, out, "--systems", "bm25", "--protocol", "reranker"))
    assert result.exit_code == 2
    assert "differs in protocol" in result.stderr
    assert bloomz("table", tmp_path / "none").exit_code == 2
    (out / "questions.jsonl").write_text('{"id": "0-0", "te')
    assert "questions.jsonl is torn" in bloomz("table", out).stderr


def test_a_system_that_gives_nan_is_named_and_finished_rows_stay(
    bloomz: Bloomz, squad: Path, tmp_path: Path, tiny_bloom: Path
) -> None:
    model = AutoModel.from_pretrained(tiny_bloom)
    model.ln_f.weight.data[0] = float("nan")
    model.save_pretrained(broken := tmp_path / "broken")
    AutoTokenizer.from_pretrained(tiny_bloom).save_pretrained(broken)
    result = bloomz(*french(squad, tmp_path / "out", "--systems", f"bm25,{broken}"))
    assert result.exit_code == 2
    assert "NaN or Inf for text 0" in result.stderr
    assert [row.name for row in read_run(tmp_path / "out").rows] == ["bm25"]


def test_published_tables_are_whole(bloomz: Bloomz) -> None:
    tables = expected.all_expected()
    assert [len(table.rows) for table in tables] == [10, 10, 6, 2, 2, 2]
    assert tables[0].rows["bloomz-3b-retriever-v2"]["mrr"] == 84.4
    assert tables[2].rows["bm25 > bloomz-3b-reranking (1204)"]["mrr"] == 93.79
    told = bloomz("expected").stdout
    assert all(table.command in told for table in tables)
    assert (quality.NOT_AVAILABLE, expected.compare("top_std", 10.0, 4.0)) == ("not available here", expected.WORSE)
