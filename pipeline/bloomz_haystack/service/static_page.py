"""The page: `GET /` and the files it asks for, from this package; nothing else on the disk can be reached."""

import mimetypes
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

PAGE_FOLDER = Path(__file__).parent / "page"
CONTENT_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


def mount_page(app: FastAPI) -> None:
    """Serve the page.

    :param app: to change.
    """
    for suffix, kind in CONTENT_TYPES.items():  # whatever the machine's own list says
        mimetypes.add_type(kind, suffix)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE_FOLDER / "index.html")

    app.mount("/static", StaticFiles(directory=PAGE_FOLDER, check_dir=False), name="static")
