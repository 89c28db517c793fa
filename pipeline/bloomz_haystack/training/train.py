"""Configuration -> trained checkpoint folder: the one training loop, for retriever and ranker.

The forward pass is the engine's own packed one, so what is trained is what is served. The folder it leaves loads with
``AutoModel.from_pretrained`` and with the components.
"""

import argparse
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm
from transformers import (
    AutoTokenizer,
    BloomForSequenceClassification,
    BloomModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from haystack_integrations.common.bloomz.checkpoint import resolve
from haystack_integrations.common.bloomz.forward import last_hidden_states
from haystack_integrations.common.bloomz.packing import pack
from haystack_integrations.common.bloomz.tokens import TokenIds

from .config import TrainConfig, dump_config, load_config
from .data import GroupSampler, PairSampler, Rows, read_rows, texts_of, tokenize_rows, validation_pairs
from .losses import info_nce, pair_cross_entropy
from .mining import mine
from .resuming import end_state, load_state, save_state
from .tokenizer import pair_template, separate_pairs, train_tokenizer
from .warm_start import new_ranker, new_retriever

logger = logging.getLogger(__name__)

VOCABULARY_CHARACTERS = 12_000_000  # read of each source to learn the merges
VALIDATION_PAIRS = 300  # of each source
CHUNK_TOKENS = 16_384  # packed together in training: bounds the memory of the activations

StepLoss = Callable[[int], torch.Tensor]
Validate = Callable[[], dict[str, float]]


def train_retriever(config_path: Path, out: Path, resume: bool = False) -> None:
    """Train a bi-encoder with InfoNCE, in-batch negatives and a learnt temperature.

    :param config_path: YAML file, see ``TrainConfig``.
    :param out: folder to write; checkpoints go there while it runs.
    :param resume: go on from the last checkpoint of a run that was stopped, to the same weights.
    :raises ValueError: for a bad configuration, bad data or a loss that is not a number.
    """
    config = load_config(config_path)
    torch.manual_seed(config.seed)
    groups: dict[str, int] = {}
    texts = [read_rows(source, groups) for source in config.data]
    tokenizer = _tokenizer(config, texts)
    sources = [tokenize_rows(rows, tokenizer.backend_tokenizer, config.max_length) for rows in texts]
    _log_sources(sources)
    model = _retriever(config, sources, len(tokenizer))
    logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # CLIP's start
    sampler = PairSampler(sources, word_starts(tokenizer), config)
    held_out = validation_pairs(sources, VALIDATION_PAIRS)

    def step_loss(step: int) -> torch.Tensor:
        pairs = sampler.batch(step)
        vectors = encode(model, [*pairs.questions, *pairs.passages])
        questions, passages = vectors.split([len(pairs.questions), len(pairs.passages)])
        return info_nce(questions, passages, logit_scale, torch.from_numpy(pairs.groups), symmetric=config.symmetric)

    def validate() -> dict[str, float]:
        with torch.inference_mode():
            questions, passages = encode(model, held_out.questions), encode(model, held_out.passages)
            return {"validation_mrr": mrr(questions, passages), "temperature": float((-logit_scale).exp())}

    fit(model, [logit_scale], config, step_loss, validate, lambda: save(model, tokenizer, config, out), out, resume)


def train_ranker(config_path: Path, out: Path, resume: bool = False) -> None:
    """Train a cross-encoder: cross-entropy on pairs, each positive with hard negatives found by a retriever.

    :param config_path: YAML file, see ``TrainConfig``; ``retriever`` is required.
    :param out: folder to write; checkpoints go there while it runs.
    :param resume: go on from the last checkpoint of a run that was stopped, to the same weights.
    :raises ValueError: for a bad configuration, bad data or a loss that is not a number.
    """
    config = load_config(config_path)
    if not config.retriever:
        raise ValueError(f"{config_path}: 'retriever' must name the model that finds the hard negatives")
    torch.manual_seed(config.seed)
    tokenizer = _ranker_tokenizer(config)
    groups: dict[str, int] = {}
    texts = (read_rows(source, groups) for source in config.data)
    sources = [tokenize_rows(rows, tokenizer.backend_tokenizer, config.max_length) for rows in texts]
    _log_sources(sources)
    retriever = _load_retriever(config.retriever)
    with torch.inference_mode():
        mined = [mine(rows.train, partial(encode_blocks, retriever), config.seed) for rows in sources]
        held_out = [mine(rows.validation, partial(encode_blocks, retriever), config.seed) for rows in sources]
    model = _ranker(config, sources, tokenizer, retriever)
    sampler = GroupSampler(sources, mined, word_starts(tokenizer), config, pair_template(tokenizer))
    validation = [
        sampler.group(row, others, 10, np.random.default_rng(0)) for rows in held_out for row, others in rows[:60]
    ]

    def logits(pairs: list[TokenIds]) -> torch.Tensor:
        return model.score(encode(model.transformer, pairs))  # (B, 2)

    def step_loss(step: int) -> torch.Tensor:
        batch = sampler.batch(step)
        labels = torch.tensor([i == 0 for group in batch for i in range(len(group))], dtype=torch.int64)
        return pair_cross_entropy(logits([pair for group in batch for pair in group]), labels)

    def validate() -> dict[str, float]:
        with torch.inference_mode():
            odds = [logits(group) @ torch.tensor([-1.0, 1.0]) for group in validation]
        return {"validation_top1": float(np.mean([float(scores.argmax() == 0) for scores in odds]))}

    fit(model, [], config, step_loss, validate, lambda: save(model, tokenizer, config, out), out, resume)


def fit(
    model: PreTrainedModel,
    extra: list[nn.Parameter],
    config: TrainConfig,
    step_loss: StepLoss,
    validate: Validate,
    save_checkpoint: Callable[[], None],
    out: Path,
    resume: bool = False,
) -> None:
    """Run the loop: step, log, validate and save at intervals, save at the end.

    :param model: trained in place.
    :param extra: parameters outside the model (the temperature).
    :param config: steps and learning rates.
    :param step_loss: gives the loss of a step.
    :param validate: gives named figures, in inference mode.
    :param save_checkpoint: writes the folder.
    :param out: where ``log.jsonl`` goes.
    :param resume: begin after the last checkpoint in ``out``.
    :raises ValueError: at a loss that is not a number (the last checkpoint stays), or if there is nothing to resume.
    """
    out.mkdir(parents=True, exist_ok=True)
    # Adam's moments of tokens not seen for a while decay into denormals: steps 250 to 500 took six times longer.
    torch.set_flush_denormal(True)
    optimizer = _optimizer(model, extra, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    settings = dump_config(config)
    first = load_state(out, settings, model, extra, optimizer, schedule) if resume else 0
    if not first:
        (out / "log.jsonl").unlink(missing_ok=True)
    model.train()
    began, losses = time.perf_counter(), []
    steps = tqdm(
        range(first, config.steps),
        initial=first,
        total=config.steps,
        desc=f"train {out.name}",
        unit="step",
        disable=None,
    )  # quiet when piped
    for step in steps:
        loss = step_loss(step)
        if not torch.isfinite(loss):
            raise ValueError(
                f"loss is {float(loss.detach())} at step {step}: lower learning_rate; the last checkpoint is kept"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        steps.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            seconds = time.perf_counter() - began
            figures = {"step": step + 1, "loss": float(np.mean(losses)), "grad_norm": float(norm), **validate()}
            figures |= {"seconds": seconds, "seconds_left": seconds / (step + 1 - first) * (config.steps - step - 1)}
            losses = []
            _log(out, figures)
            save_checkpoint()
            save_state(out, step + 1, settings, model, extra, optimizer, schedule)
    end_state(out)


def encode(model: BloomModel, token_ids: Sequence[TokenIds]) -> torch.Tensor:
    """Give last-token states, with gradients, in the order of the input.

    :param model: the bi-encoder, or the body of the cross-encoder.
    :param token_ids: B arrays.
    :returns: (B, H).
    """
    order = np.argsort([-len(ids) for ids in token_ids], kind="stable")  # equal lengths are computed together
    chunks: list[list[int]] = [[]]
    tokens = 0
    for place in order.tolist():
        if chunks[-1] and tokens + len(token_ids[place]) > CHUNK_TOKENS:
            chunks.append([])
            tokens = 0
        chunks[-1].append(place)
        tokens += len(token_ids[place])
    device = model.word_embeddings.weight.device
    states = [last_hidden_states(model, pack([token_ids[i] for i in chunk]).to(device)) for chunk in chunks]
    return torch.cat(states)[torch.from_numpy(np.argsort(order)).to(device)]


def encode_blocks(model: BloomModel, token_ids: Sequence[TokenIds]) -> torch.Tensor:
    """Do as ``encode`` for a long list, without gradients.

    :param model: the bi-encoder.
    :param token_ids: B arrays.
    :returns: (B, H).
    """
    return torch.cat([encode(model, token_ids[start : start + 4096]) for start in range(0, len(token_ids), 4096)])


def mrr(questions: torch.Tensor, passages: torch.Tensor) -> float:
    """Mean reciprocal rank of passage i for question i among all passages, by cosine.

    :param questions: (B, H).
    :param passages: (B, H).
    :returns: 0..1.
    """
    scores = nn.functional.normalize(questions, dim=-1) @ nn.functional.normalize(passages, dim=-1).T
    ranks = (scores > scores.diagonal()[:, None]).sum(1) + 1
    return float((1 / ranks).mean())


def word_starts(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Mark the tokens that start a word (byte-level BPE writes the space before it as "Ġ").

    :param tokenizer: byte-level.
    :returns: (V,) bool.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return np.asarray([token.startswith("Ġ") for token in tokens], dtype=bool)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, config: TrainConfig, out: Path) -> None:
    """Write the checkpoint: float16 safetensors, tokenizer, resolved settings. Training goes on in float32.

    :param model: the trained model.
    :param tokenizer: its tokenizer.
    :param config: the resolved settings, written to ``training.json``.
    :param out: the folder.
    """
    half = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    model.config.dtype = torch.float16
    with tempfile.TemporaryDirectory(dir=out) as folder:
        model.save_pretrained(folder, state_dict=half)
        tokenizer.save_pretrained(folder)
        record = json.dumps(dump_config(config), indent=2) + "\n"
        (Path(folder) / "training.json").write_text(record, encoding="utf-8")
        for file in Path(folder).iterdir():
            file.replace(out / file.name)  # a run that is killed while it saves leaves the last checkpoint whole


def _tokenizer(config: TrainConfig, sources: Sequence[Rows]) -> PreTrainedTokenizerFast:
    if config.base:
        return AutoTokenizer.from_pretrained(resolve(config.base))
    return train_tokenizer(texts_of(sources, VOCABULARY_CHARACTERS), config.shape["vocab_size"])


def _retriever(config: TrainConfig, sources: Sequence[Rows], vocabulary: int) -> BloomModel:
    if config.base:
        return _load_retriever(config.base)
    passages = (ids for rows in sources for row in rows.train[:20_000] for ids in row.positives)
    return new_retriever(config.shape, log_idf(passages, vocabulary), config.seed)


def _load_retriever(name: str) -> BloomModel:
    return BloomModel.from_pretrained(resolve(name), dtype=torch.float32, use_cache=False)


def _ranker_tokenizer(config: TrainConfig) -> PreTrainedTokenizerFast:
    tokenizer = AutoTokenizer.from_pretrained(resolve(config.base or str(config.retriever)))
    return tokenizer if config.base else separate_pairs(tokenizer)


def _ranker(
    config: TrainConfig, sources: Sequence[Rows], tokenizer: PreTrainedTokenizerFast, retriever: BloomModel
) -> BloomForSequenceClassification:
    if config.base:
        return BloomForSequenceClassification.from_pretrained(
            resolve(config.base), dtype=torch.float32, use_cache=False, num_labels=2
        )
    passages = (ids for rows in sources for row in rows.train[:20_000] for ids in row.positives)
    vectors = retriever.word_embeddings.weight.detach()
    return new_ranker(config.shape, vectors, log_idf(passages, len(tokenizer)), tokenizer.eos_token_id, config.seed)


def log_idf(passages: Iterable[TokenIds], vocabulary: int) -> np.ndarray:
    """Logarithm of each token's inverse document frequency, ln(ln((n + 1) / (df + 0.5)) + 0.1).

    :param passages: token ids of n passages.
    :param vocabulary: V.
    :returns: (V,) float64.
    """
    frequency, total = np.zeros(vocabulary), 0
    for ids in passages:
        frequency[np.unique(ids)] += 1
        total += 1
    return np.log(np.log((total + 1) / (frequency + 0.5)).clip(min=0) + 0.1)


def _optimizer(model: PreTrainedModel, extra: list[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    vectors = [model.get_input_embeddings().weight]
    matrices = [parameter for parameter in model.parameters() if parameter is not vectors[0]]
    groups = [
        {"params": vectors, "lr": config.embedding_learning_rate},
        {"params": matrices, "lr": config.learning_rate},
    ]
    if extra:
        groups.append({"params": extra, "lr": 1e-2})
    return torch.optim.Adam(groups, betas=(0.9, 0.999), fused=True)


def _rate(step: int, config: TrainConfig) -> float:
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def _log(out: Path, figures: dict[str, float]) -> None:
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(figures) + "\n")
    logger.info(" ".join(f"{name} {value:.4g}" for name, value in figures.items()))


def _log_sources(sources: Sequence[Rows]) -> None:
    for rows in sources:
        logger.info(
            "%s: %d rows to train on, %d held out, %d bad",
            rows.name,
            len(rows.train),
            len(rows.validation),
            len(rows.bad),
        )


def main() -> None:
    """Run ``python -m bloomz_haystack.training.train retriever|ranker --config FILE --out DIR``, without typer."""
    parser = argparse.ArgumentParser(description="Train a Bloom retriever or ranker.")
    parser.add_argument("kind", choices=["retriever", "ranker"])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    arguments = parser.parse_args()
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "INFO"), format="%(asctime)s %(message)s")
    train = train_retriever if arguments.kind == "retriever" else train_ranker
    train(arguments.config, arguments.out, arguments.resume)


if __name__ == "__main__":
    main()
