"""Question and its best match by words -> how far a hybrid search trusts words. Knows nothing of stores.

Between two languages words say little: what French and English share are names and numbers, and words that look alike.
"""

from haystack_integrations.common.bloomz.language import language_of

# MRR (%) by how much a match in the other language counts, hybrid search, then reranked, with the bundled pair: on
# public services from English to French, the other way, and for French questions to SQuAD in English.
#   1 (no difference)   41.0  45.2  64.8    46.8  47.7  70.7
#   0.5                 43.9  47.6  65.1    48.3  49.9  71.1
#   0.25                45.1  48.5  64.1    50.5  51.1  70.2
#   0 (vectors alone)   47.5  50.5  61.4    49.6  51.8  69.0
# On sets within one language nothing moves.
OTHER_LANGUAGE = 0.25


def trust_in_words(question: str, best: str, coverage: float) -> float:
    """Return how far to trust the search by words: the coverage, a quarter of it between two languages.

    :param question: the question.
    :param best: the text that matches it best by words.
    :param coverage: the share of the question's words that this text holds.
    :returns: from 0 to 1; multiplies the weight of the words.

    >>> trust_in_words("Quand la tour Eiffel a-t-elle été bâtie ?", "The Eiffel tower was built in 1889.", 0.5)
    0.125
    >>> trust_in_words("When was the Eiffel tower built?", "The Eiffel tower was built in 1889.", 0.5)
    0.5
    """
    asked, held = language_of(question), language_of(best)
    return coverage * (OTHER_LANGUAGE if asked and held and asked != held else 1)
