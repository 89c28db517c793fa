"""Passages that were found -> the text that shows them, [1], [2], and the annotations that name them."""

import re
from collections.abc import Sequence

from haystack import Document

from bloomz_haystack.service.chat_types import SourceAnnotation, SourcePassage, UrlCitation
from bloomz_haystack.service.types import SearchedPassage


def numbered_text(passages: Sequence[SearchedPassage]) -> str:
    """Return the passages as plain text, each with its number and where it comes from.

    :param passages: best first.
    :returns: a paragraph or more for each.
    """
    return "\n\n".join(f"[{index}] {_quoted(passage)}" for index, passage in enumerate(passages, 1))


def _quoted(passage: SearchedPassage) -> str:
    page = _page(passage)
    places = [passage.title, passage.source, f"p. {page}" if page is not None else None]
    place = ", ".join(place for place in places if place)
    return f"{passage.content.strip()}\n({place})" if place else passage.content.strip()


def annotations_of(passages: Sequence[SearchedPassage], text: str = "") -> list[SourceAnnotation]:
    """Return the sources of an answer.

    :param passages: in the order of their numbers.
    :param text: of the answer, where it is known.
    :returns: an annotation for each passage.
    """
    return [_annotation(index, passage, text) for index, passage in enumerate(passages, 1)]


def _annotation(index: int, passage: SearchedPassage, text: str) -> SourceAnnotation:
    cited = re.search(rf"\[(?:\d+\s*,\s*)*{index}(?:\s*,\s*\d+)*\]", text)
    source, page = passage.source, _page(passage)
    url = passage.meta.get("url")
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        url = f"{source or passage.id}#page={page}" if page is not None else source or passage.id
    return SourceAnnotation(
        type="url_citation",
        url_citation=UrlCitation(
            title=passage.title or source or f"[{index}]",
            url=url,
            start_index=cited.start() if cited else 0,
            end_index=cited.end() if cited else 0,
        ),
        passage=SourcePassage(
            index=index,
            id=passage.id,
            source=source,
            page=page,
            title=passage.title,
            score=passage.score,
            answer=passage.answer,
        ),
    )


def _page(passage: SearchedPassage) -> int | None:
    return passage.answer.page if passage.answer and passage.answer.page is not None else passage.page


def as_documents(passages: Sequence[SearchedPassage]) -> list[Document]:
    """Return the passages as a Haystack pipeline takes them.

    :param passages: in the order of their numbers.
    :returns: a document for each.
    """
    return [
        Document(id=passage.id, content=passage.content, meta={"title": passage.title}, score=passage.score)
        for passage in passages
    ]
