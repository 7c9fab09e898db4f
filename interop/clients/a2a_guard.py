"""What stands between agents: whose a task is, who is asked, who may have whom act, and what a revocation cuts.

    a2a_guard.py OWN OTHER ASKER BUNDLE BAILIWICK GATEWAY AGENT

OWN, OTHER and ASKER are the sidecars of three agents; every message of the third has to be approved. AGENT is the
agent that they reach as `writer`, past the gateway. The official SDK, unmodified.
"""

import asyncio
import subprocess
import sys

import httpx
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client import ClientConfig
from a2a.client.client_factory import ClientFactory
from a2a.helpers.proto_helpers import get_artifact_text
from a2a.types import (
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTasksRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
)
from a2a.utils.errors import A2AError, TaskNotFoundError
from a2a.utils.signing import create_signature_verifier
from a2a_sdk import Webhook, fails, is_done, request, sent, state
from checks import Checks
from jwt import PyJWK


def answer(bailiwick: str, bundle: str, word: str, task) -> None:
    """Answers as an operator does what the task says that it waits for."""
    ask = dict(task.status.message.metadata)["dev.bailiwick/decision"]["ask"]
    subprocess.run([bailiwick, "approvals", word, ask, "--dir", bundle], check=True, stdout=subprocess.DEVNULL)


async def settled(client, task):
    for _ in range(400):
        task = await client.get_task(GetTaskRequest(id=task.id))
        if state(task) not in ("TASK_STATE_AUTH_REQUIRED", "TASK_STATE_WORKING", "TASK_STATE_SUBMITTED"):
            break
        await asyncio.sleep(0.02)
    return task


async def check_news_of(mine, theirs, webhook: Webhook, checks: Checks) -> None:
    """Whose news are, and what a webhook can do to who tells them."""
    (event,) = await sent(mine, "ask")
    task = event.task
    wanted = TaskPushNotificationConfig(task_id=task.id, id="mine", url=webhook.url())
    await mine.create_task_push_notification_config(wanted)
    for what, awaited in [
        ("asked for", theirs.create_task_push_notification_config(wanted)),
        ("looked at", theirs.get_task_push_notification_config(GetTaskPushNotificationConfigRequest(task_id=task.id, id="mine"))),
        (
            "given up",
            theirs.delete_task_push_notification_config(DeleteTaskPushNotificationConfigRequest(task_id=task.id, id="mine")),
        ),
    ]:
        seen = await fails(TaskNotFoundError, awaited)
        checks.that(f"news of another agent's task cannot be {what}", seen is None, seen)
    webhook.answers = [(503, {}), (307, {"location": webhook.url("/elsewhere")})]
    await sent(mine, "answer", task=task.id, context=task.context_id)
    news = await webhook.told(lambda news: is_done(news, "1.0", task.id))
    came = webhook.came
    checks.that("news come to an end, whatever a webhook answers", news is not None, came)
    checks.that("what was not heard is told again", len(came) > 1 and came[0][2] == came[1][2], came)
    checks.that("no webhook sends them elsewhere", all(path == "/news" for path, _, _ in came), came)


async def check_card(gateway: str, checks: Checks) -> None:
    """The card as the gateway itself shows it, to whoever comes without a credential."""
    async with httpx.AsyncClient(timeout=30) as http:
        about = (await http.get(f"{gateway}/.well-known/oauth-protected-resource/a2a/writer")).json()
        keys = (await http.get(about["authorization_servers"][0] + "/jwks")).json()["keys"]
        by_id = {key["kid"]: PyJWK(key) for key in keys}
        verifier = create_signature_verifier(lambda kid, _jku: by_id[kid], ["ES256"])
        card = await A2ACardResolver(http, f"{gateway}/a2a/writer").get_agent_card(signature_verifier=verifier)
        checks.that("the card is signed by our issuer", card.name == "writer", card)
        checks.that("it leads to the gateway alone", {one.url for one in card.supported_interfaces} == {about["resource"]}, card)
        checks.that("and shows the declared skills alone", [skill.id for skill in card.skills] == ["words"], card)
        body = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "t"}}
        answer = await http.post(f"{gateway}/a2a/writer", json=body, headers={"A2A-Version": "1.0"})
        checks.that("who comes without a credential gets no further", answer.status_code == 401, answer.text)


async def check(own: str, other: str, asker: str, bundle: str, bailiwick: str, agent: str, checks: Checks) -> None:
    async with httpx.AsyncClient(timeout=60) as http:

        async def client(sidecar: str, agent: str, streaming: bool):
            card = await A2ACardResolver(http, f"{sidecar}/a2a/{agent}").get_agent_card()
            return ClientFactory(ClientConfig(httpx_client=http, streaming=streaming)).create(card)

        mine, theirs = await client(own, "writer", False), await client(other, "writer", False)
        (event,) = await sent(mine, "hello")
        task = event.task
        for what, awaited in [
            ("found", theirs.get_task(GetTaskRequest(id=task.id))),
            ("cancelled", theirs.cancel_task(CancelTaskRequest(id=task.id))),
            ("written to", sent(theirs, "more", task=task.id)),
        ]:
            seen = await fails(TaskNotFoundError, awaited)
            checks.that(f"another agent's task is not {what}", seen is None, seen)
        seen = await fails(A2AError, sent(theirs, "more", context=task.context_id))
        checks.that("nor its context entered", seen is None, seen)
        listed = await theirs.list_tasks(ListTasksRequest())
        checks.that("nor is it listed", task.id not in [one.id for one in listed.tasks], listed)

        seen = await fails(ValueError, sent(await client(own, "other", False), "hello"))
        checks.that("who is not declared to have another act does not", "undeclared_interaction" in str(seen), seen)

        asking, following = await client(asker, "writer", False), await client(asker, "writer", True)
        (event,) = await sent(asking, "hello")
        waits = event.task
        checks.that("what a person has to approve is a task that says so", state(waits) == "TASK_STATE_AUTH_REQUIRED", event)
        checks.that("and in words", "approve" in waits.status.message.parts[0].text, event)
        seen = await fails(TaskNotFoundError, theirs.get_task(GetTaskRequest(id=waits.id)))
        checks.that("it is nobody else's", seen is None, seen)
        stream = aiter(following.subscribe(SubscribeToTaskRequest(id=waits.id)))
        event = await anext(stream)
        checks.that("it can be followed", event.task.id == waits.id, event)
        answer(bailiwick, bundle, "approve", waits)
        events = [event async for event in stream]
        chunks = "".join(get_artifact_text(event.artifact_update.artifact) for event in events if event.HasField("artifact_update"))
        checks.that("once it is approved, who follows it hears what came of it", chunks == "heard: hello", events)
        done = await settled(asking, waits)
        checks.that("and it is found under the same id", (done.id, state(done)) == (waits.id, "TASK_STATE_COMPLETED"), done)

        async with Webhook() as webhook:
            await check_news_of(mine, theirs, webhook, checks)
            asked = request("hello")
            asked.configuration.task_push_notification_config.CopyFrom(TaskPushNotificationConfig(url=webhook.url("/approved")))
            (event,) = [event async for event in asking.send_message(asked)]
            answer(bailiwick, bundle, "approve", event.task)
            news = await webhook.told(lambda news: is_done(news, "1.0", event.task.id))
            checks.that("who waits for a person is told what came of it", news is not None and news[0] == "/approved", webhook.came)

        (event,) = await sent(asking, "no")
        answer(bailiwick, bundle, "refuse", event.task)
        done = await settled(asking, event.task)
        checks.that("what a person refuses is rejected", state(done) == "TASK_STATE_REJECTED", done)
        (event,) = await sent(asking, "never mind")
        done = await asking.cancel_task(CancelTaskRequest(id=event.task.id))
        checks.that("what waits can be cancelled", state(done) == "TASK_STATE_CANCELED", done)

        streaming = await client(own, "writer", True)
        stream = aiter(streaming.send_message(request("slow")))
        first = await anext(stream)
        webhook = await Webhook().__aenter__()
        wanted = TaskPushNotificationConfig(task_id=first.task.id, url=webhook.url())
        await mine.create_task_push_notification_config(wanted)
        subprocess.run([bailiwick, "revoke", "--all", "--reason", "a check", "--dir", bundle], check=True, stdout=subprocess.DEVNULL)
        seen = None
        try:
            async for event in stream:
                seen = event
        except Exception as error:  # noqa: BLE001
            seen = error
        checks.that("a revocation cuts a stream", "execution_ended" in str(seen), (first, seen))
        seen = await fails(TaskNotFoundError, mine.get_task(GetTaskRequest(id=task.id)))
        checks.that("and nothing is done any more", seen is not None, seen)
        directly = ClientFactory(ClientConfig(httpx_client=http, streaming=False)).create(await A2ACardResolver(http, agent).get_agent_card())
        for _ in range(400):
            behind = await directly.get_task(GetTaskRequest(id=first.task.id))
            if state(behind) == "TASK_STATE_CANCELED":
                break
            await asyncio.sleep(0.02)
        checks.that("it cancels the task at the agent", state(behind) == "TASK_STATE_CANCELED", behind)
        checks.that("of which nobody is told any more", "TASK_STATE_CANCELED" not in str(webhook.came), webhook.came)


if __name__ == "__main__":
    checks = Checks()
    asyncio.run(check_card(sys.argv[6], checks))
    asyncio.run(check(*sys.argv[1:6], sys.argv[7], checks))
    checks.end()
