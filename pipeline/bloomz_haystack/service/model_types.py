"""What passes through the doors to the models: rerank in Cohere's and Jina's shape, embeddings in OpenAI's."""

from typing import Annotated, Literal

from pydantic import Field

from bloomz_haystack.service.types import MOST_TEXTS, JsonObject, QuestionText, Strict, Text, examples


class RerankText(Strict):
    """A document to rank."""

    text: Text = Field(description="Its text.")


class RerankRequest(Strict):
    """Documents to rank for a question, in Cohere's and Jina's shape."""

    model: Text | None = Field(
        default=None, description="The ranker, as GET /v1/models names it; null: the one there is."
    )
    query: QuestionText = Field(description="The question.")
    documents: list[Text | RerankText] = Field(min_length=1, max_length=MOST_TEXTS, description="Texts to rank.")
    top_n: int | None = Field(default=None, ge=1, description="Most results; null: all.")
    return_documents: bool = Field(default=False, description="Also return the texts.")

    model_config = examples(
        {
            "query": "Où est la tour Eiffel ?",
            "documents": ["Big Ben is in London.", "The Eiffel tower stands in Paris."],
            "top_n": 1,
        },
        {
            "query": "Where is the Eiffel tower?",
            "documents": [{"text": "La tour Eiffel est à Paris."}, {"text": "Big Ben est à Londres."}],
            "return_documents": True,
        },
    )


class RerankResult(Strict):
    """A document's place in the ranking."""

    index: int = Field(description="Of the document in the request, from 0.")
    relevance_score: float = Field(description="The ranker's probability; 0 for a document without text.")
    document: RerankText | None = Field(default=None, description="The document, if asked for.")


class TokenUsage(Strict):
    """Tokens that were read."""

    prompt_tokens: int = Field(default=0, description="As total_tokens.")
    total_tokens: int = Field(description="Of all the texts.")


class RerankResponse(Strict):
    """The documents, best first."""

    id: str = Field(description="Of this answer.")
    model: str = Field(description="The ranker.")
    results: list[RerankResult] = Field(description="Best first.")
    usage: TokenUsage
    meta: JsonObject = Field(description="Notes, and the version of the interface as Cohere's clients expect it.")

    model_config = examples(
        {
            "id": "rerank-1",
            "model": "tiny-fr-en-ranker",
            "results": [{"index": 1, "relevance_score": 0.98, "document": None}],
            "usage": {"prompt_tokens": 24, "total_tokens": 24},
            "meta": {"api_version": {"version": "1"}, "notes": []},
        }
    )


class EmbeddingsRequest(Strict):
    """Texts to embed, in OpenAI's shape."""

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)] = Field(
        description="A text or several."
    )
    model: Text | None = Field(
        default=None, description="The retriever, as GET /v1/models names it; null: the one there is."
    )
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="base64: of float32, little-endian."
    )
    dimensions: int | None = Field(default=None, ge=1, description="Only the retriever's own.")
    user: Text | None = Field(default=None, description="Not looked at.")

    model_config = examples({"input": "Où est la tour Eiffel ?"}, {"input": ["The Eiffel tower is in Paris."]})


class EmbeddingItem(Strict):
    """A vector."""

    object: Literal["embedding"] = Field(default="embedding", description="As OpenAI's.")
    index: int = Field(description="Of the text in the request, from 0.")
    embedding: list[float] | str = Field(description="A unit vector.")


class EmbeddingsResponse(Strict):
    """The vectors, in the order of the texts."""

    object: Literal["list"] = Field(default="list", description="As OpenAI's.")
    data: list[EmbeddingItem] = Field(description="A vector per text.")
    model: str = Field(description="The retriever.")
    usage: TokenUsage


class ModelItem(Strict):
    """A model that is served."""

    id: str = Field(description="Its name.")
    object: Literal["model"] = Field(default="model", description="As OpenAI's.")
    created: int = Field(description="When the service was started, in Unix seconds.")
    owned_by: str = Field(description='What it is for: "retriever", "ranker" or "chat".')


class ModelList(Strict):
    """The models that are served."""

    object: Literal["list"] = Field(default="list", description="As OpenAI's.")
    data: list[ModelItem] = Field(description="Retriever, ranker and, for chats, the service as a whole.")
