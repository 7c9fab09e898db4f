"""What a card is believed for: one that its agent's key has signed, as it was reviewed.

    a2a_cards.py OWN AGENT BUNDLE BAILIWICK

OWN is the sidecar of an agent that reaches AGENT as `signed`, with the key that it signs its card by, and as `forged`, with another.
"""

import asyncio
import pathlib
import subprocess
import sys

import httpx
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client import ClientConfig
from a2a.client.client_factory import ClientFactory
from a2a_sdk import sent, state
from checks import Checks


async def check(own: str, agent: str, bundle: str, bailiwick: str, checks: Checks) -> None:
    def review(*arguments: str) -> str:
        ended = subprocess.run([bailiwick, "servers", "review", *arguments, "--dir", bundle], capture_output=True, text=True, check=False)
        return ended.stdout + ended.stderr

    async with httpx.AsyncClient(timeout=30) as http:
        card = await A2ACardResolver(http, f"{own}/a2a/signed").get_agent_card()
        client = ClientFactory(ClientConfig(httpx_client=http, streaming=False)).create(card)

        async def said() -> str:
            try:
                (event,) = await sent(client, "hello")
            except Exception as error:  # noqa: BLE001
                return repr(error)
            return state(event.task)

        seen = await said()
        checks.that("a card signed by the declared key is believed", seen == "TASK_STATE_COMPLETED", seen)
        seen = review("forged")
        checks.that("one that another key should have signed is not", "no signature of the declared" in seen, seen)
        answer = await http.get(f"{own}/a2a/forged/.well-known/agent-card.json")
        checks.that("and is shown to nobody", answer.status_code == 503, answer.text)

        before = (await http.get(f"{own}/a2a/signed/.well-known/agent-card.json")).json()
        await http.post(f"{agent}/changed")
        # Cards are looked at once a minute, and whenever the bundle changes.
        with (pathlib.Path(bundle) / "servers" / "signed.toml").open("a") as file:
            file.write("# looked at again\n")
        for _ in range(400):
            seen = await said()
            if "tool_changed" in seen:
                break
            await asyncio.sleep(0.05)
        checks.that("an agent whose card says something else is held back", "tool_changed" in seen, seen)
        after = (await http.get(f"{own}/a2a/signed/.well-known/agent-card.json")).json()
        checks.that("while others are shown what was reviewed", before["description"] == after["description"], after)
        review("signed", "--all")
        for _ in range(400):
            seen = await said()
            if seen == "TASK_STATE_COMPLETED":
                break
            await asyncio.sleep(0.05)
        checks.that("once somebody has reviewed it, it is reached again", seen == "TASK_STATE_COMPLETED", seen)


if __name__ == "__main__":
    checks = Checks()
    asyncio.run(check(*sys.argv[1:5], checks))
    checks.end()
