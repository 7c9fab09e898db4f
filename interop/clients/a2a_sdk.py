"""The official A2A SDK, unmodified, as a client of an agent: directly, or through whatever is in between.

    a2a_sdk.py URL BINDING VERSION [gateway]

URL is where the agent's card is found, BINDING `JSONRPC` or `HTTP+JSON`, VERSION `1.0` or `0.3`; `1.0-unlisted` of an
agent that cannot list its tasks. With `gateway` it is reached through one, which takes no address for news that it should not.
"""

import asyncio
import contextlib
import json
import socket
import sys
import uuid

import httpx
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client import ClientConfig
from a2a.client.client_factory import ClientFactory
from a2a.helpers.proto_helpers import get_artifact_text, new_text_part
from a2a.types import (
    AuthenticationInfo,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    Message,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a.utils.errors import A2AError, TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError
from checks import Checks


def request(text: str, *, task: str = "", context: str = "", at_once: bool = False) -> SendMessageRequest:
    message = Message(message_id=str(uuid.uuid4()), role=Role.ROLE_USER, task_id=task, context_id=context, parts=[new_text_part(text)])
    return SendMessageRequest(message=message, configuration=SendMessageConfiguration(return_immediately=at_once))


async def sent(client, *arguments, **named) -> list:
    return [event async for event in client.send_message(request(*arguments, **named))]


async def fails(kind, awaited) -> object:
    """What was raised, if it is not of the kind that is wanted; nothing if it is."""
    try:
        result = await awaited
    except kind:
        return None
    except A2AError as other:
        return repr(other)
    except Exception as other:  # noqa: BLE001
        return repr(other)
    return result


def state(task) -> str:
    return TaskState.Name(task.status.state)


async def check(url: str, binding: str, version: str, way: str, checks: Checks) -> None:
    version, _, unlisted = version.partition("-")
    async with httpx.AsyncClient(timeout=30) as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        interfaces = [one for one in card.supported_interfaces if (one.protocol_binding, one.protocol_version[:3]) == (binding, version)]
        checks.that("the card names the interface", bool(interfaces), card)
        checks.that("the card leads to where it was found", all(one.url.startswith(url.rsplit("/a2a/")[0]) for one in interfaces), card)
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(interfaces)

        def client(streaming: bool):
            config = ClientConfig(httpx_client=http, streaming=streaming, supported_protocol_bindings=[binding])
            return ClientFactory(config).create(card)

        plain, streaming = client(False), client(True)

        (event,) = await sent(plain, "hello ü")
        task = event.task
        checks.that("a message makes a task that is done", state(task) == "TASK_STATE_COMPLETED", event)
        checks.that("its artifact comes back", [get_artifact_text(one) for one in task.artifacts] == ["heard: hello ü"], event)
        checks.that("the task has a context", bool(task.context_id), event)

        (event,) = await sent(plain, "message hi")
        checks.that("a message may be answered with a message", event.HasField("message") and event.message.parts[0].text == "hi", event)

        (event,) = await sent(plain, "data")
        parts = event.task.artifacts[0].parts
        checks.that("data survives", parts[0].data.struct_value["nested"]["text"] == "ü", event)
        checks.that("bytes survive", (parts[1].raw, parts[1].filename) == (b"\x00\xff", "x.bin"), event)
        checks.that("a link survives", parts[2].url == "https://files.example/x", event)

        events = await sent(streaming, "stream 5")
        kinds = [event.WhichOneof("payload") for event in events]
        checks.that("a stream begins with the task", kinds[0] == "task", kinds)
        chunks = "".join(get_artifact_text(event.artifact_update.artifact) for event in events if event.HasField("artifact_update"))
        checks.that("each event of it comes, in order", chunks == "0;1;2;3;4;", events)
        last = events[-1].status_update
        checks.that("it ends with how the task ended", TaskState.Name(last.status.state) == "TASK_STATE_COMPLETED", events[-1])

        events = await sent(streaming, "message hi")
        checks.that("a stream may be one message", [event.WhichOneof("payload") for event in events] == ["message"], events)

        got = await plain.get_task(GetTaskRequest(id=task.id))
        checks.that("a task is found again", (got.id, state(got)) == (task.id, "TASK_STATE_COMPLETED"), got)
        if version == "1.0" and not unlisted:
            got = await plain.get_task(GetTaskRequest(id=task.id, history_length=0))
            checks.that("its history is as long as was asked", len(got.history) == 0, got)
        seen = await fails(TaskNotFoundError, plain.get_task(GetTaskRequest(id="nobody's")))
        checks.that("a task that is not there is not found", seen is None, seen)
        seen = await fails(TaskNotCancelableError, plain.cancel_task(CancelTaskRequest(id=task.id)))
        checks.that("a task that has ended cannot be cancelled", seen is None, seen)
        seen = await fails(TaskNotFoundError, plain.cancel_task(CancelTaskRequest(id="nobody's")))
        checks.that("a task that is not there cannot be cancelled", seen is None, seen)

        async def first(stream):
            async for event in stream:
                return event

        seen = await fails(UnsupportedOperationError, first(streaming.subscribe(SubscribeToTaskRequest(id=task.id))))
        checks.that("a task that has ended cannot be followed", seen is None, seen)
        seen = await fails(A2AError, sent(plain, "more", task=task.id))
        checks.that("a task that has ended takes no more messages", seen is None, seen)
        seen = await fails(TaskNotFoundError, sent(plain, "more", task="nobody's"))
        checks.that("a message to a task that is not there is refused", seen is None, seen)
        seen = await fails(A2AError, sent(plain, "more", task=task.id, context="another"))
        checks.that("a message to a task in another context is refused", seen is None, seen)

        (event,) = await sent(plain, "ask")
        checks.that("an agent may ask for more", state(event.task) == "TASK_STATE_INPUT_REQUIRED", event)
        (event,) = await sent(plain, "answer", task=event.task.id, context=event.task.context_id)
        checks.that("and goes on with it", state(event.task) == "TASK_STATE_COMPLETED", event)

        (event,) = await sent(plain, "hello", context="chosen-" + str(uuid.uuid4()))
        checks.that("a context of the client's choice is kept", event.task.context_id.startswith("chosen-"), event)

        (event,) = await sent(plain, "slow", at_once=True)
        slow = event.task
        checks.that("who does not wait is answered at once", state(slow) in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"), event)
        stream = streaming.subscribe(SubscribeToTaskRequest(id=slow.id))
        event = await anext(aiter(stream))
        checks.that("a task can be followed, from where it is", event.task.id == slow.id, event)
        cancelled = await plain.cancel_task(CancelTaskRequest(id=slow.id))
        checks.that("a task can be cancelled", state(cancelled) == "TASK_STATE_CANCELED", cancelled)
        events = [event async for event in stream]
        ended = [TaskState.Name(event.status_update.status.state) for event in events if event.HasField("status_update")]
        checks.that("who follows it hears of it", ended[-1:] == ["TASK_STATE_CANCELED"], events)

        if version == "1.0" and unlisted:
            seen = await fails(UnsupportedOperationError, plain.list_tasks(ListTasksRequest()))
            checks.that("what the agent's version does not have is not supported", seen is None, seen)
        elif version == "1.0":
            listed = await plain.list_tasks(ListTasksRequest())
            ids = {task.id for task in listed.tasks}
            checks.that("tasks are listed", task.id in ids and slow.id in ids, listed)
            checks.that("without artifacts, unless asked for", all(not task.artifacts for task in listed.tasks), listed)
            seen, token = [], ""
            while True:
                page = await plain.list_tasks(ListTasksRequest(page_size=2, page_token=token))
                seen += [task.id for task in page.tasks]
                token = page.next_page_token
                if not token or len(seen) > 50:
                    break
            checks.that("page by page, each once", len(seen) == len(set(seen)) and set(seen) == ids, seen)
            listed = await plain.list_tasks(ListTasksRequest(context_id=task.context_id))
            checks.that("of one context", [one.id for one in listed.tasks] == [task.id], listed)
        await check_news(plain, version, way, checks)
        extended = await plain.get_extended_agent_card(GetExtendedAgentCardRequest())
        checks.that("the extended card comes", "words" in [skill.id for skill in extended.skills], extended)


class Webhook:
    """Where news come in, as a client of A2A has it: what came, and what is answered to the next."""

    def __init__(self) -> None:
        self.came: list[tuple[str, dict, dict]] = []
        self.answers: list[tuple[int, dict]] = []
        self.more = asyncio.Event()
        self.server: asyncio.Server | None = None

    async def __aenter__(self) -> "Webhook":
        self.server = await asyncio.start_server(self.take, "localhost", 0, family=socket.AF_INET)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    def url(self, path: str = "/news") -> str:
        return f"http://localhost:{self.server.sockets[0].getsockname()[1]}{path}"

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
                body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))))
                status, more = self.answers.pop(0) if self.answers else (200, {})
                self.came.append((head[0].split(" ")[1], headers, body))
                self.more.set()
                lines = [f"HTTP/1.1 {status} Said", "content-length: 0", *(f"{name}: {value}" for name, value in more.items())]
                writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
                await writer.drain()
        writer.close()

    async def told(self, holds) -> tuple[str, dict, dict] | None:
        """The first that came of which this holds, waited for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                while True:
                    for one in self.came:
                        if holds(one[2]):
                            return one
                    self.more.clear()
                    await self.more.wait()
        return None


def is_done(news: dict, version: str, task: str) -> bool:
    """Whether a piece of news tells that the task is completed: an event in 1.0, the task itself in 0.3, which the SDK sends to nobody."""
    if version == "0.3":
        return news.get("id") == task and news["status"]["state"] == "completed"
    update, whole = news.get("statusUpdate", {}), news.get("task", {})
    states = [update.get("status", {}).get("state")] if update.get("taskId") == task else []
    states += [whole.get("status", {}).get("state")] if whole.get("id") == task else []
    return "TASK_STATE_COMPLETED" in states


async def check_news(plain, version: str, way: str, checks: Checks) -> None:
    """Push notifications: where they are sent, as what, and how that is managed."""
    version = version if way == "gateway" else "1.0"
    async with Webhook() as webhook:
        (event,) = await sent(plain, "ask")
        task = event.task
        authentication = AuthenticationInfo(scheme="Bearer", credentials="opensesame")
        wanted = TaskPushNotificationConfig(
            task_id=task.id, id="mine", url=webhook.url(), token="known-again", authentication=authentication
        )
        made = await plain.create_task_push_notification_config(wanted)
        checks.that("news of a task can be asked for", (made.id, made.url, made.task_id) == ("mine", webhook.url(), task.id), made)
        got = await plain.get_task_push_notification_config(GetTaskPushNotificationConfigRequest(task_id=task.id, id="mine"))
        checks.that("where they go is told again", (got.id, got.url, got.token) == ("mine", webhook.url(), "known-again"), got)
        listed = await plain.list_task_push_notification_configs(ListTaskPushNotificationConfigsRequest(task_id=task.id))
        checks.that("and listed", [one.id for one in listed.configs] == ["mine"], listed)
        await sent(plain, "answer", task=task.id, context=task.context_id)
        news = await webhook.told(lambda news: is_done(news, version, task.id))
        checks.that("news come when the task is done", news is not None, webhook.came)
        headers = news[1] if news else {}
        checks.that("with what they are to be authenticated by", headers.get("authorization") == "Bearer opensesame", headers)
        checks.that("and known again by", headers.get("x-a2a-notification-token") == "known-again", headers)
        for _ in range(2):
            await plain.delete_task_push_notification_config(DeleteTaskPushNotificationConfigRequest(task_id=task.id, id="mine"))
        listed = await plain.list_task_push_notification_configs(ListTaskPushNotificationConfigsRequest(task_id=task.id))
        checks.that("they can be given up, twice too", not listed.configs, listed)
        seen = await fails(
            A2AError, plain.get_task_push_notification_config(GetTaskPushNotificationConfigRequest(task_id=task.id, id="mine"))
        )
        checks.that("what was given up is not found", seen is None, seen)
        seen = await fails(
            TaskNotFoundError, plain.list_task_push_notification_configs(ListTaskPushNotificationConfigsRequest(task_id="nobody's"))
        )
        checks.that("nor news of a task that is not there", seen is None, seen)

        asked = request("hello")
        asked.configuration.task_push_notification_config.CopyFrom(TaskPushNotificationConfig(url=webhook.url("/inline")))
        (event,) = [event async for event in plain.send_message(asked)]
        done = event.task.id
        news = await webhook.told(lambda news: is_done(news, version, done))
        checks.that("news can be asked for with the message", news is not None and news[0] == "/inline", webhook.came)

        if way == "gateway":
            for url in ("http://169.254.169.254/", "https://10.0.0.1/", "http://127.0.0.1:1/", "http://hooks.example/", "https://[::1]/"):
                seen = await fails(
                    A2AError, plain.create_task_push_notification_config(TaskPushNotificationConfig(task_id=task.id, url=url))
                )
                checks.that(f"no news go to {url}", seen is None or "dev.bailiwick" in str(seen) or "approv" in str(seen), seen)


if __name__ == "__main__":
    checks = Checks()
    asyncio.run(check(*sys.argv[1:4], "".join(sys.argv[4:]), checks))
    checks.end()
