"""Questions as text and as unit vectors -> the documents that match by words and by meaning, from an open shard.

Two exact searches, by words (bm25.py) and by vectors, fused (fusion.py). Also gives an older store its words.
"""

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from haystack import Document
from numpy.typing import NDArray
from qdrant_edge import (
    EdgeShard,
    Filter,
    IdfParams,
    Modifier,
    PointVectors,
    Query,
    ScrollRequest,
    SearchParams,
    SparseVector,
    UpdateOperation,
)

from haystack_integrations.document_stores.qdrant_edge.async_twin import async_twin
from haystack_integrations.document_stores.qdrant_edge.bm25 import WORDS, document_words, question_words
from haystack_integrations.document_stores.qdrant_edge.filters import edge_filter
from haystack_integrations.document_stores.qdrant_edge.fusion import RANK_CONSTANT, Fusion, Side, fuse
from haystack_integrations.document_stores.qdrant_edge.origin import check_model, model_of
from haystack_integrations.document_stores.qdrant_edge.points import VECTOR, unit_vectors
from haystack_integrations.document_stores.qdrant_edge.search import (
    QUERY_BATCH,
    Hits,
    check_count,
    check_threshold,
    documents_of,
    find,
)
from haystack_integrations.document_stores.qdrant_edge.shard import SharedShard

CANDIDATES = 100
# Of the vectors and of the words. MRR (%), first 100 of each side, with the bundled tiny-fr-en-retriever on SQuAD in
# English (2,000 questions), PIAF in French, SQuAD from French to English and back (to 35 passages); then on rows held
# out of its training: PIAF in French, QED in English, law in French, French to English, English to French, in English.
#   vectors alone                     74.3  68.5  46.9  86.1    53.2  68.2  63.6  55.8  54.9  66.5
#   words alone                       87.6  80.7  41.2  83.3    80.8  71.7  34.2  10.5   9.8  40.3
#   convex, words by coverage         88.2  82.0  55.8  92.4    78.5  77.5  51.6  45.1  39.1  58.3
#   rrf, words by coverage            87.8  80.7  51.8  91.9    77.7  76.0  46.5  44.5  38.4  52.1
# The weights were chosen on the held-out rows, where they are best or near it, with a look at the first four sets.
WEIGHTS: dict[Fusion, tuple[float, float]] = {"convex": (0.6, 0.4), "rrf": (0.25, 0.75)}
# The filter of all points makes Edge count them, for a word's rarity, when the question comes (1 ms more at 100,000).
# Without, what was deleted or overwritten since the shard was opened would still count.
BY_WORDS = SearchParams(exact=True, idf=IdfParams(corpus=Filter()))
PAGE = 1000  # documents given their words in one update


def search_words(
    edge: EdgeShard, questions: Sequence[SparseVector], where: Filter | None, limit: int
) -> tuple[list[Hits], list[float]]:
    """Find the documents that share words with each question.

    :param edge: of a store that keeps words.
    :param questions: B of them, as `question_words` gives.
    :param where: which documents may be found; None: all.
    :param limit: most documents per question.
    :returns: B lists of hits with their BM25 score, and the coverage of each question: the share of its words that the
        best hit holds. It is low where question and documents are of two languages: BM25 then knows little.
    """
    nearest = [Query.Nearest(question, using=WORDS) for question in questions]
    found = find(edge, nearest, where, limit, BY_WORDS)
    best: list[Any] = list({hits[0][0] for hits in found if hits})
    records: Sequence[Any] = edge.retrieve(best, with_payload=False, with_vector=[WORDS])
    held = {str(record.id): set(record.vector[WORDS].indices) for record in records}
    coverage = [
        len(held[hits[0][0]].intersection(question.indices)) / len(question.indices) if hits else 0.0
        for hits, question in zip(found, questions, strict=True)
    ]
    return found, coverage


def search_vectors(edge: EdgeShard, queries: NDArray[np.float32], where: Filter | None, limit: int) -> list[Hits]:
    """Find the points nearest to each query, by exact search.

    :param edge: the shard.
    :param queries: (B, H) unit vectors.
    :param where: as for `search_words`.
    :param limit: as for `search_words`.
    :returns: B lists of hits with their cosine similarity.
    """
    return find(edge, [Query.Nearest(query, using=VECTOR) for query in queries.tolist()], where, limit)


def add_words(shard: SharedShard) -> None:
    """Give its words to a store that was made without; one that has them is left alone.

    A process killed here leaves a store without words, as it was; the next one begins again.

    :param shard: the open shard.
    """
    with shard.writing:
        if shard.description.hybrid:
            return
        with shard.changing() as edge:
            edge.update(UpdateOperation.create_sparse_vector(WORDS, Modifier.Idf))
        offset = None
        while True:
            page = ScrollRequest(offset=offset, limit=PAGE, with_payload=["content"], with_vector=False)
            with shard.reading() as edge:
                records, offset = edge.scroll(page)
            texts = {record.id: (record.payload or {}).get("content") for record in records}
            points = [
                PointVectors(point, {**words}) for point, text in texts.items() if (words := document_words(text))
            ]
            with shard.changing(growth=8 * sum(len(text or "") for text in texts.values())) as edge:
                edge.update(UpdateOperation.update_vectors(points))
            if offset is None:
                break
        with shard.changing() as edge:
            edge.flush()  # before store.json says that the words are there
        shard.describe(hybrid=True)


class HybridSearch:
    """Search by words and by vectors as a method of a document store."""

    embedding_dim: int

    def _shard(self, *, make: bool = True) -> SharedShard:
        raise NotImplementedError

    def query_hybrid_batch(
        self,
        queries: Sequence[str],
        query_embeddings: Sequence[Sequence[float] | np.ndarray] | np.ndarray,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        candidates: int = CANDIDATES,
        fusion: Fusion = "convex",
        weights: Sequence[float] | None = None,
        weigh_by_coverage: bool = True,
        rank_constant: float = RANK_CONSTANT,
        score_threshold: float | None = None,
        return_embedding: bool = False,
    ) -> list[list[Document]]:
        """Find the documents that match each question by BM25 and by cosine, fused.

        :param queries: B questions.
        :param query_embeddings: (B, H) array, or B sequences of H numbers.
        :param filters: a Haystack filter for all the questions.
        :param top_k: most documents per question.
        :param candidates: documents taken from each of the two searches; at least `top_k` are.
        :param fusion: "convex": by the scores, cosine and BM25 relative to the best match; "rrf": by reciprocal rank.
        :param weights: of the vectors and of the words; None: 0.6 and 0.4 by "convex", 0.25 and 0.75 by "rrf". 0 leaves
            a side out.
        :param weigh_by_coverage: multiply the weight of the words by the share of the question's words that the best
            match by words holds: a question in another language than the documents then goes by its vector.
        :param rank_constant: of "rrf" alone: the higher, the less the first places count more than the next.
        :param score_threshold: keep the documents whose fused score is at least this.
        :param return_embedding: whether the documents carry their embedding.
        :returns: B lists of documents, best first; score = fused score, from 0 to 1: see `fuse`.
        :raises ValueError: if a number is out of range, a query cannot be compared, or the store keeps no words.
        :raises TypeError: if a question is not a string.
        :raises FilterError: if the filter is malformed.
        """
        check_fusion(top_k, candidates, fusion, weights, rank_constant)
        check_threshold(score_threshold)
        of_vectors, of_words = WEIGHTS[fusion] if weights is None else weights
        if len(queries) != len(query_embeddings):
            msg = f"expected an embedding for each of the {len(queries)} questions, but got {len(query_embeddings)}"
            raise ValueError(msg)
        where = edge_filter(filters)
        names = [f"query {place}" for place in range(len(queries))]
        units = unit_vectors(query_embeddings, self.embedding_dim, names).vectors
        words = [question_words(query) for query in queries]
        shard = self._shard(make=False)
        check_model(shard, model_of(query_embeddings))
        if not shard.description.hybrid:
            msg = (
                f"the store at {shard.folder} keeps no words beside its vectors: open it with "
                "QdrantEdgeDocumentStore(..., hybrid=True), which adds them and embeds nothing again"
            )
            raise ValueError(msg)
        limit, found = max(candidates, top_k), []
        for start in range(0, len(words), QUERY_BATCH):
            batch = slice(start, start + QUERY_BATCH)
            with shard.reading() as edge:
                by_vectors = search_vectors(edge, units[batch], where, limit)
                by_words, coverage = search_words(edge, words[batch], where, limit)
                for near, matching, covered in zip(by_vectors, by_words, coverage, strict=True):
                    trust = covered if weigh_by_coverage else 1.0
                    sides = [Side(near, of_vectors, "cosine"), Side(matching, of_words, "bm25", trust)]
                    fused = fuse(sides, fusion, rank_constant)[:top_k]
                    kept = [hit for hit in fused if score_threshold is None or hit[1] >= score_threshold]
                    found.append(list(documents_of(edge, kept, return_embedding=return_embedding)))
        return found

    query_hybrid_batch_async = async_twin(query_hybrid_batch)


def check_fusion(
    top_k: int, candidates: int, fusion: str, weights: Sequence[float] | None, rank_constant: float
) -> None:
    """Refuse settings that no fusion can follow.

    :param top_k: as for `query_hybrid_batch`.
    :param candidates: likewise.
    :param fusion: likewise.
    :param weights: likewise.
    :param rank_constant: likewise.
    :raises ValueError: naming the setting.
    :raises TypeError: likewise.
    """
    check_count("top_k", top_k)
    check_count("candidates", candidates)
    if fusion not in get_args(Fusion):
        msg = f"fusion must be 'convex' or 'rrf', but got {fusion!r}"
        raise ValueError(msg)
    if not (rank_constant >= 0 and math.isfinite(rank_constant)):
        msg = f"rank_constant must be a number >= 0, but got {rank_constant}"
        raise ValueError(msg)
    if weights is None:
        return
    if len(weights) != 2 or not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        msg = f"weights must be two numbers >= 0, not both 0: of the vectors and of the words, but got {list(weights)}"
        raise ValueError(msg)
