"""The tool `search_passages`, by the official client over streamable HTTP; who may come in; and whose log it is."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
import pytest
from mcp import MCPError
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

from bloomz_haystack.service.chat_language import UNKNOWN

FRENCH, ENGLISH = "Combien d'heures de sommeil faut-il à un adulte ?", "How many hours of sleep does an adult need?"

Serve = Callable[..., httpx.Client]


@asynccontextmanager
async def connected(service: httpx.Client, mode: str = "auto", **headers: str) -> AsyncIterator[Client]:
    """The official client, connected."""
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        transport = streamable_http_client(f"{service.base_url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


def text_of(result: CallToolResult) -> str:
    """Return the last text of a result."""
    content = result.content[-1]
    assert isinstance(content, TextContent)
    return content.text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_there_is_one_tool(served: httpx.Client, mode: str) -> None:
    async with connected(served, mode) as client:
        [tool] = (await client.list_tools()).tools
        capabilities = client.server_capabilities
    assert tool.name == "search_passages"
    assert tool.input_schema["properties"].keys() == {"question", "top_k", "threshold"}
    assert tool.input_schema["required"] == ["question"]
    assert tool.annotations
    assert tool.annotations.read_only_hint
    assert capabilities is not None
    assert (capabilities.resources, capabilities.prompts) == (None, None)


@pytest.mark.parametrize("question", [FRENCH, ENGLISH])
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_it_finds_what_a_search_finds(served: httpx.Client, question: str, mode: str) -> None:
    expected = served.post("/v1/search", json={"query": question, "top_k": 3}).json()
    async with connected(served, mode) as client:
        result = await client.call_tool("search_passages", {"question": question, "top_k": 3})
    assert not result.is_error
    structured = result.structured_content
    assert structured is not None
    assert [passage["id"] for passage in structured["passages"]] == [passage["id"] for passage in expected["passages"]]
    for index, passage in enumerate(expected["passages"], 1):
        assert f"[{index}] {passage['content']}" in text_of(result)
        assert structured["passages"][index - 1]["answer"]["text"] == passage["answer"]["text"]


async def test_many_at_once_get_their_own_answers(served: httpx.Client) -> None:
    questions = [FRENCH, ENGLISH] * 4
    async with connected(served) as client:
        results = await asyncio.gather(
            *(client.call_tool("search_passages", {"question": question, "top_k": 1}) for question in questions)
        )
    assert [result.structured_content["query"] for result in results if result.structured_content] == questions


async def test_nothing_reaches_the_threshold(served: httpx.Client) -> None:
    async with connected(served) as client:
        result = await client.call_tool("search_passages", {"question": FRENCH, "threshold": 1.0})
    assert text_of(result) == UNKNOWN["fr"]
    assert result.structured_content
    assert (result.structured_content["passages"], result.structured_content["threshold"]) == ([], 1.0)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "question: Field required"),
    ({"question": " "}, "question: is empty"),
    ({"question": FRENCH, "top_k": 0}, "top_k: Input should be greater than or equal to 1"),
    ({"question": FRENCH, "threshold": 2}, "threshold: Input should be less than or equal to 1"),
    ({"question": FRENCH, "path": "/etc/passwd"}, "path: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("arguments", "line"), WRONG)
async def test_a_wrong_argument_is_one_line(served: httpx.Client, arguments: dict[str, Any], line: str) -> None:
    async with connected(served) as client:
        result = await client.call_tool("search_passages", arguments)
    assert result.is_error
    assert text_of(result).startswith(line)
    assert "\n" not in text_of(result)


async def test_another_tool_does_not_exist(served: httpx.Client) -> None:
    async with connected(served) as client:
        with pytest.raises(MCPError, match="there is no tool 'deploy_pipeline'"):
            await client.call_tool("deploy_pipeline", {})


async def test_the_token_is_that_of_the_service(serve: Serve) -> None:
    service = serve(token="s3cret")
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answer = service.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "authentication_error"
    async with connected(service, Authorization="Bearer s3cret") as client:
        assert not (await client.call_tool("search_passages", {"question": FRENCH})).is_error
    async with connected(service, Authorization="Bearer s3cret", Host="search.example.org") as client:
        assert len((await client.list_tools()).tools) == 1


def test_without_a_token_only_this_machine_may_call(served: httpx.Client) -> None:
    """DNS rebinding: a page of evil.example that leads its own name to 127.0.0.1."""

    def status(**headers: str) -> int:
        headers["Accept"] = "application/json, text/event-stream"
        return served.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers=headers).status_code

    port = served.base_url.port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "[", "", f"192.168.1.2:{port}"):
        assert status(Host=host) == 403, host
    for origin in ("http://evil.example", "null", "http://127.0.0.1.evil.example", "http://["):
        assert status(Origin=origin) == 403, origin
    assert status() < 400
    assert status(Host=f"localhost:{port}", Origin=f"http://localhost:{port}") < 400
    assert status(Host=f"[::1]:{port}") < 400


def test_what_is_not_mcp_is_refused(served: httpx.Client) -> None:
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    assert served.post("/mcp", content=b"{", headers=headers).status_code == 400
    assert served.post("/mcp", content=b"{}", headers=headers | {"Content-Type": "text/plain"}).status_code == 400
    assert served.post("/mcp", content=b"x" * 5_000_000, headers=headers).status_code == 413
    assert served.get("/mcp", headers={"Accept": "text/event-stream"}).status_code == 405


def test_the_log_stays_ours(served: httpx.Client) -> None:
    assert served.get("/healthz").status_code == 200
    assert not [handler for handler in logging.getLogger().handlers if "Rich" in type(handler).__name__]
    assert logging.getLogger("mcp").handlers == []
