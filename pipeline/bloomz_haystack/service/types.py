"""What passes through the doors, typed and described, with unknown fields refused: questions, answers, errors, info.

`model_types` and `document_types` have the rest.
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


def examples(*shown: dict[str, Any]) -> ConfigDict:
    """Return what puts examples into the description of a type.

    :param *shown: JSON objects.
    :returns: for `model_config`.
    """
    return ConfigDict(json_schema_extra={"examples": list(shown)})


class ErrorDetail(Strict):
    """Why a request was refused, as OpenAI's clients read it."""

    message: str = Field(description="One line: what was got, what was expected, what to do.")
    type: str = Field(description="Kind of the error, e.g. invalid_request_error.")
    param: str | None = Field(default=None, description="The field that is meant.")
    code: str | None = Field(default=None, description="Always null.")


class ErrorResponse(Strict):
    """An error."""

    error: ErrorDetail

    model_config = examples(
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
        description='Lowest score in the answer; "auto": as the ranker recommends; null: as the server was started.',
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

    model_config = examples(
        {"query": "Combien d'heures de sommeil faut-il à un adulte ?", "top_k": 3, "language": "en"},
        {"query": "How long is a French passport valid?", "threshold": 0.3, "files": ["everyday-facts.jsonl"]},
    )


class MarkedSentence(Strict):
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
    answer: MarkedSentence | None = Field(default=None, description="The sentence that answers; null if not asked for.")
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

    model_config = examples(
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
