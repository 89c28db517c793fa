"""What every request passes before it reaches a door: the token, the size and the kind of its body; and what every
answer carries: headers that bind a browser.
"""

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bloomz_haystack.service.errors import ServiceError, error_response
from bloomz_haystack.service.settings import MOST_JSON, ServeSettings, is_loopback

OPEN_PATHS = {"/", "/docs", "/openapi.json", "/healthz", "/readyz", "/favicon.ico"}  # without a token
OPEN_FOLDERS = ("/static/", "/docs/")
UPLOADS = "/v1/documents"
PAGE_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Doorkeeper:
    """Refuses requests without the token, too large, or of a kind that nobody reads."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        """Keep the limits.

        :param app: the doors.
        :param settings: of the service.
        """
        self._app = app
        self._origins = settings.cors_origins
        self._token = settings.token.encode() if settings.token else None
        self._most_upload = settings.max_upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, limit = Headers(scope=scope), self._most_upload if scope["path"] == UPLOADS else MOST_JSON
        try:
            self._check_caller(scope["method"], headers)
            self._check_token(scope["path"], headers)
            _check_kind(scope, headers)
            size = headers.get("content-length", "0")
            _check_size(int(size) if size.isdecimal() else 0, limit)
        except ServiceError as error:
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, _limited(receive, limit), send)

    def _check_caller(self, method: str, headers: Mapping[str, str]) -> None:
        """Refuse what a page of another origin sends: a browser on this machine reaches the service from any page.

        Without a token there is nothing that such a page would have to know. Its host may even be a name of its own
        that leads to this machine (DNS rebinding).
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._token is None and not is_loopback(_host_name(host)):
            raise ServiceError(
                403, f"without a token this service answers to localhost, not to {host!r}: start it with --token-file"
            )
        if origin is None or origin in self._origins or method in ("GET", "HEAD", "OPTIONS"):
            return
        if origin.partition("://")[2] != host:
            raise ServiceError(403, f"pages of {origin} may not call this service: allow them with --cors-origin")

    def _check_token(self, path: str, headers: Mapping[str, str]) -> None:
        if self._token is None or path in OPEN_PATHS or path.startswith(OPEN_FOLDERS):
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self._token)
        if not same or kind.lower() != "bearer":
            raise ServiceError(401, "send the token of this service: Authorization: Bearer TOKEN")


def _host_name(host: str) -> str:
    """Return a host without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # half an address
        return ""


def _check_kind(scope: Scope, headers: Mapping[str, str]) -> None:
    """Refuse a body that is not JSON by name, where only JSON is read: browsers send others from any page."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if scope["method"] not in ("POST", "DELETE") or not scope["path"].startswith("/v1/") or kind == "application/json":
        return
    if scope["path"] == UPLOADS and scope["method"] == "POST" and kind == "multipart/form-data":
        return
    raise ServiceError(415, f"expected a body of Content-Type: application/json, but got {kind or 'none'}")


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ServiceError(413, f"the body of a request here may have {limit:,} bytes, but this one has {size:,}")


def _limited(receive: Receive, limit: int) -> Receive:
    """Count what is read, for a body that does not say how long it is."""
    read = 0

    async def limited() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        _check_size(read, limit)
        return message

    return limited


class BrowserHeaders:
    """Adds the headers that keep a browser from running, framing or sending what is not ours."""

    def __init__(self, app: ASGIApp) -> None:
        """Keep the app.

        :param app: what answers.
        """
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and add the headers to its answer."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)
