"""The speed benchmark: ways that give other numbers are refused, ratios are right, what is absent is named.

No test looks at how fast anything was.
"""

import importlib.util
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from haystack import Document
from typer.testing import CliRunner

from bloomz_haystack.benchmark.speed import encode as speed_encode
from bloomz_haystack.benchmark.speed import onnx as speed_onnx
from bloomz_haystack.benchmark.speed import rerank as speed_rerank
from bloomz_haystack.benchmark.speed import retrieve as speed_retrieve
from bloomz_haystack.benchmark.speed import sections as speed_sections
from bloomz_haystack.benchmark.speed.harness import Measured, Missing, Section, Way, measure_section, ratios, timed
from bloomz_haystack.benchmark.speed.limits import Probes, Rates, Work, bloom_work, least_seconds, make_probes
from bloomz_haystack.benchmark.speed.memory import run_measuring_memory
from bloomz_haystack.benchmark.speed.plan import Plan, SpeedOptions, make_plan
from bloomz_haystack.benchmark.speed.processor import Processor, this_processor
from bloomz_haystack.benchmark.speed.random_bloom import SHAPES, save_random_bloom, settings_for, switch_off_shortcut
from bloomz_haystack.benchmark.speed.random_texts import draw_lengths, random_texts
from bloomz_haystack.benchmark.speed.ratio_table import RATIO_HEADS, Ratio, ratio_markdown, speed_ratios
from bloomz_haystack.benchmark.speed.sections import SpeedRun, measure_speed
from bloomz_haystack.benchmark.speed.table import limit_seconds, speed_markdown, speed_values
from bloomz_haystack.benchmark.speed.threads import VARIABLES, available_cores, choose_threads, pinned_threads
from bloomz_haystack.cli import benchmark_speed as speed_cli
from bloomz_haystack.cli import main as cli
from haystack_integrations.common.bloomz.checkpoint import Checkpoint, close_checkpoint, open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.int8_kernels import KernelChoice
from haystack_integrations.common.bloomz.scorer import Scorer

CPU = torch.device("cpu")
XEON = Processor("Intel Xeon", "AMX", {"ONEDNN_MAX_CPU_ISA": "AVX2"})
KERNELS = {"8 -> 4": KernelChoice("fbgemm", {"float32": 2.0, "fbgemm": 1.0})}


class FakeClock:
    """Seconds that pass only when a way says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def way(self, name: str, *seconds: float, result: float = 1.0, family: str = "") -> Way:
        """A way whose runs take these seconds, the last one for ever after; the first is the warm-up."""
        left = list(seconds)

        def run(items: Sequence[Any]) -> np.ndarray:
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return np.full(len(items), result)

        return Way(name, run, family)

    def spend(self, seconds: float) -> None:
        self.now += seconds


def probes(clock: FakeClock) -> Probes:
    return Probes(lambda: clock.spend(0.5), lambda: clock.spend(0.25), product_work=100.0, read_work=10.0)


def section(*ways: Way) -> Section:
    missing, work = [Missing("absent", "not here")], Work(flop=100.0, bytes_read=10.0)
    return Section("encode", "Encode", "passages", [1, 2, 3, 4], list(ways), missing, 600, work, 1e-4)


def measure(clock: FakeClock, *ways: Way, rounds: int = 3) -> Measured:
    return measure_section(section(*ways), probes(clock), rounds, CPU, clock=clock)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_probes_of_a_gpu_measure_work_and_not_how_long_it_takes_to_begin() -> None:
    device = torch.device("cuda")
    half, whole = (make_probes(1024, device, torch.bfloat16, rows) for rows in (2**15, 2**16))
    seconds = [min(timed(each.product, device) for _ in range(10)) for each in (half, whole)]
    assert whole.product_work == 2 * half.product_work
    assert seconds[1] > 1.6 * seconds[0]


# ---------------------------------------------------------------- rounds, medians, ratios


def test_medians_and_ratios_are_those_of_the_clock() -> None:
    clock = FakeClock()
    measured = measure(clock, clock.way("ours", 9, 9, 1, 2, 4), clock.way("other", 9, 9, 3, 8, 4))
    ours, other = measured.timings
    assert (ours.seconds, other.seconds) == ([1, 2, 4], [3, 8, 4])
    assert (ours.median, other.median) == (2, 4)
    assert ratios(ours, other) == [3, 4, 1]
    assert measured.rates == Rates(flop=200.0, bytes_read=40.0)
    assert limit_seconds(measured) == 0.5


def test_only_the_fastest_of_a_family_is_timed() -> None:
    clock = FakeClock()
    ways = [clock.way("ours", 1), clock.way("b1", 0, 5, family="b"), clock.way("b8", 0, 3, family="b")]
    measured = measure(clock, *ways, clock.way("c", 7), rounds=1)
    assert [timing.name for timing in measured.timings] == ["ours", "b8", "c"]
    assert measured.passed_over == {"b1": 5}


def test_rounds_start_with_another_way_each() -> None:
    order: list[str] = []

    def way(name: str) -> Way:
        def run(items: Sequence[Any]) -> np.ndarray:
            order.append(name)
            return np.zeros(len(items))

        return Way(name, run)

    measure(FakeClock(), *map(way, "abc"))
    assert "".join(order[6:]) == "abc" + "bca" + "cab"


@pytest.mark.parametrize("result", [1.001, float("nan")])
def test_other_results_are_refused(result: float) -> None:
    clock = FakeClock()
    with pytest.raises(ValueError, match=r"^encode: wrong and ours differ by .* so it is not timed$"):
        measure(clock, clock.way("ours", 1), clock.way("wrong", 1, result=result))
    short = Way("short", lambda items: np.ones(1))
    with pytest.raises(ValueError, match="not comparable"):
        measure(clock, clock.way("ours", 1), short)


def test_table_and_json_say_the_same() -> None:
    clock = FakeClock()
    measured = measure(clock, clock.way("ours", 9, 9, 1, 2, 4), clock.way("other", 9, 9, 3, 8, 4))
    run = SpeedRun(make_plan(SpeedOptions(layers=3)), "float32", [measured], XEON, KERNELS)
    told = speed_values(run)
    json.dumps(told)
    assert {key: told[key] for key in ("shape", "hidden", "layers", "published_layers", "last_layer_shortcut")} == {
        "shape": "560m",
        "hidden": 1024,
        "layers": 3,
        "published_layers": 24,
        "last_layer_shortcut": False,
    }
    assert (told["processor"], told["processor_held_by"]) == ("Intel Xeon", {"ONEDNN_MAX_CPU_ISA": "AVX2"})
    assert told["int8_kernels"] == {"8 -> 4": "fbgemm"}
    encode = told["sections"]["encode"]  # type: ignore[index]
    other = encode["ways"]["other"]
    assert (other["items_per_second"], other["tokens_per_second"]) == (1.0, 150.0)
    assert (other["ours_faster_by"], other["ours_faster_by_min"], other["ours_faster_by_max"]) == (3, 1, 4)
    assert (other["share_of_limit"], encode["ways"]["ours"]["ours_faster_by"]) == (0.125, 1)
    assert encode["not_measured"] == {"absent": "not here"}
    table = speed_markdown(run)
    assert "depth cut to 3 of 24 layers" in table
    assert "| other | 1.0 | 150 | 4 (3–8) |" in table
    assert "| 3.00 | 12 % |" in table
    assert "| absent | not measured: not here |" in table
    whole = speed_markdown(run._replace(plan=make_plan(SpeedOptions(layers=24))))
    assert "all 24 layers, our last-layer shortcut on" in whole


def test_ratios_are_against_the_first_the_fastest_other_and_the_limit() -> None:
    clock = FakeClock()
    ours, int8 = (clock.way(name, 9, 9, *seconds) for name, *seconds in (("ours", 1, 2, 4), ("ours, int8", 1, 1, 1)))
    slow, fast = clock.way("slow", 9, 9, 30, 80, 40), clock.way("fast", 9, 9, 3, 8, 4)
    measured = measure(clock, ours._replace(ours=True), slow, int8._replace(ours=True, tolerance=0.1), fast)
    first, second = speed_ratios(measured)
    # 4 items; the limit is 0.5 s; by round, fast takes 3, 4 and 1 times as long as ours, and 3, 8 and 4 times int8
    assert first == Ratio("ours", 500, None, "fast", 3, 0.25)
    assert second == Ratio("ours, int8", 250, 2, "fast", 4, None)
    run = SpeedRun(make_plan(SpeedOptions(quick=True)), "float32", [measured], XEON, KERNELS)
    lines = ratio_markdown(run).splitlines()
    assert "by the seconds of the processor" in lines[0], "one thread: those that the processor spent"
    assert lines[2] == "| " + " | ".join(RATIO_HEADS) + " |"
    assert lines[4:6] == [
        "| Encode | ours | 500 |  | 3.00 fast | 25 % |",
        "|  | ours, int8 | 250 | 2.00 | 4.00 fast |  |",
    ]
    assert lines[7] == "Not measured: absent (not here)."
    assert lines[-4] == "CPU: Intel Xeon (AMX; held by ONEDNN_MAX_CPU_ISA=AVX2)"
    assert lines[-3].startswith("Limit: matrix product and memory read, 0 GFLOP/s")
    assert lines[-1] == "int8 linears: 8 -> 4 by fbgemm (float32 2 ms, fbgemm 1 ms)"
    alone = speed_ratios(measure(clock, clock.way("ours", 1)._replace(ours=True)))
    assert alone[0][2:5] == (None, "", None)


# ---------------------------------------------------------------- the machine


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            "model name\t: AMD EPYC 9B45\nflags\t\t: fpu avx2 avx512f avx512_vnni\n",
            ("AMD EPYC 9B45", "AVX-512 with VNNI"),
        ),
        ("model name : Intel(R) Xeon(R)\nflags : avx2 avx512f avx512_vnni amx_int8\n", ("Intel(R) Xeon(R)", "AMX")),
        ("model name : Old\nflags : sse2 avx avx2\n\nmodel name : Old\nflags : sse2 avx avx2\n", ("Old", "AVX2")),
    ],
)
def test_the_processor_is_named_with_its_widest_units(told: str, expected: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(told)
    found = this_processor(tmp_path / "cpuinfo", {"ONEDNN_MAX_CPU_ISA": "AVX2", "HOME": "/"})
    assert found == (*expected, {"ONEDNN_MAX_CPU_ISA": "AVX2"})
    unknown = this_processor(tmp_path / "absent", {})
    assert (bool(unknown.name), unknown.units, unknown.held) == (True, "units unknown", {})


def test_least_seconds_is_the_larger_of_the_two() -> None:
    work = bloom_work(tokens=15, layers=24, hidden=1024, weight_bytes=4)
    assert work.flop == pytest.approx(15 * 604e6, rel=1e-3)
    assert least_seconds(work, Rates(flop=72e9, bytes_read=17e9)) == pytest.approx(0.126, abs=1e-3)  # arithmetic
    assert least_seconds(work, Rates(flop=1e15, bytes_read=17e9)) == pytest.approx(0.071, abs=1e-3)  # reading


def test_peak_memory_is_what_the_run_took() -> None:
    result, peak = run_measuring_memory(lambda: float(torch.ones(10_000_000).sum()), CPU)
    assert result == 1e7
    if peak is not None:
        assert 38e6 < peak < 80e6
        assert (run_measuring_memory(lambda: None, CPU)[1] or 0) < 5e6, "negative control: nothing is allocated"


def test_threads_are_checked_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(ValueError, match="--threads must be between 1 and"):
        choose_threads(available_cores() + 1)
    cores, torch_threads = available_cores(), torch.get_num_threads()
    assert choose_threads(None) == cores
    with pinned_threads(1):
        assert torch.get_num_threads() == 1
        assert not hasattr(os, "sched_setaffinity") or available_cores() == 1
    assert (available_cores(), torch.get_num_threads()) == (cores, torch_threads)


# ---------------------------------------------------------------- the same work everywhere


@pytest.fixture(scope="module")
def random_bloom(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("random")
    save_random_bloom(folder, SHAPES["tiny"], layers=2)
    return str(folder)


@pytest.fixture(params=["embed", "rank"])
def checkpoint(random_bloom: str, request: pytest.FixtureRequest) -> Iterator[Checkpoint]:
    opened = open_checkpoint(random_bloom, request.param, device="cpu", settings=settings_for(request.param))
    yield opened
    close_checkpoint(opened)


def test_words_are_tokens_and_lengths_are_those_of_squad(checkpoint: Checkpoint) -> None:
    rng = np.random.default_rng(0)
    lengths = draw_lengths(2000, 150, 20, 512, rng)
    assert 145 < np.mean(lengths) < 155
    assert (min(lengths) >= 20, max(lengths) <= 512) == (True, True)
    texts = random_texts(lengths[:10], rng)
    assert [len(encoding.ids) for encoding in checkpoint.tokenizer.encode_batch(texts)] == lengths[:10]


def test_without_the_shortcut_every_token_goes_through_the_last_layer(checkpoint: Checkpoint) -> None:
    rows: list[int] = []
    norm = checkpoint.model.base_model.h[-1].post_attention_layernorm
    hook = norm.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    texts = random_texts([7, 12], np.random.default_rng(0))

    def scores() -> np.ndarray:
        embeds = hasattr(checkpoint.model, "h")
        return Encoder(checkpoint).encode(texts) if embeds else Scorer(checkpoint).score("", texts)

    with_shortcut = scores()
    switch_off_shortcut(checkpoint.model)
    np.testing.assert_allclose(scores(), with_shortcut, atol=1e-5, rtol=0)
    assert rows == [2, 19]
    hook.remove()


@pytest.mark.slow
def test_a_whole_run_on_the_smallest_shape(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(speed_cli, "quiet_libraries", lambda: None)
    monkeypatch.setattr(speed_sections, "RETRIEVE_DIMENSION", 64)
    for name in (*VARIABLES, "TOKENIZERS_PARALLELISM", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "1")
    sizes = ["--rounds", "1", "--passages", "4", "--candidates", "3", "--vectors", "1000", "--threads", "1"]
    result = CliRunner().invoke(cli.app, ["benchmark", "speed", "--shape", "tiny", "--layers", "1", *sizes])
    assert result.exit_code == 0, result.output
    told = json.loads((result.stdout + capfd.readouterr().out).splitlines()[-1])
    searches = ["retrieve", "retrieve-64", "retrieve-half", "retrieve-tenth", "retrieve-float16"]
    assert list(told["sections"]) == ["encode", "question", "together", "rerank", "write", *searches]
    families = {name: len(facts["ways"]) for name, facts in told["sections"].items()}
    assert families["encode"] >= 4
    assert (families["question"], families["rerank"], families["retrieve"] >= 4) == (4, 8, True)
    for name, facts in told["sections"].items():
        int8 = [way for called, way in facts["ways"].items() if "int8" in called]
        others = ("int8", "float16", "other results")
        float32 = [way for called, way in facts["ways"].items() if not any(word in called for word in others)]
        assert max(way["largest_difference"] for way in float32) < (1e-5 if name != "retrieve-64" else 1e-4), name
        exact = (*others, "warm")
        arithmetic = [way for called, way in facts["ways"].items() if not any(word in called for word in exact)]
        assert all(way["share_of_limit"] > 0 for way in arithmetic)
        assert all(1e-6 < way["largest_difference"] < 2e-2 and way["share_of_limit"] is None for way in int8)
    halved = told["sections"]["retrieve-float16"]
    assert halved["ways"]["ours, stored as float16"]["largest_difference"] < 1e-3
    assert "MB as float16" in halved["note"]
    assert told["sections"]["rerank"]["tokens"] == 3 * (127 + 15)


@pytest.mark.slow
def test_a_quick_run_prints_the_ratios_of_its_own_seconds(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed_cli, "quiet_libraries", lambda: None)
    monkeypatch.setattr(speed_sections, "RETRIEVE_DIMENSION", 64)
    for name in (*VARIABLES, "TOKENIZERS_PARALLELISM", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "1")
    sizes = ["--shape", "tiny", "--layers", "1", "--rounds", "3", "--passages", "4", "--candidates", "3"]
    result = CliRunner().invoke(cli.app, ["benchmark", "speed", "--quick", *sizes, "--vectors", "1000"])
    assert result.exit_code == 0, result.output
    *printed, last = (result.stdout + capfd.readouterr().out).splitlines()
    told = json.loads(last)
    assert list(told["sections"]) == ["encode", "question", "together", "rerank", "retrieve-64", "retrieve-half"]
    rows = [cells for line in printed if line.startswith("| ") and (cells := line[2:-2].split(" | "))[1] != "way"]
    expected = []
    for section in told["sections"].values():
        first = next(iter(section["ways"].values()))["seconds"]
        for place, (name, way) in enumerate(section["ways"].items()):
            times = np.median([one / two for one, two in zip(first, way["seconds"], strict=True)])
            expected += [(name, f"{times:.2f}" if place else "")] if name.startswith("ours") else []
    assert [(row[1], row[3].strip()) for row in rows if row[1].startswith("ours")] == expected
    assert len(expected) == 2 + 2 + 10 + 6 + 1 + 3
    together = told["sections"]["together"]["ways"]
    assert [name for name in together if "int8" not in name] == [
        "ours, one by one",
        *(f"ours, {size} at once" for size in (2, 4, 8, 16)),
        "model card: one padded batch",
    ]
    machine = [line for line in printed if line][-4:]
    assert [line.split(": ")[0] for line in machine] == ["CPU", "Limit", "float32 linears", "int8 linears"]
    assert machine[-1].startswith("int8 linears: 64 -> ")


def test_a_library_that_is_absent_is_named_and_left_out(
    random_bloom: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    without = {"sentence_transformers", "faiss", "onnxruntime"}
    for module in (speed_encode, speed_onnx, speed_rerank, speed_retrieve):
        if hasattr(module, "find_spec"):
            monkeypatch.setattr(module, "find_spec", lambda name: None if name in without else find(name))
    opened = open_checkpoint(random_bloom, "rank", device="cpu")
    reranked = speed_rerank.rerank_section(opened, opened, random_bloom, "le pont", ["the city", "la ville"], 2, 1e-4)
    close_checkpoint(opened)
    assert [way.name for way in reranked.missing] == ["CrossEncoder.predict"]
    assert [way.ours for way in reranked.ways] == [True] * 6 + [False]
    opened = open_checkpoint(random_bloom, "embed", device="cpu", settings=settings_for("embed"))
    encoded = speed_encode.passages_section(opened, opened, random_bloom, ["the city", "la ville"], 2, 1e-4)
    close_checkpoint(opened)
    reasons = {way.name: way.reason for way in encoded.missing}
    assert reasons == {
        "SentenceTransformer.encode": "pip install sentence-transformers",
        speed_onnx.NAME: "pip install onnxruntime",
    }
    one = speed_retrieve.retrieve_sections(tmp_path / "store", 1000, 8)[0]
    assert [way.name for way in one.missing] == ["faiss IndexFlatIP"]


def test_the_ways_without_a_store_give_the_best_scores_in_order() -> None:
    found = [[Document(id="a", score=0.5), Document(id="b", score=0.25)]]
    assert speed_retrieve._scores(found).tolist() == [[0.5, 0.25]]
    rng = np.random.default_rng(0)
    targets = rng.standard_normal((150, 8)).astype(np.float32)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    expected = -np.sort(-(targets[:3] @ targets.T), axis=1)[:, :100]
    for search in (speed_retrieve._by_numpy(targets), speed_retrieve._by_scipy(targets)):
        np.testing.assert_allclose(search(list(targets[:3])), expected, atol=1e-6)


# ---------------------------------------------------------------- what is asked for


def test_a_quick_run_has_sizes_of_its_own_and_takes_the_users() -> None:
    plan = make_plan(SpeedOptions(quick=True, passages=7))
    assert (plan.layers, plan.passages, plan.candidates, plan.vectors) == (2, 7, 8, 10_000)
    assert set(plan.searches) == {"retrieve-64", "retrieve-half"}
    assert (plan.clock, make_plan(SpeedOptions(quick=True, threads=2)).clock) == (time.process_time, time.perf_counter)
    assert len(make_plan(SpeedOptions(sections=("retrieve",))).searches) == 5, "the word for all of them"
    assert make_plan(SpeedOptions()).clock is time.perf_counter


def test_quick_values_come_with_the_shape() -> None:
    plan: Plan = make_plan(SpeedOptions("560m"))
    assert (plan.layers, plan.candidates, plan.cut, plan.full_layers) == (1, 100, True, 1)
    whole = make_plan(SpeedOptions("560m", layers=24))
    assert (whole.cut, whole.full_layers) == (False, 23)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "7b"}, "--shape must be one of 560m, 3b, tiny, but got '7b'"),
        ({"layers": 25}, "--layers must be between 1 and 24"),
        ({"layers": 0}, "--layers must be between 1 and 24"),
        ({"rounds": 0}, "--rounds must be > 0, but got 0"),
        (
            {"sections": ("encode", "dance")},
            "--only takes .*retrieve, write, .* but got 'dance'",
        ),
    ],
)
def test_mistakes_are_told_before_anything_runs(options: dict[str, Any], message: str) -> None:
    told: list[str] = []
    with pytest.raises(ValueError, match=message):
        measure_speed(SpeedOptions(**options), told.append)
    assert told == []


def test_too_few_vectors() -> None:
    with pytest.raises(ValueError, match="--vectors must be at least 1,000"):
        speed_retrieve.retrieve_sections(Path("unused"), 999, 8)


def test_the_verb_gives_mistakes_in_one_line() -> None:
    result = CliRunner().invoke(cli.app, ["benchmark", "speed", "--threads", "0"])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
