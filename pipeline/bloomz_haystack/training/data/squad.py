"""Files in SQuAD format, one per language -> rows with same-theme hard negatives: the rerankers' recipe.

The negatives of a question are the other paragraphs of the article its paragraph stands in, nearest first. Two files,
one per language, are joined by question id. Questions without an answer (SQuAD 2) are left out.
Source: model card of cmarkea/bloomz-560m-reranking.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bloomz_haystack.files.squad import read_squad
from bloomz_haystack.training.data.files import FileEntry
from bloomz_haystack.training.data.rows import BadRowError

MOST_NEGATIVES = 30  # of a question
ENDINGS = {"english": ("en", "english"), "french": ("fr", "french")}
OFFICIAL = ("train-v1.1", "train-v2.0")  # SQuAD's own names, in English


@dataclass
class _Paragraph:
    """A paragraph in the languages it was found in, and its questions by id, likewise."""

    theme: str
    sides: dict[str, str] = field(default_factory=dict)
    questions: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def readable(self) -> bool:
        """Whether it can serve as a negative."""
        return all(text.strip() for text in self.sides.values())


def squad_language(path: Path) -> tuple[str, str]:
    """Return the language of a file in SQuAD format, read from its name.

    :param path: `NAME-en.json`, `NAME_fr.json` and the like, or SQuAD's own `train-v2.0.json`.
    :returns: the name without its ending, the same for the two languages of a set; the language.
    :raises ValueError: if the name does not tell.
    """
    stem = path.name.removesuffix(".gz").removesuffix(".json")
    name, _, ending = stem.replace("_", "-").rpartition("-")
    for language, endings in ENDINGS.items():
        if name and ending.lower() in endings:
            return name, language
    if stem in OFFICIAL:
        return stem, "english"
    raise ValueError(f"{path}: cannot tell the language of a SQuAD file: name it {stem}-en.json or -fr.json")


def squad_entries(files: Mapping[str, Path]) -> Iterator[FileEntry]:
    """Yield the rows of one set of files.

    :param files: language -> file; with two, paragraphs that share a question id are the same paragraph.
    :yields: place, `FILE, question ID`, and values in the schema of cmarkea/mmarco-contrastive, without scores.
    :raises ValueError: if a file is not in SQuAD format.
    """
    by_question: dict[str, _Paragraph] = {}
    themes: dict[str, list[_Paragraph]] = defaultdict(list)
    for language, path in files.items():
        for theme, context, asked in read_squad(path):
            questions = {question.id: question.text for question in asked if not question.is_impossible}
            known = (by_question[key] for key in questions if key in by_question)
            paragraph = next((found for found in known if language not in found.sides), None)
            if paragraph is None:
                paragraph = _Paragraph(theme)
                themes[theme].append(paragraph)
            paragraph.sides[language] = context
            for key, question in questions.items():
                paragraph.questions.setdefault(key, {})[language] = question
                by_question.setdefault(key, paragraph)
    where = ", ".join(str(path) for path in files.values())
    for theme, paragraphs in themes.items():
        for place, paragraph in enumerate(paragraphs):
            negatives = [other.sides for other in _nearest(paragraphs, place)] if theme else []
            for key, queries in paragraph.questions.items():
                values = {"id": key, "query": queries, "positive": paragraph.sides, "negatives": negatives}
                bad = None if any(queries.values()) else BadRowError("the question is empty")
                yield f"{where}, question {key}", bad or values


def _nearest(paragraphs: list[_Paragraph], place: int) -> list[_Paragraph]:
    """The other paragraphs of an article, those beside this one first: they speak of what is closest to it."""
    order = sorted(range(len(paragraphs)), key=lambda other: abs(other - place))
    return [paragraphs[other] for other in order[1:] if paragraphs[other].readable][:MOST_NEGATIVES]
