"""A workload on AWS: its role's session signs one request for GetCallerIdentity with botocore, and trades it for a credential.

    aws_caller.py ISSUER STS_ENDPOINT OTHER_REGION

ISSUER is Bailiwick's identity origin; STS_ENDPOINT is where AWS' STS answers (here moto's).
"""

import base64
import hashlib
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from checks import Checks

issuer, endpoint = sys.argv[1:3]
REGION = "eu-central-1"
ASSERTION_TYPE = "urn:bailiwick:params:oauth:client-assertion-type:aws4_request"
BODY = "Action=GetCallerIdentity&Version=2011-06-15"

checks = Checks()


def signed(credentials, audience=issuer, body=BODY, url=f"{endpoint}/", region=REGION, extra=None):
    """The request that proves who holds `credentials`, as Bailiwick wants it: its parts as one JSON object."""
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "X-Bailiwick-Audience": audience, **(extra or {})}
    request = AWSRequest(method="POST", url=url, data=body, headers=headers)
    request.headers["Host"] = urllib.parse.urlsplit(url).netloc
    SigV4Auth(credentials, "sts", region).add_auth(request)
    return {"url": url, "method": "POST", "headers": dict(request.headers.items()), "body": body}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


key = ec.generate_private_key(ec.SECP256R1())
numbers = key.public_key().public_numbers()
jwk = {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}


def proof(nonce):
    """A proof of possession for the token endpoint (RFC 9449)."""
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}
    claims = {"htm": "POST", "htu": f"{issuer}/token", "iat": int(time.time()), "jti": str(uuid.uuid4()), "nonce": nonce}
    text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def token(request, nonce=None):
    """What the token service answers to a signed request."""
    form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE, "client_assertion": json.dumps(request)}
    headers = {"DPoP": proof(nonce), "Content-Type": "application/x-www-form-urlencoded"}
    asked = urllib.request.Request(f"{issuer}/token", data=urllib.parse.urlencode(form).encode(), headers=headers)
    try:
        return json.load(urllib.request.urlopen(asked))
    except urllib.error.HTTPError as error:
        answer = json.load(error)
        if answer["error"] == "use_dpop_nonce":
            return token(request, error.headers["DPoP-Nonce"])
        return answer


def session(role, name="run-7"):
    """Credentials of a session of a role, as boto3 gets them."""
    user = boto3.client("iam", endpoint_url=endpoint, region_name=REGION, aws_access_key_id="setup", aws_secret_access_key="setup")
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    try:
        arn = user.create_role(RoleName=role, AssumeRolePolicyDocument=policy)["Role"]["Arn"]
    except user.exceptions.EntityAlreadyExistsException:
        arn = user.get_role(RoleName=role)["Role"]["Arn"]
    sts = boto3.client("sts", endpoint_url=endpoint, region_name=REGION, aws_access_key_id="setup", aws_secret_access_key="setup")
    made = sts.assume_role(RoleArn=arn, RoleSessionName=name)["Credentials"]
    return boto3.Session(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"], REGION).get_credentials().get_frozen_credentials()


bot, other = session("bot"), session("other")
identity = boto3.client(
    "sts", endpoint_url=endpoint, region_name=REGION,
    aws_access_key_id=bot.access_key, aws_secret_access_key=bot.secret_key, aws_session_token=bot.token,
).get_caller_identity()
checks.that("the STS knows the session", identity["Arn"].endswith(":assumed-role/bot/run-7"), identity)

request = signed(bot)
answer = token(request)
checks.that("a request that botocore signed is traded for a bound credential", answer.get("token_type") == "DPoP", answer)
claims = json.loads(base64.urlsafe_b64decode(answer.get("access_token", ".e30.").split(".")[1] + "=="))
thumbprint = b64(hashlib.sha256(json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode()).digest())
checks.that("the credential is bound to the workload's own key", claims.get("cnf", {}).get("jkt") == thumbprint, claims)

wrong = {
    "the same request again": request,
    "another role's session": signed(other),
    "a request for another audience": signed(bot, audience="https://other.example"),
    "a request for another action": signed(bot, body="Action=GetSessionToken&Version=2011-06-15"),
    "a request for another place": signed(bot, url="https://sts.eu-west-1.amazonaws.com/", region="eu-west-1"),
    "a request with a header of its own": signed(bot, extra={"X-Extra": "x"}),
    "keys of a user": signed(boto3.Session("AKIAEXAMPLE", "secret", None, REGION).get_credentials().get_frozen_credentials()),
}
for case, wrong_request in wrong.items():
    answer = token(wrong_request)
    checks.that(f"{case} is refused", answer.get("error") == "invalid_client", answer)
checks.end()
