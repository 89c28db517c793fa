"""Configuration -> tokenizer and model to train: from a checkpoint of any Bloom kind, or new.

Whatever a checkpoint holds (a language model, a retriever, a ranker), its body is taken; a head that it lacks is new.
"""

import logging
import sys
from collections.abc import Sequence
from itertools import chain, islice
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BloomForSequenceClassification,
    BloomModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

from bloomz_haystack.training.config import LoraConfig, ModelConfig, TrainConfig
from bloomz_haystack.training.data.sources import Rows, texts_of
from bloomz_haystack.training.tiny.bag import TokenBag
from bloomz_haystack.training.tiny.new_ranker import log_idf, new_ranker
from bloomz_haystack.training.tiny.tokenizer import mark_pairs, train_tokenizer
from haystack_integrations.common.bloomz.checkpoint import resolve
from haystack_integrations.common.bloomz.tokens import TokenIds

logger = logging.getLogger(__name__)

VOCABULARY_CHARACTERS = 12_000_000  # read of each source to learn the merges
IDF_ROWS = 20_000  # of each source
LORA_TARGETS = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]  # every matrix of a layer


def retriever_tokenizer(config: TrainConfig, sources: Sequence[Rows]) -> PreTrainedTokenizerFast:
    """Give the tokenizer of the base, or learn one.

    :param config: of the run.
    :param sources: rows with texts.
    :returns: a fast tokenizer.
    """
    if config.model.base:
        return load_tokenizer(config.model.base)
    return train_tokenizer(texts_of(sources, VOCABULARY_CHARACTERS), config.model.shape["vocab_size"])


def ranker_tokenizer(config: TrainConfig) -> PreTrainedTokenizerFast:
    """Give the tokenizer of the base, or that of the retriever with marks before the context and before the question.

    :param config: of the run.
    :returns: a fast tokenizer.
    :raises ValueError: for a new ranker without a retriever.
    """
    if config.model.base:
        return load_tokenizer(config.model.base)
    if not config.model.retriever:
        raise ValueError("'model.retriever' must name the model whose token vectors a new ranker starts from")
    return mark_pairs(load_tokenizer(config.model.retriever))


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Load a tokenizer.

    :param name: bundled name, folder or Hub name.
    :returns: a fast tokenizer.
    :raises ValueError: if there is none.
    """
    return _loaded(name, AutoTokenizer)


def load_body(name: str) -> BloomModel:
    """Load the body of a Bloom checkpoint, be it a language model, a retriever or a ranker.

    :param name: bundled name, folder or Hub name.
    :returns: float32 weights.
    :raises ValueError: if it cannot be loaded, is no Bloom, or lacks weights.
    """
    return _whole(name, BloomModel, ())


def start_retriever(config: TrainConfig, sources: Sequence[Rows], vocabulary: int) -> BloomModel | TokenBag:
    """Give the bi-encoder to train, or the bag that becomes one.

    :param config: of the run.
    :param sources: rows with token ids.
    :param vocabulary: tokens of the tokenizer.
    :returns: float32 weights.
    :raises ValueError: for a bad base or shape.
    """
    if config.model.base:
        body = load_body(config.model.base)
        return TokenBag.of(body) if config.model.bag else _prepared(body, config.model)
    log_idfs = log_idf(_passages(sources), vocabulary)
    bag = TokenBag(config.model.shape, log_idfs, config.run.seed)
    return bag if config.model.bag else _prepared(bag.bloom(), config.model)


def start_ranker(
    config: TrainConfig, sources: Sequence[Rows], tokenizer: PreTrainedTokenizerFast
) -> BloomForSequenceClassification:
    """Give the cross-encoder to train: a ranker's head is kept, any other base gets a new one.

    :param config: of the run.
    :param sources: rows with token ids.
    :param tokenizer: of the ranker.
    :returns: float32 weights.
    :raises ValueError: for a bad base or shape.
    """
    if config.model.base:
        model = _whole(config.model.base, BloomForSequenceClassification, ("score.weight",), num_labels=2)
    else:
        vectors = load_body(str(config.model.retriever)).word_embeddings.weight.detach()
        log_idfs = log_idf(_passages(sources), len(tokenizer))
        marks = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        model = new_ranker(config.model.shape, vectors, log_idfs, marks, config.run.seed)
    model = _prepared(model, config.model)
    model.score.requires_grad_(True)  # adapters freeze it
    return model


def _passages(sources: Sequence[Rows]) -> chain[TokenIds]:
    rows = chain.from_iterable(islice(source.train, IDF_ROWS) for source in sources)
    return chain.from_iterable(row.positives.values() for row in rows)


def _whole(name: str, kind: type[PreTrainedModel], may_lack: Sequence[str], **options: Any) -> Any:  # noqa: ANN401
    if (found := _loaded(name, AutoConfig).model_type) != "bloom":
        raise ValueError(f"{name!r} is a {found!r} model, but only a Bloom can be trained")
    options |= {"dtype": torch.float32, "use_cache": False, "weights_only": True}
    model, report = _loaded(name, kind, output_loading_info=True, **options)
    missing = sorted(set(report["missing_keys"]) - set(may_lack))
    if missing:
        raise ValueError(f"{name!r} lacks {len(missing)} weights of a {kind.__name__} (first: {missing[0]})")
    return model


def _loaded(name: str, kind: Any, **options: Any) -> Any:  # noqa: ANN401
    if not sys.stderr.isatty():
        disable_progress_bar()
    try:
        return kind.from_pretrained(resolve(name), **options)
    except Exception as error:  # Hub, file system, JSON and safetensors errors share no base class
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"cannot load {name!r}: expected a bundled name, a folder or a Hub name ({reason})") from error


def _prepared(model: PreTrainedModel, settings: ModelConfig) -> Any:  # noqa: ANN401
    if settings.gradient_checkpointing:
        for layer in model.base_model.h:
            layer.gradient_checkpointing = True  # read by the packed forward
    return _adapted(model, settings.lora) if settings.lora else model


def _adapted(model: PreTrainedModel, lora: LoraConfig) -> PreTrainedModel:
    try:
        import peft
    except ImportError as error:
        raise ImportError('peft is needed for model.lora: pip install "bloomz-haystack[train]"') from error
    # No dropout: the gradient cache computes each chunk twice and must find the same numbers.
    adapters = peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=LORA_TARGETS)
    peft.inject_adapter_in_model(adapters, model)
    return model
