"""A checkpoint, a question and contexts -> the ways to score them: ours, HF's pipeline and CrossEncoder.

Every way gives the log-odds of relevance (K,) float32, from texts.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, pipeline

from bloomz_haystack.benchmark.speed.encode import BATCH_SIZES, BATCH_TOKENS
from bloomz_haystack.benchmark.speed.harness import Missing, Section, Way
from bloomz_haystack.benchmark.speed.limits import bloom_work
from bloomz_haystack.benchmark.speed.random_bloom import load_plain
from haystack_integrations.common.bloomz.checkpoint import Checkpoint, positive_label
from haystack_integrations.common.bloomz.prefix_cache.batches import PrefixSettings
from haystack_integrations.common.bloomz.prefix_cache.states import StoreDtype
from haystack_integrations.common.bloomz.scorer import Scorer

LogOdds = npt.NDArray[np.float32]
Score = Callable[[Sequence[str]], LogOdds]
STORE_BYTES = 2**33  # room for every candidate
# Of the log-odds, which are below one on random weights.
FLOAT16_TOLERANCE, INT8_TOLERANCE = 1e-3, 5e-2


def rerank_section(
    checkpoint: Checkpoint,
    quantised: Checkpoint | None,
    folder: str,
    question: str,
    contexts: list[str],
    layers: int,
    tolerance: float,
) -> Section:
    """Compare the scoring of one question's candidates.

    :param checkpoint: opened for "rank"; every way uses its weights.
    :param quantised: the same in int8; None leaves it out.
    :param folder: where they are, and the tokenizer.
    :param question: one.
    :param contexts: K candidates.
    :param layers: that every token goes through.
    :param tolerance: largest difference between two log-odds.
    :returns: the section.
    """
    plain, device = load_plain(folder, checkpoint.placement, "rank"), checkpoint.placement.device.type
    ways = [
        Way("ours, packed", _scorer(checkpoint, question, BATCH_TOKENS[device]), ours=True),
        Way("ours, prefix cache, cold", _cold(checkpoint, question), ours=True),
        *_warm(checkpoint, quantised, question, contexts, tolerance),
        *([Way("ours, int8", _scorer(quantised, question), ours=True, tolerance=INT8_TOLERANCE)] if quantised else []),
        Way("HF text-classification, one by one", _text_classification(plain, folder, question)),
    ]
    missing = []
    if find_spec("sentence_transformers"):
        ways += _cross_encoder(plain, folder, question)
    else:
        missing.append(Missing("CrossEncoder.predict", "pip install sentence-transformers"))
    encodings = checkpoint.tokenizer.encode_batch([*contexts, *[question] * len(contexts)])
    tokens = sum(len(encoding.ids) for encoding in encodings)
    hidden, itemsize = checkpoint.model.config.hidden_size, checkpoint.placement.dtype.itemsize
    work = bloom_work(tokens, layers, hidden, itemsize)
    title = f"Rerank {len(contexts)} candidates for one question"
    return Section("rerank", title, "candidates", contexts, ways, missing, tokens, work, tolerance)


def _scorer(checkpoint: Checkpoint, question: str, batch_tokens: int = BATCH_TOKENS["cpu"]) -> Score:
    scorer = Scorer(checkpoint, batch_tokens=batch_tokens)
    return lambda contexts: scorer.score(question, contexts)


def _cold(checkpoint: Checkpoint, question: str) -> Score:
    """No context is kept when the clock starts; all are when it stops."""
    scorer = Scorer(checkpoint, prefix_settings=PrefixSettings(STORE_BYTES))

    def score(contexts: Sequence[str]) -> LogOdds:
        assert scorer.prefixes is not None
        scorer.prefixes.cache.clear()
        return scorer.score(question, contexts)

    return score


def _warm(
    checkpoint: Checkpoint, quantised: Checkpoint | None, question: str, contexts: list[str], tolerance: float
) -> list[Way]:
    """Every context is kept before the clock starts."""
    settings: list[tuple[str, Checkpoint, StoreDtype, float]] = [
        ("float32", checkpoint, "float32", tolerance),
        ("float16", checkpoint, "float16", max(FLOAT16_TOLERANCE, tolerance)),
    ]
    if quantised:
        settings.append(("float16, int8 linears", quantised, "float16", INT8_TOLERANCE))
    ways = []
    for name, opened, store_dtype, allowed in settings:
        scorer = Scorer(opened, prefix_settings=PrefixSettings(STORE_BYTES, store_dtype=store_dtype))
        scorer.warm_prefixes(contexts)

        def score(items: Sequence[str], scorer: Scorer = scorer) -> LogOdds:
            return scorer.score(question, items)

        ways.append(Way(f"ours, prefix cache, warm, {name}", score, ours=True, tolerance=allowed))
    return ways


def _text_classification(plain: PreTrainedModel, folder: str, question: str) -> Any:  # noqa: ANN401
    """The code of the rerankers' model cards; raw logits instead of probabilities, to be compared digit by digit."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    classify = pipeline("text-classification", model=plain, tokenizer=tokenizer, device=plain.device)
    labels = plain.config.id2label
    positive = labels[positive_label(plain.config)]

    def score(contexts: Sequence[str]) -> LogOdds:
        pairs = [{"text": context, "text_pair": question} for context in contexts]
        # A list of one: a bare dict gives the same, by a way through the pipeline that differs between versions.
        rows = [classify([pair], top_k=None, function_to_apply="none")[0] for pair in pairs]
        signed = [[row["score"] * (1 if row["label"] == positive else -1) for row in two] for two in rows]
        return np.asarray(signed, dtype=np.float64).sum(axis=1).astype(np.float32)

    return score


def _cross_encoder(plain: PreTrainedModel, folder: str, question: str) -> list[Way]:
    """One label, as CrossEncoder's own models have: its weight is the difference of our two, on the same body."""
    from sentence_transformers import CrossEncoder

    device, config = plain.device, plain.config
    model = CrossEncoder(folder, device=str(device), activation_fn=nn.Identity())
    head, positive = plain.score.weight, positive_label(config)
    inner = model[0].model
    inner.transformer = plain.transformer
    inner.score = nn.Linear(head.shape[1], 1, bias=False, device=device, dtype=head.dtype)
    inner.num_labels = inner.config.num_labels = 1
    with torch.no_grad():
        inner.score.weight.copy_(head[positive] - head[1 - positive])
    inner.eval()

    def way(size: int) -> Way:
        def score(contexts: Sequence[str]) -> LogOdds:
            pairs = [(context, question) for context in contexts]
            return model.predict(pairs, batch_size=size, show_progress_bar=False)

        return Way(f"CrossEncoder.predict, batch {size}", score, family="CrossEncoder")

    return [way(size) for size in BATCH_SIZES[device.type]]
