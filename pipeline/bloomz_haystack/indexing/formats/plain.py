"""A text file -> its text, in pieces of a few megabytes, so that a huge one needs no more memory than that."""

from collections.abc import Iterator
from typing import BinaryIO

from bloomz_haystack.indexing.formats.decoding import Decoder, encoding_of, text_pieces
from bloomz_haystack.indexing.formats.extract import Extract


def read_plain(file: BinaryIO) -> Iterator[Extract]:
    """Read a .txt file.

    :param file: open, at its beginning.
    :yields: its pieces; most files have one.
    """
    encoding = encoding_of(file.read(4096))
    file.seek(encoding.mark)
    decoder = Decoder(encoding.name)
    for text, size in text_pieces(file, decoder, wide=encoding.name != "utf-8"):
        yield Extract(text, bytes=size)
    if notes := decoder.notes():
        yield Extract(notes=notes)
