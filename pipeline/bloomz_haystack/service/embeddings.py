"""`POST /v1/embeddings` and `GET /v1/models`, as OpenAI's clients know them."""

import base64

from fastapi import APIRouter, Request

from bloomz_haystack.service.errors import ServiceError, client_errors
from bloomz_haystack.service.model_types import (
    EmbeddingItem,
    EmbeddingsRequest,
    EmbeddingsResponse,
    ModelItem,
    ModelList,
    TokenUsage,
)
from bloomz_haystack.service.models import Models
from bloomz_haystack.service.rerank import check_served
from bloomz_haystack.service.state import AnyState, ReadyState
from haystack_integrations.common.bloomz.batches import SHORT

CHAT_MODEL = "bloomz"  # the service as a whole, to those who chat with it

embeddings_router = APIRouter(tags=["models"])


@embeddings_router.post("/v1/embeddings", summary="Embed texts")
async def embed_texts(wanted: EmbeddingsRequest, request: Request, state: ReadyState) -> EmbeddingsResponse:
    """Embed texts by the retriever; their cosine says how near they are, whatever their languages."""
    check_served(wanted.model, state.models.retriever_name)

    def work() -> EmbeddingsResponse:
        with client_errors():
            return _embedded(state.models, wanted)

    slots = state.short if _is_short(wanted) else state.slots
    return await slots.run(request, work)


def _is_short(wanted: EmbeddingsRequest) -> bool:
    """Return whether the engine surely computes a request with others that wait: a token is at least a byte."""
    texts = [wanted.input] if isinstance(wanted.input, str) else wanted.input
    return sum(len(text.encode()) + 1 for text in texts) <= SHORT


def _embedded(models: Models, wanted: EmbeddingsRequest) -> EmbeddingsResponse:
    own = models.embedder.dimension
    if wanted.dimensions not in (None, own):
        raise ServiceError(422, f"dimensions: this model gives vectors of {own} numbers, no others", "dimensions")
    texts = [wanted.input] if isinstance(wanted.input, str) else wanted.input
    items = []
    for index, vector in enumerate(models.embed(texts)):
        packed = wanted.encoding_format == "base64"
        numbers = base64.b64encode(vector.astype("<f4").tobytes()).decode() if packed else vector.tolist()
        items.append(EmbeddingItem(index=index, embedding=numbers))
    tokens = sum(models.embedder.token_counts(texts))
    usage = TokenUsage(prompt_tokens=tokens, total_tokens=tokens)
    return EmbeddingsResponse(data=items, model=models.retriever_name, usage=usage)


@embeddings_router.get("/v1/models", summary="List the models")
async def list_models(state: AnyState) -> ModelList:
    """List the models by the names that requests give them."""
    names = {state.models.retriever_name: "retriever", state.models.ranker_name: "ranker", CHAT_MODEL: "chat"}
    created = int(state.started)
    return ModelList(data=[ModelItem(id=name, created=created, owned_by=use) for name, use in names.items()])
