"""Measure a retriever, and a ranker over its first candidates, on the three sets of a folder.

    python -m bloomz_haystack.benchmark.measure --data FOLDER [--retriever NAME] [--ranker NAME] [--candidates 20]

Prints a Markdown table, then one JSON line. Uses the engine that the components use.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from haystack_integrations.common.bloomz.checkpoint import BUNDLED_RETRIEVER, CheckpointError, open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.scorer import Scorer

from .corpora import Corpus, read_folder
from .metrics import gold_ranks, mrr, top

Figures = dict[str, float | str]


def measure(
    corpus: Corpus, retriever: Encoder, ranker: Scorer | None, candidates: int, limit: int | None = None
) -> Figures:
    """Rank every passage for every question; let the ranker reorder the first ones.

    :param corpus: Q questions over P passages.
    :param retriever: gives unit vectors.
    :param ranker: reorders, or None.
    :param candidates: how many passages a question the ranker sees.
    :param limit: rank only this many questions, evenly spread; None takes all.
    :returns: MRR and Top-1 (%) of the retriever, and with the ranker on the same questions.
    """
    chosen = np.linspace(0, len(corpus.questions) - 1, min(limit or len(corpus.questions), len(corpus.questions)))
    places = np.unique(chosen.astype(np.int64))
    asked, passages = [corpus.questions[i] for i in places], [passage.text for passage in corpus.passages]
    questions, gold = [question.text for question in asked], np.array([question.gold for question in asked])
    scores = retriever.encode(questions) @ retriever.encode(passages).T  # (Q, P)
    ranks = gold_ranks(scores, gold)
    figures: Figures = {"set": corpus.name, "questions": len(questions), "mrr": mrr(ranks), "top1": top(ranks, 1)}
    figures["top20"] = top(ranks, 20)
    if ranker:
        reranked = gold_ranks(reorder(scores, questions, passages, ranker, candidates), gold)
        figures |= {"reranked_mrr": mrr(reranked), "reranked_top1": top(reranked, 1)}
    return figures


def reorder(
    scores: npt.NDArray[np.float32], questions: list[str], passages: list[str], ranker: Scorer, candidates: int
) -> npt.NDArray[np.float64]:
    """Put the ranker's order on the first candidates of each question; the others stay behind them.

    :param scores: (Q, P) of the retriever.
    :param questions: Q.
    :param passages: P.
    :param ranker: scores pairs.
    :param candidates: K.
    :returns: (Q, P) scores whose order is the final one.
    """
    final = scores.astype(np.float64)
    for row, question in enumerate(questions):
        first = np.argsort(-scores[row], kind="stable")[:candidates]
        # Past any cosine, in the ranker's order.
        final[row, first] = 1e3 + ranker.score(question, [passages[i] for i in first]).astype(np.float64)
    return final


def table(rows: list[Figures]) -> str:
    """Write a Markdown table.

    :param rows: from ``measure``.
    :returns: a row a set.
    """
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    for row in rows:
        lines.append("| " + " | ".join(f"{v:.1f}" if isinstance(v, float) else str(v) for v in row.values()) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Measure a retriever and a ranker.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the three sets")
    parser.add_argument("--retriever", default=BUNDLED_RETRIEVER)
    parser.add_argument("--ranker", help="also rerank the first candidates with this model")
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--limit", type=int, help="rank only this many questions of each set")
    arguments = parser.parse_args()
    try:
        retriever = Encoder(open_checkpoint(arguments.retriever, "embed"))
        ranker = Scorer(open_checkpoint(arguments.ranker, "rank")) if arguments.ranker else None
        corpora = read_folder(arguments.data)
    except (CheckpointError, OSError, ValueError) as error:
        sys.exit(f"measure: {error}")
    rows = [measure(corpus, retriever, ranker, arguments.candidates, arguments.limit) for corpus in corpora]
    sys.stdout.write(table(rows) + "\n" + json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
