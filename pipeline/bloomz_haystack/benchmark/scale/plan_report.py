"""The plan -> Markdown tables for people, and plain values for machines. Computes nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from bloomz_haystack.benchmark.scale.plan import (
    NUMBERS,
    Constants,
    PairName,
    PlanConstant,
    StoreChoice,
    choose_store,
    encoding_time,
    hnsw_build_seconds,
    rank_machines,
)
from bloomz_haystack.files.markdown import markdown_table

STORE_HEADS = (
    "passages up to",
    "questions/s up to",
    "store",
    "search",
    "recall@10",
    "machines",
    "memory",
    "disk",
    "breaks first",
)
WRITING_HEADS = ("write, Edge", "write, PostgreSQL", "build hnsw, one core")
TIME_UNITS = (("years", 31_536_000), ("days", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def plan_markdown(sizes: Sequence[int], rates: Sequence[int], pairs: Sequence[PairName], constants: Constants) -> str:
    """Return the plan for people.

    :param sizes: passages.
    :param rates: questions a second.
    :param pairs: of models.
    :param constants: values.
    :returns: Markdown: a table of stores for each pair, one of encoding, one of ranking.
    """
    stores = [
        f"### {pair}: vectors of {NUMBERS[pair]} numbers\n\n"
        + markdown_table(STORE_HEADS, [row for n in sizes for row in _stores(n, rates, pair, constants)])
        for pair in pairs
    ]
    cores = f"{constants['cores']:g} cores"
    encoding = markdown_table(
        ("passages", "pair", "one core", cores, "one H100", *WRITING_HEADS),
        [_encoding(n, pair, constants) for n in sizes for pair in pairs],
        numbers=True,
    )
    ranking = markdown_table(
        ("questions/s", *(f"{pair}, {what}" for pair in pairs for what in (f"machines of {cores}", "or H100"))),
        [[f"{rate:,}", *_ranking(rate, pairs, constants)] for rate in rates],
        numbers=True,
    )
    return "\n\n".join([*stores, "### To encode and to write\n\n" + encoding, "### To rank\n\n" + ranking])


def plan_values(
    sizes: Sequence[int],
    rates: Sequence[int],
    pairs: Sequence[PairName],
    values: Constants,
    sources: Mapping[str, PlanConstant],
) -> dict[str, Any]:
    """Return the same as plain values.

    :param sizes: passages.
    :param rates: questions a second.
    :param pairs: of models.
    :param values: of the constants.
    :param sources: the constants with their sources.
    :returns: `stores`, `encoding`, `ranking`, `constants`; bytes, seconds.
    """
    asked = [(n, rate, pair) for pair in pairs for n in sizes for rate in rates]
    return {
        "stores": [
            {"passages": n, "rate": rate, "pair": pair, **choose_store(n, rate, pair, values)._asdict()}
            for n, rate, pair in asked
        ],
        "encoding": [encoding_time(n, pair, values)._asdict() for n in sizes for pair in pairs],
        "ranking": [rank_machines(rate, pair, values)._asdict() for rate in rates for pair in pairs],
        "constants": {name: constant.model_dump() for name, constant in sources.items()},
    }


def _stores(passages: int, rates: Sequence[int], pair: PairName, constants: Constants) -> list[list[str]]:
    """Return a row for each store that so many passages may need, up to the rate that it holds."""
    last = {choose_store(passages, rate, pair, constants): rate for rate in sorted(rates)}
    return [[f"{passages:,}", f"{rate:,}", *_store(choice)] for choice, rate in last.items()]


def _store(choice: StoreChoice) -> list[str]:
    recall = "not measured" if choice.recall is None else f"{choice.recall:.3f}"
    sizes = [amount(choice.memory_bytes), amount(choice.disk_bytes)]
    return [choice.store, choice.search, recall, f"{choice.machines:,}", *sizes, choice.breaks_first]


def _encoding(passages: int, pair: PairName, constants: Constants) -> list[str]:
    time = encoding_time(passages, pair, constants)
    h100 = "" if time.h100 is None else duration(time.h100)
    written = [duration(passages / constants[f"{store}_write"]) for store in ("edge", "postgres")]
    built = duration(hnsw_build_seconds(passages, pair, constants))
    return [f"{passages:,}", pair, duration(time.core), duration(time.machine), h100, *written, built]


def _ranking(rate: int, pairs: Sequence[PairName], constants: Constants) -> list[str]:
    needed = [rank_machines(rate, pair, constants) for pair in pairs]
    return [cell for one in needed for cell in (f"{one.machines:,}", "" if one.h100 is None else f"{one.h100:,}")]


def duration(seconds: float) -> str:
    """Return a time in the largest unit that it fills.

    :param seconds: above 0.
    :returns: two digits, or three.

    >>> duration(36_000), duration(0.4)
    ('10 h', '0.4 s')
    """
    unit, length = next(((unit, length) for unit, length in TIME_UNITS if seconds >= length), TIME_UNITS[-1])
    return f"{_digits(seconds / length)} {unit}"


def amount(size: float) -> str:
    """Return bytes as MB, GB or TB.

    :param size: bytes.
    :returns: two digits, or three.

    >>> amount(2.5e9)
    '2.5 GB'
    """
    unit, length = next(((unit, length) for unit, length in (("TB", 1e12), ("GB", 1e9)) if size >= length), ("MB", 1e6))
    return f"{_digits(size / length)} {unit}"


def _digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}".removesuffix(".0")
