"""Corpora: what each format gives, in each pair of languages, and what a broken file says."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bloomz_haystack.benchmark.corpora import hub_corpora
from bloomz_haystack.benchmark.corpora.corpora import Corpus, first_questions, read_corpus
from bloomz_haystack.benchmark.corpora.hub_corpora import paragraphs_of, read_hub

BENCH = Path(os.environ.get("BLOOMZ_BENCH", Path(__file__).parents[3] / "shared/data/bench"))
needs_bench = pytest.mark.skipif(not BENCH.is_dir(), reason="needs the evaluation sets; set BLOOMZ_BENCH")

SQUAD_SHA = "3ea3e0f1049650cbb717dd2184132f57a13d09107ab015f7feb46e8bf7f8ba54"
PIAF_SHA = "dd4f59c0dc7782921a4ffe59e4771a7e2738646fa1fd0903070487b4bff1e258"
SLICE_SHA = "e064c0dc418161a21e82673770f138582947c193ad22ba155611a515cdc8504f"

ENGLISH = {
    "Rivers": [
        ("The Thames flows through London.", [("a", "Which river flows through London?"), ("b", "How long is it? ")]),
        ("The Loire is the longest river of France.", [("c", "How long is it?"), ("d", "Which is longest?")]),
    ],
    "Cities": [("Brest lies in Brittany.", [("e", "How long is it?"), ("f", "Where is Brest?")])],
}
FRENCH = {
    "Fleuves": [
        ("La Tamise traverse Londres.", [("a", "Quel fleuve traverse Londres ?"), ("b", "Quelle est sa longueur ?")]),
        ("La Loire est le plus long fleuve de France.", [("c", "Combien mesure-t-elle ?"), ("d", "Lequel est long ?")]),
    ],
    "Villes": [("Brest est en Bretagne.", [("e", "Quelle longueur ?"), ("f", "Où est Brest ?")])],
}
Articles = dict[str, list[tuple[str, list[tuple[str, str]]]]]


def squad(articles: Articles, impossible: str = "f") -> dict[str, Any]:
    """SQuAD v2 JSON of small articles."""
    return {
        "data": [
            {
                "title": title,
                "paragraphs": [
                    {
                        "context": text,
                        "qas": [
                            {
                                "id": i,
                                "question": q,
                                "is_impossible": i in impossible,
                                "answers": [] if i in impossible else [{"text": text[4:9], "answer_start": 4}],
                            }
                            for i, q in qas
                        ],
                    }
                    for text, qas in paragraphs
                ],
            }
            for title, paragraphs in articles.items()
        ]
    }


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with one file a language."""
    write(tmp_path / "small-en.json", squad(ENGLISH))
    write(tmp_path / "small-fr.json", squad(FRENCH))
    return tmp_path


@pytest.mark.parametrize(
    ("pair", "name", "question", "passage"),
    [
        ("en en", "small-en EN/EN", "Which is longest?", "The Loire is the longest river of France."),
        ("fr fr", "small-fr FR/FR", "Lequel est long ?", "La Loire est le plus long fleuve de France."),
        ("fr en", "small FR/EN", "Lequel est long ?", "The Loire is the longest river of France."),
        ("en fr", "small EN/FR", "Which is longest?", "La Loire est le plus long fleuve de France."),
    ],
)
def test_the_four_pairs(folder: Path, pair: str, name: str, question: str, passage: str) -> None:
    corpus = read_corpus("squad", folder, pair[:2], pair[3:])
    assert (corpus.name, f"{corpus.query_lang} {corpus.passage_lang}") == (name, pair)
    assert [q.id for q in corpus.questions] == list("abcde")
    assert corpus.questions[3][:3] == ("d", question, 1)
    assert {passage[q.answers[0].start :][:5] == q.answers[0].text for q in [corpus.questions[3]]} == {True}
    assert corpus.passages[1].text == passage
    assert [q.gold for q in corpus.questions] == [0, 0, 1, 1, 2]
    assert [(q.id, q.gold) for q in corpus.unanswerable] == [("f", 2)]
    assert set(corpus.files) == {f"small-{lang}.json" for lang in pair.split()}


@pytest.mark.parametrize(("rule", "kept"), [("none", "abcde"), ("strict", "abcd"), ("strip", "abd")])
def test_of_equal_questions_the_first_stays(folder: Path, rule: str, kept: str) -> None:
    """b ends with a space, c and e are the same to the letter."""
    corpus = read_corpus("squad", folder / "small-en.json", "en", "en", rule)
    assert "".join(q.id for q in corpus.questions) == kept
    assert len(corpus.unanswerable) == 1
    assert ("first" in corpus.rule) == (rule != "none")


def test_the_rerankers_protocol_takes_the_first_question_of_each_passage(tmp_path: Path) -> None:
    path = write(tmp_path / "en.json", squad(ENGLISH, impossible="aef"))
    corpus = first_questions(read_corpus("squad", path, "en", "en"))
    assert [(q.id, q.gold) for q in corpus.questions] == [("b", 0), ("c", 1)]
    assert len(corpus.passages) == 3  # the one without an answerable question is still to be ranked
    assert corpus.rule.startswith("the first question of each passage")


def renamed(articles: Articles, old: str, new: str) -> Articles:
    return json.loads(json.dumps(articles).replace(f'"{old}"', f'"{new}"'))


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (renamed(FRENCH, "d", "z"), "paragraph 1, counted from 0, asks z in the first and d in the second"),
        ({**FRENCH, "Villes": [("Brest est en Bretagne.", [("e", "Où ?")])]}, "question f of paragraph 2"),
        ({"Fleuves": FRENCH["Fleuves"]}, "2 and 3 paragraphs, the first in one only is paragraph 2"),
        ({"Fleuves": FRENCH["Fleuves"][1:], "Villes": FRENCH["Villes"]}, "asks c in the first and a in the second"),
    ],
)
def test_files_that_do_not_align_name_the_first_difference(folder: Path, other: Articles, told: str) -> None:
    write(folder / "small-fr.json", squad(other))
    with pytest.raises(ValueError, match=told) as error:
        read_corpus("squad", folder, "fr", "en")
    assert "\n" not in str(error.value)


def drop(key: str, level: int) -> Callable[[], dict[str, Any]]:
    def value() -> dict[str, Any]:
        whole = squad(ENGLISH)
        article = whole["data"][1]
        del [article, article["paragraphs"][0], article["paragraphs"][0]["qas"][1]][level][key]
        return whole

    return value


@pytest.mark.parametrize(
    ("name", "file", "content", "told"),
    [
        ("squad", "x.json", "", "x.json is empty"),
        ("squad", "x.json", "{'data': []}", "x.json: not JSON .*line 1"),
        ("squad", "x.json", "[1, 2]", "x.json: expected an object with a list named 'data'"),
        ("squad", "x.json", '{"data": []}', "no paragraph"),
        ("squad", "x.json", '{"data": [3]}', "article 1: expected an object, but got int"),
        (
            "squad",
            "x.json",
            drop("paragraphs", 0),
            "x.json, article 2: expected an object with a list named 'paragraphs'",
        ),
        ("squad", "x.json", drop("context", 1), "article 2, paragraph 1: expected a text named 'context'"),
        ("squad", "x.json", drop("qas", 1), "article 2, paragraph 1: expected an object with a list named 'qas'"),
        (
            "squad",
            "x.json",
            drop("question", 2),
            "article 2, paragraph 1, question 2: expected a text named 'question'",
        ),
        ("squad", "x.json", drop("id", 2), "article 2, paragraph 1, question 2: expected a text named 'id'"),
        ("squad", "x.json", lambda: squad(ENGLISH, "abcdef"), "no answerable question"),
        ("piaf", "x.json", '{"passages": [{"id": "p"}], "queries": []}', "passage 1: .*'content', but got None"),
        (
            "piaf",
            "x.json",
            '{"passages": [], "queries": [{"id": "q", "text": "Où ?", "passage": "p"}]}',
            "query 1: passage 'p' is not in the file",
        ),
        ("squad-fr-slice", "x.jsonl", '{"id": "a"}', "line 1: expected a text named 'title', but got None"),
        ("squad-fr-slice", "x.jsonl", "\n{a}", "x.jsonl, line 2: not JSON"),
    ],
)
def test_a_broken_file_says_where(
    tmp_path: Path, name: str, file: str, content: str | Callable[[], object], told: str
) -> None:
    path = write(tmp_path / file, content() if callable(content) else content)
    pair = ("en", "en") if name == "squad" else ("fr", "fr")
    with pytest.raises(ValueError, match=told) as error:
        read_corpus(name, path, *pair)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("old", "told"), [("Où est Brest ?", "question f"), ("Brest est en Bretagne.", "the context")])
def test_what_is_empty_cannot_be_ranked(folder: Path, old: str, told: str) -> None:
    write(folder / "small-fr.json", (folder / "small-fr.json").read_text(encoding="utf-8").replace(old, " "))
    with pytest.raises(ValueError, match=f"small-fr.json, paragraph 3 of the file: {told} has no text: leave it out"):
        read_corpus("squad", folder, "fr", "fr")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes('{"é": 1}'.encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8"):
        read_corpus("squad", tmp_path / "x.json", "fr", "fr")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("mlqa", None, "fr", "fr"), "'mlqa' is not known here: choose from squad, piaf, squad-fr-slice"),
        (("squad", None, "fr", "de"), "'de' is not known here: choose from fr, en"),
        (("squad", None, "fr", "en", "fuzzy"), "'fuzzy' is not known here: choose from none, strip, strict"),
        (("piaf", None, "fr", "fr"), "give its file or folder"),
        (("squad", Path("nowhere"), "en", "en"), "nowhere does not exist"),
        (("squad", None, "fr", "en"), "no Hub data set is known for 'fr'"),
    ],
)
def test_a_wrong_request_is_one_clear_line(arguments: tuple[str, Path | None, str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_corpus(*arguments)


def test_files_that_are_not_there_say_what_was_looked_for(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"give a folder with \*-fr.json and \*-en.json"):
        read_corpus("squad", folder / "small-en.json", "fr", "en")
    with pytest.raises(ValueError, match="French only"):
        read_corpus("piaf", folder / "small-fr.json", "en", "fr")
    with pytest.raises(ValueError, match=r"holds no squad-fr-slice.jsonl"):
        read_corpus("squad-fr-slice", folder, "fr", "fr")
    write(folder / "other-fr.json", squad(FRENCH))
    with pytest.raises(ValueError, match=r"several files for 'fr' \(other-fr.json, small-fr.json\)"):
        read_corpus("squad", folder, "fr", "fr")
    (folder / "other-fr.json").unlink()
    (folder / "small-fr.json").unlink()
    with pytest.raises(ValueError, match=r"no SQuAD file for 'fr': looked for \*-fr.json"):
        read_corpus("squad", folder, "fr", "en")


def test_the_official_names_are_known(tmp_path: Path) -> None:
    write(tmp_path / "dev-v2.0.json", squad(ENGLISH))
    assert read_corpus("squad", tmp_path, "en", "en").name == "dev-v2.0 EN/EN"
    write(tmp_path / "piaf-v1.1.json", squad(FRENCH))
    assert read_corpus("piaf", tmp_path / "piaf-v1.1.json", "fr", "fr").passages[2].theme == "Villes"


def hub_rows(articles: Articles) -> list[dict[str, Any]]:
    return [
        {
            "id": i,
            "title": title,
            "context": text,
            "question": question,
            "answers": {"text": [] if i == "f" else [text[4:9]], "answer_start": [] if i == "f" else [4]},
        }
        for title, paragraphs in articles.items()
        for text, asked in paragraphs
        for i, question in asked
    ]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_hub_data_set_is_the_same_corpus(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    hub = {}
    for lang, articles in (("en", ENGLISH), ("fr", FRENCH)):
        (tmp_path / f"squad_{lang}").mkdir()
        hub[lang] = str(tmp_path / f"squad_{lang}")
        rows = datasets.Dataset.from_list(hub_rows(articles))
        target = tmp_path / f"squad_{lang}" / f"validation.{form}"
        rows.to_parquet(target) if form == "parquet" else rows.to_json(target)
    ours, theirs = read_corpus("squad", None, "fr", "en", hub=hub), read_corpus("squad", folder, "fr", "en")
    assert ours.name == "squad_fr FR/EN"
    assert ours[3:7] == theirs[3:7]
    assert [len(value) for value in ours.files.values()] == [64, 64]


def test_the_hub_needs_a_package_and_squads_columns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine, row 2: expected SQuAD's columns, but context is missing"):
        paragraphs_of([hub_rows(FRENCH)[0], {"id": "a", "question": "Où ?", "answers": {"text": []}}], "mine")

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(hub_corpora, "import_module", missing)
    with pytest.raises(ImportError, match="pip install datasets"):
        read_hub(str(tmp_path))


def head(corpus: Corpus) -> list[tuple[str, str, int]]:
    """First, tenth and last question."""
    return [corpus.questions[i][:3] for i in (0, 9, -1)]


def answers_that_stand(corpus: Corpus) -> list[bool]:
    """Whether each answer stands in its passage where it says."""
    return [
        corpus.passages[question.gold].text[answer.start :].startswith(answer.text)
        for question in corpus.questions
        for answer in question.answers
    ]


@needs_bench
def test_squad_row_by_row() -> None:
    corpus = read_corpus("squad", BENCH, "en", "en")
    assert corpus.name == "squad2-dev-en EN/EN"
    assert corpus.files == {"squad2-dev-en.json": SQUAD_SHA}
    assert (len(corpus.questions), len(corpus.passages), len(corpus.unanswerable)) == (5928, 1204, 5945)
    assert len({passage.theme for passage in corpus.passages}) == 35
    assert answers_that_stand(corpus) == [True] * 10052
    assert head(corpus) == [
        ("56ddde6b9a695914005b9628", "In what country is Normandy located?", 0),
        ("56dde0379a695914005b9637", "When was the Latin version of the word Norman first recorded?", 2),
        ("5737aafd1c456719005744ff", "What is the seldom used force unit equal to one thousand newtons?", 1203),
    ]
    passages = [corpus.passages[i] for i in (0, 9, -1)]
    assert [p.theme for p in passages] == ["Normans", "Normans", "Force"]
    assert passages[0].text.startswith("The Normans (Norman: Nourmands; French:")
    assert passages[1].text.startswith("Some Normans joined Turkish forces to ai")
    assert passages[2].text.startswith("The pound-force has a metric counterpart")


@needs_bench
@pytest.mark.parametrize(("rule", "count"), [("none", 5928), ("strict", 5926), ("strip", 5923)])
def test_squad_counts_by_rule(rule: str, count: int) -> None:
    corpus = read_corpus("squad", BENCH / "squad2-dev-en.json", "en", "en", rule)
    assert len(corpus.questions) == count
    assert len(first_questions(corpus).questions) == 1204  # the card's pairs: every paragraph has one


@needs_bench
def test_piaf_row_by_row() -> None:
    corpus = read_corpus("piaf", BENCH, "fr", "fr")
    assert corpus.files == {"piaf-dev.json": PIAF_SHA}
    assert (len(corpus.questions), len(corpus.passages)) == (1617, 324)
    assert head(corpus) == [
        ("p139939097659648", "L'état de Transnistrie est rattaché à quel pays à priori ?", 0),
        ("p140295442635584", "Quel est la partie de mot qui signifie auprès de en ukrainien ?", 1),
        ("p139939095316952", "que fait Holmes quand Watson arrive ?", 323),
    ]
    assert corpus.passages[9].text.startswith("Le Fils prodigue est l'une des paraboles")


@needs_bench
@pytest.mark.parametrize(
    ("pair", "passages", "first", "last"),
    [
        (
            "fr en",
            1204,
            "Dans quel pays se trouve la Normandie ?",
            ("Qui a développé la théorie de la relativité?", 1160),
        ),
        (
            "en fr",
            35,
            "What was Maria Curie the first female recipient of?",
            ("Who develped the theory of relativity?", 34),
        ),
        (
            "fr fr",
            35,
            "De quoi Maria Curie a-t-elle été la première femme à recevoir ?",
            ("Qui a développé la théorie de la relativité?", 34),
        ),
    ],
)
def test_the_slice_row_by_row(pair: str, passages: int, first: str, last: tuple[str, int]) -> None:
    corpus = read_corpus("squad-fr-slice", BENCH / "squad-fr-slice.jsonl", pair[:2], pair[3:])
    assert corpus.files["squad-fr-slice.jsonl"] == SLICE_SHA
    assert (len(corpus.questions), len(corpus.passages)) == (214, passages)
    assert corpus.questions[0].text == first
    assert corpus.questions[-1][1:3] == last
    assert (len(answers_that_stand(corpus)) >= 214) is (passages == 1204)
    assert all(answers_that_stand(corpus))
    english = {q.id: q.gold for q in read_corpus("squad", BENCH, "en", "en").questions}
    if pair == "fr en":
        assert all(english[q.id] == q.gold for q in corpus.questions)
