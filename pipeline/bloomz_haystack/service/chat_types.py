"""What passes through the chat's door: OpenAI's chat completions, with the options of a search beside them and the
sources in the message's annotations.
"""

from typing import Any, Literal

from fastapi_openai_compat import ChatCompletion, Choice, Message
from pydantic import BaseModel, ConfigDict, Field

from bloomz_haystack.service.errors import ServiceError
from bloomz_haystack.service.types import (
    MOST_CANDIDATES,
    MOST_PASSAGES,
    MOST_TEXTS,
    JsonObject,
    MarkedSentence,
    ScoreThreshold,
    SearchRequest,
    Strict,
    Text,
)
from bloomz_haystack.settings import AskSettings

# Of OpenAI's interface; handed on to the generator.
SAMPLING = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop")
FRENCH_QUESTION = "Combien d'heures de sommeil faut-il à un adulte ?"


class ChatPart(BaseModel):
    """A part of a message."""

    type: str = Field(description='Only "text" can be asked.')
    text: Text | None = Field(default=None, description="The text.")


class ChatTurn(BaseModel):
    """A message of the conversation; what OpenAI's interface has beside role and content is not looked at."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"] = Field(
        description='The last one of the role "user" is the question; the others are not looked at.'
    )
    content: Text | list[ChatPart] | None = Field(default=None, description="The text, or its parts.")

    def text(self) -> str:
        """Return what can be read of the message."""
        if isinstance(self.content, list):
            return "\n".join(part.text or "" for part in self.content)
        return self.content or ""


class ChatRequest(Strict):
    """A conversation, in OpenAI's shape, with the options of a search."""

    model: Text | None = Field(default=None, description='"bloomz", or the name of the generator.')
    messages: list[ChatTurn] = Field(min_length=1, max_length=MOST_TEXTS, description="The last question counts.")
    stream: bool | None = Field(default=None, description="Send the answer as it is written, by server-sent events.")
    top_k: int = Field(default=AskSettings.top_k, ge=1, le=MOST_PASSAGES, description="Most passages to answer from.")
    candidates: int = Field(
        default=AskSettings.candidates, ge=1, le=MOST_CANDIDATES, description="Passages handed to the ranker."
    )
    threshold: ScoreThreshold = Field(
        default=None,
        description='Lowest score of a passage to answer from; "auto": as the ranker recommends; null: as the server '
        "was started.",
    )
    filters: JsonObject | None = Field(default=None, description="A Haystack filter on the passages' metadata.")
    files: list[Text] | None = Field(
        default=None, min_length=1, max_length=MOST_TEXTS, description="Only passages of these files, by their names."
    )
    language: Literal["fr", "en"] | None = Field(default=None, description="Only passages of this language.")
    temperature: float | None = Field(default=None, ge=0, le=2, description="For the generator.")
    top_p: float | None = Field(default=None, ge=0, le=1, description="For the generator.")
    max_tokens: int | None = Field(default=None, ge=1, description="For the generator.")
    max_completion_tokens: int | None = Field(default=None, ge=1, description="For the generator.")
    seed: int | None = Field(default=None, description="For the generator.")
    stop: Text | list[Text] | None = Field(default=None, description="For the generator.")
    n: Literal[1] | None = Field(default=None, description="One answer, no more.")
    # What clients send as a matter of course.
    stream_options: Any = Field(default=None, description="Not looked at.")
    user: Any = Field(default=None, description="Not looked at.")
    metadata: Any = Field(default=None, description="Not looked at.")
    presence_penalty: Any = Field(default=None, description="Not looked at.")
    frequency_penalty: Any = Field(default=None, description="Not looked at.")
    logit_bias: Any = Field(default=None, description="Not looked at.")
    logprobs: Any = Field(default=None, description="Not looked at.")
    response_format: Any = Field(default=None, description="Not looked at.")
    tools: Any = Field(default=None, description="Not looked at: the service calls none.")
    tool_choice: Any = Field(default=None, description="Not looked at.")
    parallel_tool_calls: Any = Field(default=None, description="Not looked at.")
    reasoning_effort: Any = Field(default=None, description="Not looked at.")
    store: Any = Field(default=None, description="Not looked at.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "bloomz", "messages": [{"role": "user", "content": FRENCH_QUESTION}], "stream": True},
                {"model": "bloomz", "messages": [{"role": "user", "content": "How much sleep does an adult need?"}]},
            ]
        }
    )

    def question(self) -> str:
        """Return the last message of the user.

        :returns: its text.
        :raises ServiceError: 422 if there is none, or it has no text.
        """
        asked = [turn.text() for turn in self.messages if turn.role == "user"]
        if not asked or not asked[-1].strip():
            raise ServiceError(
                422, "messages: the last one of the role user is the question: it has no text", "messages"
            )
        return asked[-1]

    def search(self) -> SearchRequest:
        """Return the search for the passages to answer from."""
        return SearchRequest(
            query=self.question(),
            top_k=self.top_k,
            candidates=self.candidates,
            threshold=self.threshold,
            filters=self.filters,
            files=self.files,
            language=self.language,
        )

    def sampling(self) -> dict[str, Any]:
        """Return the generator's options, beside the prompt."""
        return {name: value for name in SAMPLING if (value := getattr(self, name)) is not None}


class SourcePassage(Strict):
    """A passage that an answer rests on."""

    index: int = Field(description="Its number in the answer: [1] is 1.")
    id: str = Field(description="Of the passage in the store.")
    source: str | None = Field(default=None, description="The file it comes from.")
    page: int | None = Field(default=None, description="The page on which the answer, or else the passage, begins.")
    title: str | None = Field(default=None, description="Of the document.")
    score: float = Field(description="The ranker's probability.")
    answer: MarkedSentence | None = Field(default=None, description="The sentence of the passage that answers.")


class UrlCitation(Strict):
    """A source as OpenAI's clients show it."""

    title: str = Field(description="Of the document, else the name of the file.")
    url: str = Field(description="The passage's meta.url, else the name of the file and the page.")
    start_index: int = Field(description="Where [n] stands in the text; 0 while it is being written.")
    end_index: int = Field(description="The character after it; 0 if it is not cited.")


class SourceAnnotation(Strict):
    """A source."""

    type: Literal["url_citation"] = Field(description="As OpenAI's.")
    url_citation: UrlCitation
    passage: SourcePassage


class ChatMessageAnswer(Message):
    """An answer, or a piece of one."""

    annotations: list[SourceAnnotation] | None = Field(
        default=None, description="The sources in the order of [1], [2]; in a stream in the first piece."
    )
    cited: list[int] | None = Field(
        default=None, description="Numbers that the answer cites; in a stream in the last piece."
    )


class ChatChoice(Choice):
    """The one answer."""

    message: ChatMessageAnswer | None = Field(default=None, description="The answer, if it is not streamed.")
    delta: ChatMessageAnswer | None = Field(default=None, description="A piece of the answer, in a stream.")


class ChatAnswer(ChatCompletion):
    """An answer, or a piece of one, in OpenAI's shape."""

    choices: list[ChatChoice] = Field(description="The one answer.")
    notes: list[str] | None = Field(default=None, description="E.g. that the question was cut.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "chatcmpl-1",
                    "object": "chat.completion",
                    "created": 1790000000,
                    "model": "bloomz",
                    "choices": [
                        {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                    ],
                }
                for text in ("Il faut sept à neuf heures [1].", "An adult needs seven to nine hours [1].")
            ]
        }
    )
