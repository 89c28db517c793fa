"""A measured run -> a Markdown table for people, and plain values for machines. Computes no time itself."""

import platform
import statistics
import time

from bloomz_haystack.benchmark.speed.harness import Measured, Timing, ratios
from bloomz_haystack.benchmark.speed.limits import least_seconds
from bloomz_haystack.benchmark.speed.sections import SpeedRun
from bloomz_haystack.files.markdown import markdown_table
from bloomz_haystack.files.provenance import NOT_INSTALLED, package_version

LIBRARIES = (
    "torch",
    "transformers",
    "sentence-transformers",
    "haystack-ai",
    "qdrant-edge-py",
    "numpy",
    "scipy",
    "onnxruntime",
    "faiss-cpu",
)
SPEED_HEADS = (
    "way",
    "{unit}/s",
    "tokens/s",
    "seconds, median (min–max)",
    "peak memory",
    "ours is faster by",
    "share of the limit",
)


def speed_markdown(run: SpeedRun) -> str:
    """Return the tables for people.

    :param run: measured.
    :returns: Markdown: what was run, then one table a section.
    """
    return "\n\n".join([speed_setting(run), *[_section_table(measured) for measured in run.measured]])


def speed_setting(run: SpeedRun) -> str:
    """Return what was run, in words.

    :param run: measured.
    :returns: one paragraph.
    """
    plan, options = run.plan, run.plan.options
    published = plan.shape.layers
    depth = (
        f"depth cut to {plan.layers} of {published} layers, our last-layer shortcut off, so that the ratios are those "
        "of whole layers"
        if plan.cut
        else f"all {published} layers, our last-layer shortcut on"
    )
    clock = "the processor" if plan.clock is time.process_time else "the clock"
    return (
        f"Random weights as wide as Bloom {options.shape} (hidden {plan.shape.hidden}, {plan.shape.heads} heads), "
        f"{depth}; {run.dtype} on {options.device}, {options.threads} thread(s) for every library, {options.rounds} "
        f"interleaved round(s) by the seconds of {clock}. Ratios are medians over rounds; tokens are counted without "
        "padding; memory is what a run takes above weights and stores. Every way gave our results before it was timed."
    )


def speed_values(run: SpeedRun) -> dict[str, object]:
    """Return the same as plain values.

    :param run: measured.
    :returns: `shape`, `layers`, `sections` and so on; seconds, bytes, FLOP/s.
    """
    plan, options = run.plan, run.plan.options
    return {
        "shape": options.shape,
        "hidden": plan.shape.hidden,
        "heads": plan.shape.heads,
        "layers": plan.layers,
        "published_layers": plan.shape.layers,
        "last_layer_shortcut": not plan.cut,
        "device": options.device,
        "dtype": run.dtype,
        "threads": options.threads,
        "rounds": options.rounds,
        "seed": options.seed,
        "machine": platform.machine(),
        "processor": run.processor.name,
        "processor_units": run.processor.units,
        "processor_held_by": run.processor.held,
        "int8_kernels": {shape: choice.kernel for shape, choice in run.kernels.items()},
        "versions": {name: found for name in LIBRARIES if (found := package_version(name)) != NOT_INSTALLED},
        "sections": {measured.section.name: _section_json(measured) for measured in run.measured},
    }


def limit_seconds(measured: Measured) -> float:
    """Return the least time that the machine needs for a section, at the rates of the same rounds.

    :param measured: a section.
    :returns: seconds.
    """
    return least_seconds(measured.section.work, measured.rates)


def _section_table(measured: Measured) -> str:
    section, rates = measured.section, measured.rates
    rows = [_row(measured, timing) for timing in measured.timings]
    rows += [[way.name, f"not measured: {way.reason}", *[""] * 5] for way in section.missing]
    heads = [head.format(unit=section.unit) for head in SPEED_HEADS]
    lines = [f"### {section.title}", "", markdown_table(heads, rows, numbers=True)]
    lines += ["", *([section.note, ""] if section.note else [])]
    lines += [
        f"Limit {limit_seconds(measured):.3g} s: matrix product {rates.flop / 1e9:,.0f} GFLOP/s, memory "
        f"read {rates.bytes_read / 1e9:,.1f} GB/s, both measured in these rounds."
    ]
    others = [timing for timing in measured.timings[1:] if timing.way.ours]
    lines += ["", *(_faster(measured, timing) for timing in others), ""] if others else [""]
    if measured.passed_over:
        slower = ", ".join(f"{name} ({seconds:.3g} s)" for name, seconds in measured.passed_over.items())
        lines += [f"Slower settings, run once: {slower}."]
    return "\n".join(lines).rstrip()


def _faster(measured: Measured, ours: Timing) -> str:
    """Compare another way of ours with the first one and with the alternatives."""
    others = [measured.timings[0], *(timing for timing in measured.timings if not timing.way.ours)]
    than = [f"{statistics.median(ratios(ours, other)):.2f} {other.name}" for other in others]
    return f"- {ours.name}, against the others' speed: {', '.join(than)}; it differs by {ours.largest_difference:.1g}."


def _row(measured: Measured, timing: Timing) -> list[str]:
    section, ours = measured.section, measured.timings[0]
    tokens = f"{section.tokens / timing.median:,.0f}" if section.tokens else ""
    seconds = f"{timing.median:.3g} ({min(timing.seconds):.3g}–{max(timing.seconds):.3g})"
    memory = "" if timing.peak_bytes is None else f"{timing.peak_bytes / 1e6:,.0f} MB"
    ratio = "" if timing is ours else f"{statistics.median(ratios(ours, timing)):.2f}"
    # the limit is that of the section's arithmetic, and says nothing of another
    share = f"{100 * limit_seconds(measured) / timing.median:.0f} %" if timing.way.tolerance is None else ""
    rate = f"{len(section.items) / timing.median:,.1f}"
    return [timing.name, rate, tokens, seconds, memory, ratio, share]


def _section_json(measured: Measured) -> dict[str, object]:
    section = measured.section
    return {
        "unit": section.unit,
        "items": len(section.items),
        "tokens": section.tokens,
        "note": section.note,
        "flop": section.work.flop,
        "limit_seconds": limit_seconds(measured),
        "product_flop_per_second": measured.rates.flop,
        "read_bytes_per_second": measured.rates.bytes_read,
        "ways": {timing.name: _way_json(measured, timing) for timing in measured.timings},
        "slower_settings_seconds": measured.passed_over,
        "not_measured": {way.name: way.reason for way in section.missing},
    }


def _way_json(measured: Measured, timing: Timing) -> dict[str, object]:
    section = measured.section
    by_round = ratios(measured.timings[0], timing)
    return {
        "seconds": timing.seconds,
        "median_seconds": timing.median,
        "items_per_second": len(section.items) / timing.median,
        "tokens_per_second": section.tokens / timing.median if section.tokens else None,
        "peak_bytes": timing.peak_bytes,
        "ours_faster_by": statistics.median(by_round),
        "ours_faster_by_min": min(by_round),
        "ours_faster_by_max": max(by_round),
        "share_of_limit": limit_seconds(measured) / timing.median if timing.way.tolerance is None else None,
        "largest_difference": timing.largest_difference,
    }
