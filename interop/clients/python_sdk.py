"""The official Python SDK, unmodified, as a client of the sidecar.

    python_sdk.py http URL ERA
    python_sdk.py unix SOCKET ERA
    python_sdk.py stdio COMMAND...

ERA is `auto` (2026-07-28 where the server has it) or `legacy` (2025-11-25 and its handshake).
"""

import asyncio
import contextlib
import sys

import httpx2
from checks import Checks
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client


@contextlib.asynccontextmanager
async def connected(arguments: list[str]):
    """A client of whatever the command line names."""
    match arguments:
        case ["http", url, era]:
            async with Client(url, mode=era) as client:
                yield client
        case ["unix", socket, era]:
            http = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=socket), timeout=30)
            async with http, Client(streamable_http_client("http://localhost/mcp", http_client=http), mode=era) as client:
                yield client
        case ["stdio", command, *rest]:
            async with Client(StdioServerParameters(command=command, args=rest)) as client:
                yield client
        case _:
            sys.exit(__doc__)


def text_of(result) -> str:
    return "".join(getattr(content, "text", "") for content in result.content)


async def check(client: Client, checks: Checks) -> None:
    print(f"speaks {client.protocol_version}")
    tools = {tool.name for tool in (await client.list_tools()).tools}
    checks.that("the list has what the agent may call", "everything__get-sum" in tools, sorted(tools))
    checks.that("the list has nothing else", "everything__get-env" not in tools, sorted(tools))

    result = await client.call_tool("everything__get-sum", {"a": 20, "b": 22})
    checks.that("a call reaches a stdio server and comes back", "42" in text_of(result), result)
    result = await client.call_tool("remote__get-sum", {"a": 20, "b": 22})
    checks.that("a call reaches an HTTP server and comes back", "42" in text_of(result), result)
    result = await client.call_tool("time__convert_time", {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"})
    checks.that("a call reaches a server in Python and comes back", "21:00" in text_of(result), result)
    result = await client.call_tool("everything__get-structured-content", {"location": "Chicago"})
    checks.that("structured content survives", "temperature" in (result.structured_content or {}), result)
    result = await client.call_tool("everything__get-tiny-image", {})
    checks.that("an image survives", any(content.type == "image" for content in result.content), result)

    result = await client.call_tool("everything__get-env", {})
    checks.that("a call that was not granted is refused as a result", bool(result.is_error), result)
    decision = (result.meta or {}).get("dev.bailiwick/decision", {})
    checks.that("the refusal carries its decision", decision.get("verdict") == "deny", result)
    checks.that("the refusal says its code first", text_of(result).startswith(str(decision.get("code"))), text_of(result))

    told: list[float] = []

    async def progress(at: float, total: float | None, message: str | None) -> None:
        told.append(at)

    result = await client.call_tool("everything__trigger-long-running-operation", {"duration": 0.2, "steps": 4}, progress_callback=progress)
    checks.that("progress is told while the call runs", len(told) >= 2 and not result.is_error, (told, result))

    uris = [str(resource.uri) for resource in (await client.list_resources()).resources]
    uri = next((uri for uri in uris if uri.endswith("/architecture.md")), "")
    checks.that("a resource is listed", uri != "", uris)
    contents = (await client.read_resource(uri)).contents
    checks.that("a resource can be read", bool(contents) and "#" in contents[0].text, contents)
    prompt = await client.get_prompt("everything__simple-prompt")
    checks.that("a prompt can be got", len(prompt.messages) == 1, prompt)


async def main() -> None:
    checks = Checks()
    async with connected(sys.argv[1:]) as client:
        await check(client, checks)
    checks.end()


asyncio.run(main())
