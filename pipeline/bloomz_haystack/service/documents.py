"""`/v1/documents` and `/v1/jobs`: files and texts into the store, the list of what it holds, and out again."""

import asyncio
import json
from hashlib import sha256
from io import BytesIO
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile

from bloomz_haystack.service.document_types import (
    DocumentsRequest,
    FileList,
    JobResponse,
    JobStatus,
    RemoveRequest,
    RemoveResponse,
    StoredFile,
)
from bloomz_haystack.service.errors import ServiceError, client_errors
from bloomz_haystack.service.jobs import TooManyJobsError
from bloomz_haystack.service.state import AnyState, ReadyState, ServiceState
from bloomz_haystack.service.types import MOST_TEXTS
from bloomz_haystack.service.uploads import Upload, safe_name

MOST_LISTED = 200
FIELD = "files"  # of the form

documents_router = APIRouter(tags=["documents"])

_FORM = {
    "type": "object",
    "required": [FIELD],
    "properties": {FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}}},
}
_TEXTS = DocumentsRequest.model_json_schema()
_TEXTS["properties"]["documents"]["items"] = _TEXTS.pop("$defs")["TextDocument"]
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _FORM},
        "application/json": {"schema": _TEXTS},
    },
}


@documents_router.post(
    "/v1/documents", status_code=202, summary="Index files or texts", openapi_extra={"requestBody": _BODY}
)
async def add_documents(request: Request, state: ReadyState) -> JobResponse:
    """Take files (a form with the field `files`) or texts (JSON), and index them as `bloomz index` does.

    The same name again replaces; the same file again costs nothing. GET /v1/jobs/{id} says how far it is.
    """
    _check_writable(state)
    async with state.uploads.taken(None):
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            try:
                async with request.form(max_files=MOST_TEXTS, max_fields=MOST_TEXTS) as form:
                    return await _accepted(state, _uploads(form))
            except FormParserError as error:
                raise ServiceError(400, f"not a form: {error}") from error
        return await _accepted(state, [_texts(await request.body())])


def _check_writable(state: ServiceState) -> None:
    if not state.models.writable:
        raise ServiceError(409, "the store may not be written by this service: ask whoever runs it")


async def _accepted(state: ServiceState, uploads: list[Upload]) -> JobResponse:
    try:
        job = await asyncio.to_thread(state.jobs.accept, uploads)
    except TooManyJobsError:
        raise ServiceError(429, "too many uploads wait to be indexed: try again later", retry_after=10) from None
    except OSError as error:
        raise ServiceError(503, f"the upload could not be kept: {error.strerror}", retry_after=60) from error
    return JobResponse(job=job.model_copy(deep=True))


def _uploads(form: FormData) -> list[Upload]:
    if unknown := [name for name in form if name != FIELD]:
        raise ServiceError(422, f"unknown field {unknown[0]!r}: send the files in the field {FIELD!r}", unknown[0])
    files = form.getlist(FIELD)
    if not files:
        raise ServiceError(422, f"no file came: send them in the field {FIELD!r}", FIELD)
    uploads: dict[str, Upload] = {}
    for file in files:
        if not isinstance(file, UploadFile):
            raise ServiceError(422, f"the field {FIELD!r} must hold a file, with its name", FIELD)
        name = safe_name(file.filename or "")
        if not name:
            raise ServiceError(422, f"a file needs a name, but got {(file.filename or '')[:60]!r}", FIELD)
        if name in uploads:
            raise ServiceError(422, f"two files of this request are named {name!r}: rename one of them", FIELD)
        uploads[name] = Upload(name, file.file)
    return list(uploads.values())


def _texts(body: bytes) -> Upload:
    """Return texts as a .jsonl file, whose name is a hash: the same texts again replace themselves."""
    try:
        wanted = DocumentsRequest.model_validate(json.loads(body))
    except json.JSONDecodeError as error:
        raise ServiceError(400, f"not JSON: {error.msg} at character {error.pos}") from None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        if not isinstance(error, ValidationError):
            raise ServiceError(400, "the body of the request cannot be read: send JSON in UTF-8") from None
        errors = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        raise RequestValidationError(errors) from None
    lines = [json.dumps(document.model_dump(exclude_none=True)) for document in wanted.documents]
    content = "\n".join(lines).encode()
    return Upload(f"texts-{sha256(content).hexdigest()[:16]}.jsonl", BytesIO(content))


@documents_router.get("/v1/jobs/{job}", summary="How far is an upload?")
async def read_job(job: str, state: AnyState) -> JobStatus:
    """Name each file of a job, its state, its passages, and what could not be read."""
    found = state.jobs.find(job)
    if found is None:
        raise ServiceError(404, f"there is no job {job!r}: jobs are forgotten when the service is started again", "job")
    return found.model_copy(deep=True)


@documents_router.get("/v1/documents", summary="List the files of the store")
async def list_documents(
    state: AnyState,
    offset: Annotated[int, Query(ge=0, le=2**31, description="Files to skip.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="Most files in the answer.")] = 50,
) -> FileList:
    """List the files whose passages the store holds, in the order of their names."""

    def work() -> FileList:
        with client_errors():
            files = state.models.catalog.files()
            page = files[offset : offset + limit]
            titles = [state.models.catalog.title(file) for file, _ in page]
            shown = zip(page, titles, strict=True)
            listed = [StoredFile(file=file, passages=passages, title=title) for (file, passages), title in shown]
            return FileList(files=listed, total=len(files))

    return await asyncio.to_thread(work)


@documents_router.delete("/v1/documents", summary="Remove files or passages")
async def remove_documents(wanted: RemoveRequest, state: ReadyState) -> RemoveResponse:
    """Remove the passages of files, or those that match a filter; questions no longer find them."""
    _check_writable(state)
    if (wanted.files is None) == (wanted.filters is None):
        raise ServiceError(422, "name the files to remove, or give filters: one of the two")

    def work() -> RemoveResponse:
        with client_errors():
            return RemoveResponse(removed=_removed(state, wanted))

    return await asyncio.to_thread(work)


def _removed(state: ServiceState, wanted: RemoveRequest) -> int:
    catalog, filters = state.models.catalog, wanted.filters
    if wanted.files is not None:
        if busy := state.jobs.busy() & set(wanted.files):
            raise ServiceError(409, f"{min(busy)!r} is being indexed: wait until its job is done", FIELD)
        filters = catalog.of(wanted.files)
    removed = state.models.store.delete_by_filter(filters or {})
    catalog.changed()
    state.jobs.forget_files()
    return removed
