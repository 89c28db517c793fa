"""`/mcp`: the one tool `search_passages`, by the Model Context Protocol (streamable HTTP), in the same process.

The SDK's low-level server, without sessions: every request stands alone. Its other server, `MCPServer`, would put a
handler of its own on the root logger. Token, size and host are checked by the doorkeeper, before anything comes here.
"""

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bloomz_haystack.service.chat_language import UNKNOWN, question_language
from bloomz_haystack.service.chat_sources import numbered_text
from bloomz_haystack.service.errors import ServiceError
from bloomz_haystack.service.search import searched
from bloomz_haystack.service.state import ServiceState
from bloomz_haystack.service.types import MOST_PASSAGES, QuestionText, SearchRequest, SearchResponse
from bloomz_haystack.settings import AskSettings

MCP_PATH = "/mcp"
TOOL = "search_passages"
TOOL_DESCRIPTION = (
    "Find the passages of the user's own documents that answer a question. Ask in French or in English, whatever the "
    "language of the documents. Each passage has a number, the sentence that answers, its file, page and title: cite "
    "passages by their numbers."
)


class PassageQuestion(BaseModel):
    """What the tool is asked."""

    model_config = ConfigDict(extra="forbid", title=TOOL)

    question: QuestionText = Field(description="A whole question, in French or in English.")
    top_k: int = Field(default=AskSettings.top_k, ge=1, le=MOST_PASSAGES, description="Most passages to return.")
    threshold: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="Lowest score of a passage, 0 to 1."
    )


def mount_mcp(app: FastAPI) -> None:
    """Serve the tool.

    :param app: to change; run `app.state.mcp.run()` around its life.
    """

    async def list_tools(_: object, __: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[_tool()])

    async def call_tool(_: object, params: CallToolRequestParams) -> CallToolResult:
        if params.name != TOOL:
            raise MCPError(INVALID_PARAMS, f"there is no tool {params.name!r}: use {TOOL!r}")
        try:
            return await _call(app.state.service, params.arguments or {})
        except ServiceError as error:
            return CallToolResult(content=[TextContent(text=error.detail)], is_error=True)

    server = Server("bloomz", version=version("bloomz-haystack"), on_list_tools=list_tools, on_call_tool=call_tool)
    app.state.mcp = StreamableHTTPSessionManager(server, json_response=True, stateless=True)
    # POST alone: without sessions a stream opened by GET would stay open and say nothing.
    app.add_route(MCP_PATH, app.state.mcp.asgi_app, methods=["POST"], include_in_schema=False)


def _tool() -> Tool:
    return Tool(
        name=TOOL,
        title="Search passages",
        description=TOOL_DESCRIPTION,
        input_schema=PassageQuestion.model_json_schema(),
        output_schema=SearchResponse.model_json_schema(),
        annotations=ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False),
    )


async def _call(state: ServiceState, arguments: dict[str, Any]) -> CallToolResult:
    state.check_ready()
    asked = _checked(arguments)
    found = await searched(
        state, None, SearchRequest(query=asked.question, top_k=asked.top_k, threshold=asked.threshold)
    )
    text = numbered_text(found.passages) or UNKNOWN[question_language(asked.question)]
    content = [TextContent(text=part) for part in [*found.notes, text]]
    return CallToolResult(content=[*content], structured_content=found.model_dump(mode="json"))


def _checked(arguments: dict[str, Any]) -> PassageQuestion:
    try:
        return PassageQuestion.model_validate(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the arguments"
        raise ServiceError(422, f"{place}: {first['msg'].removeprefix('Value error, ')}") from None
