#!/usr/bin/env python3
"""One AgentDojo suite as a real MCP server over Streamable HTTP on loopback.

MCP endpoint   http://127.0.0.1:PORT/mcp            (put the gateway under test in front of this)
Control        http://127.0.0.1:CONTROL_PORT        (never through the gateway)
  POST /case     {"user_task": "user_task_0", "injection_task": "injection_task_1" | null, "encode": [..], "own": [..]}
                 loads a fresh environment: benign, or with the attack text in the vectors which the user task reads;
                 the values in `encode` stand there in Base64; what carries the attack text is sent by each of `own`
  GET  /calls    the calls which really reached this server, in order
  GET  /verdict  AgentDojo's own utility and security checks over what was really executed
"""

from __future__ import annotations

import common  # first: pins the hash seed and the clock

import argparse
import asyncio
import hmac
import json
import logging
import pathlib

import mcp_types as types
import uvicorn
from pydantic import BaseModel
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from agentdojo.functions_runtime import FunctionCall

from attacker import encoded, is_attack
from common import DEFAULT_ATTACK, SUITES, attack_of, judge, make_env, run_call, runtime_of, suite_of


def sent_by(item, own: list[str]) -> list:
    """An entry that carries the attack text once from each of these senders; any other as it is."""
    if not isinstance(item, BaseModel) or "sender" not in type(item).model_fields:
        return [item]
    carries = any(isinstance(text, str) and is_attack(text) for text in (getattr(item, name) for name in type(item).model_fields))
    return [item.model_copy(update={"sender": sender}, deep=True) for sender in own] if carries else [item]


def own_senders(value, own: list[str]) -> None:
    """Has every entry that carries the attack text be sent by each of these."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            own_senders(getattr(value, name), own)
    elif isinstance(value, dict):
        for item in value.values():
            own_senders(item, own)
    elif isinstance(value, list):
        value[:] = [sent for item in value for sent in sent_by(item, own)]
        for item in value:
            own_senders(item, own)


class Bench:
    """The suite's live environment and what was done to it."""

    def __init__(self, suite_name: str, attack: str):
        self.name = suite_name
        self.suite = suite_of(suite_name)
        self.attack = attack_of(self.suite, attack)
        self.runtime = runtime_of(self.suite)
        self.reset(None, None)

    def reset(self, user_task: str | None, injection_task: str | None, encode: list[str] = (), own: list[str] = ()) -> dict:
        self.user = self.suite.user_tasks[user_task] if user_task else None
        self.injection = self.suite.injection_tasks[injection_task] if injection_task else None
        injections = self.attack.attack(self.user, self.injection) if self.user and self.injection else {}
        self.env = make_env(self.suite, self.user, {vector: encoded(text, encode) for vector, text in injections.items()})
        if own:
            own_senders(self.env, own)
        self.pre = self.env.model_copy(deep=True)
        self.calls: list[dict] = []
        self.trace: list[FunctionCall] = []
        return {"suite": self.name, "user_task": user_task, "injection_task": injection_task, "vectors": sorted(injections)}

    def call(self, function: str, args: dict) -> tuple[str, object, bool]:
        text, value, error = run_call(self.suite, self.runtime, self.env, function, args)
        self.calls.append({"function": function, "args": args, "error": error is not None})
        self.trace.append(FunctionCall(function=function, args=args))
        return text, value, error is not None

    def verdict(self) -> dict:
        out: dict = {"calls": len(self.calls), "utility": None, "security": None}
        final = self.user.GROUND_TRUTH_OUTPUT if self.user else ""
        if self.user:
            out["utility"] = judge(self.suite, self.user, final, self.pre, self.env, self.trace)
        if self.injection:
            out["security"] = judge(self.suite, self.injection, final, self.pre, self.env, self.trace)
        return out


def annotations(tool: dict) -> types.ToolAnnotations:
    return types.ToolAnnotations(read_only_hint=tool["effect"] == "read", open_world_hint=bool(tool.get("fetch")))


def build_server(bench: Bench, structured: bool, annotate: bool) -> Server:
    effects = json.loads((pathlib.Path(__file__).parent / "effects.json").read_text())[bench.name]["tools"] if annotate else {}
    tools = []
    for f in bench.suite.tools:
        schema = f.parameters.model_json_schema()
        schema.pop("title", None)
        schema.setdefault("properties", {})
        tools.append(
            types.Tool(
                name=f.name,
                description=f.description,
                input_schema=schema,
                annotations=annotations(effects[f.name]) if annotate else None,
            )
        )
    names = {t.name for t in tools}

    async def list_tools(ctx, params) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    async def call_tool(ctx, params: types.CallToolRequestParams) -> types.CallToolResult:
        if params.name not in names:
            text = f"Invalid tool {params.name} provided."
            return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)
        text, value, error = bench.call(params.name, dict(params.arguments or {}))
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=text)],
            structured_content={"result": value} if structured and not error else None,
            is_error=error,
        )

    return Server(f"agentdojo-{bench.name}", version="1.0", on_list_tools=list_tools, on_call_tool=call_tool)


def control_app(bench: Bench) -> Starlette:
    async def case(request):
        body = await request.json()
        return JSONResponse(bench.reset(body.get("user_task"), body.get("injection_task"), body.get("encode", ()), body.get("own", ())))

    async def calls(request):
        return JSONResponse(bench.calls)

    async def verdict(request):
        return JSONResponse(bench.verdict())

    return Starlette(routes=[Route("/case", case, methods=["POST"]), Route("/calls", calls), Route("/verdict", verdict)])


def require_bearer(app, token: str):
    want = f"Bearer {token}".encode()

    async def wrapped(scope, receive, send):
        if scope["type"] == "http":
            got = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(got, want):
                await JSONResponse({"error": "unauthorized"}, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
                return
        await app(scope, receive, send)

    return wrapped


async def serve(a) -> None:
    bench = Bench(a.suite, a.attack)
    if a.user_task:
        bench.reset(a.user_task, a.injection_task)
    app = build_server(bench, a.structured, a.annotations).streamable_http_app(
        json_response=a.json,
        stateless_http=a.stateless,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False) if a.any_host else None,
    )
    if a.token:
        app = require_bearer(app, a.token)

    def server(asgi, port: int) -> uvicorn.Server:
        return uvicorn.Server(uvicorn.Config(asgi, host="127.0.0.1", port=port, log_level="warning", access_log=False))

    mcp, control = server(app, a.port), server(control_app(bench), a.control_port)
    print(f"{a.suite}: MCP http://127.0.0.1:{a.port}/mcp, control http://127.0.0.1:{a.control_port}", flush=True)
    tasks = [asyncio.ensure_future(mcp.serve()), asyncio.ensure_future(control.serve())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    mcp.should_exit = control.should_exit = True
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--suite", choices=SUITES, required=True)
    ap.add_argument("--port", type=int, required=True)
    ap.add_argument("--control-port", type=int, required=True)
    ap.add_argument("--user-task", help="start with this case loaded (else POST /case)")
    ap.add_argument("--injection-task")
    ap.add_argument("--attack", default=DEFAULT_ATTACK, choices=sorted(common.ATTACKS))
    ap.add_argument("--token", help="require this bearer token on the MCP endpoint")
    ap.add_argument("--structured", action="store_true", help="also return structuredContent {result: ...}")
    ap.add_argument("--annotations", action="store_true", help="publish tool annotations (read-only, destructive, open world)")
    ap.add_argument("--json", action="store_true", help="answer POSTs with JSON instead of an event stream")
    ap.add_argument("--stateless", action="store_true", help="no MCP sessions")
    ap.add_argument("--any-host", action="store_true", help="accept any Host header (for a gateway which keeps the client's)")
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(serve(ap.parse_args()))


if __name__ == "__main__":
    main()
