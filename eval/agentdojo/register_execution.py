"""Starts an execution for a case: a credential of a new execution whose task is the prompt (RFC 6749 §4.4, RFC 7523 §2.2).

Where effects are declared, it may do those and read, and nothing else (RFC 9396).
"""

import json
import pathlib
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import jwt


def details(agent: str, declared: dict) -> list[dict]:
    """What an execution may do that is for these effects, and must read to find out how."""
    effects = [{"type": "tool_call", "identifier": f"{agent}/{tool}"} for tool in declared["effects"]]
    return [{"type": "tool_call", "identifier": f"{agent}/*", "effects": ["read"]}, *effects]


def start(keys: str, issuer: str, gateway: str, asked: dict) -> dict:
    """A new execution for `{agent, prompt, declared}`: its gateway's address and its credential."""
    agent = asked["agent"]
    now = int(time.time())
    claims = {"iss": agent, "sub": agent, "aud": issuer, "iat": now, "exp": now + 60, "jti": str(uuid.uuid4())}
    key = (pathlib.Path(keys) / f"{agent}.pem").read_text()
    url = f"{gateway}/mcp/{agent}"
    form = {
        "grant_type": "client_credentials",
        "client_id": agent,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": jwt.encode(claims, key, "ES256", {"kid": "k1", "typ": "client-authentication+jwt"}),
        "resource": url,
    }
    if asked["prompt"]:
        form["task"] = asked["prompt"]
    if asked["declared"]:
        form["authorization_details"] = json.dumps(details(agent, asked["declared"]))
    request = urllib.request.Request(f"{issuer}/token", urllib.parse.urlencode(form).encode())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return {"url": url, "token": json.load(answer)["access_token"]}
    except urllib.error.HTTPError as refused:
        raise SystemExit(f"the token service refused: {refused.read().decode()}") from refused
