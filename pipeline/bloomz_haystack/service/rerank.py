"""`POST /v1/rerank`: a question and documents -> the documents by score, in Cohere's and Jina's shape."""

import secrets

import numpy as np
from fastapi import APIRouter, Request

from bloomz_haystack.service.errors import ServiceError, client_errors
from bloomz_haystack.service.model_types import RerankRequest, RerankResponse, RerankResult, RerankText, TokenUsage
from bloomz_haystack.service.models import Models
from bloomz_haystack.service.state import ReadyState

rerank_router = APIRouter(tags=["models"])


@rerank_router.post("/v1/rerank", summary="Rank documents for a question")
async def rerank_documents(wanted: RerankRequest, request: Request, state: ReadyState) -> RerankResponse:
    """Score each document by the ranker alone; the store is not looked at."""
    check_served(wanted.model, state.models.ranker_name)

    def work() -> RerankResponse:
        with client_errors():
            return _ranked(state.models, wanted)

    return await state.slots.run(request, work)


def _ranked(models: Models, wanted: RerankRequest) -> RerankResponse:
    texts = [document if isinstance(document, str) else document.text for document in wanted.documents]
    scores = models.rerank(wanted.query, texts)
    order = np.argsort(-scores, kind="stable")[: wanted.top_n]
    results = [
        RerankResult(
            index=int(place),
            relevance_score=float(scores[place]),
            document=RerankText(text=texts[place]) if wanted.return_documents else None,
        )
        for place in order
    ]
    question, *rest = models.reranker.token_counts([wanted.query, *texts])
    tokens = question * len(rest) + sum(rest)
    return RerankResponse(
        id=f"rerank-{secrets.token_hex(12)}",
        model=models.ranker_name,
        results=results,
        usage=TokenUsage(prompt_tokens=tokens, total_tokens=tokens),
        meta={"api_version": {"version": "1"}, "billed_units": {"search_units": 1}},
    )


def check_served(wanted: str | None, served: str) -> None:
    """Refuse a request for a model that is not served.

    :param wanted: what the client named; only the last part of the name counts, since gateways put theirs before it.
    :param served: the one there is.
    :raises ServiceError: 404.
    """
    if wanted is not None and wanted.rpartition("/")[2] != served.rpartition("/")[2]:
        raise ServiceError(404, f"the model {wanted!r} is not served here: use {served!r}", "model")
