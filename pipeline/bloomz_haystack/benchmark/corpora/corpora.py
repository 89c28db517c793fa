"""Paragraphs of one or two languages -> `Corpus`: questions, passages and which passage answers which question.

One door, `read_corpus`. Knows no model and no metric.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bloomz_haystack.benchmark.corpora.corpus_files import read_paragraphs, read_piaf, read_slice
from bloomz_haystack.benchmark.corpora.hub_corpora import SQUAD_HUB, read_hub
from bloomz_haystack.files.provenance import sha256
from bloomz_haystack.files.squad import SquadAnswer, SquadParagraph, SquadQuestion

CORPORA = ("squad", "piaf", "squad-fr-slice")
LANGUAGES = ("fr", "en")
RULES = {
    "none": "answerable questions, none left out",
    "strip": "answerable questions, the first of those equal once the spaces around them are dropped",
    "strict": "answerable questions, the first of those equal to the letter",
}
PIAF_FILE, SLICE_FILE, ENGLISH_FILE = "piaf-dev.json", "squad-fr-slice.jsonl", "squad2-dev-en.json"


class Question(NamedTuple):
    """A question, the position of the passage that answers it, and its answers, by their place in that passage."""

    id: str
    text: str
    gold: int
    answers: tuple[SquadAnswer, ...] = ()  # none where the set has none, e.g. for translated passages


class Passage(NamedTuple):
    """A passage and the title of the article it stands in; nothing where the set has no titles."""

    id: str
    text: str
    theme: str


class Corpus(NamedTuple):
    """Q questions of one language over P passages of one language.

    `unanswerable` are those of SQuAD v2 whose paragraph (their `gold`) holds no answer; `rule` says in words
    which questions were kept; `files` gives the SHA-256 of each file read.
    """

    name: str
    query_lang: str
    passage_lang: str
    questions: list[Question]
    passages: list[Passage]
    unanswerable: list[Question]
    rule: str
    files: dict[str, str]


class _Side(NamedTuple):
    """One language of a set: its paragraphs, its short name, where it was read, the fingerprints of what was read."""

    paragraphs: list[SquadParagraph]
    source: str
    where: str
    files: dict[str, str]


def read_corpus(
    name: str,
    data: Path | None,
    query_lang: str,
    passage_lang: str,
    deduplicate: str = "none",
    hub: Mapping[str, str] | None = None,
) -> Corpus:
    """Read one set in one pair of languages.

    `squad`: `data` is a file in SQuAD format, whose language is the one named twice, or a folder with one file a
    language, `*-fr.json` and `*-en.json` (the official `dev-v2.0.json` counts as English). Without `data` the
    validation split comes from the Hub. Two languages must hold the same paragraphs in the same order with the same
    question ids. `piaf`: French only, a file or a folder with `piaf-dev.json`. `squad-fr-slice`: a file or a
    folder with `squad-fr-slice.jsonl`; English passages are the 1,204 of `squad2-dev-en.json` beside it, French
    ones its own 35.

    :param name: `squad`, `piaf` or `squad-fr-slice`.
    :param data: file or folder; None takes `squad` from the Hub.
    :param query_lang: `fr` or `en`.
    :param passage_lang: `fr` or `en`.
    :param deduplicate: `none`, `strip` or `strict`: see `RULES`; of equal questions the first stays.
    :param hub: data set on the Hub (or a local folder of one) for each language, beside or instead of
        `{"en": "rajpurkar/squad_v2"}`.
    :returns: the corpus.
    :raises ValueError: for an unknown name, language or rule, a missing or broken file, two files that do not align.
    """
    for got, known in ((name, CORPORA), (query_lang, LANGUAGES), (passage_lang, LANGUAGES), (deduplicate, RULES)):
        if got not in known:
            raise ValueError(f"{got!r} is not known here: choose from {', '.join(known)}")
    if data is None and name != "squad":
        raise ValueError(f"corpus {name!r} is read from disk: give its file or folder")
    if data is not None and not data.exists():
        raise ValueError(f"{data} does not exist: expected the file or folder of corpus {name!r}")
    asked, searched = _sides(name, data, query_lang, passage_lang, SQUAD_HUB | dict(hub or {}))
    return _assemble(asked, searched, query_lang, passage_lang, deduplicate)


def first_questions(corpus: Corpus) -> Corpus:
    """Keep the first answerable question of each passage: the protocol of the rerankers' card.

    A passage without an answerable question gives no pair, but stays among the passages that are ranked. On SQuAD v2
    dev every one of the 1,204 paragraphs has an answerable question, so the card's 1,204 pairs need no other.

    :param corpus: Q questions over P passages.
    :returns: at most P questions over the same P passages.
    """
    first: dict[int, Question] = {}
    for question in corpus.questions:
        first.setdefault(question.gold, question)
    rule = f"the first question of each passage; {corpus.rule}"
    return corpus._replace(questions=[first[i] for i in sorted(first)], unanswerable=[], rule=rule)


def _sides(name: str, data: Path | None, asked: str, searched: str, hub: dict[str, str]) -> tuple[_Side, _Side]:
    """Paragraphs of the questions' language and of the passages' language; the same object where they are one."""
    if data is None:
        for lang in (asked, searched):
            if lang not in hub:
                raise ValueError(f"no Hub data set is known for {lang!r}: name a translation of SQuAD, or give files")
        sides = {lang: _hub_side(hub[lang]) for lang in {asked, searched}}
        return sides[asked], sides[searched]
    if name == "squad":
        paths = _squad_files(data, asked, searched)
        read = {path: _side(path, read_paragraphs(path)) for path in set(paths)}
        return read[paths[0]], read[paths[1]]
    if name == "piaf":
        if (asked, searched) != ("fr", "fr"):
            raise ValueError(f"piaf is French only: expected fr/fr, but got {asked}/{searched}")
        side = _side(path := _inside(data, PIAF_FILE), read_piaf(path))
        return side, side
    return _slice_sides(_inside(data, SLICE_FILE), asked, searched)


def _squad_files(data: Path, asked: str, searched: str) -> tuple[Path, Path]:
    if data.is_dir():
        return _language_file(data, asked), _language_file(data, searched)
    if asked != searched:
        raise ValueError(
            f"{data} is one file, of one language: for {asked}/{searched} give a folder with "
            f"*-{asked}.json and *-{searched}.json"
        )
    return data, data


def _language_file(folder: Path, lang: str) -> Path:
    looked_for = [f"*-{lang}.json", f"*_{lang}.json", *(["dev-v2.0.json"] if lang == "en" else [])]
    for pattern in looked_for:
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise ValueError(f"{folder} holds several files for {lang!r} ({names}): keep one, or give the file itself")
        if found:
            return found[0]
    raise ValueError(f"{folder} holds no SQuAD file for {lang!r}: looked for {', '.join(looked_for)}")


def _inside(data: Path, file: str) -> Path:
    path = data / file if data.is_dir() else data
    if not path.is_file():
        raise ValueError(f"{data} holds no {file}: give the file, or the folder it is in")
    return path


def _side(path: Path, paragraphs: list[SquadParagraph]) -> _Side:
    return _Side(paragraphs, path.stem, str(path), {path.name: sha256(path)})


def _hub_side(name: str) -> _Side:
    paragraphs, fingerprint = read_hub(name)
    return _Side(paragraphs, Path(name).name, name, {name: fingerprint})


def _slice_sides(path: Path, asked: str, searched: str) -> tuple[_Side, _Side]:
    """Questions of the slice laid over the passages they are searched in, paragraph by paragraph."""
    rows, files = read_slice(path), {path.name: sha256(path)}
    laid: dict[str, SquadParagraph] = {}  # by English text: two people may have translated one paragraph in two ways
    if searched == "en":
        english = _inside(path.parent, ENGLISH_FILE)
        laid = {paragraph.context.strip(): paragraph for paragraph in read_paragraphs(english)}
        files[english.name] = sha256(english)
    else:
        for row in rows:
            laid.setdefault(row.contexts["en"].strip(), SquadParagraph(row.theme, row.contexts["fr"], ()))
    questions: dict[str, list[SquadQuestion]] = {key: [] for key in laid}
    for row in rows:
        if (key := row.contexts["en"].strip()) not in laid:
            raise ValueError(f"{path}: the paragraph of question {row.id} is not in {ENGLISH_FILE}")
        answers = next((known.answers for known in laid[key].questions if known.id == row.id), ())
        questions[key].append(SquadQuestion(row.id, row.questions[asked], answers, False))
    paragraphs = [paragraph._replace(questions=tuple(questions[key])) for key, paragraph in laid.items()]
    side = _Side(paragraphs, path.stem, str(path), files)
    return side, side


def _check_aligned(asked: _Side, searched: _Side) -> None:
    pairs = zip(asked.paragraphs, searched.paragraphs, strict=False)
    for position, (ours, theirs) in enumerate(pairs):
        for one, other in zip(ours.questions, theirs.questions, strict=False):
            if one.id != other.id:
                raise ValueError(
                    f"{asked.where} and {searched.where} do not align: paragraph {position}, counted from 0, asks "
                    f"{one.id} in the first and {other.id} in the second"
                )
        if len(ours.questions) != len(theirs.questions):
            longer = max(ours.questions, theirs.questions, key=len)
            odd = longer[min(len(ours.questions), len(theirs.questions))].id
            raise ValueError(
                f"{asked.where} and {searched.where} do not align: question {odd} of paragraph {position}, counted "
                "from 0, is in one of them only"
            )
    counts = len(asked.paragraphs), len(searched.paragraphs)
    if counts[0] != counts[1]:
        raise ValueError(
            f"{asked.where} and {searched.where} do not align: {counts[0]} and {counts[1]} paragraphs, the first in "
            f"one only is paragraph {min(counts)}, counted from 0"
        )


def _assemble(asked: _Side, searched: _Side, query_lang: str, passage_lang: str, deduplicate: str) -> Corpus:
    if asked is not searched:
        _check_aligned(asked, searched)
    entries = [
        (question.is_impossible, Question(question.id, question.text, gold, answered.answers))
        for gold, (ours, theirs) in enumerate(zip(asked.paragraphs, searched.paragraphs, strict=True))
        for question, answered in zip(ours.questions, theirs.questions, strict=True)
    ]
    questions = [question for impossible, question in entries if not impossible]
    if not questions:
        raise ValueError(f"{asked.where} holds no answerable question")
    source = asked.source.removesuffix(f"-{query_lang}") if asked is not searched else asked.source
    return Corpus(
        f"{source} {query_lang.upper()}/{passage_lang.upper()}",
        query_lang,
        passage_lang,
        _deduplicated(questions, deduplicate),
        [Passage(str(i), p.context, p.title) for i, p in enumerate(searched.paragraphs)],
        [question for impossible, question in entries if impossible],
        RULES[deduplicate],
        asked.files | searched.files,
    )


def _deduplicated(questions: list[Question], rule: str) -> list[Question]:
    if rule == "none":
        return questions
    first: dict[str, Question] = {}
    for question in questions:
        first.setdefault(question.text if rule == "strict" else question.text.strip(), question)
    return list(first.values())
