"""What to compare -> every section measured in one run, on the same random weights and the same texts.

The random checkpoint and the store live in a temporary folder, gone at the end.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bloomz_haystack.benchmark.speed.harness import Measured, Section, measure_section
from bloomz_haystack.benchmark.speed.limits import Probes, make_probes
from bloomz_haystack.benchmark.speed.plan import SEARCHES, Plan, SpeedOptions, make_plan
from bloomz_haystack.benchmark.speed.processor import Processor, this_processor
from bloomz_haystack.benchmark.speed.random_bloom import save_random_bloom, settings_for, switch_off_shortcut
from bloomz_haystack.benchmark.speed.random_texts import draw_lengths, random_texts
from haystack_integrations.common.bloomz.checkpoint import (
    Checkpoint,
    Task,
    choose_placement,
    close_checkpoint,
    open_checkpoint,
)
from haystack_integrations.common.bloomz.int8 import Precision
from haystack_integrations.common.bloomz.int8_kernels import KernelChoice

QUESTIONS, TOGETHER = 8, 16
QUESTION_TOKENS, CANDIDATE_TOKENS = 15, 127
PASSAGE_LENGTHS, QUESTION_LENGTHS = (150, 20, 512), (QUESTION_TOKENS, 5, 40)  # tokens: mean, shortest, longest
RETRIEVE_DIMENSION = 1024


class SpeedRun(NamedTuple):
    """A whole run."""

    plan: Plan
    dtype: str
    measured: list[Measured]
    processor: Processor
    kernels: dict[str, KernelChoice]  # of int8, by shape of layer; empty where no model ran in it


def measure_speed(options: SpeedOptions, progress: Callable[[str], object] = lambda _: None) -> SpeedRun:
    """Measure every section asked for.

    :param options: what to run; threads are already pinned.
    :param progress: called with what runs now.
    :returns: the run.
    :raises ValueError: if an option is out of range, or a way gives other results than ours.
    """
    plan = make_plan(options)
    placement = choose_placement(options.device)
    kernels: dict[str, KernelChoice] = {}
    measured: list[Measured] = []

    def measure(sections: Iterator[Section], probes: Probes, device: torch.device) -> None:
        for section in sections:
            found = measure_section(section, probes, options.rounds, device, progress=progress, clock=plan.clock)
            measured.append(found)

    with tempfile.TemporaryDirectory(prefix="bloomz-speed-") as name:
        if set(plan.sections) - {*SEARCHES, "write"}:
            progress("random weights")
            save_random_bloom(Path(name, "bloom"), plan.shape, plan.layers, options.seed)
            probes = make_probes(plan.shape.hidden, placement.device, placement.dtype)
            measure(_model_sections(Path(name, "bloom"), plan, kernels), probes, placement.device)
        if {*SEARCHES, "write"} & set(plan.sections):
            progress("vectors into the stores")
            cpu = torch.device("cpu")  # the stores know no other
            measure(
                _store_sections(Path(name, "stores"), plan), make_probes(RETRIEVE_DIMENSION, cpu, torch.float32), cpu
            )
    return SpeedRun(plan, str(placement.dtype).removeprefix("torch."), measured, this_processor(), kernels)


def _model_sections(folder: Path, plan: Plan, kernels: dict[str, KernelChoice]) -> Iterator[Section]:
    """One at a time, while the weights are open; fills in the kernels that int8 took."""
    if {"encode", "question", "together"} & set(plan.sections):
        with _opened(folder, "embed", plan) as checkpoint, _quantised(folder, "embed", plan) as quantised:
            kernels |= quantised.kernels if quantised else {}
            yield from _encode(checkpoint, quantised, folder, plan)
    if "rerank" in plan.sections:
        with _opened(folder, "rank", plan) as checkpoint, _quantised(folder, "rank", plan) as quantised:
            kernels |= quantised.kernels if quantised else {}
            yield _rerank(checkpoint, quantised, folder, plan)


@contextmanager
def _opened(folder: Path, task: Task, plan: Plan, precision: Precision | None = None) -> Iterator[Checkpoint]:
    settings = settings_for(task, precision)
    checkpoint = open_checkpoint(str(folder), task, device=plan.options.device, settings=settings)
    if plan.cut:
        switch_off_shortcut(checkpoint.model, precision)
    try:
        yield checkpoint
    finally:
        close_checkpoint(checkpoint)


def _quantised(folder: Path, task: Task, plan: Plan) -> AbstractContextManager[Checkpoint | None]:
    """Open the checkpoint in int8, which is for a CPU: nothing on another device."""
    return _opened(folder, task, plan, "int8") if plan.options.device == "cpu" else nullcontext()


def _tolerance(checkpoint: Checkpoint) -> float:
    # bfloat16 keeps 8 bits: over 24 layers two ways differ by 0.04 of the log-odds
    return 1e-4 if checkpoint.placement.dtype == torch.float32 else 1e-1


def _encode(checkpoint: Checkpoint, quantised: Checkpoint | None, folder: Path, plan: Plan) -> Iterator[Section]:
    from bloomz_haystack.benchmark.speed.encode import passages_section, questions_section, together_section

    rng = np.random.default_rng(plan.options.seed)
    passages = random_texts(draw_lengths(plan.passages, *PASSAGE_LENGTHS, rng), rng)
    questions = random_texts(draw_lengths(QUESTIONS, *QUESTION_LENGTHS, rng), rng)
    common = (plan.full_layers, _tolerance(checkpoint))
    if "encode" in plan.sections:
        yield passages_section(checkpoint, quantised, str(folder), passages, *common)
    if "question" in plan.sections:
        yield questions_section(checkpoint, quantised, str(folder), questions, *common)
    if "together" in plan.sections:
        several = random_texts([QUESTION_TOKENS] * TOGETHER, rng)
        yield together_section(checkpoint, quantised, str(folder), several, *common)


def _rerank(checkpoint: Checkpoint, quantised: Checkpoint | None, folder: Path, plan: Plan) -> Section:
    from bloomz_haystack.benchmark.speed.rerank import rerank_section

    rng = np.random.default_rng(plan.options.seed)
    question = random_texts([QUESTION_TOKENS], rng)[0]
    contexts = random_texts([CANDIDATE_TOKENS] * plan.candidates, rng)
    tolerance = _tolerance(checkpoint)
    return rerank_section(checkpoint, quantised, str(folder), question, contexts, plan.full_layers, tolerance)


def _store_sections(folder: Path, plan: Plan) -> Iterator[Section]:
    from bloomz_haystack.benchmark.speed.retrieve import retrieve_sections
    from bloomz_haystack.benchmark.speed.write import write_section

    common = (folder, plan.vectors, RETRIEVE_DIMENSION, plan.options.seed)
    if "write" in plan.sections:
        yield write_section(*common)
    if plan.searches:
        yield from retrieve_sections(*common, plan.searches)
