"""What was asked for -> what is measured: sections, sizes, and the clock, every value known and checked."""

import time
from typing import Any, NamedTuple

from bloomz_haystack.benchmark.speed.harness import Clock
from bloomz_haystack.benchmark.speed.random_bloom import SHAPES, Shape

SECTIONS = ("encode", "question", "together", "rerank", "retrieve", "write")
SEARCHES = ("retrieve", "retrieve-64", "retrieve-half", "retrieve-tenth", "retrieve-float16")
VECTORS = 20_000
# A minute on one core. Two layers: of one alone, more of the weights stay in a cache than of a whole model.
QUICK_SIZES: dict[str, Any] = {
    "layers": 2,
    "passages": 5,
    "candidates": 8,
    "vectors": 10_000,
    "sections": ("encode", "question", "together", "rerank", "retrieve-64", "retrieve-half"),
}


class SpeedOptions(NamedTuple):
    """What to run; None takes the shape's own value, or that of a quick run."""

    shape: str = "560m"
    layers: int | None = None
    device: str = "cpu"
    threads: int = 1
    rounds: int = 3
    sections: tuple[str, ...] | None = None
    passages: int | None = None
    candidates: int | None = None
    vectors: int | None = None
    seed: int = 0
    quick: bool = False


class Plan(NamedTuple):
    """The same with every value known."""

    options: SpeedOptions
    shape: Shape
    layers: int
    passages: int
    candidates: int
    vectors: int
    sections: tuple[str, ...]

    @property
    def cut(self) -> bool:
        """Whether the model is less deep than the published one."""
        return self.layers < self.shape.layers

    @property
    def full_layers(self) -> int:
        """Layers that every token goes through: the shortcut of the last one is off where depth is cut."""
        return self.layers if self.cut else self.layers - 1

    @property
    def searches(self) -> tuple[str, ...]:
        """Of `SEARCHES`, those to measure; "retrieve" stands for all of them."""
        return SEARCHES if "retrieve" in self.sections else tuple(set(SEARCHES) & set(self.sections))

    @property
    def clock(self) -> Clock:
        """Return seconds of a clock; in a quick run on one thread those that the processor spent on this process.

        Other processes then change a ratio less. Of several threads the processor's seconds are the sum.
        """
        alone = self.options.quick and self.options.threads == 1 and self.options.device == "cpu"
        return time.process_time if alone else time.perf_counter


def make_plan(options: SpeedOptions) -> Plan:
    """Check what was asked for and fill in the rest.

    :param options: from the command line.
    :returns: the plan.
    :raises ValueError: for an unknown shape or section, or a number that is out of range.
    """
    if options.shape not in SHAPES:
        raise ValueError(f"--shape must be one of {', '.join(SHAPES)}, but got {options.shape!r}")
    plan = _filled(options, SHAPES[options.shape])
    known = list(dict.fromkeys((*SECTIONS, *SEARCHES)))
    unknown = [name for name in plan.sections if name not in known]
    if unknown or not plan.sections:
        raise ValueError(f"--only takes {', '.join(known)}, separated by commas, but got {', '.join(unknown)!r}")
    numbers = {"--rounds": options.rounds, "--passages": plan.passages, "--candidates": plan.candidates}
    for name, value in numbers.items():
        if value <= 0:
            raise ValueError(f"{name} must be > 0, but got {value}")
    if not 1 <= plan.layers <= plan.shape.layers:
        raise ValueError(
            f"--layers must be between 1 and {plan.shape.layers}, the depth of {options.shape}, got {plan.layers}"
        )
    return plan


def _filled(options: SpeedOptions, shape: Shape) -> Plan:
    usual = {"layers": shape.quick_layers, "passages": shape.passages, "candidates": shape.candidates}
    sizes = {**usual, "vectors": VECTORS, "sections": SECTIONS, **(QUICK_SIZES if options.quick else {})}
    asked = {name: getattr(options, name) for name in sizes}
    return Plan(options, shape, **{name: sizes[name] if given is None else given for name, given in asked.items()})
