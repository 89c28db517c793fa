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
from bloomz_haystack.benchmark.speed.limits import make_probes
from bloomz_haystack.benchmark.speed.random_bloom import (
    SHAPES,
    Shape,
    save_random_bloom,
    settings_for,
    switch_off_shortcut,
)
from bloomz_haystack.benchmark.speed.random_texts import draw_lengths, random_texts
from haystack_integrations.common.bloomz.checkpoint import (
    Checkpoint,
    Task,
    choose_placement,
    close_checkpoint,
    open_checkpoint,
)
from haystack_integrations.common.bloomz.int8 import Precision

SECTIONS = ("encode", "question", "rerank", "retrieve", "write")
QUESTIONS = 8
QUESTION_TOKENS, CANDIDATE_TOKENS = 15, 127
PASSAGE_LENGTHS, QUESTION_LENGTHS = (150, 20, 512), (QUESTION_TOKENS, 5, 40)  # tokens: mean, shortest, longest
RETRIEVE_DIMENSION = 1024


class SpeedOptions(NamedTuple):
    """What to run; None takes the shape's own quick value."""

    shape: str = "560m"
    layers: int | None = None
    device: str = "cpu"
    threads: int = 1
    rounds: int = 3
    sections: tuple[str, ...] = SECTIONS
    passages: int | None = None
    candidates: int | None = None
    vectors: int = 20_000
    seed: int = 0


class Plan(NamedTuple):
    """The same with every value known."""

    options: SpeedOptions
    shape: Shape
    layers: int
    passages: int
    candidates: int

    @property
    def cut(self) -> bool:
        """Whether the model is less deep than the published one."""
        return self.layers < self.shape.layers

    @property
    def full_layers(self) -> int:
        """Layers that every token goes through: the shortcut of the last one is off where depth is cut."""
        return self.layers if self.cut else self.layers - 1


class SpeedRun(NamedTuple):
    """A whole run."""

    plan: Plan
    dtype: str
    measured: list[Measured]


def make_plan(options: SpeedOptions) -> Plan:
    """Check what was asked for and fill in the rest.

    :param options: from the command line.
    :returns: the plan.
    :raises ValueError: for an unknown shape or section, or a number that is out of range.
    """
    if options.shape not in SHAPES:
        raise ValueError(f"--shape must be one of {', '.join(SHAPES)}, but got {options.shape!r}")
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown or not options.sections:
        raise ValueError(f"--only takes {', '.join(SECTIONS)}, separated by commas, but got {', '.join(unknown)!r}")
    shape = SHAPES[options.shape]
    layers = shape.quick_layers if options.layers is None else options.layers
    passages = shape.passages if options.passages is None else options.passages
    candidates = shape.candidates if options.candidates is None else options.candidates
    numbers = {"--rounds": options.rounds, "--passages": passages, "--candidates": candidates}
    for name, value in numbers.items():
        if value <= 0:
            raise ValueError(f"{name} must be > 0, but got {value}")
    if not 1 <= layers <= shape.layers:
        raise ValueError(f"--layers must be between 1 and {shape.layers}, the depth of {options.shape}, got {layers}")
    return Plan(options, shape, layers, passages, candidates)


def measure_speed(options: SpeedOptions, progress: Callable[[str], object] = lambda _: None) -> SpeedRun:
    """Measure every section asked for.

    :param options: what to run; threads are already pinned.
    :param progress: called with what runs now.
    :returns: the run.
    :raises ValueError: if an option is out of range, or a way gives other results than ours.
    """
    plan = make_plan(options)
    placement = choose_placement(options.device)
    with tempfile.TemporaryDirectory(prefix="bloomz-speed-") as name:
        measured = []
        if set(options.sections) - {"retrieve", "write"}:
            progress("random weights")
            save_random_bloom(Path(name, "bloom"), plan.shape, plan.layers, options.seed)
            probes = make_probes(plan.shape.hidden, placement.device, placement.dtype)
            for section in _model_sections(Path(name, "bloom"), plan):
                measured.append(measure_section(section, probes, options.rounds, placement.device, progress=progress))
        if {"retrieve", "write"} & set(options.sections):
            progress("vectors into the stores")
            cpu = torch.device("cpu")  # the stores know no other
            probes = make_probes(RETRIEVE_DIMENSION, cpu, torch.float32)
            for section in _store_sections(Path(name, "stores"), plan):
                measured.append(measure_section(section, probes, options.rounds, cpu, progress=progress))
    return SpeedRun(plan, str(placement.dtype).removeprefix("torch."), measured)


def _model_sections(folder: Path, plan: Plan) -> Iterator[Section]:
    """One at a time, while the weights are open."""
    if {"encode", "question"} & set(plan.options.sections):
        with _opened(folder, "embed", plan) as checkpoint, _quantised(folder, "embed", plan) as quantised:
            yield from _encode(checkpoint, quantised, folder, plan)
    if "rerank" in plan.options.sections:
        with _opened(folder, "rank", plan) as checkpoint, _quantised(folder, "rank", plan) as quantised:
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
    from bloomz_haystack.benchmark.speed.encode import passages_section, questions_section

    rng = np.random.default_rng(plan.options.seed)
    passages = random_texts(draw_lengths(plan.passages, *PASSAGE_LENGTHS, rng), rng)
    questions = random_texts(draw_lengths(QUESTIONS, *QUESTION_LENGTHS, rng), rng)
    common = (plan.full_layers, _tolerance(checkpoint))
    if "encode" in plan.options.sections:
        yield passages_section(checkpoint, quantised, str(folder), passages, *common)
    if "question" in plan.options.sections:
        yield questions_section(checkpoint, quantised, str(folder), questions, *common)


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

    wanted = (folder, plan.options.vectors, RETRIEVE_DIMENSION, plan.options.seed)
    if "write" in plan.options.sections:
        yield write_section(*wanted)
    if "retrieve" in plan.options.sections:
        yield from retrieve_sections(*wanted)
