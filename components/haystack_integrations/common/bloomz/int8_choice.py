"""A layer -> the int8 kernel that takes the least of this processor, by a few milliseconds of timing.

No flag of a processor says it: the same product ran at half the speed of float32 on one machine without VNNI, at one
and a half times that on another. The kernels give the same numbers, so a choice that falls differently tomorrow moves
no vector. Counted is what the processor works for this thread, not the time on the wall: on a busy machine a kernel
waits for its neighbours, and the one that waited least would win. Enters: a layer, and its twin in float32. Leaves: a
kernel's name and what each way took.
"""

import os
import time
from collections.abc import Callable, Mapping

import torch
from torch import nn

from haystack_integrations.common.bloomz.int8 import Int8Linear
from haystack_integrations.common.bloomz.int8_kernels import KernelChoice, usable_levels

VARIABLE = "BLOOMZ_INT8_KERNEL"
FLOAT32 = "float32"
ROWS = (16, 64)  # a question, and a passage
ROUNDS, SECONDS = 3, 0.003  # at least
HOPELESS = 3  # times as long as the best: not tried again
MARGIN = 1.05  # times as long: less is noise, which neither changes the kernel nor earns a warning
CLOCK = time.perf_counter if os.name == "nt" else time.thread_time  # Windows counts a thread's in steps of 16 ms

_choices: dict[tuple[object, ...], KernelChoice] = {}


def choose_kernel(plain: nn.Linear, twin: Callable[[], nn.Module], *, fine: bool = False) -> KernelChoice:
    """Time the kernels on a layer, or remember what was found for another one of its shape.

    :param plain: of any float dtype, on a CPU.
    :param twin: makes the same product in float32, as fast as there is one; called where the clock is to choose.
    :param fine: with inputs of 16 bits.
    :returns: the fastest, or what the variable BLOOMZ_INT8_KERNEL names.
    """
    forced = forced_kernel()
    key = (plain.in_features, plain.out_features, fine, torch.get_num_threads())
    if forced is not None:
        return KernelChoice(forced, {})
    if key not in _choices:
        first, *others = usable_levels()
        layer = Int8Linear(plain, fine=fine, kernel=first)
        ways = {first: layer, **{name: layer.by_kernel(name) for name in others}}
        taken = _milliseconds({FLOAT32: twin(), **ways}, plain.in_features)
        _choices[key] = KernelChoice(min(ways, key=lambda name: taken[name] * (1 if name == first else MARGIN)), taken)
    return _choices[key]


def forced_kernel() -> str | None:
    """Return the kernel that the user wants.

    :returns: None if timing is to choose.
    :raises ValueError: if the variable BLOOMZ_INT8_KERNEL names none that works here.
    """
    forced = os.environ.get(VARIABLE) or None
    if forced is not None and forced not in usable_levels():
        raise ValueError(f"{VARIABLE} must be one of {', '.join(usable_levels())} on this machine, but got {forced!r}")
    return forced


def chosen_kernels(model: nn.Module) -> dict[str, KernelChoice]:
    """Return the choice made for each shape of layer, as "1024 -> 4096".

    :param model: any.
    :returns: empty if no layer is int8.
    """
    layers = [module for module in model.modules() if isinstance(module, Int8Linear)]
    return {layer.shape: layer.choice for layer in layers if layer.choice is not None}


def in_words(choices: Mapping[str, KernelChoice]) -> str:
    """Write choices on one line.

    :param choices: from `chosen_kernels`.
    :returns: shape, kernel and times of each.

    >>> in_words({"8 -> 4": KernelChoice("fbgemm", {"float32": 2.0, "fbgemm": 1.0})})
    '8 -> 4 by fbgemm (float32 2 ms, fbgemm 1 ms)'
    """
    lines = []
    for shape, choice in choices.items():
        times = ", ".join(f"{way} {taken:.3g} ms" for way, taken in choice.milliseconds.items())
        lines.append(f"{shape} by {choice.kernel}" + f" ({times})" * bool(times))
    return "; ".join(lines)


def slower_than_float32(choices: Mapping[str, KernelChoice]) -> tuple[float, float] | None:
    """Return the milliseconds of a layer of each shape in int8 and in float32, if int8 is the slower one.

    :param choices: from `chosen_kernels`.
    :returns: None if it is not, or nothing was timed.
    """
    timed = [choice for choice in choices.values() if choice.milliseconds]
    short = sum(choice.milliseconds[choice.kernel] for choice in timed)
    plain = sum(choice.milliseconds[FLOAT32] for choice in timed)
    return (short, plain) if short > plain * MARGIN else None


def _milliseconds(ways: Mapping[str, nn.Module], inputs: int) -> dict[str, float]:
    """Time each way in turn, and keep its best: who shares the cache of the processor slows one round, not all."""
    seed = torch.Generator().manual_seed(0)  # its own: the user's numbers do not change
    batches = [torch.randn(rows, inputs, generator=seed) for rows in ROWS]
    best = dict.fromkeys(ways, float("inf"))
    rounds, begun = 0, CLOCK()
    with torch.inference_mode():
        while rounds <= ROUNDS or CLOCK() - begun < SECONDS:
            hopeless = HOPELESS * min(best.values())
            for name in [name for name in ways if rounds < 2 or best[name] <= hopeless]:
                start = CLOCK()
                for batch in batches:
                    ways[name](batch)
                best[name] = min(best[name], 1000 * (CLOCK() - start))
            rounds += 1
    return best
