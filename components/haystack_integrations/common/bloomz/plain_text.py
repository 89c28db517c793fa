"""Text as files and keyboards give it -> the same text in one spelling, so that equal words are equal strings.

Used on passages and on questions alike. Knows nothing of files, languages, tokens or Haystack.
"""

import re
import unicodedata

# Marks that show nothing and stand inside words: soft hyphen, zero-width space and no-break space, word joiner, the
# marks and overrides of writing direction.
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
# A soft hyphen or a zero-width space that some program left before the line end that it allowed: the word goes on.
_AT_LINE_END = re.compile("\u00ad[ \t]*\r?\n[ \t]*(?=[^\\W\\d_])")
# A zero-width (non-)joiner shapes Persian and Hindi letters and glues emoji; between Latin letters it is litter.
_LATIN = "A-Za-z\u00c0-\u024f\u0300-\u036f"
_JOINERS = re.compile(f"(?<=[{_LATIN}])[\u200c\u200d]+(?=[{_LATIN}])")
# The ligatures of typesetting only. NFKC would also turn m² into m2 and ½ into 1⁄2, which say something else.
_LIGATURES = dict(
    zip("\ufb00\ufb01\ufb02\ufb03\ufb04\ufb05\ufb06", ("ff", "fi", "fl", "ffi", "ffl", "st", "st"), strict=True)
)
_LIGATURE = re.compile("[\ufb00-\ufb06]")  # str.translate looks up every character: ten times the time


def plain_text(text: str) -> str:
    """Return a text in NFC, without ligatures of typesetting and invisible marks.

    :param text: any; what it says does not change.
    :returns: the same text; the very same string where nothing was to do.

    >>> plain_text("e\\u0301te\\u0301, assu\\u00adrance, \\ufb01n")
    'été, assurance, fin'
    """
    if text.isascii():
        return text
    text = _INVISIBLE.sub("", _AT_LINE_END.sub("", text))
    if "\u200c" in text or "\u200d" in text:  # rare, and looking behind every character is slow
        text = _JOINERS.sub("", text)
    return unicodedata.normalize("NFC", _LIGATURE.sub(_parted, text))


def _parted(ligature: re.Match[str]) -> str:
    return _LIGATURES[ligature[0]]
