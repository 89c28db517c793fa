"""A Word document or a PowerPoint presentation -> its text."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from bloomz_haystack.files.printable import counted
from bloomz_haystack.indexing.formats.extract import Extract, UnreadableFileError, ranges
from bloomz_haystack.indexing.formats.office_files import check_office_file, drawn_text, office_text, parse_xml

# Beside the body; what is repeated on every page comes last.
_PARTS = [re.compile(rf"/word/{name}\d*\.xml") for name in ("footnotes", "endnotes", "comments", "header", "footer")]


def read_docx(file: BinaryIO) -> Iterator[Extract]:
    """Read a Word document, with insertions that wait for approval and without deletions.

    :param file: open, at its beginning.
    :yields: body, notes, comments, headers and footers in one text; the title of its properties.
    """
    check_office_file(file)
    import docx

    document = docx.Document(file)
    texts = [office_text(document.element.body), drawn_text(document.part)]
    parts = list(document.part.package.iter_parts())
    for pattern in _PARTS:
        found = [office_text(parse_xml(part.blob)) for part in parts if pattern.fullmatch(str(part.partname))]
        texts += dict.fromkeys(text.strip() for text in found)  # the first page often has the same header
    content = "\n".join(text for text in texts if text.strip())
    title = document.core_properties.title
    yield Extract(content, {"title": title} if title else {})


def read_pptx(file: BinaryIO) -> Iterator[Extract]:
    """Read a presentation: each slide with its tables, groups, charts and notes.

    :param file: open, at its beginning.
    :yields: one text, a page a slide; the title of its properties.
    """
    check_office_file(file)
    try:
        from pptx import Presentation
    except ImportError:
        raise UnreadableFileError('reading .pptx needs: pip install "bloomz-haystack[office]"') from None
    presentation = Presentation(file)
    slides, bare = [], []
    for number, slide in enumerate(presentation.slides, start=1):
        texts = [office_text(slide._element), drawn_text(slide.part)]
        if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None:
            texts.append(notes.text)
        slides.append("\n".join(text for text in texts if text.strip()))
        if not slides[-1] and next(slide._element.iter("{*}pic"), None) is not None:
            bare.append(number)
    if bare and not any(slides):
        raise UnreadableFileError("no text in it, only pictures, which need OCR first")
    notes_on = (f"no text on {counted(len(bare), 'slide')} of pictures: {ranges(bare)}",) if bare else ()
    title = presentation.core_properties.title
    yield Extract("\f".join(slides), {"title": title} if title else {}, notes=notes_on)
