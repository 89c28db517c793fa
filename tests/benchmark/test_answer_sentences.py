"""How often the sentence that holds the answer is marked: by hand on three questions, and the reader's own choice."""

import json
from pathlib import Path

import numpy as np
import pytest
from haystack import Document
from typer.testing import CliRunner

from bloomz_haystack.benchmark.run.answer_sentences import measure_answer_sentences, read_span_questions
from bloomz_haystack.cli.main import app
from haystack_integrations.components.readers.bloomz import BloomzSentenceReader

MODEL = "tiny-fr-en-retriever"
PASSAGES = {
    "La mairie ouvre à 9 heures. La piscine ferme le lundi. Le parc est gratuit.": [
        ("1", "Quel jour la piscine est-elle fermée ?", "On which day is the swimming pool closed?", "lundi"),
        ("2", "Quand ouvre la mairie ?", "When does the town hall open?", "9 heures"),
    ],
    "Le loyer est dû le 5 du mois. Un préavis de trois mois est demandé.": [
        ("3", "Combien dure le préavis ?", "How long is the notice period?", "trois mois"),
    ],
}


@pytest.fixture
def squad(tmp_path: Path) -> Path:
    paragraphs = [
        {
            "context": passage,
            "qas": [
                {"id": name, "question": french, "answers": [{"text": answer, "answer_start": passage.index(answer)}]}
                for name, french, _, answer in asked
            ]
            + [{"id": "none", "question": "Pourquoi ?", "is_impossible": True, "answers": []}],
        }
        for passage, asked in PASSAGES.items()
    ]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": [{"title": "Ville", "paragraphs": paragraphs}]}), encoding="utf-8")
    return path


@pytest.fixture
def english(tmp_path: Path) -> Path:
    asked = [{"id": name, "question": text} for rows in PASSAGES.values() for name, _, text, _ in rows]
    path = tmp_path / "english.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "-", "qas": asked}]}]}), encoding="utf-8")
    return path


def test_shares_are_those_counted_by_hand(squad: Path) -> None:
    questions = read_span_questions(squad, None, None, seed=0)
    measured = measure_answer_sentences(MODEL, questions)
    assert (measured.questions, measured.sentences) == (3, pytest.approx((3 + 3 + 2) / 3))
    assert measured.shares["first sentence"] == pytest.approx(1 / 3)
    assert measured.shares["random sentence"] == pytest.approx((1 / 3 + 1 / 3 + 1 / 2) / 3)
    assert measured.shares["words and cosine"] == 1.0


def test_the_way_measured_is_the_reader_s_own(squad: Path, english: Path) -> None:
    questions = read_span_questions(squad, english, None, seed=0)
    assert [question.text for question in questions] == [row[2] for rows in PASSAGES.values() for row in rows]
    reader = BloomzSentenceReader(MODEL, progress_bar=False)
    hits = []
    for question in questions:
        answer = reader.run(query=question.text, documents=[Document(content=question.passage)])["answers"][0]
        place = answer.document_offset
        assert place is not None
        hits.append(any(start < place.end and place.start < end for start, end in question.answers))
    assert measure_answer_sentences(MODEL, questions).shares["words and cosine"] == np.mean(hits)


def test_a_draw_is_seeded(squad: Path) -> None:
    drawn = [read_span_questions(squad, None, 2, seed=seed) for seed in (1, 1, *range(9))]
    assert drawn[0] == drawn[1]
    assert len({tuple(question.text for question in questions) for questions in drawn}) > 1
    assert {len(questions) for questions in drawn} == {2}


def test_a_file_without_answers_is_one_line(english: Path) -> None:
    with pytest.raises(ValueError, match="holds no question with an answer and its answer_start"):
        read_span_questions(english, None, None, seed=0)


def test_the_verb_prints_a_table_and_json(squad: Path, english: Path) -> None:
    arguments = ["benchmark", "sentences", "--data", str(squad), "--questions", str(english)]
    table = CliRunner().invoke(app, [*arguments, "--markdown"])
    assert table.exit_code == 0, table.output
    assert "| first sentence | 33.3 |" in table.stdout
    values = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (values["questions"], round(values["shares"]["first sentence"], 3)) == (3, 0.333)
    wrong = CliRunner().invoke(app, ["benchmark", "sentences", "--data", str(english)])
    assert wrong.exit_code == 2
    assert "holds no question with an answer" in wrong.stderr
