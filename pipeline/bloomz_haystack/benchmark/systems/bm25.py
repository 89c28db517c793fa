"""Passages and questions -> BM25 scores, plain or with Snowball stemming and stop words. A shell over bm25s.

Method "lucene", k1 = 1.5, b = 0.75, words of two letters or more in lower case: bm25s's defaults.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from bloomz_haystack.benchmark.run.ranking import ScoreBlock

SNOWBALL = {"fr": "french", "en": "english"}


class Bm25:
    """An index over P passages."""

    def __init__(self, passages: Sequence[str], passage_lang: str, stemming: bool = False) -> None:
        """Index the passages.

        :param passages: P texts.
        :param passage_lang: "fr" or "en"; read only if `stemming`.
        :param stemming: cut words to their Snowball stem, after dropping stop words.
        :raises ImportError: without the extra `benchmark`.
        :raises ValueError: for a language without a stemmer here, or if no passage holds a word.
        """
        self.passage_lang, self.stemming, self.count = passage_lang, stemming, len(passages)
        words = self._words(passages, passage_lang, return_ids=True)
        if not words.vocab:
            kind = "of two letters or more that is no stop word" if stemming else "of two letters or more"
            raise ValueError(f"BM25 needs a word {kind}, but the {self.count} passages hold none: give other passages")
        self._index = _bm25s().BM25()
        self._index.index(words, show_progress=False)

    def score_block(self, questions: Sequence[str], query_lang: str | None = None) -> "ScoreBlock":
        """Prepare the scores of some questions.

        :param questions: Q texts.
        :param query_lang: language whose stemmer and stop words the questions go through. None takes that of the
            passages, as a search index does and as the known figures were measured: French questions stemmed as
            French over English passages mostly lose what the two languages share, and the stop words dropped leave
            many of them without any word, which the optimistic rank counts as found (47 MRR instead of 24).
        :returns: start, stop -> (stop - start, P) float32; zeros for a question without a known word.
        """
        words = self._words(questions, query_lang or self.passage_lang, return_ids=False)

        def scores(start: int, stop: int) -> npt.NDArray[np.float32]:
            block = np.zeros((stop - start, self.count), dtype=np.float32)
            for row, asked in zip(block, words[start:stop], strict=True):
                if asked:
                    row[:] = self._index.get_scores(asked)
            return block

        return scores

    def _words(self, texts: Sequence[str], lang: str, return_ids: bool) -> Any:  # noqa: ANN401
        options = {"stopwords": lang, "stemmer": _stemmer(lang)} if self.stemming else {"stopwords": []}
        return _bm25s().tokenize(list(texts), return_ids=return_ids, show_progress=False, **options)


def _stemmer(lang: str) -> Callable[[list[str]], list[str]]:
    if lang not in SNOWBALL:
        raise ValueError(f"no stemming for language {lang!r}: expected one of {', '.join(SNOWBALL)}")
    try:
        import Stemmer
    except ImportError as error:
        raise _missing("PyStemmer") from error
    return Stemmer.Stemmer(SNOWBALL[lang]).stemWords


def _bm25s() -> Any:  # noqa: ANN401
    try:
        import bm25s
    except ImportError as error:
        raise _missing("bm25s") from error
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # its import asks for DEBUG
    return bm25s


def _missing(package: str) -> ImportError:
    return ImportError(f'{package} is needed for BM25: pip install "bloomz-haystack[benchmark]"')
