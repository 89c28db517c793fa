"""What browsers read: the page at `/`, the reference of the API at `/docs`, and the files that both ask for.

All of it comes from this package; nothing else on the disk can be reached, and no other machine is asked.
"""

import mimetypes
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

HERE = Path(__file__).parent
CONTENT_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


def mount_pages(app: FastAPI) -> None:
    """Serve both pages.

    :param app: to change.
    """
    for suffix, kind in CONTENT_TYPES.items():  # whatever the machine's own list says
        mimetypes.add_type(kind, suffix)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(HERE / "page/index.html")

    @app.get("/docs", include_in_schema=False)
    async def reference() -> FileResponse:
        return FileResponse(HERE / "reference/index.html")

    app.mount("/static", StaticFiles(directory=HERE / "page"), name="static")
    app.mount("/docs", StaticFiles(directory=HERE / "reference"), name="docs")
