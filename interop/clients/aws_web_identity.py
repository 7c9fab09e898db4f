"""AWS' SDK as it is: from the file that holds a token of ours to a session of a role.

    aws_web_identity.py TOKEN_FILE STS_ENDPOINT
"""

import json
import os
import sys

import boto3

from checks import Checks

file, endpoint = sys.argv[1:]
REGION = "eu-central-1"
checks = Checks()

setup = boto3.client("iam", endpoint_url=endpoint, region_name=REGION, aws_access_key_id="setup", aws_secret_access_key="setup")
arn = setup.create_role(RoleName="reports", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": []}))["Role"]["Arn"]

# Nothing else is told to the SDK: it finds the token, asks the STS, and signs with what it gets.
for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"]:
    os.environ.pop(name, None)
os.environ |= {
    "AWS_WEB_IDENTITY_TOKEN_FILE": file,
    "AWS_ROLE_ARN": arn,
    "AWS_ROLE_SESSION_NAME": "interop",
    "AWS_ENDPOINT_URL_STS": endpoint,
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
session = boto3.Session()
credentials = session.get_credentials()
checks.that("boto3 finds the token by itself", credentials is not None and credentials.method == "assume-role-with-web-identity", credentials)
checks.that("the STS gives a session for it", credentials.get_frozen_credentials().token is not None)
identity = session.client("sts").get_caller_identity()
checks.that("the session is of the role", identity["Arn"].endswith(":assumed-role/reports/interop"), identity)
checks.end()
