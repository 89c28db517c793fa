"""The prefix cache gives the scores of the whole forward, from memory or from a folder, and keeps its budget."""

import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from haystack import Document
from haystack.utils import ComponentDevice
from transformers import BloomForSequenceClassification

from bloomz_haystack.benchmark.speed.random_bloom import switch_off_shortcut
from haystack_integrations.common.bloomz.checkpoint import Checkpoint, LoadSettings, close_checkpoint, open_checkpoint
from haystack_integrations.common.bloomz.prefix_cache import forward as prefix_forward
from haystack_integrations.common.bloomz.prefix_cache.batches import PrefixSettings
from haystack_integrations.common.bloomz.prefix_cache.cache import PrefixCache, PrefixStats, Wanted, parse_bytes
from haystack_integrations.common.bloomz.prefix_cache.folder import FILE_OVERHEAD, PrefixFolder, weights_fingerprint
from haystack_integrations.common.bloomz.prefix_cache.states import (
    STORE_DTYPES,
    PrefixShape,
    PrefixStates,
    empty_states,
)
from haystack_integrations.common.bloomz.scorer import Scorer, probabilities
from haystack_integrations.components.rankers.bloomz import BloomzRanker

MakeBloom = Callable[..., Path]

CPU = torch.device("cpu")
PLENTY = 10**8
QUESTIONS = ["Où se trouve la tour Eiffel ?", "Who built it?", "é", "Where is the Eiffel tower, and since when?"]
CONTEXTS = [
    "La tour Eiffel se trouve à Paris, au bord de la Seine.",
    "Big Ben is in London.",
    "é",
    "The Eiffel tower stands in Paris. " * 12,
    "Qui l'a construite ?\u0000 \ud800 🗼 " * 3,
    "Big Ben is in London.",
]
TOLERANCE = {"float32": 1e-5, "float16": 1e-3, "int8": 0.05}


@pytest.fixture(scope="module")
def checkpoint(tiny_ranker: Path) -> Iterator[Checkpoint]:
    opened = open_checkpoint(str(tiny_ranker), "rank", device="cpu")
    yield opened
    close_checkpoint(opened)


def cached(checkpoint: Checkpoint, budget: int = PLENTY, folder: Path | None = None, **options: Any) -> Scorer:  # noqa: ANN401
    dtype = options.pop("store_dtype", "float32")
    settings = PrefixSettings(budget, str(folder) if folder else None, dtype)
    return Scorer(checkpoint, prefix_settings=settings, **options)


def stats(scorer: Scorer) -> PrefixStats:
    assert scorer.prefixes is not None
    return scorer.prefixes.cache.stats()


def largest_difference(scorer: Scorer, plain: Scorer, questions: list[str] = QUESTIONS) -> float:
    """Of probabilities, over several questions on the same contexts: the first call misses, the others hit."""
    pairs = [(scorer.score(question, CONTEXTS), plain.score(question, CONTEXTS)) for question in questions]
    return max(float(np.abs(probabilities(ours) - probabilities(theirs)).max()) for ours, theirs in pairs)


# ---------------------------------------------------------------- the same scores


@pytest.mark.parametrize(
    ("shape", "store_dtype"),
    [
        ({}, "float32"),
        ({}, "float16"),
        ({}, "int8"),
        ({"heads": 3, "template": True}, "float32"),
        ({"heads": 1, "n_layer": 1}, "float16"),
        ({"apply_residual_connection_post_layernorm": True, "n_layer": 3}, "float32"),
    ],
)
def test_probabilities_are_those_of_the_whole_forward(
    make_bloom: MakeBloom, shape: dict[str, Any], store_dtype: str
) -> None:
    opened = open_checkpoint(str(make_bloom(ranker=True, **shape)), "rank", device="cpu")
    plain, scorer = Scorer(opened), cached(opened, store_dtype=store_dtype, batch_tokens=64)
    assert largest_difference(scorer, plain) < TOLERANCE[store_dtype]
    assert stats(scorer)[:3] == (len(CONTEXTS) * (len(QUESTIONS) - 1), len(CONTEXTS), len(set(CONTEXTS)))
    switch_off_shortcut(opened.model)
    assert largest_difference(cached(opened, store_dtype=store_dtype), plain) < TOLERANCE[store_dtype]
    assert np.ptp(probabilities(plain.score(QUESTIONS[0], CONTEXTS))) > 0.05, "scores that are all alike show nothing"
    close_checkpoint(opened)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_keeps_the_probabilities_too(tiny_ranker: Path) -> None:
    settings = LoadSettings(model_kwargs={"dtype": "float32"})
    on_gpu = open_checkpoint(str(tiny_ranker), "rank", device="cuda", settings=settings)
    scorer = cached(on_gpu)
    assert largest_difference(scorer, Scorer(on_gpu)) < 1e-3  # cold
    assert largest_difference(scorer, Scorer(on_gpu)) < 1e-3  # warm
    assert stats(scorer).hits > 0


def one_place_off(slopes: torch.Tensor, longest: int, tail: int) -> torch.Tensor:
    """Positions of the question that do not follow those of the context."""
    bias = RELATIVE_BIAS(slopes, longest, tail)
    bias[:, :, longest:] += slopes[:, None, None] * 3
    return bias


def without_mask(slopes: torch.Tensor, longest: int, tail: int) -> torch.Tensor:
    return RELATIVE_BIAS(slopes, longest, tail).nan_to_num(neginf=0.0)


RELATIVE_BIAS = prefix_forward.relative_bias


@pytest.mark.parametrize("broken", [one_place_off, without_mask])
def test_wrong_positions_go_red(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, broken: Any) -> None:  # noqa: ANN401
    plain = Scorer(checkpoint)
    assert largest_difference(cached(checkpoint), plain) < 1e-5
    monkeypatch.setattr(prefix_forward, "relative_bias", broken)
    assert largest_difference(cached(checkpoint), plain) > 1e-2


def test_hits_and_misses_in_one_call_and_pairs_of_many_questions(checkpoint: Checkpoint) -> None:
    plain, scorer = Scorer(checkpoint), cached(checkpoint)
    scorer.score(QUESTIONS[0], CONTEXTS[:2])
    pairs = [(context, question) for question in QUESTIONS for context in CONTEXTS]
    done: list[int] = []
    np.testing.assert_allclose(
        scorer.score_pairs(pairs, progress=done.append), plain.score_pairs(pairs), atol=1e-4, rtol=0
    )
    assert sum(done) == len(pairs)
    assert stats(scorer)[:3] == (3 * len(QUESTIONS), 2 + 3 * len(QUESTIONS), 5)


def test_a_context_cut_by_the_question_stays_exact(checkpoint: Checkpoint) -> None:
    """A longer question leaves less room: the start of what is kept serves; a shorter one needs more than is kept."""
    plain, scorer = Scorer(checkpoint, max_length=60), cached(checkpoint, max_length=60)
    long, short = QUESTIONS[3], QUESTIONS[2]

    def check(question: str, hits: int, misses: int) -> None:
        before = stats(scorer)
        ours, theirs = scorer.score(question, CONTEXTS[3:4]), plain.score(question, CONTEXTS[3:4])
        np.testing.assert_allclose(probabilities(ours), probabilities(theirs), atol=1e-5, rtol=0)
        assert (stats(scorer).hits - before.hits, stats(scorer).misses - before.misses) == (hits, misses)
        assert stats(scorer).entries == 1

    check(long, 0, 1)
    check(short, 0, 1)
    check(long, 1, 0)
    scorer = cached(checkpoint, max_length=60)
    scorer.warm_prefixes(CONTEXTS[3:4])
    check(short, 1, 0)
    check("", 1 if checkpoint.tokenizer.encode("a", "a").ids[1:-1] else 0, 0)


@pytest.mark.parametrize("question", ["", "<pad>", "Qui ?<pad><pad>", "<pad> Qui ?"])
def test_padding_and_nothing_at_all(checkpoint: Checkpoint, question: str) -> None:
    plain, scorer = Scorer(checkpoint), cached(checkpoint)
    contexts = ["", "Paris", "Paris<pad>", "<pad><pad>", *CONTEXTS]
    for _ in range(2):
        np.testing.assert_allclose(scorer.score(question, contexts), plain.score(question, contexts), atol=1e-4, rtol=0)


def test_a_document_of_a_million_characters(checkpoint: Checkpoint) -> None:
    plain, scorer = Scorer(checkpoint, max_length=128), cached(checkpoint, max_length=128)
    contexts = ["été summer " * 90_910, "Paris"]
    cut = ["été summer " * 100, "Paris"]  # the same 128 tokens
    scorer.warm_prefixes(cut)
    np.testing.assert_allclose(scorer.score("Où ?", contexts), plain.score("Où ?", cut), atol=1e-4, rtol=0)
    assert stats(scorer)[:3] == (2, 0, 2)


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        (LoadSettings(precision="int8"), 0.02),  # a number at the edge of two integers may fall on either side
        (LoadSettings(model_kwargs={"dtype": "bfloat16"}), 0.15),  # on these large weights it is itself off by as much
    ],
)
def test_other_precisions_stay_near_the_whole_forward(
    tiny_ranker: Path, settings: LoadSettings, tolerance: float
) -> None:
    opened = open_checkpoint(str(tiny_ranker), "rank", device="cpu", settings=settings)
    assert largest_difference(cached(opened, store_dtype="float16"), Scorer(opened)) < tolerance
    close_checkpoint(opened)


# ---------------------------------------------------------------- budget


SHAPE = PrefixShape(heads=2, head_dim=4, layers=3, last_width=8, store_dtype="float16")
TOKENS = 10
ONE = SHAPE.bytes_of(TOKENS)


def fill(cache: PrefixCache, *keys: str) -> list[bool]:
    """Keep contexts of ten tokens, one after the other; say which found room."""
    found = []
    for key in keys:
        with cache.make([Wanted(key, TOKENS)], SHAPE, CPU) as made:
            found.append(made[0] is not None)
            for tensor in made[0] or ():
                if tensor is not None:
                    tensor.zero_()
    return found


def held(cache: PrefixCache, keys: str) -> str:
    return "".join(key for key in keys if cache.holds(Wanted(key, TOKENS)))


@pytest.mark.parametrize("store_dtype", STORE_DTYPES)
def test_bytes_are_counted_as_they_are(store_dtype: Any) -> None:  # noqa: ANN401
    for last_width in (0, 8):
        shape = SHAPE._replace(store_dtype=store_dtype, last_width=last_width)
        assert empty_states(shape, TOKENS, CPU).nbytes == shape.bytes_of(TOKENS) > 0
    assert SHAPE.bytes_of(1) == 2 * (3 * 2 * 2 * 4 + 8)


def test_the_longest_unused_goes_first() -> None:
    cache = PrefixCache(3 * ONE)
    assert fill(cache, *"abc") == [True] * 3
    with cache.hold([Wanted("a", TOKENS)]):
        pass
    fill(cache, "d")
    assert held(cache, "abcd") == "acd"
    assert cache.stats() == PrefixStats(1, 0, 3, 3 * ONE, 1, 3 * ONE)
    with cache.hold([Wanted("b", TOKENS), Wanted("c", TOKENS + 1)]) as found:
        assert found == [None, None]
    assert cache.stats()[:2] == (1, 2)
    cache.clear()
    assert cache.stats()[2:4] == (0, 0)


def test_what_is_in_use_stays_and_the_budget_holds() -> None:
    cache = PrefixCache(2 * ONE + ONE // 2)
    fill(cache, *"ab")
    with cache.hold([Wanted("a", TOKENS), Wanted("b", TOKENS)]) as found:
        assert all(states is not None for states in found)
        assert fill(cache, "c") == [False]
        assert held(cache, "ab") == "ab"
    with cache.make([Wanted(key, TOKENS) for key in "cdc"], SHAPE, CPU) as made:
        assert [states is not None for states in made] == [True, True, False]
        assert cache.stats().bytes == 2 * ONE
        assert fill(cache, "e") == [False], "what is being written counts"
        for states in made:
            for tensor in states or ():
                if tensor is not None:
                    tensor.zero_()
    assert held(cache, "abcde") == "cd"
    assert fill(PrefixCache(ONE - 1), "a") == [False]


def test_a_forward_that_fails_keeps_nothing() -> None:
    cache = PrefixCache(3 * ONE)
    with pytest.raises(RuntimeError), cache.make([Wanted("a", TOKENS)], SHAPE, CPU):
        raise RuntimeError
    assert cache.stats()[2:4] == (0, 0)
    assert fill(cache, "a") == [True]


def test_what_float16_cannot_hold_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    cache = PrefixCache(3 * ONE)
    with cache.make([Wanted("a", TOKENS)], SHAPE, CPU) as made:
        states = made[0]
        assert states is not None
        for layer in range(SHAPE.layers):
            states.write_layer(layer, torch.full((TOKENS, 2, 4), 1e6), torch.zeros(TOKENS, 2, 4))
        states.write_last(torch.zeros(TOKENS, 8))
    assert cache.stats()[2:4] == (0, 0)
    assert "beyond the range of torch.float16" in caplog.text


def test_a_small_budget_gives_the_same_scores(checkpoint: Checkpoint, tmp_path: Path) -> None:
    plain, shape = Scorer(checkpoint), cached(checkpoint).prefixes._shape  # type: ignore[union-attr]
    for folder in (None, tmp_path / "kept"):
        for tokens in (1, 30, 60):
            scorer = cached(checkpoint, shape.bytes_of(tokens), folder, batch_tokens=64)
            assert largest_difference(scorer, plain) < 1e-5
            assert stats(scorer).bytes <= shape.bytes_of(tokens)
            if folder:
                assert sum(file.stat().st_size for file in folder.iterdir()) <= shape.bytes_of(tokens)


@pytest.mark.parametrize("in_folder", [False, True])
def test_sixteen_threads_on_a_cache_too_small_for_them(checkpoint: Checkpoint, tmp_path: Path, in_folder: bool) -> None:
    plain = Scorer(checkpoint)
    budget = 60 * plain.checkpoint.model.config.hidden_size * 4 * 6
    scorer = cached(checkpoint, budget, tmp_path if in_folder else None)
    expected = {question: plain.score(question, CONTEXTS) for question in QUESTIONS}
    most = 0

    def ask(number: int) -> float:
        nonlocal most
        question = QUESTIONS[number % 4]
        difference = np.abs(scorer.score(question, CONTEXTS) - expected[question]).max()
        most = max(most, stats(scorer).bytes)
        return float(difference)

    with ThreadPoolExecutor(16) as pool:
        assert max(pool.map(ask, range(64))) < 1e-4
    assert 0 < most <= budget
    assert stats(scorer).hits + stats(scorer).misses == 64 * len(CONTEXTS)
    assert not any(entry.users for entry in scorer.prefixes.cache._entries.values())  # type: ignore[union-attr]


# ---------------------------------------------------------------- folder


def test_a_restart_finds_what_was_kept(checkpoint: Checkpoint, tmp_path: Path) -> None:
    plain, first = Scorer(checkpoint), cached(checkpoint, folder=tmp_path)
    assert largest_difference(first, plain) < 1e-5
    second = cached(checkpoint, folder=tmp_path)
    assert stats(second)[2:4] == stats(first)[2:4]
    assert largest_difference(second, plain) < 1e-5
    assert (stats(second).hits, stats(second).misses) == (len(CONTEXTS) * len(QUESTIONS), 0)
    small = cached(checkpoint, stats(first).bytes - 1, tmp_path)
    assert (stats(small).entries, stats(small).evictions) == (4, 1)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == stats(small).bytes < stats(first).bytes
    assert largest_difference(second, plain) < 1e-5, "what another process removed stays readable"


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def with_a_flipped_bit(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


def emptied(content: bytes) -> bytes:
    return b""


def zeroed(content: bytes) -> bytes:
    return bytes(len(content))


@pytest.mark.parametrize("tear", [truncated, with_a_flipped_bit, emptied, zeroed])
def test_a_torn_file_is_made_again(
    checkpoint: Checkpoint, tmp_path: Path, tear: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    plain = Scorer(checkpoint)
    cached(checkpoint, folder=tmp_path).score(QUESTIONS[0], CONTEXTS)
    whole = {file: file.read_bytes() for file in tmp_path.iterdir()}
    torn = sorted(whole)[2]
    torn.write_bytes(tear(whole[torn]))
    scorer = cached(checkpoint, folder=tmp_path)
    assert largest_difference(scorer, plain, QUESTIONS[:1]) < 1e-5
    assert [record.getMessage() for record in caplog.records] == [
        f"{torn.name} is torn or was changed: its context is computed again"
    ]
    again = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert again.keys() == whole.keys()
    with safe(torn) as states:
        assert states is not None, "it was written again, whole"


class safe:  # noqa: N801
    """A file of the folder, read and verified."""

    def __init__(self, path: Path) -> None:
        self.states = PrefixFolder(path.parent).load(path.stem)

    def __enter__(self) -> PrefixStates | None:
        return self.states

    def __exit__(self, *_: object) -> None:
        pass


def test_a_file_under_another_name_is_not_served(tmp_path: Path) -> None:
    folder = PrefixFolder(tmp_path)
    states = PrefixStates(*(tensor.zero_() for tensor in empty_states(SHAPE, TOKENS, CPU)[:3]))
    folder.save("a" * 64, states)
    (tmp_path / f"{'a' * 64}.prefix").rename(tmp_path / f"{'b' * 64}.prefix")
    assert folder.load("b" * 64) is None


def test_changed_weights_under_the_same_name_are_not_served_the_old_states(
    make_bloom: MakeBloom, tmp_path: Path
) -> None:
    folder = make_bloom(ranker=True, seed=5)
    first = open_checkpoint(str(folder), "rank", device="cpu")
    scorer = cached(first, folder=tmp_path)
    old = scorer.score(QUESTIONS[0], CONTEXTS)
    close_checkpoint(first)
    del first, scorer
    model = BloomForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.transformer.h[0].mlp.dense_4h_to_h.weight[0, 0] += 1.0
    model.save_pretrained(folder)
    second = open_checkpoint(str(folder), "rank", device="cpu")
    scorer = cached(second, folder=tmp_path)
    assert largest_difference(scorer, Scorer(second)) < 1e-5
    assert np.abs(scorer.score(QUESTIONS[0], CONTEXTS) - old).max() > 1e-3
    assert (stats(scorer).misses, stats(scorer).entries) == (len(CONTEXTS), 2 * len(set(CONTEXTS)))
    close_checkpoint(second)


def test_every_weight_counts_in_the_fingerprint(make_bloom: MakeBloom) -> None:
    """Those of packed and of int8 layers too, which the model does not list among its parameters."""
    folder = make_bloom(ranker=True, seed=6)
    seen = set()
    for step in (0.0, 0.5):
        model = BloomForSequenceClassification.from_pretrained(folder)
        for name in (
            "self_attention.query_key_value",
            "self_attention.dense",
            "mlp.dense_h_to_4h",
            "mlp.dense_4h_to_h",
        ):
            with torch.no_grad():
                model.get_submodule(f"transformer.h.0.{name}").weight[0, 0] += step
            model.save_pretrained(folder)
            for precision in (None, "int8"):
                opened = open_checkpoint(
                    str(folder),
                    "rank",
                    device="cpu",
                    settings=LoadSettings(precision=precision),
                )
                seen.add((step, name, weights_fingerprint(opened.model.base_model, SHAPE)))
                close_checkpoint(opened)
    assert len({fingerprint for step, _, fingerprint in seen if step}) == 8
    assert len({fingerprint for step, _, fingerprint in seen if not step}) == 2


def test_every_parameter_counts_in_the_fingerprint(checkpoint: Checkpoint) -> None:
    body = checkpoint.model.base_model
    fingerprint = weights_fingerprint(body, SHAPE)
    assert fingerprint == weights_fingerprint(body, SHAPE) != weights_fingerprint(body, SHAPE._replace(layers=1))
    for parameter in body.parameters():
        parameter.view(-1)[-1] += 1
        assert weights_fingerprint(body, SHAPE) != fingerprint
        parameter.view(-1)[-1] -= 1


def test_a_full_disk_is_told_once_and_memory_serves(
    checkpoint: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, scorer = Scorer(checkpoint), cached(checkpoint, folder=tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_OVERHEAD, hard))
    try:
        difference = largest_difference(scorer, plain)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert difference < 1e-5
    assert len(caplog.records) == 1
    assert "only into memory: [Errno 27] File too large" in caplog.text
    assert stats(scorer)[:3] == (len(CONTEXTS) * 3, len(CONTEXTS), 5)
    assert [file.stat().st_size for file in tmp_path.iterdir()] in ([], [1])


def test_abandoned_parts_are_swept_up(tmp_path: Path) -> None:
    old, new = tmp_path / "old.part", tmp_path / "new.part"
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (0, time.time() - 3600))
    PrefixCache(PLENTY, PrefixFolder(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["new.part"]


WRITER = """
import sys
from haystack_integrations.common.bloomz.checkpoint import open_checkpoint
from haystack_integrations.common.bloomz.prefix_cache.batches import PrefixSettings
from haystack_integrations.common.bloomz.scorer import Scorer
checkpoint = open_checkpoint(sys.argv[1], "rank", device="cpu")
scorer = Scorer(checkpoint, prefix_settings=PrefixSettings(10**8, sys.argv[2], "float32"))
print("ready", flush=True)
for number in range(10**6):
    scorer.score("Qui ?", [f"ville {n}" for n in range(number, number + 8)])
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_whole_files_to_another(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Two processes write and evict in one folder meanwhile; then one is killed in the middle of its work."""
    command = [sys.executable, "-c", WRITER, checkpoint.name, str(tmp_path)]
    plain, scorer = Scorer(checkpoint), cached(checkpoint, 10**5, folder=tmp_path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "12":
                process.send_signal(signal.SIGKILL)
                break
            assert largest_difference(scorer, plain, QUESTIONS[:1]) < 1e-5
    contexts = [f"ville {n}" for n in range(12)]
    np.testing.assert_allclose(scorer.score("Qui ?", contexts), plain.score("Qui ?", contexts), atol=1e-4, rtol=0)
    survivor = cached(checkpoint, folder=tmp_path)
    np.testing.assert_allclose(survivor.score("Qui ?", contexts), plain.score("Qui ?", contexts), atol=1e-4, rtol=0)
    assert stats(survivor).hits > 0
    files = [file for file in tmp_path.iterdir() if file.suffix == ".prefix"]
    assert all(PrefixFolder(tmp_path).load(file.stem) is not None for file in files)


# ---------------------------------------------------------------- the component


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1), ("2GB", 2 * 10**9), ("512mb", 512 * 10**6), ("1.5 KiB", 1536), (" 7 ", 7), ("3 tb", 3 * 10**12)],
)
def test_bytes_are_read(value: int | str, number: int) -> None:
    assert parse_bytes(value) == number


@pytest.mark.parametrize("value", [0, -1, True, "", "two GB", "2 GBs", "-2GB", "0MB", 1.5e300, [2], "1e9"])
def test_what_is_no_number_of_bytes_is_one_line(value: Any) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=r'^prefix_cache must be a number of bytes, as .*"2GB", but got [^\n]*$'):
        BloomzRanker(prefix_cache=value)


def test_other_mistakes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prefix_cache_folder='kept' needs a budget: set prefix_cache too"):
        BloomzRanker(prefix_cache_folder="kept")
    with pytest.raises(ValueError, match="prefix_cache_dtype must be one of float16, float32, int8, but got 'fp16'"):
        BloomzRanker(prefix_cache="2GB", prefix_cache_dtype="fp16")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="set prefix_cache to a number of bytes"):
        BloomzRanker("tiny-fr-en-ranker", device=ComponentDevice.from_str("cpu")).warm_prefix_cache([Document()])
    (tmp_path / "file").write_text("")
    ranker = BloomzRanker("tiny-fr-en-ranker", prefix_cache="2GB", prefix_cache_folder=str(tmp_path / "file"))
    with pytest.raises(ValueError, match="prefix_cache_folder must be a folder that can be made or read, but got"):
        ranker.warm_up()


def test_warm_documents_are_hits_and_stats_tell(
    tiny_ranker: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    device = ComponentDevice.from_str("cpu")
    documents = [Document(content=text, meta={"titre": "Ville"}) for text in [*CONTEXTS[:4], CONTEXTS[1], "été", ""]]
    options: dict[str, Any] = {"device": device, "meta_fields_to_embed": ["titre"], "top_k": 99}
    plain = BloomzRanker(str(tiny_ranker), **options)
    ranker = BloomzRanker(str(tiny_ranker), **options, prefix_cache="1MB", prefix_cache_folder=str(tmp_path / "new/a"))
    assert (plain.stats(), ranker.stats()) == ({}, {})
    warmed = ranker.warm_prefix_cache(documents)
    assert (warmed["hits"], warmed["misses"], warmed["entries"]) == (0, 0, 6)
    assert "7/7" in capsys.readouterr().err
    assert ranker.warm_prefix_cache(documents) == warmed == ranker.stats()
    ours, theirs = (each.run(query="Où ?", documents=documents)["documents"] for each in (ranker, plain))
    assert [document.id for document in ours] == [document.id for document in theirs]
    np.testing.assert_allclose([d.score for d in ours], [d.score for d in theirs], atol=1e-3)
    assert (ranker.stats()["hits"], ranker.stats()["misses"]) == (6, 0), "of two equal documents one is ranked"
    assert list(warmed) == ["hits", "misses", "entries", "bytes", "evictions", "budget"]
    with pytest.raises(TypeError, match="documents must be a list of Documents, but got "):
        ranker.warm_prefix_cache(["text"])  # type: ignore[list-item]
    ranker.close()
    assert ranker.stats() == {}
    small = BloomzRanker(str(tiny_ranker), **options, prefix_cache=4000, progress_bar=False)
    with caplog.at_level(logging.WARNING):
        small.warm_prefix_cache(documents)
    assert "a prefix cache of 4000 bytes holds" in caplog.text
    assert small.stats()["bytes"] <= 4000
