"""A checkpoint and texts -> the ways to turn them into vectors: ours, the model cards' code, and the libraries'.

Every way gives unit vectors (B, H) float32, from texts: tokenising is part of the work.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedModel, pipeline

from bloomz_haystack.benchmark.speed.harness import Missing, Section, Way
from bloomz_haystack.benchmark.speed.limits import bloom_work
from bloomz_haystack.benchmark.speed.onnx import NAME as ONNX_NAME
from bloomz_haystack.benchmark.speed.onnx import onnx_way, unit_rows
from bloomz_haystack.benchmark.speed.random_bloom import load_plain
from haystack_integrations.common.bloomz.batches import Vectors
from haystack_integrations.common.bloomz.checkpoint import Checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder

Encode = Callable[[Sequence[str]], Vectors]
INT8_TOLERANCE = 2e-2  # of a number of a unit vector, a tenth of the largest
BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}  # of ours; a GPU is busy only with many
BATCH_SIZES = {"cpu": (1, 8, 32), "cuda": (8, 32, 128)}  # of SentenceTransformer.encode: the fastest is taken
AT_ONCE = (2, 4, 8, 16)  # questions that one call reads the weights for


def passages_section(
    checkpoint: Checkpoint, quantised: Checkpoint | None, folder: str, texts: list[str], layers: int, tolerance: float
) -> Section:
    """Compare the encoding of many passages.

    :param checkpoint: opened for "embed"; every way uses its weights.
    :param quantised: the same in int8; None leaves it out.
    :param folder: where they are, and the tokenizer.
    :param texts: B passages.
    :param layers: that every token goes through.
    :param tolerance: largest difference between two vectors' numbers.
    :returns: the section.
    """
    plain, device = load_plain(folder, checkpoint.placement, "embed"), checkpoint.placement.device.type
    ways = [
        Way("ours, packed", Encoder(checkpoint, batch_tokens=BATCH_TOKENS[device]).encode, ours=True),
        *([Way("ours, int8", Encoder(quantised).encode, ours=True, tolerance=INT8_TOLERANCE)] if quantised else []),
        Way("model card: one padded batch", _card(plain, folder)),
        Way("HF feature-extraction, one by one", _feature_extraction(plain, folder)),
    ]
    missing: list[Missing] = []
    if find_spec("sentence_transformers"):
        ways += _sentence_transformer(plain, folder)
    else:
        missing.append(Missing("SentenceTransformer.encode", "pip install sentence-transformers"))
    _add(onnx_way(plain, folder), ways, missing)
    return _section(checkpoint, "encode", "Encode passages", "passages", texts, ways, missing, layers, tolerance)


def questions_section(
    checkpoint: Checkpoint, quantised: Checkpoint | None, folder: str, texts: list[str], layers: int, tolerance: float
) -> Section:
    """Compare the encoding of questions that come one at a time.

    :param checkpoint: as for `passages_section`.
    :param quantised: as for `passages_section`.
    :param folder: as for `passages_section`.
    :param texts: B questions; each is a call of its own.
    :param layers: as for `passages_section`.
    :param tolerance: as for `passages_section`.
    :returns: the section.
    """
    plain = load_plain(folder, checkpoint.placement, "embed")
    ways = [Way("ours", _one_by_one(Encoder(checkpoint).encode), ours=True)]
    if quantised:
        int8 = _one_by_one(Encoder(quantised).encode)
        ways.append(Way("ours, int8", int8, ours=True, tolerance=INT8_TOLERANCE))
    ways.append(Way("model card", _one_by_one(_card(plain, folder))))
    missing: list[Missing] = []
    _add(onnx_way(plain, folder), ways, missing)
    section = _section(
        checkpoint, "question", "One question at a time", "questions", texts, ways, missing, layers, tolerance
    )
    weights = bloom_work(1, layers, checkpoint.model.config.hidden_size, checkpoint.placement.dtype.itemsize)
    # Whole models are far larger than any cache, so each question reads the weights again; a layer or two may stay.
    return section._replace(work=section.work._replace(bytes_read=weights.bytes_read * len(texts)))


def together_section(
    checkpoint: Checkpoint, quantised: Checkpoint | None, folder: str, texts: list[str], layers: int, tolerance: float
) -> Section:
    """Compare the encoding of questions that come together, some a call.

    :param checkpoint: as for `passages_section`.
    :param quantised: as for `passages_section`.
    :param folder: as for `passages_section`.
    :param texts: B questions.
    :param layers: as for `passages_section`.
    :param tolerance: as for `passages_section`.
    :returns: the section.
    """
    plain = load_plain(folder, checkpoint.placement, "embed")
    opened: list[tuple[str, Encode, float | None]] = [("ours", Encoder(checkpoint).encode, None)]
    if quantised:
        opened.append(("ours, int8", Encoder(quantised).encode, INT8_TOLERANCE))
    ways = [
        Way(
            f"{name}, {size} at once" if size > 1 else f"{name}, one by one", _in_calls(encode, size), "", True, allowed
        )
        for name, encode, allowed in opened
        for size in (1, *AT_ONCE)
    ]
    ways.append(Way("model card: one padded batch", _card(plain, folder)))
    title, missing = "Questions that come together", [Missing(ONNX_NAME, "takes one question a call: see above")]
    return _section(checkpoint, "together", title, "questions", texts, ways, missing, layers, tolerance)


def _add(found: Way | Missing, ways: list[Way], missing: list[Missing]) -> None:
    if isinstance(found, Way):
        ways.append(found)
    else:
        missing.append(found)


def _one_by_one(encode: Encode) -> Encode:
    return _in_calls(encode, 1)


def _in_calls(encode: Encode, size: int) -> Encode:
    return lambda items: np.concatenate([encode(items[start : start + size]) for start in range(0, len(items), size)])


def _section(
    checkpoint: Checkpoint,
    name: str,
    title: str,
    unit: str,
    texts: list[str],
    ways: list[Way],
    missing: list[Missing],
    layers: int,
    tolerance: float,
) -> Section:
    tokens = sum(len(encoding.ids) for encoding in checkpoint.tokenizer.encode_batch(texts))
    work = bloom_work(tokens, layers, checkpoint.model.config.hidden_size, checkpoint.placement.dtype.itemsize)
    return Section(name, title, unit, texts, ways, missing, tokens, work, tolerance)


def _card(model: PreTrainedModel, folder: str) -> Any:  # noqa: ANN401
    """The code of the retrievers' model cards, less the distance."""
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(texts: Sequence[str]) -> Vectors:
        inputs = tokenizer(list(texts), padding=True, return_tensors="pt").to(model.device)
        with torch.no_grad():
            states = model(**inputs).last_hidden_state[:, -1]
        return unit_rows(states.float().cpu().numpy())

    return encode


def _feature_extraction(model: PreTrainedModel, folder: str) -> Any:  # noqa: ANN401
    tokenizer = AutoTokenizer.from_pretrained(folder)
    extract = pipeline("feature-extraction", model=model, tokenizer=tokenizer, device=model.device)

    def encode(texts: Sequence[str]) -> Vectors:
        # Tensors, which the pipeline gives on demand: by default it makes a Python list of every number.
        rows = [extract(text, return_tensors=True)[0, -1] for text in texts]
        return unit_rows(torch.stack(rows).float().cpu().numpy())

    return encode


def _sentence_transformer(model: PreTrainedModel, folder: str) -> list[Way]:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    body = Transformer(folder)
    body.model = model  # the weights of all the others, in the same memory and dtype
    pooling = Pooling(model.config.hidden_size, "lasttoken")
    encoder = SentenceTransformer(modules=[body, pooling, Normalize()], device=str(model.device))

    def way(size: int) -> Way:
        def encode(texts: Sequence[str]) -> Vectors:
            return encoder.encode(list(texts), batch_size=size, show_progress_bar=False)

        return Way(f"SentenceTransformer.encode, batch {size}", encode, family="SentenceTransformer")

    return [way(size) for size in BATCH_SIZES[model.device.type]]
