"""What .docx, .pptx and .xlsx have in common: a zip of XML, whose text stands in elements of the same names.

The walk goes by local names: paragraphs `p` of texts `t`, tables `tbl` of rows `tr` of cells `tc`, in Word
and in PowerPoint alike, however deep they stand in content controls, insertions, groups or other tables. Haystack's
converters see the top level only.
"""

import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from bloomz_haystack.indexing.formats.extract import UnreadableFileError

LARGEST_CONTENT = 2**31  # bytes, unpacked; a zip of 1 MB may claim terabytes
_OLE = b"\xd0\xcf\x11\xe0"  # of the format before 2007, and of a file with a password
# What was deleted (del, moveFrom), instructions of fields, settings, and the second copy of a drawing.
_SKIPPED = {"del", "moveFrom", "delText", "instrText", "delInstrText", "Fallback", "pPr", "rPr", "tblPr", "trPr"}
_SKIPPED |= {"tcPr", "sectPr", "sdtPr"}
_CHARACTERS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "lastRenderedPageBreak": "\f"}

Element = Any  # lxml has no types


def check_office_file(file: BinaryIO) -> None:
    """Refuse what is no office file, before a parser says so in its own words.

    :param file: open; stands at its beginning before and after.
    :raises UnreadableFileError: saying what it is.
    """
    head = file.read(8)
    file.seek(0)
    if not head:
        raise UnreadableFileError("the file is empty")
    if head.startswith(_OLE):
        raise UnreadableFileError("protected by a password, or in the format before Office 2007: save it anew")
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise UnreadableFileError(f"{error}: it is damaged or no office file") from None
    file.seek(0)
    if size > LARGEST_CONTENT:
        raise UnreadableFileError(f"it unpacks to {size / 2**30:,.0f} GB, more than {LARGEST_CONTENT >> 30} are read")


def office_text(root: Element) -> str:
    """Return the text of an XML part: a line a paragraph, a line a table row, with " | " between cells.

    :param root: of the part.
    :returns: its text; a text box follows the paragraph that it stands in.
    """
    boxes: list[Element] = []
    text = _text_under(root, boxes)
    while boxes:
        text += "\n" + _text_under(boxes.pop(0), boxes)
    return text


def drawn_text(part: Any) -> str:  # noqa: ANN401
    """Return the text of the charts and diagrams of a Word or PowerPoint part.

    :param part: of python-docx or python-pptx.
    :returns: a line a text; "" without any.
    """
    texts = []
    for relation in part.rels.values():
        if relation.is_external or not relation.reltype.endswith(("/diagramData", "/chart")):
            continue
        root = parse_xml(relation.target_part.blob)
        values = [office_text(root)]
        for cache in root.iter("{*}strCache"):
            values += [value.text or "" for value in cache.iter("{*}v")]
        texts += [value for value in dict.fromkeys(values) if value.strip()]
    return "\n".join(texts)


def parse_xml(data: bytes) -> Element:
    """Parse XML of a file that may be hostile: no entities, no network.

    :param data: of one part.
    :returns: the root.
    """
    from lxml import etree

    return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True))


def _text_under(node: Element, boxes: list[Element]) -> str:
    parts: list[str] = []
    for child in node:
        name = _local_name(child)
        if name in _SKIPPED:
            continue
        if name == "t":
            parts.append(child.text or "")
        elif name in _CHARACTERS:
            parts.append(_CHARACTERS[name])
        elif name == "txbxContent":
            boxes.append(child)
        elif name == "p":
            own: list[Element] = []
            parts.append(_text_under(child, own) + "\n")
            parts += [_text_under(box, boxes) for box in own]
        elif name == "tr":
            parts.append(" | ".join(_text_under(cell, boxes).strip() for cell in _cells(child)) + "\n")
        else:
            parts.append(_text_under(child, boxes))
    return "".join(parts)


def _cells(node: Element) -> Iterator[Element]:
    for child in node:
        name = _local_name(child)
        if name == "tc":
            yield child
        elif name not in _SKIPPED:
            yield from _cells(child)


def _local_name(node: Element) -> str:
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""
