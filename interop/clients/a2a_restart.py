"""Whose a task is, before and after the gateway was ended as a crash does it.

    a2a_restart.py OWN OTHER FILE

OWN and OTHER are the sidecars of two agents. Without FILE, a task is begun and FILE keeps its id; with it, that task is looked for.
"""

import asyncio
import pathlib
import sys

import httpx
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client import ClientConfig
from a2a.client.client_factory import ClientFactory
from a2a.types import GetTaskRequest, ListTasksRequest
from a2a.utils.errors import TaskNotFoundError
from a2a_sdk import fails, sent, state
from checks import Checks


async def check(own: str, other: str, file: pathlib.Path, checks: Checks) -> None:
    async with httpx.AsyncClient(timeout=60) as http:

        async def client(sidecar: str):
            card = await A2ACardResolver(http, f"{sidecar}/a2a/writer").get_agent_card()
            return ClientFactory(ClientConfig(httpx_client=http, streaming=False)).create(card)

        mine, theirs = await client(own), await client(other)
        if not file.exists():
            (event,) = await sent(mine, "hello")
            checks.that("a task is begun", state(event.task) == "TASK_STATE_COMPLETED", event)
            file.write_text(event.task.id)
            return
        task = file.read_text()
        found = await mine.get_task(GetTaskRequest(id=task))
        checks.that("after a crash of the gateway its owner finds the task", found.id == task, found)
        listed = await mine.list_tasks(ListTasksRequest())
        checks.that("and it is listed", task in [one.id for one in listed.tasks], listed)
        seen = await fails(TaskNotFoundError, theirs.get_task(GetTaskRequest(id=task)))
        checks.that("to others it is still as if it were not there", seen is None, seen)


if __name__ == "__main__":
    checks = Checks()
    asyncio.run(check(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), checks))
    checks.end()
