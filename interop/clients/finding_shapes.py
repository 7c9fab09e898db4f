"""What the rules find in CloudTrail, in the shapes of AWS: Security Hub takes each by an unmodified boto3, and each is what the AWS SDK knows
a finding of GuardDuty as.

    finding_shapes.py PROGRAM EVENTS DIRECTORY
"""

import gzip
import json
import pathlib
import subprocess
import sys

import boto3
import botocore.session
from botocore.validate import ParamValidator
from moto import mock_aws

from checks import Checks

program, events, directory = sys.argv[1:]
checks = Checks()
trail = pathlib.Path(directory)
with gzip.open(events) as lines:
    records = [json.loads(line)["event"] for line in lines]
for old in trail.glob("*"):
    old.unlink()
(trail / "a.json.gz").write_bytes(gzip.compress(json.dumps({"Records": records}).encode()))


def run(form):
    command = [program, "log", "import", "cloudtrail", str(trail), "--dir", str(trail / "no-bundle"), "--format", form]
    return [json.loads(line) for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()]


def named(value, shape, path=""):
    """The value with the names that the SDK has for those on the wire, and the places that it has no name for."""
    if shape.type_name == "list":
        taken = [named(item, shape.member, f"{path}[]") for item in value]
        return [item for item, _ in taken], [place for _, places in taken for place in places]
    if shape.type_name != "structure":
        return value, []
    names = {member.serialization.get("name", name): (name, member) for name, member in shape.members.items()}
    members, unknown = {}, []
    for name, item in value.items():
        if name not in names:
            unknown.append(f"{path}.{name}")
            continue
        known, member = names[name]
        members[known], more = named(item, member, f"{path}.{name}")
        unknown += more
    return members, unknown


model = botocore.session.get_session().get_service_model
findings = run("asff")
with mock_aws():
    hub = boto3.client("securityhub", region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing")
    taken = [hub.batch_import_findings(Findings=findings[at : at + 100]) for at in range(0, len(findings), 100)]
checks.that("there are findings", len(findings) > 20, len(findings))
checks.that("Security Hub takes each in ASFF", sum(one["SuccessCount"] for one in taken) == len(findings), [one["FailedFindings"][:2] for one in taken])
shape = model("securityhub").operation_model("BatchImportFindings").input_shape
broken = [{name: value for name, value in findings[0].items() if name != "Severity" and name != "Title"}]
checks.that("and would not take one without a title", "Title" in ParamValidator().validate({"Findings": broken}, shape).generate_report())

shape = model("guardduty").operation_model("GetFindings").output_shape.members["Findings"].member
wrong, unknown = set(), set()
for event in run("guardduty"):
    members, more = named(event["detail"], shape)
    unknown.update(more)
    report = ParamValidator().validate(members, shape).generate_report()
    wrong.update(filter(None, report.splitlines()))
checks.that("each has what a finding of GuardDuty must have", not wrong, sorted(wrong)[:5])
checks.that("and nothing that GuardDuty's has not", not unknown, sorted(unknown)[:8])
checks.end()
