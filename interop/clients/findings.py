"""What the rules find in CloudTrail, read by others: each finding is valid against OCSF's own schema, and what is damaged is told.

    findings.py PROGRAM EVENTS DIRECTORY
"""

import gzip
import json
import pathlib
import subprocess
import sys

import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from checks import Checks

program, events, directory = sys.argv[1:]
checks = Checks()
trail = pathlib.Path(directory)
with gzip.open(events) as lines:
    records = [json.loads(line)["event"] for line in lines]
whole = gzip.compress(json.dumps({"Records": records}).encode())


def lay(**files):
    for old in trail.glob("*"):
        old.unlink()
    for name, content in files.items():
        (trail / name.replace("_", ".")).write_bytes(content)


def run(*more):
    command = [program, "log", "import", "cloudtrail", str(trail), "--dir", str(trail / "no-bundle"), *more]
    return subprocess.run(command, capture_output=True, text=True)


lay(a_json_gz=whole)
ended = run("--format", "ocsf")
findings = [json.loads(line) for line in ended.stdout.splitlines()]
checks.that("there are findings", ended.returncode == 0 and len(findings) > 20, ended.stderr[-500:])
validator = jsonschema.Draft202012Validator(OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0")).get_class_schema("detection_finding"))
wrong = [f"{error.json_path}: {error.message}" for finding in findings for error in validator.iter_errors(finding)]
checks.that("each is a Detection Finding of OCSF 1.8.0", not wrong, sorted(set(wrong))[:5])
broken = {**findings[0], "finding_info": {}}
checks.that("and the schema would have said otherwise", list(validator.iter_errors(broken)))

report = json.loads(run("--json").stdout)
checks.that("every event was read", report["events"] + report["duplicates"] == len(records), report["events"])

lay(a_json_gz=whole, b_json_gz=whole)
twice = json.loads(run("--json").stdout)
checks.that("what is delivered twice counts once", twice["duplicates"] == len(records) and twice["findings"] == report["findings"], twice["duplicates"])

lay(a_json_gz=whole[: len(whole) // 2], b_json=json.dumps({"Records": records[-5:]}).encode())
ended = run("--json")
cut = json.loads(ended.stdout)
checks.that("a file that is cut off is told, and what is whole of it is judged", ended.returncode == 1 and cut["events"] > 100, cut["events"])
checks.that("by name, with what to do", "cut off" in cut["files"][0]["wrong"][0] and not cut["files"][1]["wrong"], cut["files"])

lay(a_json=b"<html>", b_json_gz=b"no gzip", c_json=b'{"Records":[{"eventVersion":"9.0","eventID":"x"},{"a":tru}]}')
odd = json.loads(run("--json").stdout)
checks.that("what is none of CloudTrail's is told", all(file["wrong"] for file in odd["files"]), odd["files"])
checks.that("a version that nobody knows is read and counted", odd["unknown_versions"] == 1 and odd["events"] == 1, odd)
checks.end()
