"""What passes through the doors to the store: documents to add, jobs, the list of files, what to remove."""

from typing import Literal

from pydantic import Field

from bloomz_haystack.service.types import MOST_TEXTS, JsonObject, Strict, Text, examples


class TextDocument(Strict):
    """A text to index."""

    content: Text = Field(description="The text.")
    meta: JsonObject | None = Field(default=None, description="Its metadata, which filters can name.")
    title: Text | None = Field(default=None, description="Its title.")


class DocumentsRequest(Strict):
    """Texts to index."""

    documents: list[TextDocument] = Field(min_length=1, max_length=MOST_TEXTS, description="The texts.")

    model_config = examples(
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

    model_config = examples(
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

    model_config = examples(
        {"files": ["sommeil.txt"]}, {"filters": {"field": "meta.language", "operator": "==", "value": "en"}}
    )


class RemoveResponse(Strict):
    """What was removed."""

    removed: int = Field(description="Passages.")
