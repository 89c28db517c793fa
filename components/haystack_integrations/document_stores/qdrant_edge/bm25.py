"""Text -> its words as a sparse vector, by the BM25 of Qdrant Edge: one analysis for French, English and both together.

What is kept of a document is how much each word counts in it; how rare the word is (idf) Edge knows when a question
comes, so a document that is added or deleted changes no other. Nothing here knows of shards.
"""

import re

from qdrant_edge import Bm25, Bm25Config, Language, SnowballLanguage, SnowballParams, SparseVector, StopwordsSet

from haystack_integrations.common.bloomz.plain_text import plain_text

WORDS = "words"  # the named sparse vector, beside that of the embedding

# Question words and accented forms that Edge's French list lacks. In one store with English passages they are rare, and
# would count as much as a name: MRR 78.7 with them, 77.9 without, on PIAF's French among SQuAD's English.
FRENCH_STOPWORDS = {
    *("quel", "quelle", "quels", "quelles", "lequel", "laquelle", "lesquels", "lesquelles", "quoi", "dont"),
    *("combien", "comment", "pourquoi", "quand"),
    *("etait", "etaient", "ete", "etes", "etre", "meme", "memes"),  # without accents, as words are looked up
}

# MRR (%) on SQuAD in English, PIAF in French, both in one store, French questions to English passages:
#   English stemmer, accents folded (this one)    87.6  80.6  87.5 / 78.7  41.2
#   French stemmer, accents folded                86.5  81.1  86.4 / 79.2  38.7
#   Edge's default, for English                   87.6  79.4  87.6 / 76.2  24.1
#   bm25s, stemmer and stop words of the passages' language   86.3  79.9  -  24.4
# Stems of both languages at once: 85.7 and 79.1. k and b move MRR by less than 1 around these; 100 words is a passage
# of ours without its stop words, give or take a half (60 and 120 differ by 0.3).
_ANALYSIS = Bm25(
    Bm25Config(
        k=1.2,
        b=0.75,
        avg_len=100.0,
        ascii_folding=True,
        stemmer=SnowballParams(SnowballLanguage.English),
        stopwords=StopwordsSet(languages={Language.English, Language.French}, custom=FRENCH_STOPWORDS),
    )
)


# What `plain_text` leaves because other scripts and emoji need it: joiners, variation selectors. Nobody sees them.
_UNSEEN = re.compile("[\u034f\u180b-\u180d\u180f\u200c\u200d\u2065\u206a-\u206f\ufe00-\ufe0f]")
# Edge parts words at ' and \u2019, but takes these for letters.
_APOSTROPHES = re.compile("[\u02b9-\u02bd\u02c8\u02ca\u02cb\u02ee\u055a\u05f3\ua78b\ua78c]")


def in_one_spelling(text: str) -> str:
    """Return the text as BM25 reads it: what looks the same to a reader gives the same words.

    :param text: any text.
    :returns: the text in NFC, without invisible characters, with one kind of apostrophe.

    >>> in_one_spelling("l\u02bce\u0301co\u00adle") == "l'\u00e9cole"
    True
    """
    if text.isascii():
        return text
    return _APOSTROPHES.sub("'", plain_text(_UNSEEN.sub("", text)))


def document_words(text: str | None) -> dict[str, SparseVector]:
    """Return the words of a document.

    :param text: its content; None counts as "".
    :returns: {WORDS: weight of each word in it, without idf}; {} if no word is left.
    :raises ValueError: if the text holds a lone surrogate.
    """
    words = _ANALYSIS.embed_document(in_one_spelling(text or ""))
    return {WORDS: words} if words.indices else {}


def question_words(text: str) -> SparseVector:
    """Return the words of a question, each once, with weight 1.

    :param text: the question.
    :returns: the words; none for an empty question, or one of stop words only.
    :raises TypeError: if it is not a string.
    :raises ValueError: if it holds a lone surrogate.
    """
    given: object = text  # what comes from a pipeline does not keep to the signature
    if not isinstance(given, str):
        raise TypeError(f"a question must be a string, but got {type(text).__name__}")
    try:
        return _ANALYSIS.embed_query(in_one_spelling(text))
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the question {text[:50]!r} holds a lone surrogate, which is no character: take it out"
        ) from error
