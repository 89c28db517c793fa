"""What goes wrong -> one clear line in OpenAI's shape, with its status; never a traceback.

{"error": {"message": "top_k: ...", "type": "invalid_request_error", "param": "top_k", "code": null}}
"""

import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from haystack.document_stores.errors import DocumentStoreError
from haystack.errors import FilterError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from bloomz_haystack.files.printable import printable
from bloomz_haystack.service.types import ErrorDetail, ErrorResponse

logger = logging.getLogger(__name__)

ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}
LONGEST_MESSAGE = 500


class ServiceError(HTTPException):
    """A request that is refused, and why."""

    def __init__(self, status: int, message: str, param: str | None = None, retry_after: int | None = None) -> None:
        """Keep the client's message.

        :param status: of HTTP, 400 or more.
        :param message: one line: what was got, what was expected, what to do.
        :param param: the field of the request that is meant.
        :param retry_after: seconds after which to try again.
        """
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        super().__init__(status, message, headers)
        self.param = param


def error_response(error: HTTPException) -> Response:
    """Return the answer to a request that failed.

    :param error: with the status and the message.
    :returns: its JSON.
    """
    kind = ERROR_TYPES.get(error.status_code, "server_error" if error.status_code >= 500 else "invalid_request_error")
    message = printable(error.detail)
    if len(message) > LONGEST_MESSAGE:
        message = message[: LONGEST_MESSAGE - 1] + "…"
    param = getattr(error, "param", None)
    detail = ErrorDetail(message=message, type=kind, param=None if param is None else printable(param), code=None)
    body = ErrorResponse(error=detail).model_dump_json()
    return Response(body, error.status_code, headers=dict(error.headers or {}), media_type="application/json")


@contextmanager
def client_errors() -> Iterator[None]:
    """Distinguish a client's mistake, and a store that fails, from a mistake of ours.

    :yields: nothing.
    :raises ServiceError: in place of what was raised.
    """
    try:
        yield
    except FilterError as error:
        raise ServiceError(422, f"filters: {error}", "filters") from error
    except (ValueError, TypeError, RecursionError) as error:
        message = "nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
        field = re.match(r"([a-z_]+): ", message)  # our own begin with the field that is meant
        raise ServiceError(422, message, field and field[1]) from error
    except DocumentStoreError as error:
        logger.error("the store failed", extra={"error": str(error)})
        raise ServiceError(503, "the store cannot be used now; the server's log says why", retry_after=30) from error


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of an app one line.

    :param app: to change.
    """
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _own_mistake)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if not isinstance(error, ServiceError):
        error = _worded(error)
    return error_response(error)


def _worded(error: HTTPException) -> HTTPException:
    words = {
        404: "there is nothing at this address: GET /docs lists what there is",
        405: "this address does not take that method: GET /docs lists what there is",
        400: "the body of the request cannot be read: send JSON in UTF-8",
    }
    return HTTPException(error.status_code, words.get(error.status_code, str(error.detail)), error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    return error_response(ServiceError(499, "the client has gone"))


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = [str(part) for part in first["loc"][1:]]
    if first["type"] == "json_invalid":
        return error_response(
            ServiceError(400, f"not JSON: {first['ctx']['error'].removesuffix(' at')} at character {place[0]}")
        )
    param = ".".join(place) or None
    return error_response(ServiceError(422, f"{param or 'the body'}: {_reason(first)}", param))


def _reason(first: dict[str, object]) -> str:
    kind, message = str(first["type"]), str(first["msg"])
    if kind == "extra_forbidden":
        return "unknown field: leave it out (GET /docs lists the fields)"
    if kind == "missing":
        return "is missing"
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    given = first.get("input")
    got = f", but got {given!r:.60}" if isinstance(given, str | int | float) and kind != "value_error" else ""
    return message[:1].lower() + message[1:] + got


async def _own_mistake(request: Request, error: Exception) -> Response:
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    # Without the message of the error, which may quote a question.
    logger.error("mistake", extra={"error": type(error).__name__, "path": request.url.path, "frames": frames[-12:]})
    return error_response(ServiceError(HTTPStatus.INTERNAL_SERVER_ERROR, "a mistake of the server: its log says more"))
