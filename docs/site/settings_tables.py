"""Signatures, docstrings and comments of the code -> tables of settings in Markdown. Imports none of that code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[2]
COMPONENTS = (
    "components.embedders.bloomz.text_embedder.BloomzTextEmbedder",
    "components.embedders.bloomz.document_embedder.BloomzDocumentEmbedder",
    "components.retrievers.qdrant_edge.embedding_retriever.QdrantEdgeEmbeddingRetriever",
    "components.retrievers.qdrant_edge.hybrid_retriever.QdrantEdgeHybridRetriever",
    "components.retrievers.bloomz_pgvector.hybrid_retriever.PgvectorHybridRetriever",
    "components.rankers.bloomz.ranker.BloomzRanker",
    "components.readers.bloomz.sentence_reader.BloomzSentenceReader",
    "document_stores.qdrant_edge.document_store.QdrantEdgeDocumentStore",
    "document_stores.bloomz_pgvector.document_store.BloomzPgvectorDocumentStore",
)
TRAINING = ROOT / "pipeline/bloomz_haystack/training/config.py"


def components() -> str:
    """Return a section for each component: its `type:` and its `init_parameters`."""
    return "\n".join(line for path in COMPONENTS for line in _component(f"haystack_integrations.{path}"))


def _component(path: str) -> Iterator[str]:
    found = griffe.load(path, search_paths=[ROOT / "components"], allow_inspection=False)
    made = found["__init__"]
    texts = {
        parameter.name: parameter.description
        for section in made.docstring.parse("sphinx")
        if section.kind is griffe.DocstringSectionKind.parameters
        for parameter in section.value
    }
    yield f"## {found.name}\n\n{found.docstring.value.splitlines()[0]}\n\n```yaml\ntype: {path}\n```\n"
    yield "| parameter | default | |\n|---|---|---|"
    for parameter in made.parameters:
        if parameter.name != "self":
            name = parameter.name.lstrip("*")
            yield f"| `{name}` | {_default(parameter)} | {_cell(texts.get(name, ''))} |"
    yield ""


def _default(parameter: griffe.Parameter) -> str:
    """Return a default as YAML writes it."""
    if parameter.default is None or parameter.default == "{}":
        return ""
    values = {"None": "null", "True": "true", "False": "false", "''": '""', "_TOKEN": "HF_API_TOKEN, HF_TOKEN"}
    shown = str(parameter.default)
    return f"`{values.get(shown, shown.strip(chr(39)))}`"


def training() -> str:
    """Return a section for each part of a training configuration."""
    classes = [node for node in ast.parse(TRAINING.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    names = {"Source": "data.sources, data.validation"}
    return "\n".join(
        line
        for node in classes
        if node.name != "TrainConfig"
        for line in _section(names.get(node.name, node.name.removesuffix("Config").lower()), node)
    )


def _section(name: str, node: ast.ClassDef) -> Iterator[str]:
    source = TRAINING.read_text(encoding="utf-8").splitlines()
    yield f"## {name}\n\n{ast.get_docstring(node)}\n\n| key | default | |\n|---|---|---|"
    for field in node.body:
        if isinstance(field, ast.AnnAssign):
            default = ast.unparse(field.value) if field.value else ""
            default = {"None": "null", "True": "true", "False": "false", "()": "[]"}.get(default, default)
            default = "{}" if default.startswith("field(") else default.replace("'", '"')
            _, _, comment = source[(field.end_lineno or 1) - 1].partition("  # ")
            yield f"| `{ast.unparse(field.target)}` | {f'`{default}`' if default else 'required'} | {_cell(comment)} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
