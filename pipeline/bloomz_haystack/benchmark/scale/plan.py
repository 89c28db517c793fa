"""Passages, questions a second, a pair of models -> a store, its machines, and the seconds to encode.

Arithmetic on the constants of plan.yaml, each with its source; measures nothing.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from bloomz_haystack.files.yaml_schema import load_yaml

CONSTANTS_FILE = Path(__file__).with_name("plan.yaml")
SIZES, RATES = (10**5, 10**6, 10**7, 10**8), (1, 20, 100, 1_000)
PairName = Literal["bundled", "560m", "3b"]
NUMBERS: dict[PairName, int] = {"bundled": 576, "560m": 1024, "3b": 2560}  # in a vector
LAYERS: dict[PairName, int] = {"bundled": 2, "560m": 24, "3b": 30}
MEASURED_SIZE, MEASURED_NUMBERS = 100_000, NUMBERS["bundled"]  # of the constants of the stores
INDEX_PAGE = 8_160  # bytes of a page of PostgreSQL that an index can fill
HNSW_LINKS = 288  # bytes of a vector's place in the index, for m = 16: two tuples, their pointers, 32 neighbours
QDRANT_BYTES = 300  # assumed: links and ids of a vector in Qdrant
REPLICAS = 2  # copies of each shard in a cluster
EDGE, POSTGRES, QDRANT = "Edge folder", "PostgreSQL", "Qdrant cluster"


class PlanConstant(BaseModel):
    """A number, and who measured or assumed it."""

    model_config = ConfigDict(extra="forbid")
    value: float = Field(gt=0)
    source: str


Constants = Mapping[str, float]


class StoreChoice(NamedTuple):
    """A store that holds, what each of its machines holds, and what gives way first as it grows."""

    store: str
    search: str
    recall: float | None  # at 10; None where not measured
    machines: int
    memory_bytes: float  # of each machine, for what must stay in memory
    disk_bytes: float  # of each machine
    breaks_first: str


class EncodingTime(NamedTuple):
    """Seconds to embed passages; one H100 is None where not measured."""

    passages: int
    pair: PairName
    core: float
    machine: float
    h100: float | None


class RankMachines(NamedTuple):
    """Cores that ranking keeps busy, machines of the plan for them, or H100; None where not measured."""

    rate: float
    pair: PairName
    cores: float
    machines: int
    h100: int | None


def read_constants(file: Path | None = None) -> dict[str, PlanConstant]:
    """Return the constants, with one's own in place of ours.

    :param file: YAML of the form of plan.yaml; None keeps ours.
    :returns: by name.
    :raises ValueError: if the file cannot be read, or names something else.
    """
    ours = load_yaml(CONSTANTS_FILE, dict[str, PlanConstant])
    own = load_yaml(file, dict[str, PlanConstant]) if file else {}
    if unknown := sorted(set(own) - set(ours)):
        raise ValueError(f"{file}: no such constant: {', '.join(unknown)}; known are {', '.join(ours)}")
    return {**ours, **own}


def values_of(constants: Mapping[str, PlanConstant]) -> dict[str, float]:
    """Return the numbers alone.

    :param constants: by name.
    :returns: values, and those of 3b, which follow from 560m's.
    """
    values = {name: constant.value for name, constant in constants.items()}
    more = products("3b") / products("560m")
    for name in ("embed_core", "rank_core", "embed_h100", "rank_h100"):
        values[f"3b_{name}"] = values[f"560m_{name}"] / more
    return values


def products(pair: PairName) -> int:
    """Return the multiplications of a token in the linears of a model.

    :param pair: of models.
    :returns: 12 H^2 a layer.

    >>> round(products("3b") / products("560m"), 2)
    7.81
    """
    return 12 * NUMBERS[pair] ** 2 * LAYERS[pair]


def encoding_time(passages: int, pair: PairName, constants: Constants) -> EncodingTime:
    """Return how long it takes to embed passages.

    :param passages: N.
    :param pair: whose retriever.
    :param constants: values.
    :returns: seconds on one core, on all cores of a machine, on one H100.
    """
    tokens = passages * constants["passage_tokens"]
    core = tokens / constants[f"{pair}_embed_core"]
    h100 = constants.get(f"{pair}_embed_h100")
    machine = core / (constants["cores"] * constants["core_share"])
    return EncodingTime(passages, pair, core, machine, tokens / h100 if h100 else None)


def hnsw_bytes(passages: int, numbers: int) -> float:
    """Return the size of an index of PostgreSQL on halfvec: whole vectors fill its pages.

    :param passages: N.
    :param numbers: H.
    :returns: bytes.

    >>> hnsw_bytes(1_000_000, 1024) / 1e9  # three a page of 8,192 bytes
    2.730666...
    """
    return passages * 8_192 / (INDEX_PAGE // (HNSW_LINKS + 2 * numbers))


def rank_machines(rate: float, pair: PairName, constants: Constants) -> RankMachines:
    """Return what ranks the candidates of so many questions a second.

    :param rate: questions a second.
    :param pair: whose ranker.
    :param constants: values.
    :returns: cores that are busy, machines of the plan, H100.
    """
    tokens = rate * constants["candidates"] * (constants["passage_tokens"] + constants["question_tokens"])
    cores, h100 = tokens / constants[f"{pair}_rank_core"], constants.get(f"{pair}_rank_h100")
    cards = math.ceil(tokens / h100 / constants["busy"]) if h100 else None
    return RankMachines(rate, pair, cores, math.ceil(cores / planned_cores(constants)), cards)


def choose_store(passages: int, rate: float, pair: PairName, constants: Constants) -> StoreChoice:
    """Choose the simplest store that holds: a folder, PostgreSQL, exact, then with hnsw, then a cluster.

    :param passages: N.
    :param rate: questions a second.
    :param pair: of models.
    :param constants: values.
    :returns: the store.
    """
    for choose in (_edge, _postgres_exact, _postgres_hnsw):
        if (choice := choose(passages, rate, pair, constants)) is not None:
            return choice
    return _cluster(passages, rate, pair, constants)


def planned_cores(constants: Constants) -> float:
    """Return the cores of a machine that a plan may count on.

    :param constants: values.
    :returns: all of them, less what they lose side by side, and what stays free.
    """
    return constants["cores"] * constants["core_share"] * constants["busy"]


def growth_of_work(passages: int, pair: PairName) -> float:
    """Return how many times more numbers there are than in what was measured.

    :param passages: N.
    :param pair: of models.
    :returns: 1.0 for 100,000 vectors of 576.
    """
    return passages * NUMBERS[pair] / (MEASURED_SIZE * MEASURED_NUMBERS)


def _edge(passages: int, rate: float, pair: PairName, constants: Constants) -> StoreChoice | None:
    """Return a folder, which one process reads whole for every question, and which ranks too."""
    size = 4.0 * passages * NUMBERS[pair]
    seconds = size / (1e9 * constants["machine_read_gb"])
    ranking = rank_machines(rate, pair, constants)
    one_process = min(ranking.machines, ranking.h100 or ranking.machines) == 1
    if not one_process or seconds > constants["longest_search"] or rate * seconds > constants["busy"]:
        return None
    first = "ranking" if ranking.cores / constants["cores"] > rate * seconds else "reading all vectors"
    return StoreChoice(EDGE, "exact, words", 1.0, 1, size, size + passages * constants["text_bytes"], first)


def _postgres_exact(passages: int, rate: float, pair: PairName, constants: Constants) -> StoreChoice | None:
    words = constants["postgres_words_core"] * passages / MEASURED_SIZE
    seconds = constants["postgres_exact_core"] * growth_of_work(passages, pair) + words
    if seconds > constants["longest_search"] or rate * seconds > planned_cores(constants):
        return None
    size = 2.0 * passages * NUMBERS[pair]
    disk = size + passages * constants["text_bytes"]
    return StoreChoice(
        POSTGRES, "halfvec, exact, words", constants["half_recall"], 1, size, disk, "cores for the search"
    )


def _postgres_hnsw(passages: int, rate: float, pair: PairName, constants: Constants) -> StoreChoice | None:
    index = hnsw_bytes(passages, NUMBERS[pair])
    if index > _memory(constants):
        return None
    seconds = _hnsw_seconds(passages, pair, constants)
    words = constants["postgres_words_core"] * passages / MEASURED_SIZE
    with_words = words <= constants["longest_search"]
    cores = rate * (seconds + words if with_words else seconds)
    machines = max(math.ceil(cores / planned_cores(constants)), 1)
    disk = index + passages * (2 * NUMBERS[pair] + constants["text_bytes"])
    search = "halfvec, hnsw, words" if with_words else "halfvec, hnsw"
    tight = index > _memory(constants) / 4
    first = "search by words" if with_words else "memory for the index" if tight else "recall of hnsw"
    return StoreChoice(POSTGRES, search, constants["hnsw_recall"], machines, index, disk, first)


def _cluster(passages: int, rate: float, pair: PairName, constants: Constants) -> StoreChoice:
    vectors = REPLICAS * passages * (2 * NUMBERS[pair] + QDRANT_BYTES)
    cores = rate * _hnsw_seconds(passages, pair, constants)
    machines = max(REPLICAS, math.ceil(vectors / _memory(constants)), math.ceil(cores / planned_cores(constants)))
    disk = vectors + REPLICAS * passages * constants["text_bytes"]
    return StoreChoice(QDRANT, "float16, hnsw", None, machines, vectors / machines, disk / machines, "writing")


def hnsw_build_seconds(passages: int, pair: PairName, constants: Constants) -> float:
    """Return how long one core takes to build an index of PostgreSQL on halfvec, if it fits in memory.

    :param passages: N; the work is that of N log N.
    :param pair: of models.
    :param constants: values.
    :returns: seconds.
    """
    return constants["hnsw_build_core"] * growth_of_work(passages, pair) * _depth(passages)


def _hnsw_seconds(passages: int, pair: PairName, constants: Constants) -> float:
    return constants["hnsw_core"] * NUMBERS[pair] / MEASURED_NUMBERS * _depth(passages)


def _depth(passages: int) -> float:
    return math.log(passages) / math.log(MEASURED_SIZE)


def _memory(constants: Constants) -> float:
    return 1e9 * constants["memory_gb"] * constants["memory_share"]
