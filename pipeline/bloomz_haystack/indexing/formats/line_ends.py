"""A word cut by a hyphen at the end of a line -> the whole word.

`incen-` / `die` is one word, `peut-` / `être` is a compound that keeps its hyphen. The letters do not tell
which, so in this order: the text itself, if it has the word elsewhere; then word lists of French and English
(pyspellchecker), which know compounds; then, if both halves are words and the whole is not, a compound; else one word.
Numbers (2019-2020), dashes after a space, single letters (e-mail) and names (Saint-Malo) are never joined.
"""

import re
from functools import cache

_LETTER = r"[^\W\d_]"
_AT_END = re.compile(r"[-\u2010][ \t]*(?:\r?\n|\f)")
# Up to the next space after the second half; a page may end between the halves. Begins at the beginning of a word only,
# and never goes back into it: an endless word costs its length, not the square of it.
_CUT = re.compile(
    rf"(?<!{_LETTER})(?P<left>{_LETTER}++)[-\u2010][ \t]*(?P<end>\r?\n\f?|\f)[ \t]*"
    rf"(?P<right>{_LETTER}+)(?P<more>\S*)[ \t]*"
)
MOST_CUTS = 8  # of one word: arc- / en- / ciel
_WORDS = re.compile(rf"{_LETTER}+(?:[-\u2010]{_LETTER}+)*")


def rejoined(text: str) -> str:
    """Join the halves of the words that line ends cut; the line then ends after the word.

    :param text: with line ends.
    :returns: the text; nothing else is changed.

    >>> rejoined("une assu-\\nrance peut-\\nêtre, 2019-\\n2020")
    'une assurance\\npeut-être,\\n2019-\\n2020'
    """
    if not _AT_END.search(text):
        return text
    elsewhere = {word.replace("\u2010", "-") for word in _WORDS.findall(text.casefold())}

    def whole(match: re.Match[str]) -> str:
        left, end, right, more = match.group("left", "end", "right", "more")
        hyphen = "-" if _is_compound(left, right, elsewhere) else ""
        cut_again = more.endswith("-") and "\f" not in end
        return f"{left}{hyphen}{right}{more}" + ("" if cut_again else end)

    for _ in range(MOST_CUTS):
        text, found = _CUT.subn(whole, text)
        if not found:
            break
    return text


def _is_compound(left: str, right: str, elsewhere: set[str]) -> bool:
    if min(len(left), len(right)) == 1 or (right[0].isupper() and not left.isupper()):
        return True
    left, right = left.casefold(), right.casefold()
    joined, hyphened = left + right, f"{left}-{right}"
    if (joined in elsewhere) != (hyphened in elsewhere):
        return hyphened in elsewhere
    words = _known_words()
    if hyphened in words or joined in words:
        return hyphened in words
    return left in words and right in words


@cache
def _known_words() -> frozenset[str]:
    # A second, spent when the first cut word comes.
    from spellchecker import SpellChecker

    return frozenset(
        word for language in ("fr", "en") for word in SpellChecker(language=language).word_frequency.words()
    )
