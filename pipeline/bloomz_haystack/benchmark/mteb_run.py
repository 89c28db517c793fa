"""Names of mteb's tasks -> a folder of results as mteb wants them submitted, and the main score of each."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bloomz_haystack.benchmark.mteb_model import MtebRetriever, mteb_module

MTEB_LANGUAGES = ("fra", "eng")
# What mteb has for French questions, of a size that one machine can do. The first seven are those of MTEB(fra, v1).
FRENCH_TASKS = {
    "AlloprofRetrieval": "questions of pupils, pages of a school help site",
    "AlloprofReranking": "the same, candidates given",
    "BSARDRetrieval": "questions on Belgian law, articles of the law",
    "MintakaRetrieval": "general knowledge, entities",
    "SyntecRetrieval": "a collective labour agreement",
    "SyntecReranking": "the same, candidates given",
    "XPQARetrieval": "products; French and English, also across",
    "BelebeleRetrieval": "short passages; French and English, also across",
    "FQuADRetrieval": "French Wikipedia",
    "MIRACLRetrievalHardNegatives.v2": "French Wikipedia, hard negatives",
    "PublicHealthQA": "public health, COVID-19",
    "StatcanDialogueDatasetRetrieval": "tables of Statistics Canada",
}


class TaskScore(NamedTuple):
    """The main score of a task, in percent, averaged over its subsets and splits."""

    task: str
    metric: str
    score: float


def mteb_tasks(names: Sequence[str]) -> list[Any]:
    """Return tasks of mteb, cut down to what is in French or in English on both sides.

    :param names: of mteb's registry; `french` stands for all of `FRENCH_TASKS`.
    :returns: the tasks, each once.
    :raises ValueError: for a name that mteb does not know.
    :raises ImportError: without mteb.
    """
    wanted = dict.fromkeys(task for name in names for task in (FRENCH_TASKS if name == "french" else [name]))
    return [_task(name) for name in wanted]


def measure_mteb(model: MtebRetriever, tasks: Iterable[Any], out: Path) -> list[TaskScore]:
    """Evaluate a retriever; tasks with a result in the folder are not evaluated again.

    :param model: a retriever.
    :param tasks: of mteb.
    :param out: receives `results/OWNER__NAME/REVISION/TASK.json` and `model_meta.json`, mteb's own layout.
    :returns: in the order of the tasks.
    :raises OSError: if a data set cannot be had.
    """
    evaluate, cache = mteb_module("evaluate").evaluate, mteb_module("cache").ResultCache(out)
    scores = []
    for task in tasks:
        done = evaluate(model, task, cache=cache, show_progress_bar=False, co2_tracker=False)
        (result,) = done.task_results
        scores.append(TaskScore(result.task_name, task.metadata.main_score, 100 * float(result.get_score())))
    return scores


def _task(name: str) -> Any:  # noqa: ANN401
    get_task = mteb_module("get_tasks").get_task
    try:
        return get_task(name, languages=list(MTEB_LANGUAGES), exclusive_language_filter=True)
    except KeyError as error:
        reason = str(error.args[0]).removeprefix("KeyError: ")
        raise ValueError(f"{reason} Tasks: https://embeddings-benchmark.github.io/mteb/overview/") from None
