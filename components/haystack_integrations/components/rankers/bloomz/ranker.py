"""Question and documents -> ranked documents: a Haystack component around the engine's `Scorer`."""

from dataclasses import replace
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from haystack import Document, component
from haystack.utils import ComponentDevice, Secret
from tqdm import tqdm

from haystack_integrations.common.bloomz.arguments import check_count, check_items
from haystack_integrations.common.bloomz.component import BloomzComponent, passage_text
from haystack_integrations.common.bloomz.int8 import Precision
from haystack_integrations.common.bloomz.plain_text import plain_text
from haystack_integrations.common.bloomz.prefix_cache.cache import parse_bytes
from haystack_integrations.common.bloomz.prefix_cache.states import STORE_DTYPES, StoreDtype
from haystack_integrations.components.rankers.bloomz.distinct import best_of_each_id, has_text, merged_copies

if TYPE_CHECKING:
    from haystack_integrations.common.bloomz.scorer import Scorer

_ADVICE = "Wrap each text in one: Document(content=text)"
_LONG = 200  # documents above which a progress bar is worth its line

_TOKEN = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False)


@component
class BloomzRanker(BloomzComponent["Scorer"]):
    """Rank documents by the probability that they answer the question, with a Bloomz reranker.

    The model reads the document first, then the question, joined without a separator. An empty question is no error:
    the document is then scored alone. The published models keep what scores 0.8 or more.

    Usage::

        ranker = BloomzRanker("cmarkea/bloomz-560m-reranking", score_threshold=0.8)
        documents = [Document(content="La tour Eiffel est à Paris."), Document(content="Big Ben is in London.")]
        ranker.run(query="Where is the Eiffel tower?", documents=documents)["documents"]
    """

    def __init__(
        self,
        model: str | PathLike[str] = "cmarkea/bloomz-560m-reranking",
        *,
        device: ComponentDevice | None = None,
        token: Secret | None = _TOKEN,
        top_k: int = 10,
        query_prefix: str = "",
        query_suffix: str = "",
        document_prefix: str = "",
        document_suffix: str = "",
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        scale_score: bool = True,
        score_threshold: float | None = None,
        model_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        progress_bar: bool = True,
        max_length: int | None = None,
        batch_tokens: int = 2048,
        precision: Precision | None = None,
        prefix_cache: int | str | None = None,
        prefix_cache_folder: str | PathLike[str] | None = None,
        prefix_cache_dtype: StoreDtype = "float16",
        score_prior: float | None = None,
        truncate: bool = True,
        merge_copies: bool = False,
    ) -> None:
        """Store the parameters; nothing is loaded before `warm_up` or the first `run`.

        :param model: name on the Hugging Face Hub, local folder or bundled name of a Bloom checkpoint with two labels.
        :param device: where to run; None takes CUDA if there is one, else the CPU.
        :param token: for gated or private models on the Hub.
        :param top_k: most documents given back.
        :param query_prefix: put before the question; the published models were trained without.
        :param query_suffix: put after the question; the published models were trained without.
        :param document_prefix: put before each document; the published models were trained without.
        :param document_suffix: put after each document; the published models were trained without.
        :param meta_fields_to_embed: metadata put before the content, in this order.
        :param embedding_separator: stands between the metadata and the content.
        :param scale_score: give the probability of relevance, 0 to 1; False gives the log-odds, logit1 - logit0. The
            bundled model's `config.json` says `score_share`: its probabilities are shares, of the documents ranked
            together and of "none of them", so that two good ones get less than one half each.
        :param score_threshold: drop what scores below; compared with the score given back, so with the log-odds when
            `scale_score` is False (0 there is 0.5 here).
        :param model_kwargs: more arguments for loading the weights, for instance `{"dtype": "float32"}`.
        :param tokenizer_kwargs: more arguments for loading the tokenizer.
        :param config_kwargs: more arguments for loading the configuration.
        :param revision: branch, tag or commit on the Hub.
        :param local_files_only: never ask the Hub, take what is on disk.
        :param progress_bar: show one on stderr while transformers loads the model, and when more than 200 documents are
            ranked.
        :param max_length: tokens kept of a pair; the end of the document is cut, and of a question that leaves it less
            than a quarter. None takes the model's `seq_length`, else 2048.
        :param batch_tokens: tokens computed together; 1,024 to 2,048 is best on a CPU, more on a GPU.
        :param precision: "int8" for weights of 8 bits, on a CPU: about twice as fast and a third of the memory, ranks
            all but the same; None for the numbers of the model card.
        :param prefix_cache: bytes, as 2000000000, "512MB" or "2GB", in which to keep the keys and values of documents:
            one that comes back is scored about ten times faster. A passage of 127 tokens takes 12 MB with bloomz-560m.
            The longest unused go first; None keeps nothing.
        :param prefix_cache_folder: keep them in files of this folder, across restarts, instead of in memory; the budget
            is then that of the folder, which other checkpoints and processes may share.
        :param prefix_cache_dtype: "float16", "int8" (half the bytes, probabilities within 0.01) or "float32".
        :param score_prior: how much the scores count with which the documents come: the log-odds of each are lowered
            by `score_prior * (1 - score / best)`, where best is the highest and none counts below 0; nothing is if
            best <= 0. None takes what the model's `config.json` says: the published models say nothing, which is
            0 and leaves the ranker alone; the bundled one knows less than the retrievers before it, and says 5.5. Where
            None meets a document without a score, nothing is lowered.
        :param truncate: a question too long for the model loses its end, with one warning; False raises.
        :param merge_copies: give the same text once, in its best place; `top_k` counts distinct texts. The other
            places stand in the document's meta `copies`, a list of their metas with their `id`.
        :raises ValueError: if `top_k` or a number of tokens is not positive, `score_prior` is negative or not
            finite, `device` is a map of devices, or an argument of the prefix cache makes no sense.
        :raises TypeError: if `top_k` is no whole number, `model` no name or path, or `device` or `token` a bare
            string.
        """
        check_count("top_k", top_k)
        self.model = model  # type: ignore[assignment]  # a path becomes text below
        self.device = device
        self.token = token
        self.top_k = top_k
        self.query_prefix = query_prefix
        self.query_suffix = query_suffix
        self.document_prefix = document_prefix
        self.document_suffix = document_suffix
        self.meta_fields_to_embed = meta_fields_to_embed
        self.embedding_separator = embedding_separator
        self.scale_score = scale_score
        self.score_threshold = score_threshold
        self.model_kwargs = model_kwargs
        self.tokenizer_kwargs = tokenizer_kwargs
        self.config_kwargs = config_kwargs
        self.revision = revision
        self.local_files_only = local_files_only
        self.progress_bar = progress_bar
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.precision = precision
        self.prefix_cache = prefix_cache
        self.prefix_cache_folder = None if prefix_cache_folder is None else fspath(prefix_cache_folder)
        self.prefix_cache_dtype = prefix_cache_dtype
        self.score_prior = score_prior
        self.truncate = truncate
        self.merge_copies = merge_copies
        _check_score_prior(score_prior)
        _check_prefix_cache(prefix_cache, self.prefix_cache_folder, prefix_cache_dtype)
        self._prepare()

    def _build(self) -> "Scorer":
        from haystack_integrations.common.bloomz.prefix_cache.batches import PrefixSettings
        from haystack_integrations.common.bloomz.scorer import Scorer

        settings = None
        if self.prefix_cache is not None:
            budget = parse_bytes(self.prefix_cache)
            settings = PrefixSettings(budget, self.prefix_cache_folder, self.prefix_cache_dtype)
        return Scorer(
            self._open_checkpoint("rank"),
            max_length=self.max_length,
            batch_tokens=self.batch_tokens,
            prefix_settings=settings,
            cut_questions=self.truncate,
        )

    @property
    def recommended_threshold(self) -> float | None:
        """The probability that the model's `config.json` recommends as `score_threshold`; loads the model if needed.

        None where it says nothing. It is never applied by itself: pass it on if you want it.
        """
        return self._warm_engine().recommended_threshold

    def warm_prefix_cache(self, documents: list[Document]) -> dict[str, Any]:
        """Compute and keep the keys and values of documents before any question comes.

        :param documents: those that will be ranked often; more than the budget holds is told in the log.
        :returns: as `stats`.
        :raises TypeError: if `documents` is not a list of Documents.
        :raises ValueError: if `prefix_cache` is None.
        """
        check_items("documents", documents, Document, _ADVICE)
        contexts = self._contexts(documents)
        scorer = self._warm_engine()
        with tqdm(total=len(contexts), desc="Keeping documents", unit="doc", disable=not self.progress_bar) as bar:
            scorer.warm_prefixes(contexts, progress=bar.update)
        return self.stats()

    def stats(self) -> dict[str, Any]:
        """Return how the prefix cache did since the model was loaded, and how int8 is computed.

        :returns: `hits`, `misses`, `entries`, `bytes`, `evictions` and `budget` with a prefix cache;
            `kernels` with int8, as for the embedders; `recommended_threshold` where the model names one. Empty
            without any of them, and before the model is loaded.
        """
        engine = self._engine
        kept: dict[str, Any] = engine.prefixes.cache.stats()._asdict() if engine and engine.prefixes else {}
        if engine and engine.recommended_threshold is not None:
            kept["recommended_threshold"] = engine.recommended_threshold
        return {**kept, **BloomzComponent.stats(self)}  # not super(): `component` makes another class of this one

    @component.output_types(documents=list[Document])
    def run(
        self,
        *,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        scale_score: bool | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, Any]:
        """Score each document against the question and sort, best first.

        :param query: the question; an empty one scores the documents alone.
        :param documents: any number, with the retriever's scores if `score_prior` is not 0; of those with the same
            id, the one with the best incoming score is kept. Those without a letter or a digit are left out: they
            answer nothing, whatever the model makes of them.
        :param top_k: overrides the component's own.
        :param scale_score: overrides the component's own.
        :param score_threshold: overrides the component's own.
        :returns: `documents`, at most `top_k` copies with their `score` set; equal scores keep their order.
        :raises TypeError: if `query` is not a string, `documents` not a list of Documents, or `top_k` no whole
            number.
        :raises ValueError: if `top_k` is not positive, the question is too long and `truncate` is False, or
            `score_prior` is not 0 and a document has no finite score.
        """
        _check_input(query, documents)
        limits = self._limits(top_k, scale_score, score_threshold)
        distinct = self._distinct(documents)
        if not distinct:
            return {"documents": []}
        contexts = self._contexts(distinct)
        hidden = not self.progress_bar or len(contexts) <= _LONG
        with tqdm(total=len(contexts), desc="Ranking documents", unit="doc", disable=hidden) as bar:
            log_odds = self._warm_engine().score(self._question(query), contexts, progress=bar.update)
        return {"documents": self._ranked(distinct, contexts, log_odds, limits)}

    def run_batch(
        self,
        queries: list[str],
        documents: list[list[Document]],
        top_k: int | None = None,
        scale_score: bool | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[list[Document]]]:
        """Rank the documents of many questions; a document that several of them found is computed once.

        Same order as `run`, scores within 1e-5; several times faster, with up to 2 GB of memory for what documents
        gave (`pair_scores.HELD_BYTES`). The prefix cache is left alone.

        :param queries: B questions.
        :param documents: B lists, one for each question.
        :param top_k: as for `run`, for all the questions.
        :param scale_score: as for `run`.
        :param score_threshold: as for `run`.
        :returns: {"documents": B lists, in the order of the questions}.
        :raises TypeError: as `run`.
        :raises ValueError: as `run`, or if there are not as many lists as questions.
        """
        from haystack_integrations.common.bloomz.pair_scores import score_pairs

        for query, each in zip(queries, documents, strict=True):
            _check_input(query, each)
        limits = self._limits(top_k, scale_score, score_threshold)
        distinct = [self._distinct(each) for each in documents]
        contexts = [self._contexts(each) for each in distinct]
        questions = [self._question(query) for query in queries]
        pairs = [(context, asked) for asked, each in zip(questions, contexts, strict=True) for context in each]
        scorer = self._warm_engine()
        hidden = not self.progress_bar or len(pairs) <= _LONG
        with tqdm(total=len(pairs), desc="Ranking documents", unit="doc", disable=hidden) as bar:
            log_odds = score_pairs(
                scorer.checkpoint, pairs, self.batch_tokens, bar.update, self.max_length, cut_questions=self.truncate
            )
        parts = np.split(log_odds, np.cumsum([len(each) for each in contexts])[:-1]) if contexts else []
        return {"documents": [self._ranked(*part, limits) for part in zip(distinct, contexts, parts, strict=True)]}

    def _limits(self, top_k: int | None, scale_score: bool | None, score_threshold: float | None) -> "_Limits":
        """Return what `run` was given, else the component's own."""
        limits = _Limits(
            self.top_k if top_k is None else top_k,
            self.scale_score if scale_score is None else scale_score,
            self.score_threshold if score_threshold is None else score_threshold,
        )
        check_count("top_k", limits.top_k)
        return limits

    def _distinct(self, documents: list[Document]) -> list[Document]:
        distinct = best_of_each_id(document for document in documents if has_text(self._context(document)))
        if self.score_prior:
            _check_scores(distinct)  # before the work
        return distinct

    def _ranked(
        self, documents: list[Document], contexts: list[str], log_odds: np.ndarray, limits: "_Limits"
    ) -> list[Document]:
        scores = self._scores(documents, contexts, log_odds, limits.scale_score)
        order = np.argsort(-scores, kind="stable")
        ranked = [replace(documents[i], score=float(scores[i])) for i in order]
        if limits.score_threshold is not None:
            ranked = [document for document in ranked if document.score >= limits.score_threshold]
        if self.merge_copies:
            ranked = merged_copies(ranked)
        return ranked[: limits.top_k]

    def _scores(
        self, documents: list[Document], contexts: list[str], log_odds: np.ndarray, scale_score: bool
    ) -> np.ndarray:
        from haystack_integrations.common.bloomz.scorer import probabilities, with_score_prior, with_score_share

        scorer = self._warm_engine()
        log_odds = with_score_prior(log_odds, *self._prior(documents, scorer))
        if scorer.score_share and contexts:  # copies of a text are no rivals of each other
            texts, places = np.unique(contexts, return_inverse=True)
            best = np.full(len(texts), -np.inf, dtype=np.float32)
            np.maximum.at(best, places, log_odds)
            log_odds += (with_score_share(best) - best)[places]
        return probabilities(log_odds) if scale_score else log_odds

    def _prior(self, documents: list[Document], scorer: "Scorer") -> tuple[np.ndarray, float]:
        """Return the scores that the documents came with, and how much they count."""
        weight = scorer.score_prior if self.score_prior is None else self.score_prior
        if not all(_has_score(document) for document in documents):
            weight = 0.0
        return np.array([document.score if weight else 0.0 for document in documents]), weight

    def _question(self, query: str) -> str:
        return self.query_prefix + plain_text(query) + self.query_suffix

    def _contexts(self, documents: list[Document]) -> list[str]:
        return [self.document_prefix + self._context(document) + self.document_suffix for document in documents]

    def _context(self, document: Document) -> str:
        return passage_text(document, self.meta_fields_to_embed, self.embedding_separator)


class _Limits(NamedTuple):
    """What is given back of the documents of a question."""

    top_k: int
    scale_score: bool
    score_threshold: float | None


def _check_score_prior(score_prior: float | None) -> None:
    if score_prior is not None and not 0 <= score_prior < float("inf"):
        raise ValueError(f"score_prior must be a number >= 0, but got {score_prior}")


def _check_input(query: str, documents: list[Document]) -> None:
    if not isinstance(query, str):
        raise TypeError(f"BloomzRanker expects a string as query, but got {type(query).__name__}.")
    check_items("documents", documents, Document, _ADVICE)


def _check_prefix_cache(budget: int | str | None, folder: str | None, dtype: str) -> None:
    if budget is not None:
        parse_bytes(budget)
    elif folder is not None:
        raise ValueError(f"prefix_cache_folder={folder!r} needs a budget: set prefix_cache too, as '2GB'")
    if dtype not in STORE_DTYPES:
        raise ValueError(f"prefix_cache_dtype must be one of {', '.join(STORE_DTYPES)}, but got {dtype!r}")


def _check_scores(documents: list[Document]) -> None:
    for document in documents:
        if not _has_score(document):
            raise ValueError(
                "score_prior needs documents with finite scores, as a retriever gives them, but document "
                f"{document.id!r} has score {document.score}: rank what a retriever found, or set score_prior=0"
            )


def _has_score(document: Document) -> bool:
    return document.score is not None and bool(np.isfinite(document.score))
