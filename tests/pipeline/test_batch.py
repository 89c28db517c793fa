"""Questions in bulk: the answers of one by one, each passage read once, in a file that is whole or not there."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Pipeline
from haystack.components.joiners import DocumentJoiner
from pyarrow import parquet
from typer.testing import CliRunner, Result

from bloomz_haystack import Answerer, AskSettings, IndexSettings, ask_pipeline
from bloomz_haystack.answering import Answer
from bloomz_haystack.batch.answers import answer_batch
from bloomz_haystack.batch.questions import BatchQuestion, read_batch
from bloomz_haystack.cli import main as cli
from bloomz_haystack.indexing.index import index_files
from haystack_integrations.common.bloomz import pair_scores
from haystack_integrations.common.bloomz.prefix_cache.batches import PrefixBatches
from haystack_integrations.components.rankers.bloomz import BloomzRanker

ENGLISH = {"field": "meta.language", "operator": "==", "value": "en"}
QUESTIONS = [
    "Où se trouve la tour Eiffel ?",
    "Where is the Eiffel tower?",
    "Qui l'a construite, et quand ?",
    "é",
    "Where is the Eiffel tower?",
]
Bloomz = Callable[..., Result]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_bloom: Path) -> Path:
    folder = tmp_path_factory.mktemp("store")
    texts = {"fr": "La tour Eiffel, étage {}. On y monte à pied.", "en": "The Eiffel tower, floor {}. Stairs go up."}
    for language, text in texts.items():
        rows = [{"content": text.format(n), "meta": {"language": language}} for n in range(8)]
        (folder / f"{language}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = IndexSettings(model=str(tiny_bloom), hybrid=True)
    index_files([folder / "fr.jsonl", folder / "en.jsonl"], folder / "store", settings)
    return folder / "store"


@pytest.fixture(scope="module")
def settings(tiny_ranker: Path) -> AskSettings:
    return AskSettings(ranker=str(tiny_ranker), candidates=10, top_k=4)


@pytest.fixture
def bloomz(monkeypatch: pytest.MonkeyPatch, store: Path, tiny_ranker: Path) -> Bloomz:
    """Ask in this process."""
    monkeypatch.delenv("BLOOMZ_DEBUG", raising=False)
    own = ["ask", "--store", str(store), "--ranker", str(tiny_ranker)]
    return lambda *arguments, **given: CliRunner().invoke(cli.app, [*own, *map(str, arguments)], **given)


def one_by_one(answerer: Answerer, **options: Any) -> list[Answer]:  # noqa: ANN401
    return [answerer.ask(question, **options) for question in QUESTIONS]


def assert_alike(answers: list[Answer], expected: list[Answer]) -> None:
    assert [answer.question for answer in answers] == [answer.question for answer in expected]
    for answer, alone in zip(answers, expected, strict=True):
        for field in ("id", "content", "meta"):
            assert [getattr(p, field) for p in answer.passages] == [getattr(p, field) for p in alone.passages]
        numbers, expected_numbers = ([(p.score, p.similarity) for p in one.passages] for one in (answer, alone))
        np.testing.assert_allclose(numbers, expected_numbers, atol=1e-5)
        marked = [[p.answer and p.answer[:3] for p in one.passages] for one in (answer, alone)]
        assert marked[0] == marked[1]
        assert (answer.threshold, answer.stored, answer.hybrid) == (alone.threshold, alone.stored, alone.hybrid)


# ---------------------------------------------------------------- the same answers


@pytest.mark.parametrize("options", [{}, {"filters": ENGLISH}, {"top_k": 12}, {"threshold": 0.5, "candidates": 16}])
def test_answers_are_those_of_one_by_one(options: dict[str, Any], store: Path, settings: AskSettings) -> None:
    with Answerer(store, settings) as answerer:
        assert answerer.hybrid
        expected = one_by_one(answerer, **options)
        answers = list(answerer.ask_many(QUESTIONS, **options))
    assert_alike(answers, expected)
    assert len({tuple(p.id for p in answer.passages) for answer in answers}) > 1, "answers all alike show nothing"
    assert list(answers[0].seconds) == ["embed", "retrieve", "rank", "read"]


def test_any_pipeline_answers_in_bulk(store: Path, tiny_bloom: Path, tiny_ranker: Path) -> None:
    models = {"model": str(tiny_bloom), "ranker": str(tiny_ranker), "embedding_dim": 24, "progress_bar": False}
    plain = ask_pipeline(store, top_k=4, **models)  # type: ignore[arg-type]
    longer = Pipeline.loads(plain.dumps())  # one component more than has a role
    longer.remove_component("ranker")
    longer.add_component("joiner", DocumentJoiner())
    longer.add_component("ranker", BloomzRanker(str(tiny_ranker), top_k=4, merge_copies=True, progress_bar=False))
    longer.connect("retriever", "joiner")
    longer.connect("joiner", "ranker")
    for pipeline in (plain, longer):
        with Answerer(pipeline=pipeline) as answerer:
            assert_alike(list(answerer.ask_many(iter(QUESTIONS))), one_by_one(answerer))
            assert list(answerer.ask_many([])) == []
            with pytest.raises(ValueError, match="the question is empty"):
                list(answerer.ask_many(["Où ?", " "]))


def test_each_passage_of_a_block_is_read_once(
    store: Path, settings: AskSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed: list[int] = []
    own = PrefixBatches.warm

    def counted(self: PrefixBatches, texts: Any, *given: Any) -> None:  # noqa: ANN401
        warmed.append(len(texts))
        own(self, texts, *given)

    monkeypatch.setattr(PrefixBatches, "warm", counted)
    with Answerer(store, settings) as answerer:
        list(answerer.ask_many(QUESTIONS * 20, candidates=16))
    assert sum(warmed) == 16  # a hundred questions have 1,600 candidates
    assert len(warmed) == 1
    warmed.clear()
    monkeypatch.setattr("bloomz_haystack.answering.QUESTION_BLOCK", 50)
    with Answerer(store, settings) as answerer:
        assert len(list(answerer.ask_many(QUESTIONS * 20, candidates=16))) == 100
    assert warmed == [16, 16]


def test_a_mixed_up_block_is_seen(store: Path, settings: AskSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: scores that stand one place further."""
    own = pair_scores.score_pairs
    monkeypatch.setattr(pair_scores, "score_pairs", lambda *given, **options: np.roll(own(*given, **options), 1))
    with Answerer(store, settings) as answerer, pytest.raises(AssertionError):
        assert_alike(list(answerer.ask_many(QUESTIONS)), one_by_one(answerer))


# ---------------------------------------------------------------- the file of questions


def test_bad_lines_are_named_and_the_others_read() -> None:
    lines = [
        b'\xef\xbb\xbf{"question": "Where?", "id": 7, "filters": {"field": "id", "operator": "==", "value": "a"}}\n',
        b"\n",
        b'"caf\xe9 ?"\r\n',
        b"Who said no?\n",
        b'{"question": " "}\n',
        b'{"question": "a", "id": "7"}\n',
        b'{"question": "a", "id": true}\n',
        b'{"question": "a", "filter": {}}\n',
        b'{"question": "a", "filters": []}\n',
        b'"La Boum" ?\n',
        b'["a"]\n',
        b"a\0b\n",
        b'"\\ud800"\n',
        b"{" * 9 + b"\n",
        b"42",
    ]
    questions, problems = read_batch(lines)
    assert [(one.id, one.text) for one in questions] == [
        ("7", "Where?"),
        ("3", "café ?"),
        ("4", "Who said no?"),
        ("15", "42"),
    ]
    assert questions[0].filters == {"field": "id", "operator": "==", "value": "a"}
    said = {
        5: "expected a text under \"question\", but got ' '",
        6: "the id '7' is that of line 1",
        7: 'expected a text or a whole number under "id", but got True',
        8: "unknown key 'filter': a question has question, id and filters",
        9: 'expected a Haystack filter, an object, under "filters", but got []',
        10: 'not JSON, although it begins with ": Extra data at column 11',
        11: 'expected a text under "question"',
        12: "NUL byte",
        13: "lone surrogate",
        14: "not JSON",
    }
    assert [line.number for line in problems] == list(said)
    for line in problems:
        assert said[line.number] in (line.problem or "")


# ---------------------------------------------------------------- the file of answers


def rows_in(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return [{**row, "meta": json.loads(row["meta"])} for row in parquet.read_table(path).to_pylist()]


def test_the_command_writes_a_row_for_each_passage(
    bloomz: Bloomz, tmp_path: Path, store: Path, settings: AskSettings
) -> None:
    lines = [json.dumps({"question": question, "id": f"q{n}"}) for n, question in enumerate(QUESTIONS)]
    lines += [json.dumps({"question": "Où ?", "filters": {**ENGLISH, "operator": "~"}}), "{", '"Who?"']
    lines += [json.dumps({"question": "Who?", "id": "en", "filters": ENGLISH})]
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    for name in ("a.parquet", "a.jsonl"):
        (tmp_path / name).write_text("of another run")
        result = bloomz("--batch", tmp_path / "q.jsonl", "--out", tmp_path / name, "--json", "--top-k", 3)
        assert result.exit_code == 1, result.stderr  # something was skipped
        summary = json.loads(result.stdout)
        assert (summary["questions"], summary["rows"], summary["without_passage"]) == (7, 21, 0)
        assert summary["problems"][0].startswith(f"{tmp_path / 'q.jsonl'}:7: not JSON")
        assert summary["problems"][1].startswith("question 6: unknown comparison operator '~'")
        assert all(problem in result.stderr for problem in summary["problems"])
    rows = rows_in(tmp_path / "a.parquet")
    assert rows == rows_in(tmp_path / "a.jsonl")
    with Answerer(store, replace(settings, candidates=50)) as answerer:
        expected = [(f"q{n}", answer) for n, answer in enumerate(one_by_one(answerer, top_k=3))]
        expected += [("8", answerer.ask("Who?", top_k=3)), ("en", answerer.ask("Who?", top_k=3, filters=ENGLISH))]
    found = [(name, rank, p) for name, answer in expected for rank, p in enumerate(answer.passages, start=1)]
    assert [(row["question_id"], row["rank"], row["passage_id"]) for row in rows] == [(n, r, p.id) for n, r, p in found]
    for row, (_, _, passage) in zip(rows, found, strict=True):
        assert (row["score"], row["similarity"]) == pytest.approx((passage.score, passage.similarity), abs=1e-5)
        assert (row["content"], row["meta"], row["file"]) == (passage.content, passage.meta, passage.meta["file_path"])
        assert row["content"][row["sentence_start"] : row["sentence_end"]] == row["sentence"]


def test_questions_come_from_stdin_too(bloomz: Bloomz, tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    result = bloomz("--batch", "-", "--out", out, "--threshold", 1, input="Où ?\nWhere?\n")
    assert (result.exit_code, out.read_text()) == (0, "")
    assert result.stdout.startswith(f"2 questions answered: 0 passages in {out}\n")
    assert result.stdout.endswith("2 questions without a passage\n")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_a_file_is_whole_or_not_there(name: str, store: Path, settings: AskSettings, tmp_path: Path) -> None:
    def stopped(_: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / name).write_text("of another run")
    with Answerer(store, settings) as answerer, pytest.raises(KeyboardInterrupt):
        answer_batch(answerer, [BatchQuestion("1", "Où ?")], tmp_path / name, limits={}, advanced=stopped)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "of another run")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "missing argument 'QUESTION', or '--batch' FILE"),
        (["Où ?", "--batch", "q.txt", "--out", "a.jsonl"], "a question and --batch: give one of the two"),
        (["--batch", "q.txt"], "--batch FILE of questions and --out FILE of answers go together"),
        (["--batch", "q.txt", "--out", "a.csv"], "--out must end in .parquet or .jsonl, but got a.csv"),
        (
            ["--batch", "q.txt", "--out", "no/a.jsonl"],
            "there is no folder no: give --out a file in a folder that exists",
        ),
        (["--batch", "none.txt", "--out", "a.jsonl"], "no such file of questions: none.txt"),
        (["--batch", "q.jsonl", "--out", "q.jsonl"], "--out would overwrite the questions: q.jsonl"),
        (["--batch", "empty.txt", "--out", "a.jsonl"], "no question in empty.txt: give one per line"),
        (
            ["--batch", "q.txt", "--out", "a.jsonl", "--prefix-cache", "1GB"],
            "--batch reads each passage once by itself",
        ),
    ],
)
def test_mistakes_of_a_batch_are_one_line(
    arguments: list[str], said: str, bloomz: Bloomz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in (("q.txt", "Où ?\n"), ("q.jsonl", '"Where?"\n'), ("empty.txt", "\n")):
        (tmp_path / name).write_text(content)
    result = bloomz(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("bloomz: ")
    assert said in line
    assert (tmp_path / "q.jsonl").read_text() == '"Where?"\n'
