"""Inputs of many questions -> outputs of a pipeline, each component run for all of them before the next.

Where a component has a `run_batch`, it computes what questions share once; any other runs once a question. Only for a
pipeline that is a retriever, a ranker and, around them, an embedder and a reader.
"""

import time
from contextlib import nullcontext
from typing import Any

from haystack import Pipeline

from bloomz_haystack.roles import Roles
from bloomz_haystack.steps import Around, TimedOutputs

# What each question has of its own, and what `run_batch` calls it; what else a component takes is the same for all.
PLURALS = {"text": "texts", "query": "queries", "query_embedding": "query_embeddings", "documents": "documents"}

Inputs = dict[str, dict[str, Any]]  # by component


def runs_in_batches(pipeline: Pipeline, roles: Roles) -> bool:
    """Return whether a pipeline has no components but those of its roles."""
    return set(pipeline.graph.nodes) == set(_chain(roles))


def timed_batch_run(pipeline: Pipeline, roles: Roles, inputs: list[Inputs], around: Around) -> list[TimedOutputs]:
    """Run a pipeline for many questions.

    :param pipeline: one that `runs_in_batches`, warmed up.
    :param roles: of its components.
    :param inputs: B times what `Pipeline.run` takes; alike but for the question.
    :param around: by component, a context that it runs in; not counted in its seconds.
    :returns: B times the outputs of every component, and the seconds of each, shared out evenly.
    """
    outputs: list[Inputs] = [{} for _ in inputs]
    seconds: dict[str, float] = {}
    for name in _chain(roles):
        each = [
            {**given.get(name, {}), **_fed(pipeline, name, made)} for given, made in zip(inputs, outputs, strict=True)
        ]
        with around.get(name, nullcontext)():
            start = time.perf_counter()
            for made, output in zip(outputs, _run(pipeline.get_component(name), each), strict=True):
                made[name] = output
            seconds[name] = (time.perf_counter() - start) / len(inputs)
    return [TimedOutputs(made, seconds) for made in outputs]


def _chain(roles: Roles) -> list[str]:
    return [name for name in (roles.embedder, roles.retriever, roles.ranker, roles.reader) if name]


def _fed(pipeline: Pipeline, name: str, outputs: Inputs) -> dict[str, Any]:
    """Return the inputs of a component that others feed."""
    edges = pipeline.graph.in_edges(name, data=True)
    return {edge["to_socket"].name: outputs[sender][edge["from_socket"].name] for sender, _, edge in edges}


def _run(component: Any, each: list[dict[str, Any]]) -> list[dict[str, Any]]:  # noqa: ANN401
    if not hasattr(component, "run_batch"):
        return [component.run(**one) for one in each]
    common = {name: value for name, value in each[0].items() if name not in PLURALS}
    own = {PLURALS[name]: [one[name] for one in each] for name in each[0] if name in PLURALS}
    together = component.run_batch(**own, **common)
    return [{name: values[place] for name, values in together.items()} for place in range(len(each))]
