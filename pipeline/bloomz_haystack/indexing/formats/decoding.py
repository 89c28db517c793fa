"""Bytes -> text: UTF-8, UTF-16, UTF-32, Windows-1252, and UTF-8 with a few bytes of something else.

Large files are decoded piece by piece, so that their size does not decide the memory.
"""

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from bloomz_haystack.files.printable import counted
from bloomz_haystack.indexing.formats.extract import UnreadableFileError

PIECE = 8 * 2**20  # bytes of a text decoded together
LONGEST_LINE = 256 * 2**20  # bytes

_MARKS = (  # the longer first: UTF-32 begins as UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
# Control characters that no text holds; \t \n \v \f \r and \x1b (colours in logs) do occur.
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
MOST_CONTROLS = 0.03  # of the characters; random bytes have 0.10
_BAD = re.compile("[\udc80-\udcff]")  # how surrogateescape writes a byte that is not UTF-8
_CUT_OFF = re.compile("[\udcc2-\udcf4][\udc80-\udcbf]*\\Z")  # a character whose end is missing
# What French and English UTF-8 is made of: in a file that is Windows-1252 else, other pairs of bytes are chance ("É»").
_UNLIKELY = re.compile("[^\x00-\xff\u0152\u0153\u2000-\u203f\u20ac\udc80-\udcff]")


class Encoding(NamedTuple):
    """How a file is written, seen from its first bytes."""

    name: str
    mark: int  # length of the byte order mark


def encoding_of(head: bytes) -> Encoding:
    """Recognize UTF-16 and UTF-32, by their mark or by their zeros; all else counts as UTF-8, which may be wrong.

    :param head: the first bytes of a file, a few hundred at least if it has them.
    :returns: a name that Python knows.
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return Encoding(name, len(mark))
    sample = head[:4096]
    half = max(len(sample) // 2, 1)
    even, odd = sample[0::2].count(0) / half, sample[1::2].count(0) / half
    if odd > 0.7 and even < 0.1:
        return Encoding("utf-16-le", 0)
    return Encoding("utf-16-be" if even > 0.7 and odd < 0.1 else "utf-8", 0)


class Decoder:
    """Decode the pieces of one file, and remember what was odd about them."""

    def __init__(self, encoding: str = "utf-8") -> None:
        """Start.

        :param encoding: of `encoding_of`.
        """
        self._wide = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)("replace")
        self._utf8 = 0  # characters beyond ASCII that were good UTF-8
        self._cp1252 = 0  # bytes that were not, read as Windows-1252
        self._lost = 0  # characters that cannot be known, or that no text holds

    def text(self, data: bytes) -> str:
        """Decode one piece.

        :param data: whole characters, if it is UTF-8.
        :returns: its text.
        :raises UnreadableFileError: if it is not text.
        """
        if self._wide is not None:
            text = self._wide.decode(data)
            self._lost += text.count("\ufffd")
        else:
            try:
                text = data.decode("utf-8")
                self._utf8 += not text.isascii()
            except UnicodeDecodeError:
                text = self._mixed(data.decode("utf-8", "surrogateescape"))
        if controls := len(_CONTROLS.findall(text)):
            if controls > MOST_CONTROLS * len(text):
                raise UnreadableFileError("not a text file: it is neither UTF-8, UTF-16 nor Windows-1252 text")
            self._lost += controls
            text = _CONTROLS.sub("", text)
        return text

    def _mixed(self, text: str) -> str:
        """Read the bad bytes as Windows-1252, and the good ones as UTF-8 where the file has such on purpose."""
        bad = len(_BAD.findall(text))
        good = sum(character > "\x7f" for character in text) - bad
        likely = good - len(_UNLIKELY.findall(text))
        if likely >= bad or good > 4 * bad:
            text = _CUT_OFF.sub("\ufffd", text)
        else:
            text, unlikely = _UNLIKELY.subn(_as_cp1252, text)
            good -= unlikely
        text = _BAD.sub(_as_cp1252, text)
        lost = text.count("\ufffd")
        self._utf8 += good
        self._cp1252 += max(bad - lost, 0)
        self._lost += lost
        return text

    def notes(self) -> tuple[str, ...]:
        """Return what was odd; a file that is Windows-1252 throughout is not."""
        notes = []
        if self._cp1252 and self._utf8:
            notes.append(f"{counted(self._cp1252, 'byte')} of it not UTF-8, read as Windows-1252")
        if self._lost:
            notes.append(f"{counted(self._lost, 'character')} of it unreadable, left out or shown as \ufffd")
        return tuple(notes)


def _as_cp1252(match: re.Match[str]) -> str:
    return match.group().encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def decode(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Decode a whole file.

    :param data: all of it.
    :returns: its text, and what was odd about it.
    :raises UnreadableFileError: if it is not text.

    >>> decode("déjà vu".encode("cp1252"))
    ('déjà vu', ())
    """
    encoding = encoding_of(data)
    decoder = Decoder(encoding.name)
    return decoder.text(data[encoding.mark :]), decoder.notes()


def text_pieces(file: BinaryIO, decoder: Decoder, wide: bool) -> Iterator[tuple[str, int]]:
    """Decode a file piece by piece.

    :param file: open, behind its mark.
    :param decoder: for its encoding.
    :param wide: whether that is UTF-16 or UTF-32, of which any piece will do.
    :yields: text, and the bytes that it took.
    :raises UnreadableFileError: if it is not text.
    """
    for data in iter(lambda: file.read(PIECE), b"") if wide else pieces(file, PIECE):
        yield decoder.text(data), len(data)


def pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Read a file in pieces that end at a line end, else at a space, else between two characters of UTF-8.

    :param file: open, behind its mark.
    :param size: of a piece, about.
    :yields: the bytes, in order.
    """
    rest = b""
    while len(data := rest + file.read(size)) >= size:
        end = max(data.rfind(b"\n"), data.rfind(b" ", -4096)) + 1
        if end == 0:
            end = len(data)
            while end > 1 and data[end - 1] & 0xC0 == 0x80:
                end -= 1
            end -= end > 1 and data[end - 1] >= 0xC0
        yield data[:end]
        rest = data[end:]
    if data:
        yield data


def lines(file: BinaryIO, longest: int = LONGEST_LINE) -> Iterator[bytes]:
    """Read lines, those of UTF-16 and UTF-32 rewritten as UTF-8.

    :param file: open, at its beginning.
    :param longest: bytes of a line; what is beyond comes as a line of its own.
    :yields: each line, without the mark at the file's beginning.
    """
    encoding = encoding_of(file.read(4096))
    file.seek(encoding.mark)
    if encoding.name == "utf-8":
        while line := file.readline(longest):
            yield line
        return
    reader = io.TextIOWrapper(file, encoding=encoding.name, errors="replace", newline="\n")
    try:
        while text := reader.readline(longest):
            yield text.encode("utf-8", "replace")
    finally:
        reader.detach()  # else it closes the file
