"""The whole life of a function, by boto3 and by the AWS CLI: the same steps, and the same answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from tests.api.boto import REGION
from tests.api.lab import ROLE, zipped
from tests.lambda_life import aws_cli
from tests.lambda_life.conftest import PYTHON, Team
from tests.servers.needed import need
from tests.support import PATIENCE

# boto3's timings of waiters are for AWS; the CLI has no way to change them, and asks every second.
_SOON = {"Delay": 0.05, "MaxAttempts": 1200}

# "... (reached max retries: 0): message" where it might have tried again.
_REFUSED = re.compile(r"An error occurred \((\w+)\) when calling the \w+ operation(?: \(.*?\))?: (.*)", re.DOTALL)

FIRST = """
import os

def handler(event, context):
    print("called with", event)
    if "Records" in event:
        print("bodies", *sorted(record["body"] for record in event["Records"]))
    try:
        from shared import WORD
    except ImportError:
        WORD = None
    return {
        "event": event, "code": 1, "version": context.function_version, "arn": context.invoked_function_arn,
        "mode": os.environ.get("MODE"), "layer": WORD,
    }
"""
SECOND = FIRST.replace('"code": 1', '"code": 2')


class Refused(NamedTuple):
    code: str
    message: str


class Aws(ABC):
    """`aws("get_function", FunctionName="f")`: the answer, or Refused."""

    @abstractmethod
    def __call__(self, operation: str, service: str = "lambda", **given: Any) -> Any: ...

    @abstractmethod
    def wait(self, waiter: str, **given: Any) -> None: ...

    def done(self, operation: str, service: str = "lambda", **given: Any) -> Any:
        answer = self(operation, service, **given)
        assert not isinstance(answer, Refused), answer
        return answer

    def result(self, function: str, **more: Any) -> Any:
        answer = self.done("invoke", FunctionName=function, Payload="{}", **more)
        assert "FunctionError" not in answer, answer
        return answer["Payload"]


class Boto3(Aws):
    def __init__(self, team: Team) -> None:
        self._clients = {"lambda": team.lab.client, "logs": team.service_of_node("logs")}

    def __call__(self, operation: str, service: str = "lambda", **given: Any) -> Any:
        try:
            answer: dict[str, Any] = getattr(self._clients[service], operation)(**given)
        except ClientError as refused:
            return Refused(refused.response["Error"]["Code"], refused.response["Error"]["Message"])
        answer.pop("ResponseMetadata")
        if operation == "invoke":
            said = answer["Payload"].read()
            answer["Payload"] = json.loads(said) if said else None
        return answer

    def wait(self, waiter: str, **given: Any) -> None:
        self._clients["lambda"].get_waiter(waiter).wait(**given, WaiterConfig=_SOON)


class Cli(Aws):
    """`aws lambda get-function --function-name f`, a process for each."""

    def __init__(self, url: str, folder: Path) -> None:
        need(aws_cli.BUILD.missing())
        self._url = url
        self._folder = folder
        self._files = 0
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),  # nobody's settings
            "PYTHONPATH": str(aws_cli.BUILD.folder),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_MAX_ATTEMPTS": "1",
        }

    def __call__(self, operation: str, service: str = "lambda", **given: Any) -> Any:
        out = self._folder / "payload"
        words = [service, operation.replace("_", "-"), *self._options(given)]
        done = self._run(*words, *([str(out)] if operation == "invoke" else []))
        if done.returncode != 0:
            told = _REFUSED.search(done.stderr)
            assert told is not None, done.stderr
            return Refused(told[1], told[2].strip())
        answer: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
        if operation == "invoke":
            said = out.read_bytes()
            answer["Payload"] = json.loads(said) if said else None
        return answer

    def wait(self, waiter: str, **given: Any) -> None:
        done = self._run("lambda", "wait", waiter.replace("_", "-"), *self._options(given))
        assert done.returncode == 0, done.stderr

    def _options(self, given: dict[str, Any]) -> list[str]:
        words = []
        for name, value in given.items():
            if name in ("Code", "Content"):
                name, value = "ZipFile", value["ZipFile"]
            option = f"--{xform_name(name, '-')}"
            match value:
                case bool():
                    words.append(option if value else f"--no-{option[2:]}")
                case bytes():
                    self._files += 1
                    file = self._folder / f"{self._files}.zip"
                    file.write_bytes(value)
                    words += [option, f"fileb://{file}"]
                case str() | int():
                    words += [option, str(value)]
                case _:
                    words += [option, json.dumps(value)]
        return words

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*aws_cli.COMMAND, "--endpoint-url", self._url, "--output", "json", *words]
        return subprocess.run(
            command, env=self._environment, cwd=self._folder, capture_output=True, text=True, timeout=PATIENCE
        )


@pytest.fixture(params=["boto3", "cli"])
def aws(request: pytest.FixtureRequest, team: Team, tmp_path: Path) -> Aws:
    return Boto3(team) if request.param == "boto3" else Cli(team.lab.url, tmp_path)


def until(found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (answer := found()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)
    return answer


@pytest.mark.timeout(400)  # the CLI is a process for each of seventy steps
def test_the_life_of_a_function(team: Team, aws: Aws) -> None:
    name = f"life-{type(aws).__name__}".lower()
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"

    # It is made, and found.
    made = aws.done(
        "create_function",
        FunctionName=name,
        Runtime=PYTHON,
        Role=ROLE,
        Handler="app.handler",
        Timeout=10,
        MemorySize=256,
        Code={"ZipFile": zipped(app=FIRST)},
        Tags={"team": "life"},
    )
    assert (made["FunctionArn"], made["State"], made["Version"]) == (arn, "Pending", "$LATEST")
    aws.wait("function_active_v2", FunctionName=name)
    again = {"FunctionName": name, "Runtime": PYTHON, "Role": ROLE, "Handler": "app.handler"}
    refused = aws("create_function", **again, Code={"ZipFile": zipped(app=FIRST)})
    assert refused == Refused("ResourceConflictException", f"Function already exist: {name}")
    found = aws.done("get_function", FunctionName=name)
    assert (found["Configuration"]["State"], found["Tags"]) == ("Active", {"team": "life"})
    assert name in [each["FunctionName"] for each in aws.done("list_functions")["Functions"]]

    # It is invoked.
    answer = aws.done("invoke", FunctionName=name, Payload='{"n": 1}', LogType="Tail")
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert answer["Payload"] == {
        "event": {"n": 1}, "code": 1, "version": "$LATEST", "arn": arn, "mode": None, "layer": None,
    }  # fmt: skip
    assert answer["LogResult"]
    assert aws.done("invoke", FunctionName=name, Payload='{"async": true}', InvocationType="Event")["StatusCode"] == 202
    assert aws.done("invoke", FunctionName=name, InvocationType="DryRun")["StatusCode"] == 204

    # Its settings change.
    aws.done("update_function_configuration", FunctionName=name, Environment={"Variables": {"MODE": "blue"}})
    aws.wait("function_updated_v2", FunctionName=name)
    assert aws.result(name)["mode"] == "blue"

    # Versions, and an alias that shifts from one to the next.
    assert aws.done("publish_version", FunctionName=name, Description="first")["Version"] == "1"
    aws.done("create_alias", FunctionName=name, Name="live", FunctionVersion="1")
    aws.done("update_function_code", FunctionName=name, ZipFile=zipped(app=SECOND))
    aws.wait("function_updated_v2", FunctionName=name)
    assert aws.done("publish_version", FunctionName=name)["Version"] == "2"
    aws.wait("published_version_active", FunctionName=name, Qualifier="2")
    live = aws.result(name, Qualifier="live")
    assert (live["code"], live["version"], live["arn"]) == (1, "1", f"{arn}:live")
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    aws.done("update_alias", FunctionName=name, Name="live", RoutingConfig=weights)
    codes = iter(lambda: aws.result(name, Qualifier="live")["code"], None)
    until(lambda: next(codes) == 1, "version 1 answers")
    until(lambda: next(codes) == 2, "version 2 answers")
    done = {"AdditionalVersionWeights": dict[str, float]()}
    aws.done("update_alias", FunctionName=name, Name="live", FunctionVersion="2", RoutingConfig=done)
    assert aws.result(name, Qualifier="live")["code"] == 2
    versions = aws.done("list_versions_by_function", FunctionName=name)["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST", "1", "2"]

    # A layer.
    layer = aws.done(
        "publish_layer_version", LayerName=name, Content={"ZipFile": zipped(python__shared="WORD = 'shared'\n")}
    )
    aws.done("update_function_configuration", FunctionName=name, Layers=[layer["LayerVersionArn"]])
    aws.wait("function_updated_v2", FunctionName=name)
    assert aws.result(name)["layer"] == "shared"
    assert aws.result(name, Qualifier="2")["layer"] is None

    # A queue that it reads.
    sqs = team.service("sqs")
    queue = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    source = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    mapping = aws.done("create_event_source_mapping", FunctionName=name, EventSourceArn=source, BatchSize=5)["UUID"]
    sqs.send_message(QueueUrl=queue, MessageBody="from the queue")
    group = {"logGroupName": f"/aws/lambda/{name}", "filterPattern": '"bodies from the queue"'}
    until(lambda: aws.done("filter_log_events", "logs", **group)["events"], "the message is in the function's log")
    until(lambda: aws.done("get_event_source_mapping", UUID=mapping)["State"] == "Enabled", "the mapping is enabled")
    assert [each["UUID"] for each in aws.done("list_event_source_mappings", FunctionName=name)["EventSourceMappings"]]
    aws.done("delete_event_source_mapping", UUID=mapping)
    until(
        lambda: getattr(aws("get_event_source_mapping", UUID=mapping), "code", "") == "ResourceNotFoundException",
        "the mapping is gone",
    )

    # It is throttled.
    aws.done("put_function_concurrency", FunctionName=name, ReservedConcurrentExecutions=0)
    refused = aws("invoke", FunctionName=name, Payload="{}")
    assert refused == Refused("TooManyRequestsException", "Rate Exceeded.")
    aws.done("delete_function_concurrency", FunctionName=name)
    assert aws.result(name)["code"] == 2

    # Its log.
    lines = [
        event["message"]
        for event in aws.done("filter_log_events", "logs", logGroupName=group["logGroupName"])["events"]
    ]
    assert "called with {'n': 1}\n" in lines or "called with {'n': 1}" in lines
    assert any("'async': True" in line for line in lines)
    assert any(line.startswith("REPORT RequestId: ") for line in lines)
    groups = aws.done("describe_log_groups", "logs", logGroupNamePrefix=group["logGroupName"])["logGroups"]
    assert [each["logGroupName"] for each in groups] == [group["logGroupName"]]

    # It ends.
    aws.done("delete_alias", FunctionName=name, Name="live")
    aws.done("delete_function", FunctionName=name, Qualifier="1")
    aws.done("delete_layer_version", LayerName=name, VersionNumber=1)
    assert aws.result(name)["layer"] == "shared"  # a version that is used stays where it is used
    aws.done("delete_function", FunctionName=name)
    for operation, given in (("get_function", {}), ("invoke", {"Payload": "{}"})):
        refused = aws(operation, FunctionName=name, **given)
        assert isinstance(refused, Refused)
        assert refused.code == "ResourceNotFoundException"
        assert refused.message.startswith(f"Function not found: {arn}")
    assert name not in [each["FunctionName"] for each in aws.done("list_functions")["Functions"]]
