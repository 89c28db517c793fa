"""`bloomz serve`: reads arguments, runs the service until it is stopped."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import (
    INTEGER,
    NOT_NEGATIVE,
    THRESHOLD,
    ModelOption,
    PipelineOption,
    PrecisionOption,
    StoreUnlessPipeline,
    WaitOption,
    changed_settings,
    check_source,
)
from bloomz_haystack.cli.errors import one_line_errors, say
from bloomz_haystack.cli.models import prepare_hub
from bloomz_haystack.service.settings import ServeSettings, check_token
from bloomz_haystack.settings import AskSettings

TOKEN_VARIABLE = "BLOOMZ_TOKEN"  # noqa: S105  # its name, not the token
GRACE_SECONDS = 30  # that a request has to end after SIGTERM


def serve_verb(
    store: StoreUnlessPipeline = None,
    pipeline: PipelineOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine it needs a token.")] = (
        ServeSettings.host
    ),
    port: Annotated[int, typer.Option(help="Port to listen on.", **NOT_NEGATIVE)] = ServeSettings.port,
    model: ModelOption = None,
    ranker: Annotated[str, typer.Option(help="Ranker: Hub name or folder.")] = AskSettings.ranker,
    threshold: Annotated[
        float | None,
        typer.Option(help='Lowest score in an answer, 0 to 1, or "auto".', show_default=False, **THRESHOLD),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the token that clients must send; or set {TOKEN_VARIABLE}.", show_default=False),
    ] = None,
    log_questions: Annotated[bool, typer.Option("--log-questions", help="Write questions to the log.")] = False,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin of a web page that may call, e.g. https://example.org.", show_default=False),
    ] = None,
    prefix_cache: Annotated[
        str | None, typer.Option(help="Memory for cached passage states, e.g. 2GB.", show_default=False)
    ] = None,
    prefix_cache_folder: Annotated[
        Path | None, typer.Option(help="Keep that cache in this folder, for later runs.", show_default=False)
    ] = None,
    precision: PrecisionOption = None,
    generator: Annotated[
        str | None,
        typer.Option(
            help="Address of an OpenAI-compatible server that words answers, e.g. http://127.0.0.1:11434/v1.",
            show_default=False,
        ),
    ] = None,
    generator_model: Annotated[str | None, typer.Option(help="Its model.", show_default=False)] = None,
    max_upload: Annotated[
        int, typer.Option(help="Bytes in one upload, at most.", **INTEGER)
    ] = ServeSettings.max_upload,
    slots: Annotated[int, typer.Option(help="Requests computed at the same time.", **INTEGER)] = ServeSettings.slots,
    waiting: Annotated[
        int, typer.Option(help="Requests that may wait; more are refused with 503.", **NOT_NEGATIVE)
    ] = ServeSettings.waiting,
    wait: WaitOption = AskSettings.wait,
) -> None:
    """Serve a store over HTTP: search, rerank, embeddings, documents, chat, MCP, and a page for people."""
    with one_line_errors(stopped="nothing was changed"):
        check_source(store, pipeline)
        ask = AskSettings(
            model=model,
            ranker=ranker,
            threshold=threshold,
            prefix_cache=prefix_cache,
            prefix_cache_folder=prefix_cache_folder,
            precision=precision,  # type: ignore[arg-type]  # checked by its parser
            wait=wait,
        )
        if pipeline:
            changed_settings(ask, allowed=())
        settings = ServeSettings(
            store,
            ask,
            pipeline=pipeline,
            host=host,
            port=port,
            token=_read_token(token_file),
            log_questions=log_questions,
            cors_origins=tuple(cors_origin or ()),
            generator=generator,
            generator_model=generator_model,
            max_upload=max_upload,
            slots=slots,
            waiting=waiting,
        )
        with _listening(settings) as listener:
            _run(settings, listener)


def _read_token(file: Path | None) -> str | None:
    if file is not None:
        return check_token(file.read_text(encoding="utf-8", errors="replace"))
    text = os.environ.get(TOKEN_VARIABLE, "")
    return check_token(text) if text.strip() else None


@contextmanager
def _listening(settings: ServeSettings) -> Iterator[socket.socket]:
    """Take the port before the models are loaded: a port in use shows at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            reason = error.strerror or str(error)
            raise ValueError(
                f"cannot listen on {settings.host} port {settings.port}: {reason.lower()}; choose another --port"
            ) from None
        yield listener


def _run(settings: ServeSettings, listener: socket.socket) -> None:
    try:
        import uvicorn

        from bloomz_haystack.service.app import create_app
        from bloomz_haystack.service.log import JsonLines
    except ImportError as error:
        raise ImportError(f'{error.name} is not installed: pip install "bloomz-haystack[serve]"') from error
    app = create_app(settings, on_failure=lambda: setattr(server, "should_exit", True))
    state = app.state.service
    prepare_hub(state.models.answerer.model, state.models.answerer.ranker)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("bloomz_haystack.service").setLevel(logging.INFO)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.handle_exit)
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    listener.listen(config.backlog)  # who reads the address may connect at once, and waits for the server
    logging.getLogger("bloomz_haystack.service").info("serving", extra={"address": address})
    if sys.stderr.isatty():
        say(f"{address} (Ctrl-C stops)")
    server.run(sockets=[listener])
    if state.failure is not None:
        raise state.failure
