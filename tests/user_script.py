"""What a user writes: `make release-check` runs it against the wheel, and `mypy --strict` reads it."""

import sys

from haystack import Document

from bloomz_haystack import Answerer, AskSettings, ask_pipeline, index_pipeline
from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder, BloomzTextEmbedder
from haystack_integrations.components.rankers.bloomz import BloomzRanker
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore


def main(folder: str) -> None:
    """Index a French and an English passage, ask in the other language, by three doors."""
    texts = ["La Loire est le plus long fleuve de France.", "The Moon landing of Apollo 11 was in July 1969."]
    questions = ("What is the longest river in France?", "En quelle année Apollo 11 ?")
    passages = [Document(content=text) for text in texts]
    index = index_pipeline(f"{folder}/a", model="tiny-fr-en-retriever", embedding_dim=576, progress_bar=False)
    index.run({"embedder": {"documents": passages}})
    with Answerer(store=f"{folder}/a", settings=AskSettings(top_k=1)) as answerer:
        answers: list[str | None] = [answerer.ask(question).passages[0].content for question in questions]
    store = QdrantEdgeDocumentStore(path=f"{folder}/b", embedding_dim=576)
    store.write_documents(BloomzDocumentEmbedder(model="tiny-fr-en-retriever").run(documents=passages)["documents"])
    vector: list[float] = BloomzTextEmbedder(model="tiny-fr-en-retriever").run(text=questions[0])["embedding"]
    ranked: list[Document] = BloomzRanker(model="tiny-fr-en-ranker", score_prior=0).run(
        query=questions[0], documents=passages
    )["documents"]
    store.close()
    ask = ask_pipeline(f"{folder}/a", model="tiny-fr-en-retriever", ranker="tiny-fr-en-ranker", embedding_dim=576)
    found = ask.run({"embedder": {"text": questions[1]}, "ranker": {"query": questions[1]}})["ranker"]["documents"]
    sys.stdout.write(
        f"{answers == texts} {len(vector)} {ranked[0].content == texts[0]} {found[0].content == texts[1]}\n"
    )


if __name__ == "__main__":
    main(sys.argv[1])
