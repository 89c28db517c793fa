"""A question -> its language, French or English, by its function words and accents; and what is said in it.

A question of two languages gets that of most of its function words.
"""

import re

from haystack_integrations.common.bloomz.language import Language, function_words

LANGUAGE_NAMES: dict[Language, str] = {"fr": "French", "en": "English"}  # in the generator's prompt
UNKNOWN: dict[Language, str] = {
    "fr": "Je ne sais pas : aucun passage des documents ne répond à cette question.",
    "en": "I do not know: no passage of the documents answers this question.",
}
ACCENT = re.compile("[àâæçèéêëîïôœùûüÿ]")


def question_language(question: str) -> Language:
    """Return the language of a question.

    :param question: of any length.
    :returns: "fr" or "en"; without a function word of either, French if it has an accent.

    >>> question_language("Combien d'heures de sommeil faut-il ?"), question_language("How much sleep?")
    ('fr', 'en')
    """
    english, french = function_words(question)
    if french != english:
        return "fr" if french > english else "en"
    return "fr" if ACCENT.search(question.lower()) else "en"
