"""Text -> where its sentences stand, in French and in English alike.

Rules, not a model: a mark ends a sentence unless what stands before it is an abbreviation, an initial or the number of
an item, or what follows goes on in small letters. Blank lines and items of a list part sentences too. Knows nothing of
questions, models or tokens.
"""

import re
from itertools import pairwise
from typing import NamedTuple


class TextSpan(NamedTuple):
    """A part of a text: `text[start:end]`."""

    start: int
    end: int


# Before a name or a number: the sentence goes on, whatever follows.
_TITLES = (
    "m mm mme mmes mlle mlles mgr me dr drs pr prof st ste sts stes mr mrs ms messrs rev hon gen col capt lt sgt "
    "cpl adm sen rep gov pres amb maj cmdr supt insp fr br av bd boul pl art arts no nos n nº n° num vol vols p pp "
    "pg ch chap sect sec fig figs tab eq cf vs v éd ed eds coll trad tel tél réf ref alin al env approx ca circa mt "
    "ft op dept dép univ jan janv feb fév févr mar avr apr juil jul aug sept sep oct nov dec déc incl excl viz resp"
)
# Often the last word of a sentence as well: it ends there where a capital follows.
_EITHER = "etc inc ltd corp co cie sr jr ex max min am pm bros assn id ibid"
_TITLE = re.compile(rf"(?:^|[^\w.])(?:{'|'.join(_TITLES.split())})$", re.IGNORECASE)
_INITIAL = re.compile(r"(?:^|[^\w])(?:[^\W\d_]\.[ \u00a0-]?)*(?!I$)[^\W\d_]$")  # "J", "J.-P", "U.S", "p. ex"
_ITEM = re.compile(r"(?:^|\n)[ \t]*(?:\d{1,3}|[ivxlc]{1,5})$", re.IGNORECASE)  # "12", "iv" at the start of a line
_EITHER_WAY = re.compile(rf"(?:^|[^\w.])(?:{'|'.join(_EITHER.split())})$", re.IGNORECASE)
_LOOK_BACK = 24  # characters: longer than any abbreviation above

_MARKS = re.compile(
    r"(?P<mark>[.!?…]+)[\"'”’)\]]*(?:[ \u00a0\u202f]*[»”])*(?=\s|$)"  # a full stop and the quotes it closes
    r"|\n[ \t]*(?=\n)"  # a blank line
    r"|\n(?=[ \t]*(?:[-*•–—·▪◦]|\d{1,3}[.)]|[a-zA-Z]\))[ \t])"  # an item of a list
)
_NEXT = re.compile(r"[\s\"'“‘«(\[¿¡–—•-]*")


def sentences(text: str, longest: int = 600) -> list[TextSpan]:
    """Return the sentences of a text.

    :param text: any.
    :param longest: characters of a sentence; a longer one, e.g. a table, is cut at a space.
    :returns: spans in order, which leave out nothing but white space; [] if there is nothing else.

    >>> text = "M. Dupont a payé 3.5 € (art. 3). Et toi ?"
    >>> [text[start:end] for start, end in sentences(text)]
    ['M. Dupont a payé 3.5 € (art. 3).', 'Et toi ?']
    """
    ends = [mark.end() for mark in _MARKS.finditer(text) if mark["mark"] is None or _ends_here(text, mark)]
    bounds = [0, *ends, len(text)]
    return [
        piece
        for start, end in pairwise(bounds)
        for span in _stripped(text, start, end)
        for piece in _pieces(text, span, longest)
    ]


def _ends_here(text: str, mark: re.Match[str]) -> bool:
    place = _NEXT.match(text, mark.end()).end()  # type: ignore[union-attr]
    following = text[place : place + 1]
    if following.islower():
        return False
    if mark["mark"] != ".":
        return True
    before = text[max(0, mark.start() - _LOOK_BACK) : mark.start()]
    if _TITLE.search(before) or _INITIAL.search(before) or _ITEM.search(before):
        return not following
    return not _EITHER_WAY.search(before) or following.isupper() or not following


def _stripped(text: str, start: int, end: int) -> list[TextSpan]:
    part = text[start:end]
    if not part.strip():
        return []
    return [TextSpan(start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip()))]


def _pieces(text: str, span: TextSpan, longest: int) -> list[TextSpan]:
    """Return a sentence in pieces that are short enough, cut at spaces where there are any."""
    pieces, start = [], span.start
    while span.end - start > longest:
        space = text.rfind(" ", start + longest // 2, start + longest)
        cut = space if space > start else start + longest
        pieces += _stripped(text, start, cut)
        start = cut
    return pieces + _stripped(text, start, span.end)
