"""A Haystack pipeline that answers questions -> which component does what, found by its connections."""

from dataclasses import dataclass
from typing import Any

from haystack import Pipeline

QUESTION_INPUTS = ("text", "query", "question")


@dataclass(frozen=True)
class Roles:
    """The components of a pipeline by what they do, by name."""

    retriever: str
    ranker: str
    embedder: str | None  # of the question
    reader: str | None  # of the answer sentences, after the ranker
    free_inputs: dict[str, set[str]]  # by component: inputs that no other component feeds

    def inputs(self, question: str, filters: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
        """Return what `Pipeline.run` takes.

        :param question: given to every free input for one.
        :param filters: given to every component with a free input for them; None: to none.
        :returns: inputs by component.
        :raises ValueError: if there are filters and no component takes them.
        """
        given: dict[str, dict[str, Any]] = {}
        for name, free in self.free_inputs.items():
            given[name] = {socket: question for socket in QUESTION_INPUTS if socket in free}
            if filters is not None and "filters" in free:
                given[name]["filters"] = filters
        if filters is not None and not any("filters" in values for values in given.values()):
            raise ValueError("filters were given, but no component of the pipeline has an input for them")
        return given

    def check_input(self, component: str, name: str) -> None:
        """Refuse a value for an input that a component does not have.

        :param component: its name.
        :param name: of the input.
        :raises ValueError: if it has none, or another component feeds it.
        """
        if name not in self.free_inputs.get(component, ()):
            raise ValueError(f"{name} was given, but the component {component!r} has no input for it")


def find_roles(pipeline: Pipeline) -> Roles:
    """Find what each component does.

    :param pipeline: with a retriever whose documents go to a ranker.
    :returns: the roles.
    :raises ValueError: if the pipeline has no ranker behind a retriever, or takes no question.
    """
    free = {name: set(sockets) for name, sockets in pipeline.inputs().items()}
    edges = [(sender, receiver, edge["to_socket"].name) for sender, receiver, edge in pipeline.graph.edges(data=True)]
    asked = [(a, b) for a, b, socket in edges if socket == "documents" and "query" in free.get(b, ())]
    given = {name: set(node["output_sockets"]) for name, node in pipeline.graph.nodes(data=True)}
    ranked = [(sender, receiver) for sender, receiver in asked if "documents" in given[receiver]]
    if not ranked:
        raise ValueError("the pipeline has no ranker: no component takes both `documents` of another one and a `query`")
    retriever, ranker = ranked[-1]
    if not any(set(QUESTION_INPUTS) & sockets for sockets in free.values()):
        raise ValueError("the pipeline takes no question: no component has a free input `text` or `query`")
    embedder = next((sender for sender, receiver, _ in edges if receiver == retriever), None)
    reader = next((b for a, b in asked if a == ranker and "answers" in given[b]), None)
    return Roles(retriever, ranker, embedder, reader, free)
