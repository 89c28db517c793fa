"""Search, rerank, embeddings, models, info: what the doors answer, against the components' own numbers."""

import base64
import json
import re
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from haystack import Document

from bloomz_haystack import Answerer, AskSettings
from bloomz_haystack.settings import TINY_RANKER, TINY_RETRIEVER
from haystack_integrations.components.embedders.bloomz import BloomzTextEmbedder
from haystack_integrations.components.rankers.bloomz import BloomzRanker

FRENCH, ENGLISH = "Combien d'heures de sommeil faut-il à un adulte ?", "How long is a French passport valid?"


@pytest.mark.parametrize("hybrid", [None, True, False])
@pytest.mark.parametrize("question", [FRENCH, ENGLISH])
def test_search_gives_what_an_answerer_gives(
    served: httpx.Client, example_store: Path, question: str, hybrid: bool | None
) -> None:
    answer = served.post("/v1/search", json={"query": question, "top_k": 4, "hybrid": hybrid}).json()
    with Answerer(example_store, AskSettings(hybrid=hybrid)) as answerer:
        expected = answerer.ask(question, top_k=4)
    assert [passage["id"] for passage in answer["passages"]] == [passage.id for passage in expected.passages]
    for passage, other in zip(answer["passages"], expected.passages, strict=True):
        assert passage["score"] == pytest.approx(other.score, abs=1e-6)
        assert passage["similarity"] == pytest.approx(other.similarity, abs=1e-6)
        assert passage["content"] == other.content
    assert answer["query"] == question
    assert answer["notes"] == []
    assert all(answer["seconds"][step] > 0 for step in ("embed", "retrieve", "rank", "read"))


def test_the_sentence_that_answers_is_marked_across_languages(served: httpx.Client) -> None:
    body = {"query": FRENCH, "files": ["sleep.txt"], "top_k": 1}
    [passage] = served.post("/v1/search", json=body).json()["passages"]
    answer = passage["answer"]
    assert answer["text"] == "An adult needs seven to nine hours of sleep a night."
    assert passage["content"][answer["start"] : answer["end"]] == answer["text"]
    assert 0 < answer["score"] <= 1
    assert passage["source"] == "sleep.txt"
    assert "indexed_file" not in passage["meta"]
    [bare] = served.post("/v1/search", json={**body, "sentences": False}).json()["passages"]
    assert bare["answer"] is None


def test_language_files_and_filters_narrow_a_search_together(served: httpx.Client) -> None:
    def titles(**body: object) -> list[str]:
        found = served.post("/v1/search", json={"query": FRENCH, "top_k": 50, **body}).json()["passages"]
        return [passage["title"] for passage in found]

    french = titles(language="fr")
    assert len(french) > 5
    assert set(french) == set(titles(files=["questions-courantes.jsonl"]))
    loire = {"field": "meta.subject", "operator": "==", "value": "géographie"}
    assert "La Loire" in titles(language="fr", filters=loire)
    assert len(titles(language="fr", filters=loire)) < len(french)
    assert titles(language="en", files=["questions-courantes.jsonl"]) == []


def test_nothing_reaches_the_threshold(served: httpx.Client) -> None:
    answer = served.post("/v1/search", json={"query": FRENCH, "threshold": 1.0}).json()
    assert (answer["passages"], answer["threshold"]) == ([], 1.0)


def test_the_threshold_that_the_ranker_recommends(served: httpx.Client) -> None:
    recommended = served.get("/v1/info").json()["threshold"]
    answer = served.post("/v1/search", json={"query": FRENCH, "threshold": "auto", "top_k": 20}).json()
    assert answer["threshold"] == recommended > 0
    assert 0 < len(answer["passages"]) < 20
    assert all(passage["score"] >= recommended for passage in answer["passages"])


def test_a_question_too_long_is_cut_with_a_note(served: httpx.Client) -> None:
    answer = served.post("/v1/search", json={"query": "sommeil " * 5000, "candidates": 5}).json()
    assert len(answer["passages"]) == 5
    [note] = answer["notes"]
    assert note.startswith("the question was cut: it has ")
    same = served.post("/v1/search", json={"query": "sommeil " * 6000, "candidates": 5}).json()
    assert same["passages"] == answer["passages"]


def test_rerank_has_the_rankers_probabilities_in_coheres_shape(served: httpx.Client) -> None:
    texts = ["Big Ben is in London.", "", "La tour Eiffel est à Paris.", "La tour Eiffel est à Paris."]
    body = {"model": "cohere/" + TINY_RANKER, "query": "Where is the Eiffel tower?", "documents": texts}
    answer = served.post("/v1/rerank", json={**body, "return_documents": True}).json()
    documents = [Document(id=str(place), content=text) for place, text in enumerate(texts)]
    ranked = BloomzRanker(TINY_RANKER).run(query=str(body["query"]), documents=documents)["documents"]
    assert [result["index"] for result in answer["results"]] == [*(int(document.id) for document in ranked), 1]
    for result, document in zip(answer["results"], ranked, strict=False):
        assert result["relevance_score"] == pytest.approx(document.score, abs=1e-6)
        assert result["document"] == {"text": document.content}
    assert answer["results"][-1]["relevance_score"] == 0
    assert answer["model"] == TINY_RANKER
    assert answer["usage"]["total_tokens"] > 20
    top = served.post("/v1/rerank", json={**body, "documents": [{"text": text} for text in texts], "top_n": 2}).json()
    assert [result["index"] for result in top["results"]] == [2, 3]
    assert top["results"][0]["document"] is None


def test_embeddings_for_the_openai_client(served: httpx.Client) -> None:
    texts = ["Où est la tour Eiffel ?", "The Eiffel tower stands in Paris."]
    client = openai.OpenAI(base_url=f"{served.base_url}/v1", api_key="none", max_retries=0)
    floats = client.embeddings.create(model=TINY_RETRIEVER, input=texts, encoding_format="float")
    packed = client.embeddings.create(model=TINY_RETRIEVER, input=texts)  # the client asks for base64
    embedder = BloomzTextEmbedder(TINY_RETRIEVER)
    for place, text in enumerate(texts):
        expected = embedder.run(text)["embedding"]
        np.testing.assert_allclose(floats.data[place].embedding, expected, atol=1e-6)
        np.testing.assert_allclose(packed.data[place].embedding, expected, atol=1e-6)
    assert floats.usage.total_tokens == floats.usage.prompt_tokens > 10
    one = served.post("/v1/embeddings", json={"input": texts[0], "encoding_format": "base64"}).json()
    numbers = np.frombuffer(base64.b64decode(one["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(numbers, embedder.run(texts[0])["embedding"], atol=1e-6)
    with pytest.raises(openai.NotFoundError, match="is not served here"):
        client.embeddings.create(model="text-embedding-3-small", input=texts)


def test_models_for_the_openai_client(served: httpx.Client) -> None:
    client = openai.OpenAI(base_url=f"{served.base_url}/v1", api_key="none", max_retries=0)
    models = {model.id: model.owned_by for model in client.models.list()}
    assert models == {TINY_RETRIEVER: "retriever", TINY_RANKER: "ranker", "bloomz": "chat"}


def test_info_health_and_openapi(served: httpx.Client) -> None:
    info = served.get("/v1/info").json()
    assert (info["model"], info["ranker"], info["hybrid"]) == (TINY_RETRIEVER, TINY_RANKER, True)
    assert (info["passages"], info["files"], info["languages"]) == (32, 10, ["en", "fr"])
    assert (info["generator"], info["writable"]) == (None, True)
    assert served.get("/healthz").json() == {"status": "ok"}
    schema = served.get("/openapi.json").json()
    examples = schema["components"]["schemas"]["SearchRequest"]["examples"]
    assert [example["query"] for example in examples] == [FRENCH, ENGLISH]
    names = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(schema)))
    assert names <= set(schema["components"]["schemas"])
    for name, model in schema["components"]["schemas"].items():
        for field, described in model.get("properties", {}).items():
            assert "description" in described or "$ref" in described, f"{name}.{field} is not described"


def test_the_reference_is_a_page_of_our_own(served: httpx.Client) -> None:
    page = served.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "http" not in page.text  # no other machine is asked
    for name, kind in (("reference.js", "text/javascript"), ("reference.css", "text/css")):
        assert f'"docs/{name}"' in page.text
        answer = served.get(f"/docs/{name}")
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, kind)
    assert served.get("/docs/../models.py").status_code == served.get("/docs/%2e%2e/models.py").status_code == 404
