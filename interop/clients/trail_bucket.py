"""A trail in S3, as moto answers for it: what the program reads of the bucket is what boto3 put there.

    trail_bucket.py PROGRAM ENDPOINT DIRECTORY
"""

import base64
import gzip
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import boto3
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from checks import Checks

program, endpoint, directory = sys.argv[1:]
checks = Checks()
work = pathlib.Path(directory)
for old in work.glob("*"):
    old.unlink()
BUCKET, REGION, PREFIX = "acme-trail", "eu-central-1", "AWSLogs/111122223333/"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": REGION}
s3 = boto3.client("s3", endpoint_url=endpoint, region_name=REGION, aws_access_key_id="testing", aws_secret_access_key="testing")
s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})


def event(number):
    return {
        "eventVersion": "1.08", "eventID": f"e{number}", "eventTime": f"2026-11-25T10:{number % 60:02}:00Z", "recipientAccountId": "111122223333",
        "eventSource": "cloudtrail.amazonaws.com", "eventName": "StopLogging", "userIdentity": {"type": "IAMUser", "arn": f"arn:aws:iam::111122223333:user/u{number}"},
    }


# More objects than one page of a list has, one of them with what a key may have in it.
names = [f"{PREFIX}CloudTrail/{REGION}/2026/11/25/{number:05}.json.gz" for number in range(1004)] + [f"{PREFIX}CloudTrail/z ü+=&.json.gz"]
files = {name: gzip.compress(json.dumps({"Records": [event(number)]}).encode(), mtime=0) for number, name in enumerate(names)}
for name, content in files.items():
    s3.put_object(Bucket=BUCKET, Key=name, Body=content)
s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}readme.txt", Body=b"no event")
s3.put_object(Bucket=BUCKET, Key="elsewhere/a.json", Body=json.dumps(event(9999)).encode())

key = rsa.generate_private_key(65537, 2048)
public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
(work / "keys.json").write_text(json.dumps({"PublicKeyList": [{"Value": base64.b64encode(public).decode(), "Fingerprint": "f1"}]}))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def digest(changed=False):
    """The one digest of the trail, signed, with its signature where S3 keeps it."""
    name = f"{PREFIX}CloudTrail-Digest/{REGION}/2026/11/25/d.json.gz"
    # Of what is in a file the digest has the hash that it has unpacked.
    listed = [{"s3Bucket": BUCKET, "s3Object": name, "hashValue": sha256(gzip.decompress(files[name])), "hashAlgorithm": "SHA-256"} for name in names]
    if changed:
        listed[3]["hashValue"] = sha256(b"something else")
    text = json.dumps({
        "digestStartTime": "2026-11-25T10:00:00Z", "digestEndTime": "2026-11-25T11:00:00Z", "digestS3Bucket": BUCKET, "digestS3Object": name,
        "digestPublicKeyFingerprint": "f1", "digestSignatureAlgorithm": "SHA256withRSA", "previousDigestS3Object": None,
        "previousDigestHashValue": None, "previousDigestHashAlgorithm": None, "previousDigestSignature": None, "logFiles": listed,
    }).encode()
    signed = f"2026-11-25T11:00:00Z\n{BUCKET}/{name}\n{sha256(text)}\nnull".encode()
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256()).hex()
    s3.put_object(Bucket=BUCKET, Key=name, Body=gzip.compress(text), Metadata={"signature": signature, "signature-algorithm": "SHA256withRSA"})


def run(*more, keys=KEYS, prefix=PREFIX):
    command = [program, "log", "import", "cloudtrail", f"s3://{BUCKET}/{prefix}", "--endpoint-url", endpoint, "--json", "--all", "--dir", str(work), *more]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    ended = subprocess.run(command, capture_output=True, text=True, env={**environment, "AWS_EC2_METADATA_DISABLED": "true", **keys})
    return ended, json.loads(ended.stdout) if ended.stdout else {}


digest()
ended, report = run("--public-keys", str(work / "keys.json"))
checks.that("every object is read, over the pages of the list", ended.returncode == 0 and report.get("events") == len(names), (ended.returncode, report.get("events"), ended.stderr[-500:]))
checks.that("with the name that it has", any(file["name"].endswith("z ü+=&.json.gz") for file in report.get("files", [])))
checks.that("and judged", sum(finding["count"] for finding in report.get("findings", [])) >= len(names), len(report.get("findings", [])))
digests = report.get("digests") or {}
checks.that("the digest is signed, by what S3 keeps beside it", digests.get("signed") == 1 and not digests.get("unsigned"), digests)
checks.that("and holds for each file", digests.get("files") == len(names) and not digests.get("broken"), digests.get("broken"))

digest(changed=True)
ended, report = run("--public-keys", str(work / "keys.json"))
broken = (report.get("digests") or {}).get("broken", [])
checks.that("a file that is not what was delivered is told", ended.returncode == 1 and any("is not what CloudTrail delivered" in why for why in broken), broken[:3])

progress = work / "progress"
progress.write_text(json.dumps({"bucket": BUCKET, "prefix": PREFIX, "after": names[1001]}))
ended, report = run("--resume", str(progress))
checks.that("it goes on behind the object that it was at", report.get("events") == 3, report.get("events"))
ended, report = run("--resume", str(progress))
checks.that("and is then at the end", report.get("events") == 0 and ended.returncode == 0, (report.get("events"), ended.stderr[-300:]))
ended, _ = run("--resume", str(progress), prefix="elsewhere/")
checks.that("and not of another place", ended.returncode == 1 and "is about s3://" in ended.stderr, ended.stderr[-300:])

sts = boto3.client("sts", endpoint_url=endpoint, region_name=REGION, aws_access_key_id="testing", aws_secret_access_key="testing")
(work / "token").write_text("a.web.token")
web = {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/reader", "AWS_WEB_IDENTITY_TOKEN_FILE": str(work / "token"), "AWS_ENDPOINT_URL_STS": endpoint, "AWS_REGION": REGION}
ended, report = run(keys=web, prefix="elsewhere/")
checks.that("a token in a file is traded for a session that reads", report.get("events") == 1, (report.get("events"), ended.stderr[-500:]))
ended, _ = run(keys={"AWS_REGION": REGION})
checks.that("without credentials it says which it wants", ended.returncode == 1 and "AWS_WEB_IDENTITY_TOKEN_FILE" in ended.stderr, ended.stderr[-300:])
ended, _ = run(prefix="nothing/there/")
checks.that("an empty place is no error", ended.returncode == 0, ended.stderr[-300:])
command = [program, "log", "import", "cloudtrail", "s3://no-such-bucket/", "--endpoint-url", endpoint, "--dir", str(work)]
ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **KEYS})
checks.that("a bucket that is not there is told", ended.returncode == 1 and "NoSuchBucket" in ended.stderr, ended.stderr[-300:])
checks.that("no secret is shown", "testing" not in ended.stderr.replace("testing/", ""), ended.stderr[-200:])
checks.end()
