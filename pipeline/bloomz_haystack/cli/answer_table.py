"""Answers -> stdout: drawn on a terminal, one line a passage to a pipe."""

import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bloomz_haystack.answering import Answer, FoundPassage
from bloomz_haystack.cli.console import console, on_terminal, shortened_path
from bloomz_haystack.files.printable import counted, printable
from bloomz_haystack.settings import FILE_FIELD

LONGEST_TEXT = 400  # characters of a passage shown on a terminal; a pipe and --json get all of it


def show_answer(answer: Answer, *, named: bool = False) -> None:
    """Print the passages, best first, or a note when there are none.

    :param answer: of an `Answerer`.
    :param named: print the question too, where it is one of several.
    """
    drawn = on_terminal(sys.stdout)
    if drawn and named:
        console().print(Text(printable(answer.question), style="bold"), end="\n\n")
    if not answer.passages:
        print(_nothing(answer))  # noqa: T201
    elif drawn:
        show_passages(console(), answer)
    else:
        for line in answer_lines(answer, named):
            print(line)  # noqa: T201
    sys.stdout.flush()
    if answer.passages:
        steps = ", ".join(f"{step} {1000 * seconds:.0f} ms" for step, seconds in answer.seconds.items())
        stored = "" if answer.stored is None else f"{counted(answer.stored, 'passage')} in the store; "
        note = Text(stored + steps, style="dim")
        console(stderr=True).print(note, soft_wrap=not on_terminal(sys.stderr))


def _nothing(answer: Answer) -> str:
    if answer.stored == 0:
        return "The store is empty: index some files first."
    if answer.threshold is None:
        return "No passage found."
    return f"No passage reaches a probability of {answer.threshold:g}: lower --threshold, or ask otherwise."


def answer_lines(answer: Answer, named: bool = False) -> list[str]:
    """Return one line per passage, for grep, cut and awk.

    :param answer: of an `Answerer`.
    :param named: put the question before the other fields.
    :returns: rank, score, similarity, source and text, separated by tabs, and its other places if it has some.
    """
    lines = []
    for rank, passage in enumerate(answer.passages, start=1):
        fields = [str(rank), f"{passage.score:.3f}", f"{passage.similarity:.3f}", source_of(passage.meta, passage.id)]
        fields.append(" ".join(passage.content.split()))
        if copies := _copies(passage):
            fields.append(f"also in: {', '.join(copies)}")
        lines.append("\t".join(printable(field) for field in ([answer.question] if named else []) + fields))
    return lines


def show_passages(drawn: Console, answer: Answer) -> None:
    """Draw the passages: title, source, figures and text below each other, whatever the width.

    :param drawn: where to.
    :param answer: of an `Answerer`.
    """
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    room = drawn.width - len(str(len(answer.passages))) - 3
    for rank, passage in enumerate(answer.passages, start=1):
        grid.add_row(str(rank), _drawn_passage(passage, "fused" if answer.hybrid else "cosine", room))
        grid.add_row()
    drawn.print(grid, end="")


def _drawn_passage(passage: FoundPassage, similarity: str, room: int) -> Text:
    title = printable(passage.meta.get("title") or "").strip()
    source = shortened_path(source_of(passage.meta, passage.id), room)
    figures = f"probability {passage.score:.3f} · {similarity} {passage.similarity:.3f}"
    lines = [Text(title, style="bold")] if title else []
    lines += [Text(source, style="cyan" if title else "bold cyan"), Text(figures, style="dim")]
    lines.append(_text(passage))
    if copies := [shortened_path(place, room - 2) for place in _copies(passage)]:
        lines.append(Text("also in:", style="dim"))
        lines += [Text(f"  {place}", style="cyan") for place in copies]
    return Text("\n").join(lines)


def source_of(meta: dict[str, Any], document_id: str) -> str:
    """Return where a passage stands: its file and its page.

    :param meta: of the passage.
    :param document_id: named where no file is.
    :returns: printable text.
    """
    file = str(meta.get(FILE_FIELD) or "") or document_id[:12]
    page = meta.get("page_number")
    return printable(_near(file) + (f", p. {page}" if page else ""))


def _near(file: str) -> str:
    """The file as seen from here; the folders that an absolute path tells of are nobody's business."""
    if not Path(file).is_absolute():
        return file
    try:
        return os.path.relpath(file) if Path(file).is_relative_to(Path.cwd()) else Path(file).name
    except OSError:  # the current folder is gone
        return Path(file).name


def _copies(passage: FoundPassage) -> list[str]:
    """The other places of the same text, each once; the ranker puts their metadata there."""
    copies = passage.meta.get("copies")
    if not isinstance(copies, list):
        return []
    places = [source_of(copy, str(copy.get("id", ""))) for copy in copies if isinstance(copy, dict)]
    return [place for place in dict.fromkeys(places) if place != source_of(passage.meta, passage.id)]


def _text(passage: FoundPassage) -> Text:
    """The passage on one line, shortened around the sentence that answers, which is bold."""
    content, start = passage.content, 0
    first, _, rest = content.partition("\n")
    if rest and first.strip() == passage.meta.get("title"):  # it stands in the heading already
        start = len(first)
    answer = passage.answer if passage.answer and passage.answer.start >= start else None
    parts = (answer.start, answer.end) if answer else (start, start)
    before, sentence, after = (_flat(content[a:b]) for a, b in ((start, parts[0]), parts, (parts[1], len(content))))
    room = max(LONGEST_TEXT - len(sentence), 0)
    if len(before) > room // 2 and len(before) + len(after) > room:
        before = _cut(before, max(room // 2, room - len(after)), keep_end=True)
    shown = Text(before.lstrip())
    shown.append(_cut(sentence, LONGEST_TEXT), style="bold")
    if room:
        shown.append(_cut(after if shown else after.lstrip(), room - len(before)).rstrip())
    return shown


def _flat(text: str) -> str:
    """One line of printable text; white space at its ends stays, as one space."""
    return printable(" ".join(f"|{text}|".split())[1:-1])


def _cut(text: str, longest: int, *, keep_end: bool = False) -> str:
    """The beginning, or the end, of a text, cut between words, with an ellipsis."""
    if len(text) <= longest:
        return text
    if keep_end:
        return "… " + text[len(text) - max(longest, 0) :].partition(" ")[2] if longest else "… "
    return text[: max(longest - 1, 0)].rpartition(" ")[0] + "…"
