"""A receiver of shared signals on the `PyJWT` library: it finds the transmitter, tries its stream, and is told of a quarantine and of its end.

    signals.py ISSUER TOKEN_FILE STREAM AUDIENCE AGENT_ID COMMAND…     COMMAND is the operator's program, to be given what to do
"""

import json
import subprocess
import sys
import urllib.request

import jwt

from checks import Checks

issuer, file, stream, audience, agent, *operator = sys.argv[1:]
checks = Checks()
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
with open(file) as stored:
    token = stored.read().strip()


def ask(url, body=None):
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}", "content-type": "application/json"})
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(request, data) as answer:
        return json.loads(answer.read() or b"null")


metadata = ask(f"{issuer}/.well-known/ssf-configuration")
checks.that("the transmitter says who it is", metadata["issuer"] == issuer and metadata["spec_version"] == "1_0", metadata)
configuration = ask(f"{metadata['configuration_endpoint']}?stream_id={stream}")
checks.that("the stream is for this receiver", configuration["aud"] == audience and configuration["iss"] == issuer, configuration)
delivery = configuration["delivery"]
checks.that("it is asked for by polling", delivery["method"] == "urn:ietf:rfc:8936", delivery)
keys = jwt.PyJWKClient(metadata["jwks_uri"])


def told(acknowledged=()):
    answer = ask(delivery["endpoint_url"], {"maxEvents": 4, "returnImmediately": False, "ack": list(acknowledged)})
    sets = {}
    for jti, text in answer["sets"].items():
        key = keys.get_signing_key_from_jwt(text)
        claims = jwt.decode(text, key, algorithms=["RS256"], audience=audience, issuer=issuer, options={"require": ["iat", "jti", "iss", "aud"]})
        header = jwt.get_unverified_header(text)
        checks.that("PyJWT takes the token by the published key", claims["jti"] == jti and header["typ"] == "secevent+jwt", header)
        checks.that("it is no other kind of token", "sub" not in claims and "exp" not in claims and len(claims["events"]) == 1, claims)
        sets[jti] = claims
    return sets


ask(metadata["verification_endpoint"], {"stream_id": stream, "state": "interop"})
tried = told()
event = [claims["events"] for claims in tried.values()][0]
checks.that("the stream is tried with the receiver's state", list(event.values())[0] == {"state": "interop"}, event)

before = tried
for command, level in [("quarantine", "HIGH"), ("release", "LOW")]:
    subprocess.run([*operator, command, "interop", "--reason", "looked at by a check"], check=True, stdout=subprocess.DEVNULL)
    before = told(before)
    claims = list(before.values())[0]
    event = claims["events"][f"{CAEP}risk-level-change"]
    names = claims["sub_id"]["identifiers"]
    checks.that(f"a {command} is told", event["current_level"] == level and event["reason_admin"]["en"] == "looked at by a check", event)
    checks.that("it is of the agent", {"format": "uri", "uri": agent} in names and {"format": "iss_sub", "iss": issuer, "sub": agent} in names, names)
left = ask(delivery["endpoint_url"], {"returnImmediately": True, "ack": list(before)})
checks.that("what was acknowledged is not told again", left == {"sets": {}, "moreAvailable": False}, left)
checks.end()
