"""`bloomz benchmark scale`: recall against a full sort, Qdrant Edge measured, the plan against sums done by hand.

PostgreSQL is measured in tests/stores/test_scale_postgres.py. No test looks at how fast anything was.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from bloomz_haystack.benchmark.scale import passages as scale_passages
from bloomz_haystack.benchmark.scale.passages import (
    NearestPassages,
    ScalePassages,
    nearest_passages,
    random_passages,
    read_passages,
    recall,
)
from bloomz_haystack.benchmark.scale.plan import (
    EDGE,
    NUMBERS,
    POSTGRES,
    QDRANT,
    RATES,
    SIZES,
    PairName,
    choose_store,
    encoding_time,
    hnsw_build_seconds,
    hnsw_bytes,
    rank_machines,
    read_constants,
    values_of,
)
from bloomz_haystack.benchmark.scale.plan_report import amount, duration, plan_markdown
from bloomz_haystack.cli import benchmark_scale as scale_cli
from bloomz_haystack.cli import main as cli

DOCS = Path(__file__).parents[2] / "docs"
Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the verb, without a server unless one is named."""
    monkeypatch.setattr(scale_cli, "quiet_libraries", lambda: None)
    monkeypatch.delenv("PG_CONN_STR", raising=False)
    return lambda *words: CliRunner().invoke(cli.app, ["benchmark", "scale", *map(str, words)])


# ---------------------------------------------------------------- recall


def on_a_circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_recall_is_the_share_of_the_nearest_that_was_found() -> None:
    at = on_a_circle(0, 10, 20, 90, 180)
    asked = ScalePassages(list("abcde"), at, ["?", "!"], on_a_circle(1, 178), "by hand")
    truth = nearest_passages(asked, 2)
    np.testing.assert_allclose(truth.least, np.cos(np.radians([9, 88])), atol=1e-7)
    assert recall(asked, truth, [[0, 1], [4, 3]]) == 1.0
    assert recall(asked, truth, [[0, 2], [4, 3]]) == 0.75
    assert recall(asked, truth, [[0, 0], [3, 1]]) == 0.5  # one found twice counts once
    assert recall(asked, truth, [[], [2, 1]]) == 0.0
    # Of two that are equally near, either may be found.
    twins = asked._replace(vectors=on_a_circle(0, 10, 10, 90, 180))
    truth = nearest_passages(twins, 2)
    assert recall(twins, truth, [[0, 2], [4, 3]]) == recall(twins, truth, [[0, 1], [4, 3]]) == 1.0


def test_the_truth_is_that_of_a_full_sort_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = random_passages(500, 48, 20, 3)
    exact = drawn.questions.astype(np.float64) @ drawn.vectors.astype(np.float64).T
    expected = np.sort(exact, axis=1)[:, -10]
    for block in (7, 64, 500):
        monkeypatch.setattr(scale_passages, "COMPARED_TOGETHER", block)
        np.testing.assert_allclose(nearest_passages(drawn, 10).least, expected, atol=1e-7)
    places = np.argsort(-exact, axis=1)
    assert recall(drawn, NearestPassages(10, expected), places[:, :10].tolist()) == 1.0
    # Negative control: the eleventh in place of the tenth.
    assert recall(drawn, NearestPassages(10, expected), places[:, [*range(9), 10]].tolist()) == pytest.approx(0.9)


def test_random_passages_are_those_of_their_seed_and_stand_in_clusters() -> None:
    first, again, other = (random_passages(400, 32, 10, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.vectors, again.vectors)
    assert first.texts == again.texts
    assert np.abs(first.vectors - other.vectors).max() > 0.1
    np.testing.assert_allclose(np.linalg.norm(first.vectors, axis=1), 1, atol=1e-6)
    similarities = np.sort(first.questions @ first.vectors.T, axis=1)
    assert similarities[:, -10].mean() > 0.7  # of a question's own cluster
    assert abs(np.median(similarities)) < 0.1


def test_passages_of_files_are_cut_drawn_and_embedded(tmp_path: Path, tiny_bloom: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [
        {
            "query": {"french": f"Où est le pont {n} ?"},
            "positive": {"french": f"Le pont {n} est là.", "english": "Same."},
        }
        for n in range(9)
    ]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    drawn = read_passages([file], 3, str(tiny_bloom), 10, 4, 0, lambda _: None)
    assert len(set(drawn.texts)) == len(drawn.texts) == len(drawn.vectors) == 10
    assert all(re.fullmatch(r"Le pont \d|est là\.|Same\.", text) for text in drawn.texts)
    assert len(drawn.asked) == len(drawn.questions) == 4
    assert drawn.origin == f"{tiny_bloom.name} over texts of at most 3 words of rows.jsonl"
    with pytest.raises(ValueError, match=r"--data holds 11 different passages, fewer than 20: .* --passages 11"):
        read_passages([file], 3, str(tiny_bloom), 20, 4, 0, lambda _: None)
    with pytest.raises(ValueError, match=r"--data holds 9 different questions, fewer than 10: .* --questions 9"):
        read_passages([file], 3, str(tiny_bloom), 5, 10, 0, lambda _: None)


# ---------------------------------------------------------------- the verb


def test_the_verb_measures_edge_and_says_that_postgresql_is_left_out(run: Run) -> None:
    result = run("--passages", 120, "--questions", 12, "--dimension", 32, "--threads", 1, "--json")
    assert result.exit_code == 0, result.output
    assert "no PostgreSQL: its rows are left out; PG_CONN_STR or --pg-conn says where one is" in result.stderr
    measured = json.loads(result.stdout)
    assert (measured["passages"], measured["dimension"], measured["questions"], measured["server"]) == (
        120,
        32,
        12,
        None,
    )
    assert list(measured["stores"]) == [
        "Qdrant Edge, float32, exact",
        "Qdrant Edge, float32, exact, with words",
        "Qdrant Edge, float16, exact",
        "Qdrant Edge, float16, exact, with words",
    ]
    whole, with_words, half, _ = measured["stores"].values()
    assert whole["recall"] == 1.0
    assert half["recall"] >= 0.95
    assert with_words["recall"] is None
    assert whole["disk_bytes"] > half["disk_bytes"] > 120 * 32 * 2
    assert 0 < whole["p50_ms"] <= whole["p95_ms"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", 20], "--rate and --constants belong to --plan, which computes and measures nothing"),
        (["--passages", 9], "--passages must be at least 10, the passages asked for, but got 9"),
        (["--plan", "--rate", 0], "--rate must be > 0, but got 0"),
        (["--plan", "--constants", "absent.yaml"], "cannot read absent.yaml"),
        (["--data", "absent.jsonl"], "no such data: absent.jsonl"),
        (["--pg-conn", "host=127.0.0.1 port=1"], "connection to server at"),
    ],
)
def test_a_wrong_argument_is_one_line(run: Run, arguments: list[object], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len([line for line in result.stderr.splitlines() if "no PostgreSQL" not in line]) == 1


# ---------------------------------------------------------------- the plan


@pytest.fixture
def values() -> dict[str, float]:
    """The constants that the sums below were done with, by hand."""
    return {
        **values_of(read_constants()),
        **{"passage_tokens": 200, "question_tokens": 15, "candidates": 50, "text_bytes": 2_500},
        **{"cores": 16, "core_share": 0.9, "busy": 0.5, "memory_gb": 100, "memory_share": 0.5, "machine_read_gb": 100},
        **{"560m_embed_core": 400, "560m_embed_h100": 250_000, "560m_rank_core": 430, "560m_rank_h100": 215_000},
        **{"bundled_embed_core": 25_000, "bundled_rank_core": 21_500, "longest_search": 0.2},
        **{"postgres_exact_core": 0.1, "hnsw_core": 0.01, "hnsw_build_core": 100, "hnsw_recall": 0.97},
        "postgres_words_core": 0.02,
    }


def test_encoding_is_tokens_over_tokens_a_second(values: dict[str, float]) -> None:
    # 10^6 passages of 200 tokens at 400 a second; 14.4 cores' worth; 250,000 a second.
    assert encoding_time(10**6, "560m", values)[2:] == pytest.approx((500_000, 500_000 / 14.4, 800))
    assert encoding_time(10**6, "bundled", values)[2:4] == pytest.approx((8_000, 8_000 / 14.4))
    assert encoding_time(10**6, "bundled", values).h100 is None


def test_3b_is_560m_by_its_products() -> None:
    # 30 layers of 2560 against 24 of 1024: 1.25 * 6.25.
    known = values_of(read_constants())
    for name in ("embed_core", "rank_core", "embed_h100", "rank_h100"):
        assert known[f"560m_{name}"] / known[f"3b_{name}"] == pytest.approx(7.8125)


def test_ranking_is_candidates_times_tokens(values: dict[str, float]) -> None:
    # 20 questions * 50 * 215 = 215,000 tokens a second; 7.2 cores of a machine are planned.
    assert rank_machines(20, "bundled", values)[2:] == (pytest.approx(10), 2, None)
    assert rank_machines(20, "560m", values)[2:] == (pytest.approx(500), 70, 2)
    assert rank_machines(1, "560m", values)[2:] == (pytest.approx(25), 4, 1)


def test_an_index_fills_its_pages_with_whole_vectors() -> None:
    # 288 + 2 * 576 = 1,440: five in 8,160; 2,336: three; 5,408: one.
    assert [hnsw_bytes(1_000, numbers) for numbers in NUMBERS.values()] == [
        1_638_400,
        pytest.approx(2_730_667),
        8_192_000,
    ]


def test_a_folder_holds_until_it_is_too_slow_or_ranking_needs_a_second_machine(values: dict[str, float]) -> None:
    small = choose_store(10**6, 1, "bundled", values)
    # 10^6 * 576 * 4 bytes, read in 0.023 s; ranking keeps half a core busy.
    assert small == (EDGE, "exact, words", 1.0, 1, 2.304e9, 4.804e9, "ranking")
    assert choose_store(10**6, 20, "bundled", values).store == POSTGRES  # ten cores of ranking, 7.2 planned
    assert choose_store(10**7, 1, "bundled", values).store == POSTGRES  # 0.23 s
    assert choose_store(10**6, 1, "560m", {**values, "560m_rank_h100": 10_750 / 0.4}).store == EDGE  # 0.8 of a card


def test_postgresql_is_exact_while_one_machine_keeps_up(values: dict[str, float]) -> None:
    # 0.1 s a question and 0.02 for its words; 60 questions a second are 7.2 cores.
    exact = choose_store(10**5, 59, "bundled", values)
    assert exact[:4] == (POSTGRES, "halfvec, exact, words", values["half_recall"], 1)
    hnsw = choose_store(10**5, 61, "bundled", values)
    assert hnsw[:4] == (POSTGRES, "halfvec, hnsw, words", 0.97, 1)
    assert choose_store(10**5, 250, "bundled", values).machines == 2  # 0.03 s each: 7.5 cores
    assert hnsw.memory_bytes == 163_840_000
    assert hnsw.disk_bytes == 163_840_000 + 10**5 * (1_152 + 2_500)
    # Words would take 2 s. 0.01 s * log 10^7 / log 10^5 = 0.014 s: 1,000 a second are 14 cores, two machines.
    assert choose_store(10**7, 1_000, "bundled", values)[1:4] == ("halfvec, hnsw", 0.97, 2)
    assert hnsw_build_seconds(10**7, "bundled", values) == pytest.approx(100 * 100 * 1.4)


def test_what_no_machine_remembers_goes_to_a_cluster(values: dict[str, float]) -> None:
    # 50 GB of a machine; 10^8 vectors of 576 are 164 GB of index, and 2 * 145.2 GB in a cluster of two copies.
    cluster = choose_store(10**8, 1, "bundled", values)
    assert cluster[:4] == (QDRANT, "float16, hnsw", None, 6)
    assert cluster.memory_bytes == pytest.approx(2 * 145.2e9 / 6)
    assert cluster.disk_bytes == pytest.approx((2 * 145.2e9 + 2 * 250e9) / 6)


def test_every_plan_fits_its_machines() -> None:
    known, order = values_of(read_constants()), [EDGE, POSTGRES, QDRANT]
    for pair in get_args(PairName):
        for rate in RATES:
            chosen = [choose_store(size, rate, pair, known) for size in SIZES]
            assert all(0 < one.memory_bytes <= 1e9 * known["memory_gb"] * known["memory_share"] for one in chosen)
            places = [order.index(one.store) for one in chosen]
            assert places == sorted(places)


def test_constants_of_one_s_own_take_the_place_of_ours(run: Run, tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text('560m_embed_h100: {value: 1000, source: "my card"}\n', encoding="utf-8")
    result = run("--plan", "--passages", 3_000_000, "--rate", 20, "--constants", own, "--json")
    planned = json.loads(result.stdout)
    assert planned["constants"]["560m_embed_h100"] == {"value": 1000, "source": "my card"}
    assert [row["h100"] for row in planned["encoding"]] == [None, 600_000, pytest.approx(600_000 * 7.8125)]
    assert {(row["passages"], row["rate"]) for row in planned["stores"]} == {(3_000_000, 20)}
    for text, message in (
        ('embed: {value: 1, source: ""}', "no such constant: embed; known are passage_tokens"),
        ('cores: {value: 0, source: ""}', "cores.value: expected a number greater than 0"),
        ("cores: 8", "cores: expected a mapping"),
    ):
        own.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            read_constants(own)


def test_the_page_shows_the_plan_and_its_constants() -> None:
    page, known = (DOCS / "scale.md").read_text(encoding="utf-8"), read_constants()
    for table in plan_markdown(SIZES, RATES, list(NUMBERS), values_of(known)).split("\n\n"):
        assert table in page
    for constant in known.values():
        assert constant.source


def test_times_and_sizes_have_the_unit_that_they_fill() -> None:
    assert [duration(seconds) for seconds in (0.5, 59, 90, 7_200, 172_800, 31_536_000 * 14)] == [
        *("0.5 s", "59 s", "1.5 min", "2 h", "2 days", "14 years"),
    ]
    assert [amount(size) for size in (480e6, 2.34e9, 164e9, 3.1e12)] == ["480 MB", "2.3 GB", "164 GB", "3.1 TB"]
