"""Untrusted text -> text that a terminal shows and does not obey; numbers with their nouns.

A passage, a title, a file name or an error message may hold escape sequences that clear the screen, name the window or
hide a link, or that turn the direction of writing round so that `cod.exe` reads as `exe.doc`.
"""

import re

# C0 and C1 controls and DEL; marks, overrides and isolates of direction; line and paragraph separators; and lone
# surrogates, which stand for bytes of a file name or an argument that are not UTF-8.
_OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u206f\ufff9-\ufffb\ud800-\udfff]"
)
_NAMES = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def printable(text: object) -> str:
    r"""Return text in which every character that a terminal would obey is written out.

    :param text: from a file, a store, an argument or an error.
    :returns: one line of it.

    >>> print(printable("caf\udce9 \x1b[2J\u202e"), printable("Eté 2023 \u2603"))
    caf\xe9 \x1b[2J\u202e Eté 2023 ☃
    """
    return _OBEYED.sub(_written_out, str(text))


def printable_json(text: str) -> str:
    r"""Return JSON in which the same characters are escaped; JSON itself leaves C1 controls and overrides as they are.

    :param text: JSON on one line.
    :returns: JSON of the same value.

    >>> print(printable_json('"a\x9b"'))
    "a\u009b"
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "byte"), counted(1200, "byte")
    ('1 byte', '1,200 bytes')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that Python could not decode
        code -= 0xDC00
    return _NAMES.get(found[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
