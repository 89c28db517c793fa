"""A question -> its language, French or English, by its small words and its accents; and what is said in that language.

No dependency and no model: a question of two languages gets that of most of its small words.
"""

import re
from typing import Literal

Language = Literal["fr", "en"]

LANGUAGE_NAMES: dict[Language, str] = {"fr": "French", "en": "English"}  # in the generator's prompt
UNKNOWN: dict[Language, str] = {
    "fr": "Je ne sais pas : aucun passage des documents ne répond à cette question.",
    "en": "I do not know: no passage of the documents answers this question.",
}
# Without "a", "me", "on", "or", "son", "pour": words of both languages.
FRENCH = re.compile(
    r"\b(?:au|aux|avec|c|ce|ces|cette|combien|comment|d|dans|de|des|du|elle|en|est|et|faut|il|ils|j|je|l|la|le|"
    r"les|leur|lors|m|n|ne|nous|où|par|pas|peut|pourquoi|qu|quand|que|quel|quelle|quelles|quels|qui|quoi|s|"
    r"sa|se|ses|sont|sur|un|une|vous|y)\b"
)
ENGLISH = re.compile(
    r"\b(?:an|and|are|as|at|be|by|can|could|did|do|does|for|from|had|has|have|he|her|his|how|i|in|is|it|its|"
    r"many|much|must|my|of|should|than|that|the|their|there|these|they|this|to|was|we|were|what|when|where|"
    r"which|who|whom|whose|why|will|with|would|you)\b"
)
ACCENT = re.compile("[àâæçèéêëîïôœùûüÿ]")


def question_language(question: str) -> Language:
    """Return the language of a question.

    :param question: of any length.
    :returns: "fr" or "en"; without a small word of either, French if it has an accent.

    >>> question_language("Combien d'heures de sommeil faut-il ?"), question_language("How much sleep?")
    ('fr', 'en')
    """
    text = question.lower()
    french, english = len(FRENCH.findall(text)), len(ENGLISH.findall(text))
    if french != english:
        return "fr" if french > english else "en"
    return "fr" if ACCENT.search(text) else "en"
