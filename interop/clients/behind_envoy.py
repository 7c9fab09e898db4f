"""The official Python SDK, unmodified, as a client of a tool server behind Envoy; and requests that no client should make.

    behind_envoy.py ORIGIN PLAIN_PORT BEARER BOUND PROOF

BOUND is a credential that is bound to a key, and PROOF proves it for `POST ORIGIN/plain`. What stands at PLAIN_PORT says
which headers came through.
"""

import asyncio
import http.server
import json
import sys
import threading

import httpx2
from checks import Checks
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

ORIGIN, PLAIN_PORT, BEARER, BOUND, PROOF = sys.argv[1:6]


class Plain(http.server.BaseHTTPRequestHandler):
    """Answers any call with the headers that it came with."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"headers": dict(self.headers.items())}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def call(name: str, arguments: dict) -> dict:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


async def through_the_sdk(checks: Checks) -> None:
    http_client = httpx2.AsyncClient(headers={"authorization": f"Bearer {BEARER}"}, timeout=30)
    async with http_client, Client(streamable_http_client(f"{ORIGIN}/mcp", http_client=http_client), mode="legacy") as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        checks.that("a session is opened and lists its tools", "get-sum" in tools, sorted(tools))
        result = await client.call_tool("get-sum", {"a": 20, "b": 22})
        checks.that("a call that is granted passes", "42" in str(result.content), result)
        result = await client.call_tool("get-env", {})
        checks.that("a call that is not granted is refused as a result", bool(result.is_error), result)
        checks.that("and says so by its code", "not_in_role" in str(result.content), result)


def raw(body: object, **headers: str) -> httpx2.Response:
    content = body if isinstance(body, str) else json.dumps(body)
    common = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    return httpx2.post(f"{ORIGIN}/plain", content=content, headers={**common, **headers}, timeout=30)


def by_hand(checks: Checks) -> None:
    bearer = {"authorization": f"Bearer {BEARER}"}
    answer = raw(call("get-sum", {"a": 1, "b": 2}), **bearer, **{"x-bailiwick-decision": "forged"})
    seen = {name.lower(): value for name, value in answer.json()["result"]["headers"].items()}
    checks.that("the tool server learns which record decided", seen.get("x-bailiwick-decision", "").isdigit(), seen)
    checks.that("and never sees the agent's credential", "authorization" not in seen and BEARER not in str(seen), seen)
    answer = raw({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, **bearer, **{"x-bailiwick-decision": "forged"})
    seen = {name.lower(): value for name, value in answer.json()["result"]["headers"].items()}
    checks.that("nobody else says what was decided", "x-bailiwick-decision" not in seen, seen)

    answer = raw(call("get-sum", {"a": 1, "b": 2}))
    challenge = answer.headers.get_list("www-authenticate")
    checks.that("without a credential there is a challenge", answer.status_code == 401 and "resource_metadata" in str(challenge), (answer, challenge))
    answer = raw(call("get-sum", {"a": 1, "b": 2}), authorization=f"Bearer {BOUND}")
    checks.that("a bound credential without its proof is refused", answer.status_code == 401, answer)
    proven = {"authorization": f"DPoP {BOUND}", "dpop": PROOF}
    answer = raw(call("get-sum", {"a": 1, "b": 2}), **proven)
    seen = {name.lower() for name in answer.json().get("result", {}).get("headers", {})}
    checks.that("with its proof it passes, and the proof goes no further", answer.status_code == 200 and "dpop" not in seen, answer.text)
    answer = raw(call("get-sum", {"a": 1, "b": 2}), **proven)
    checks.that("a proof is good for one request", answer.status_code == 401, answer)

    for what, body, status in [
        ("a body of which a part was not handed over", call("get-sum", {"a": 1, "b": 2, "c": "x" * 10_000}), 413),
        ("a body that is no JSON", "{", 400),
        ("a batch", [call("get-sum", {"a": 1, "b": 2})], 400),
        ("a key that stands there twice", '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get-sum","name":"get-env"}}', 400),
    ]:
        answer = raw(body, **bearer)
        checks.that(f"{what} does not pass", answer.status_code == status, (answer, answer.text))
    answer = raw({"jsonrpc": "2.0", "id": 1, "method": "secrets/dump"}, **bearer)
    checks.that("a method that is not known does not pass", "error" in answer.json(), answer.text)


def main() -> None:
    plain = http.server.ThreadingHTTPServer(("127.0.0.1", int(PLAIN_PORT)), Plain)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    checks = Checks()
    asyncio.run(through_the_sdk(checks))
    by_hand(checks)
    checks.end()


main()
