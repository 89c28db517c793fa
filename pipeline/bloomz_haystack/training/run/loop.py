"""Objective and settings -> trained weights: the one training loop, for retriever and ranker.

Steps, logs, validates and saves at intervals, keeps the best. Knows nothing of data files or of what the loss is.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel

from bloomz_haystack.training.config import OptimizerConfig, TrainConfig, dump_config
from bloomz_haystack.training.data.drawn_batches import batches
from bloomz_haystack.training.objectives.grad_cache import Compute, backward, compute_in_chunks
from bloomz_haystack.training.run.log import Logbook
from bloomz_haystack.training.run.state import RunProgress, State, end_state, load_state, save_state
from bloomz_haystack.training.team import Team

MAX_GRAD_NORM = 1.0  # of a Bloom; the gradient of a bag is that of a sum, and is not clipped


class Batch(Protocol):
    """What a step works on."""

    @property
    def texts(self) -> Sequence[Sized]:
        """What the model reads: token ids, or anything whose length is a number of tokens."""


class Objective(Protocol):
    """What is learned. `loss` sees the outputs of all texts of a batch at once, however they were computed."""

    model: PreTrainedModel
    width: int  # K, numbers in an output

    @property
    def extra(self) -> list[nn.Parameter]:
        """Parameters outside the model."""

    def batch(self, step: int) -> Any:  # noqa: ANN401
        """Return the `Batch` of a step, the same on every process."""

    def compute(self, texts: Sequence[Any]) -> torch.Tensor:
        """Return (n, K) outputs, with gradients."""

    def loss(self, outputs: torch.Tensor, batch: Any) -> torch.Tensor:  # noqa: ANN401
        """Return the loss of a batch from its outputs."""

    def after_step(self) -> None:
        """Put parameters back within their bounds."""

    def figures(self) -> dict[str, float]:
        """Return figures of the last step, by name."""

    def validate(self, compute: Compute) -> dict[str, float]:
        """Return figures on held-out rows; the first one, higher is better, selects the best checkpoint."""


class DivergedError(FloatingPointError):
    """A loss or gradient that is not a number; the message is one line."""


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Count denormals as zero until the end.

    Adam's moments of tokens not seen for a while decay into denormals: steps 250 to 500 took six times longer.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@_denormals_flushed()
def fit(
    objective: Objective,
    config: TrainConfig,
    out: Path,
    team: Team,
    save: Callable[[int, dict[str, float]], None],
    *,
    resume: bool = False,
) -> None:
    """Train.

    :param objective: trained in place.
    :param config: of the run.
    :param out: where the log and the state go.
    :param team: the processes that share the work.
    :param save: writes the checkpoint, given steps done and validation figures; called when they are the best so far.
    :param resume: continue from the last state in `out`.
    :raises ValueError: if there is nothing to resume.
    :raises DivergedError: at a loss that is not a number; the best checkpoint and the last state stay.
    """
    optimizer = _optimizer(objective, config.optimizer)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    state = State(out, dump_config(config), _trained(objective), optimizer, schedule)
    start = _copies(objective.model) if config.run.start_share else []
    done = load_state(state) if resume else RunProgress()
    compute = _in_compute_dtype(objective, config, team)
    objective.model.train()
    drawn = batches(objective.batch, done.step, config.run.steps, config.run.workers)
    began = time.perf_counter()
    with Logbook(out, done.step, config.run, team.leads) as log:
        for step, batch in enumerate(drawn, start=done.step):
            figures = _step(batch, objective, compute, config, team)
            if not all(map(math.isfinite, figures.values())):
                raise DivergedError(_diverged(step, figures, out))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            objective.after_step()
            now = time.perf_counter()
            tokens = sum(len(ids) for ids in batch.texts)
            log.step(step + 1, {**figures, "tokens_per_second": tokens / (now - began)})
            began = now
            if (step + 1) % config.run.save_every == 0 or step + 1 == config.run.steps:
                with _mixed(objective.model, start, config.run.start_share):
                    found = objective.validate(partial(_measure, compute, objective.width, config, team))
                    log.interval(step + 1, found)
                    score = next(iter(found.values()), None)
                    if score is None or score > done.best:  # nothing held out: the last is the best
                        save(step + 1, found)
                done = RunProgress(step + 1, done.best if score is None else max(done.best, score))
                if team.leads:
                    save_state(state, done)
                team.wait()
    if team.leads:
        end_state(out)


def _step(batch: Batch, objective: Objective, compute: Compute, config: TrainConfig, team: Team) -> dict[str, float]:
    """Return the figures of a step; its gradients stay in the parameters."""
    loss = backward(
        compute,
        lambda outputs: objective.loss(outputs, batch),
        batch.texts,
        objective.width,
        config.run.chunk_tokens,
        team,
        cached=config.run.gradient_cache,
    )
    weights = _weights(objective.model)
    if team.size > 1:
        for weight in weights:  # a process without a chunk has none
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        team.sum(weight.grad for weight in weights if weight.grad is not None)
    norm = nn.utils.clip_grad_norm_(weights, math.inf if config.model.bag else MAX_GRAD_NORM)
    return {"loss": float(loss), **objective.figures(), "grad_norm": float(norm)}


def _diverged(step: int, figures: dict[str, float], out: Path) -> str:
    values = ", ".join(f"{name} {figures[name]:.4g}" for name in ("loss", "grad_norm"))
    return f"step {step} diverged ({values}): lower optimizer.learning_rate; the last checkpoint in {out} is kept"


def _in_compute_dtype(objective: Objective, config: TrainConfig, team: Team) -> Compute:
    wanted = config.run.compute_dtype
    half = wanted == "bfloat16" or (wanted == "auto" and team.device.type == "cuda")

    def compute(texts: Sequence[Any]) -> torch.Tensor:
        # One context per chunk: it keeps the weights it has cast, and those cast without gradients would have none.
        with torch.autocast(team.device.type, torch.bfloat16, enabled=half):
            return objective.compute(texts).float()

    return compute


def _measure(compute: Compute, width: int, config: TrainConfig, team: Team, texts: Sequence[Any]) -> torch.Tensor:
    return compute_in_chunks(compute, texts, width, config.run.chunk_tokens, team)


def _copies(model: nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in _weights(model)]


@contextmanager
def _mixed(model: nn.Module, start: Sequence[torch.Tensor], share: float) -> Iterator[None]:
    """Make the model the mean of its initial and its current weights.

    :param model: changed in place, and back, bit for bit.
    :param start: its initial trained weights; empty for no mixing.
    :param share: of the initial weights.
    """
    if not start:
        yield
        return
    weights, now = _weights(model), _copies(model)
    with torch.no_grad():
        for weight, began in zip(weights, start, strict=True):
            weight.lerp_(began, share)
        try:
            yield
        finally:
            for weight, kept in zip(weights, now, strict=True):
                weight.copy_(kept)


def _weights(model: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in model.parameters() if weight.requires_grad]


def _trained(objective: Objective) -> dict[str, torch.Tensor]:
    weights = {name: weight for name, weight in objective.model.named_parameters() if weight.requires_grad}
    return weights | {f"extra.{place}": weight for place, weight in enumerate(objective.extra)}


def _optimizer(objective: Objective, settings: OptimizerConfig) -> torch.optim.Optimizer:
    vectors = objective.model.get_input_embeddings().weight
    others = [weight for weight in objective.model.parameters() if weight.requires_grad and weight is not vectors]
    groups: list[dict[str, Any]] = [{"params": others, "lr": settings.learning_rate}]
    if vectors.requires_grad:
        rate = settings.embedding_learning_rate
        groups.append({"params": [vectors], "lr": settings.learning_rate if rate is None else rate})
    if objective.extra:
        groups.append({"params": objective.extra, "lr": settings.temperature_learning_rate})
    return torch.optim.AdamW(groups, weight_decay=0.0, fused=True)


def _rate(step: int, config: TrainConfig) -> float:
    warmup = config.optimizer.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, config.run.steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * done))
