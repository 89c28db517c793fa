"""Configuration -> tokenizer and model to train: from a checkpoint, or new.

The only file outside `tiny/` that imports it: what is new, and a bag of token vectors, is made there.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import NamedTuple

from torch import nn
from transformers import BloomForSequenceClassification, BloomModel, PreTrainedTokenizerFast

from bloomz_haystack.training.base import load_body, load_ranker, load_tokenizer, prepare_layers
from bloomz_haystack.training.config import TrainConfig
from bloomz_haystack.training.data.rows import TokenRow
from bloomz_haystack.training.data.sources import TextRows, TokenRows, texts_of
from bloomz_haystack.training.data.templates import text_template
from bloomz_haystack.training.objectives.grad_cache import Compute
from bloomz_haystack.training.objectives.retriever import text_vectors
from bloomz_haystack.training.team import Team
from bloomz_haystack.training.tiny.bag import TokenBag
from bloomz_haystack.training.tiny.hybrid_prior import HybridPrior
from bloomz_haystack.training.tiny.negatives import add_negatives
from bloomz_haystack.training.tiny.new_ranker import log_idf, new_ranker
from bloomz_haystack.training.tiny.tokenizer import mark_pairs, train_tokenizer
from haystack_integrations.common.bloomz.tokens import TokenIds

VOCABULARY_CHARACTERS = 12_000_000  # read of each source to learn the merges
IDF_ROWS = 20_000  # of each source


class RetrieverModel(NamedTuple):
    """A retriever to train: a Bloom, or a bag of token vectors that becomes one."""

    module: nn.Module
    vectors: Compute  # token ids -> vectors, with gradients
    bloom: Callable[[], BloomModel]  # the Bloom to save


def retriever_tokenizer(config: TrainConfig, sources: Sequence[TextRows]) -> PreTrainedTokenizerFast:
    """Load the tokenizer of the base, or train one.

    :param config: of the run.
    :param sources: rows with texts.
    :returns: a fast tokenizer.
    """
    if config.model.base:
        return load_tokenizer(config.model.base)
    return train_tokenizer(texts_of(sources, VOCABULARY_CHARACTERS), config.model.shape["vocab_size"])


def ranker_tokenizer(config: TrainConfig) -> PreTrainedTokenizerFast:
    """Load the tokenizer of the base, or that of the retriever with marks before the passage and the question.

    :param config: of the run.
    :returns: a fast tokenizer.
    :raises ValueError: for a new ranker without a retriever.
    """
    if config.model.base:
        return load_tokenizer(config.model.base)
    if not config.model.retriever:
        raise ValueError("'model.retriever' must name the model whose token vectors a new ranker starts from")
    return mark_pairs(load_tokenizer(config.model.retriever))


def retriever_model(
    config: TrainConfig, sources: Sequence[TokenRows], tokenizer: PreTrainedTokenizerFast, team: Team
) -> RetrieverModel:
    """Return the retriever to train, from the base or new.

    :param config: of the run.
    :param sources: rows with token ids.
    :param tokenizer: of the retriever.
    :param team: gives the device.
    :returns: float32 weights, on the device.
    :raises ValueError: for a bad base or shape.
    """
    base, settings = load_body(config.model.base) if config.model.base else None, config.model
    if settings.bag or base is None:
        bag = TokenBag.of(base) if base is not None else _new_bag(config, sources, len(tokenizer))
        if settings.bag:
            bag.to(team.device)
            return RetrieverModel(bag, bag, bag.bloom)
        base = bag.bloom()
    prepare_layers(base, settings)
    model = base.to(team.device)
    return RetrieverModel(model, partial(text_vectors, model, template=text_template(tokenizer)), lambda: model)


def ranker_model(
    config: TrainConfig, sources: Sequence[TokenRows], tokenizer: PreTrainedTokenizerFast, team: Team
) -> BloomForSequenceClassification:
    """Return the ranker to train, from the base or new.

    :param config: of the run.
    :param sources: rows with token ids.
    :param tokenizer: of the ranker.
    :param team: gives the device.
    :returns: float32 weights, on the device.
    :raises ValueError: for a bad base or shape.
    """
    if config.model.base:
        model = load_ranker(config.model.base)
    else:
        vectors = load_body(str(config.model.retriever)).word_embeddings.weight.detach()
        marks = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        idf = log_idf(_passages(sources), len(tokenizer))
        model = new_ranker(config.model.shape, vectors, idf, marks, config.run.seed)
    prepare_layers(model, config.model)
    model.score.requires_grad_(True)  # adapters freeze it
    return model.to(team.device)


def with_negatives(rows: TokenRows, config: TrainConfig, team: Team) -> TokenRows:
    """Return a source for a ranker: rows without negatives are dropped; if none has any, they are found.

    :param rows: of one source, with token ids.
    :param config: names the retriever that finds them.
    :param team: the processes that share the work, and their device.
    :returns: the source; its held-out rows may lack negatives.
    :raises ValueError: if no row has negatives and no retriever is named.
    """
    if not any(row.negatives for row in rows.train):
        if rows.stream or not config.model.retriever:
            raise ValueError(
                f"{rows.source.path}: no row has negatives: mine them (bloomz mine), or let 'model.retriever' name the "
                "model that finds them"
            )
        rows = add_negatives(rows, config.model.retriever, config, team)
    return replace(rows, train=[row for row in rows.train if row.negatives])


def hybrid_prior(rows: Sequence[TokenRow], config: TrainConfig, vocabulary: int, team: Team) -> HybridPrior:
    """Return what a hybrid search would say of passages, by the bag of the retriever and by BM25.

    :param rows: with token ids, whose passages say how rare a token is.
    :param config: names the retriever.
    :param vocabulary: V.
    :param team: gives the device.
    :returns: the prior beside a ranker's log-odds.
    :raises ValueError: if no retriever is named, or it is no bag.
    """
    if not config.model.retriever:
        raise ValueError("loss.prior needs the scores of a retriever: name it under 'model.retriever'")
    bag = TokenBag.of(load_body(config.model.retriever)).to(team.device)
    return HybridPrior(bag, (ids for row in rows for ids in row.positives.values()), vocabulary)


def _new_bag(config: TrainConfig, sources: Sequence[TokenRows], vocabulary: int) -> TokenBag:
    return TokenBag(config.model.shape, log_idf(_passages(sources), vocabulary), config.run.seed)


def _passages(sources: Sequence[TokenRows]) -> chain[TokenIds]:
    rows = chain.from_iterable(islice(source.train, IDF_ROWS) for source in sources)
    return chain.from_iterable(row.positives.values() for row in rows)
