"""A person's agent that has another agent act, which calls a tool: each with the official SDKs, none knowing of a gateway.

    a2a_hops.py AGENT BEHIND TOOLS TEAM

AGENT is where the other agent is reached, BEHIND its own address, and TOOLS the MCP endpoint that it is given. TEAM is
where one is reached that works on two messages at once, and passes on their traces.
"""

import asyncio
import sys

import httpx
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client import ClientConfig
from a2a.client.client_factory import ClientFactory
from a2a.helpers.proto_helpers import get_artifact_text
from a2a.types import GetTaskRequest, TaskState
from a2a_sdk import sent
from checks import Checks
from mcp import Client

CONVERT = 'call time__convert_time {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}'
CLOCK = 'call clock__get_current_time {"timezone": "UTC"}'
CURRENT = 'call time__get_current_time {"timezone": "UTC"}'


async def check(agent: str, behind: str, tools: str, team: str, checks: Checks) -> None:
    async with httpx.AsyncClient(timeout=60) as http:
        card = await A2ACardResolver(http, agent).get_agent_card()

        def client(streaming: bool):
            return ClientFactory(ClientConfig(httpx_client=http, streaming=streaming)).create(card)

        plain, streaming = client(False), client(True)

        def said(event) -> str:
            return "".join(get_artifact_text(one) for one in event.task.artifacts)

        (event,) = await sent(plain, CONVERT)
        checks.that("what both may do is done, for the first by the second", "21:00" in said(event), event)
        (event,) = await sent(plain, CURRENT)
        checks.that("the second cannot do for the first what that may not", "error:" in said(event), event)
        checks.that("and says why", "beyond_delegation" in said(event), event)

        (event,) = await sent(plain, CLOCK)
        checks.that("nor does it do for the first what it may not itself", "error:" in said(event) or "Unknown tool" in said(event), event)

        events = await sent(streaming, CONVERT)
        chunks = "".join(get_artifact_text(event.artifact_update.artifact) for event in events if event.HasField("artifact_update"))
        checks.that("so it is over a stream", "21:00" in chunks, events)

        events = await asyncio.gather(*(sent(plain, CONVERT) for _ in range(4)))
        checks.that("messages that come at once are each worked on", all("21:00" in said(event) for (event,) in events), events)

        (event,) = await sent(plain, CONVERT, at_once=True)
        task = event.task
        for _ in range(200):
            if TaskState.Name(task.status.state) == "TASK_STATE_COMPLETED":
                break
            await asyncio.sleep(0.05)
            task = await plain.get_task(GetTaskRequest(id=task.id))
        checks.that("a task that goes on after its message was answered is still for its sender", "21:00" in said_of(task), task)

        card = await A2ACardResolver(http, team).get_agent_card()
        team = ClientFactory(ClientConfig(httpx_client=http, streaming=False)).create(card)
        both = CONVERT.removeprefix("call ")
        events = await asyncio.gather(*(sent(team, f"together 2 {both}") for _ in range(2)))
        checks.that("with their traces two messages are worked on at once", all("21:00" in said(event) for (event,) in events), events)
        events = await asyncio.gather(*(sent(team, f"together 2 untraced {both}") for _ in range(2)))
        refused = [said(event).startswith("error:") for (event,) in events]
        checks.that("a call that could be for either is refused", all(refused), events)

    # With nobody's message under way the second agent has no authority at all, whatever it wants. The sidecar looks four times a second
    # whether a task that goes on has ended.
    seen = None
    for _ in range(100):
        try:
            async with Client(tools) as alone:
                arguments = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
                await alone.call_tool("time__convert_time", arguments)
        except Exception as error:  # noqa: BLE001
            seen = error
            break
        await asyncio.sleep(0.05)
    checks.that("alone it can act for nobody", seen is not None)
    async with httpx.AsyncClient(timeout=30) as http:
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": CONVERT}]}
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
        answer = await http.post(f"{behind}/rpc", json=body, headers={"A2A-Version": "1.0"})
        checks.that("nor when it is spoken to past the gateway", "21:00" not in answer.text, answer.text)


def said_of(task) -> str:
    return "".join(get_artifact_text(one) for one in task.artifacts)


if __name__ == "__main__":
    checks = Checks()
    asyncio.run(check(*sys.argv[1:5], checks))
    checks.end()
