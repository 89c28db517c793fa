"""Log records -> one line of JSON each; and a line for each request, without its question."""

import json
import logging
import time
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bloomz_haystack.files.printable import printable_json
from bloomz_haystack.service.metrics import Metrics

logger = logging.getLogger(__name__)
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class JsonLines(logging.Formatter):
    """Writes a record as a line of JSON: time, level, logger, message, and what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line.

        :param record: of any logger.
        :returns: JSON.
        """
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
        return printable_json(json.dumps(line, ensure_ascii=False, default=str))


class RequestLog:
    """Times each request, logs it and counts it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Keep the app.

        :param app: what answers.
        :param metrics: to count in.
        """
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting_status)
        finally:
            seconds = time.perf_counter() - start
            door = getattr(scope.get("route"), "path", None) or "other"
            self._metrics.requests.labels(door, str(status)).observe(seconds)
            noted = {"method": scope["method"], "path": scope["path"], "status": status, "seconds": round(seconds, 4)}
            logger.info("request", extra=noted)
