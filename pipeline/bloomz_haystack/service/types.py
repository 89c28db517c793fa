"""What passes through the doors, typed and described; unknown fields are refused.

Shapes that others fixed (OpenAI's embeddings and models, Cohere's and Jina's rerank) are kept to the letter.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bloomz_haystack.settings import AskSettings

MOST_CANDIDATES = 1000
MOST_PASSAGES = 100
MOST_TEXTS = 1000


def _characters(text: str) -> str:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("half a character (a lone surrogate) in the text: send UTF-8")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError('is empty: ask something, e.g. "Où est la tour Eiffel ?"')
    return text


Text = Annotated[str, AfterValidator(_characters)]
QuestionText = Annotated[Text, AfterValidator(_not_blank)]
JsonObject = dict[str, Any]
ScoreThreshold = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | Literal["auto"] | None


class Strict(BaseModel):
    """Refuses unknown fields, and a text where a number is expected."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class ErrorDetail(Strict):
    """Why a request was refused, as OpenAI's clients read it."""

    message: str = Field(description="One line: what was got, what was expected, what to do.")
    type: str = Field(description="Kind of the error, e.g. invalid_request_error.")
    param: str | None = Field(default=None, description="The field that is meant.")
    code: str | None = Field(default=None, description="Always null.")


class ErrorResponse(Strict):
    """An error."""

    error: ErrorDetail

    model_config = _examples(
        {
            "error": {
                "message": "top_k: should be greater than or equal to 1",
                "type": "invalid_request_error",
                "param": "top_k",
                "code": None,
            }
        }
    )


class SearchRequest(Strict):
    """A question to the passages of the store."""

    query: QuestionText = Field(
        description="The question, in French or in English, whatever the language of the passages."
    )
    top_k: int = Field(default=AskSettings.top_k, ge=1, le=MOST_PASSAGES, description="Most passages in the answer.")
    candidates: int = Field(
        default=AskSettings.candidates,
        ge=1,
        le=MOST_CANDIDATES,
        description="Passages handed to the ranker; at least top_k.",
    )
    threshold: ScoreThreshold = Field(
        default=None,
        description='Lowest score in the answer; "auto": as the ranker recommends; null: as the server was told.',
    )
    filters: JsonObject | None = Field(default=None, description="A Haystack filter on the passages' metadata.")
    files: list[Text] | None = Field(
        default=None, min_length=1, max_length=MOST_TEXTS, description="Only passages of these files, by their names."
    )
    language: Literal["fr", "en"] | None = Field(
        default=None, description="Only passages whose meta.language is this, if the store's passages have one."
    )
    hybrid: bool | None = Field(default=None, description="Search by words too; null: if the store has a BM25 index.")
    sentences: bool = Field(default=True, description="Mark in each passage the sentence that answers.")

    model_config = _examples(
        {"query": "Combien d'heures de sommeil faut-il à un adulte ?", "top_k": 3, "language": "en"},
        {"query": "How long is a French passport valid?", "threshold": "auto", "files": ["everyday-facts.jsonl"]},
    )


class AnswerSentence(Strict):
    """The sentence of a passage that answers."""

    text: str = Field(description="The sentence, as it stands in the passage.")
    start: int = Field(description="Its first character in the passage's content.")
    end: int = Field(description="The character after its last.")
    score: float = Field(description="How near it is to the question, 0 to 1.")
    page: int | None = Field(default=None, description="The page it stands on.")


class SearchedPassage(Strict):
    """A passage of the answer."""

    id: str = Field(description="Of the passage in the store.")
    content: str = Field(description="Its text.")
    score: float = Field(description="The ranker's probability that it answers the question.")
    similarity: float = Field(description="The retriever's: the cosine or, in a hybrid search, the fused score.")
    answer: AnswerSentence | None = Field(default=None, description="The sentence that answers; null if not asked for.")
    source: str | None = Field(default=None, description="The file it comes from.")
    page: int | None = Field(default=None, description="The page on which it begins.")
    title: str | None = Field(default=None, description="Of the document.")
    meta: JsonObject = Field(description="Its other metadata.")
    copies: list[JsonObject] = Field(description="Where else the same text stands.")


class StepSeconds(Strict):
    """Seconds of each step."""

    embed: float = Field(default=0.0, description="The question's vector.")
    retrieve: float = Field(default=0.0, description="The search for candidates.")
    rank: float = Field(default=0.0, description="The ranking.")
    read: float = Field(default=0.0, description="The search for sentences.")


class SearchResponse(Strict):
    """The passages that answer, best first."""

    query: str = Field(description="The question.")
    passages: list[SearchedPassage] = Field(description="Best first; empty if none reaches the threshold.")
    threshold: float | None = Field(default=None, description="The lowest score that a passage could have.")
    seconds: StepSeconds
    notes: list[str] = Field(description="What is worth knowing of the answer, e.g. that the question was cut.")

    model_config = _examples(
        {
            "query": "Combien d'heures de sommeil faut-il à un adulte ?",
            "passages": [
                {
                    "id": "5f3c",
                    "content": "Sleep. Adults need seven to nine hours a night.",
                    "score": 0.97,
                    "similarity": 0.81,
                    "answer": {
                        "text": "Adults need seven to nine hours a night.",
                        "start": 7,
                        "end": 47,
                        "score": 0.78,
                        "page": None,
                    },
                    "source": "sleep.txt",
                    "page": None,
                    "title": "Sleep",
                    "meta": {"split_id": 0},
                    "copies": [],
                }
            ],
            "threshold": None,
            "seconds": {"embed": 0.004, "retrieve": 0.001, "rank": 0.031, "read": 0.008},
            "notes": [],
        }
    )


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

    model_config = _examples(
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

    model_config = _examples(
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

    model_config = _examples({"input": "Où est la tour Eiffel ?"}, {"input": ["The Eiffel tower is in Paris."]})


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


class InfoResponse(Strict):
    """What is served."""

    model: str = Field(description="The retriever.")
    ranker: str = Field(description="The ranker.")
    passages: int = Field(description="In the store.")
    files: int = Field(description="In the store.")
    hybrid: bool = Field(description="Whether words (BM25) are searched too.")
    languages: list[str] = Field(description="Values of meta.language; empty if the passages have none.")
    generator: str | None = Field(description="The model that words answers; null: passages only.")
    version: str = Field(description="Of the service.")
    writable: bool = Field(description="Whether documents can be added and removed.")
    threshold: float | None = Field(description="The threshold that the ranker recommends.")


class TextDocument(Strict):
    """A text to index."""

    content: Text = Field(description="The text.")
    meta: JsonObject | None = Field(default=None, description="Its metadata, which filters can name.")
    title: Text | None = Field(default=None, description="Its title.")


class DocumentsRequest(Strict):
    """Texts to index."""

    documents: list[TextDocument] = Field(min_length=1, max_length=MOST_TEXTS, description="The texts.")

    model_config = _examples(
        {"documents": [{"content": "La piscine ferme le lundi.", "title": "Piscine", "meta": {"language": "fr"}}]},
        {"documents": [{"content": "The pool is closed on Mondays.", "title": "Pool", "meta": {"language": "en"}}]},
    )


JobState = Literal["queued", "running", "done", "failed"]


class JobFile(Strict):
    """A file on its way into the store."""

    name: str = Field(description="As the store calls it.")
    state: JobState = Field(default="queued", description="failed: nothing of it was indexed.")
    passages: int = Field(default=0, description="Found in it so far.")
    problem: str | None = Field(default=None, description="What could not be read, in one line.")


class JobStatus(Strict):
    """Files on their way into the store."""

    id: str = Field(description="Of the job.")
    state: JobState = Field(default="queued", description="failed: no file could be indexed.")
    files: list[JobFile] = Field(description="Each with its own state.")
    done: int = Field(default=0, description="Files that are done, or have failed.")
    total: int = Field(description="Files.")
    seconds: float = Field(default=0.0, description="That it took so far.")


class JobResponse(Strict):
    """What was accepted; GET /v1/jobs/{id} says how far it is."""

    job: JobStatus

    model_config = _examples(
        {
            "job": {
                "id": "19a-5f3c",
                "state": "queued",
                "files": [{"name": "sommeil.txt", "state": "queued", "passages": 0, "problem": None}],
                "done": 0,
                "total": 1,
                "seconds": 0.0,
            }
        }
    )


class StoredFile(Strict):
    """A file whose passages the store holds."""

    file: str = Field(description='Its name; "" for the passages of no file.')
    passages: int = Field(description="That the store holds of it.")
    title: str | None = Field(default=None, description="Of the document, if the file is one.")


class FileList(Strict):
    """A page of the list of files."""

    files: list[StoredFile] = Field(description="In the order of the names.")
    total: int = Field(description="Files in the store.")


class RemoveRequest(Strict):
    """What to remove from the store: files, or the passages that match a filter."""

    files: list[Text] | None = Field(
        default=None, min_length=1, max_length=MOST_TEXTS, description="Names, as GET /v1/documents gives them."
    )
    filters: JsonObject | None = Field(default=None, min_length=1, description="A Haystack filter.")

    model_config = _examples(
        {"files": ["sommeil.txt"]}, {"filters": {"field": "meta.language", "operator": "==", "value": "en"}}
    )


class RemoveResponse(Strict):
    """What was removed."""

    removed: int = Field(description="Passages.")
