"""Durable executions by boto3: a function that tells its steps over the API, as Amazon's SDK does."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.api import signing
from tests.api.lab import Lab, arn, running_lab, zipped
from tests.support import PATIENCE

SIGNING = Path(signing.__file__).read_text()

# The least that an SDK is: operations so far are in the event, new ones are told by checkpoints.
SDK = """
import json
import os
import urllib.parse
import urllib.request

from signing import signed


class Suspended(Exception):
    pass


class Work:
    def __init__(self, event):
        self.arn, self.token = event["DurableExecutionArn"], event["CheckpointToken"]
        self.operations = {each["Id"]: each for each in event["InitialExecutionState"]["Operations"]}
        self.input = json.loads(event["InitialExecutionState"]["Operations"][0]["ExecutionDetails"]["InputPayload"])

    def tell(self, **update):
        path = urllib.parse.quote(self.arn, safe="")
        url = f"{os.environ['AWS_ENDPOINT_URL_LAMBDA']}/2025-12-01/durable-executions/{path}/checkpoint"
        body = json.dumps({"CheckpointToken": self.token, "Updates": [update]}).encode()
        request = signed("POST", url, body, content_type="application/json")
        with urllib.request.urlopen(request) as answer:
            said = json.load(answer)
        self.token = said.get("CheckpointToken")
        self.operations |= {each["Id"]: each for each in said["NewExecutionState"]["Operations"]}
        return self.operations.get(update["Id"])

    def step(self, name, make, tries=1):
        done = self.operations.get(name)
        if done and done["Status"] == "SUCCEEDED":
            return json.loads(done["StepDetails"]["Result"])
        if done and done["Status"] == "PENDING":
            raise Suspended
        attempt = self.tell(Id=name, Type="STEP", Action="START")["StepDetails"]["Attempt"]
        try:
            made = make(attempt)
        except ValueError as error:
            told = {"ErrorType": "ValueError", "ErrorMessage": str(error)}
            if attempt == tries:
                self.tell(Id=name, Type="STEP", Action="FAIL", Error=told)
                raise
            self.tell(Id=name, Type="STEP", Action="RETRY", Error=told, StepOptions={"NextAttemptDelaySeconds": 1})
            raise Suspended
        self.tell(Id=name, Type="STEP", Action="SUCCEED", Payload=json.dumps(made))
        return made

    def until(self, kind, name, **options):
        found = self.operations.get(name) or self.tell(Id=name, Type=kind, Action="START", **options)
        if found["Status"] == "STARTED":
            raise Suspended
        return found


def durable(handler):
    def wrapped(event, context):
        work = Work(event)
        try:
            return {"Status": "SUCCEEDED", "Result": json.dumps(handler(work))}
        except Suspended:
            return {"Status": "PENDING"}
        except ValueError as error:
            return {"Status": "FAILED", "Error": {"ErrorType": "ValueError", "ErrorMessage": str(error)}}

    return wrapped
"""
ORDER = """
from sdk import durable


@durable
def handler(work):
    order = work.step("reserve", lambda attempt: work.input["order"] * 2)
    work.until("WAIT", "pause", WaitOptions={"WaitSeconds": 1})
    approved = work.until("CALLBACK", "approval", CallbackOptions={"TimeoutSeconds": work.input.get("timeout", 60)})
    return [order, approved["Status"], approved["CallbackDetails"].get("Result")]
"""
FLAKY = """
from sdk import durable


def flaky(attempt):
    if attempt < 2:
        raise ValueError(f"attempt {attempt}")
    return attempt


@durable
def handler(work):
    if work.input == "never":
        return work.step("never", lambda attempt: int("x"), tries=2)
    return work.step("flaky", flaky, tries=3)
"""
CALLS = """
from sdk import durable


@durable
def handler(work):
    called = work.until(
        "CHAINED_INVOKE", "call", ChainedInvokeOptions={"FunctionName": work.input}, Payload='{"a": 1}'
    )
    return [called["Status"], called["ChainedInvokeDetails"]]
"""
DURABLE: dict[str, Any] = {"DurableConfig": {"ExecutionTimeout": 60, "RetentionPeriodInDays": 1}, "Timeout": 10}


def make(lab: Lab, code: str, **config: Any) -> str:
    return lab.function(zipped(app=code, sdk=SDK, signing=SIGNING), **{**DURABLE, **config})


def begin(lab: Lab, name: str, event: Any, **more: Any) -> str:
    begun = lab.client.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event), **more)
    assert begun["StatusCode"] == 202
    found: str = begun["DurableExecutionArn"]
    return found


def history(lab: Lab, execution: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = lab(
        "get_durable_execution_history", DurableExecutionArn=execution, IncludeExecutionData=True
    )["Events"]
    return events


def callback(lab: Lab, execution: str) -> str:
    """Its id, once the function waits for it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        events = history(lab, execution)
        for event in events:
            if event["EventType"] == "CallbackStarted":
                found: str = event["CallbackStartedDetails"]["CallbackId"]
                return found
        assert events[-1]["EventType"] != "ExecutionFailed", events
        time.sleep(0.02)
    raise AssertionError(f"it never waited for a callback: {history(lab, execution)}")


def test_an_execution_goes_on_where_it_was(lab: Lab) -> None:
    name = make(lab, ORDER)
    execution = begin(lab, name, {"order": 21}, DurableExecutionName="first")
    assert execution.startswith(f"{arn(name, '$LATEST')}/durable-execution/first/")
    (listed,) = lab("list_durable_executions_by_function", FunctionName=name)["DurableExecutions"]
    assert (listed["DurableExecutionArn"], listed["Status"]) == (execution, "RUNNING")
    given = callback(lab, execution)
    lab("send_durable_execution_callback_heartbeat", CallbackId=given)
    lab("send_durable_execution_callback_success", CallbackId=given, Result=b"yes")
    ended = lab.until("get_durable_execution", "Status", "SUCCEEDED", DurableExecutionArn=execution)
    assert json.loads(ended["Result"]) == [42, "SUCCEEDED", "yes"]
    assert json.loads(ended["InputPayload"]) == {"order": 21}
    assert ended["DurableConfig"] == {"ExecutionTimeout": 60, "RetentionPeriodInDays": 1}
    kinds = [event["EventType"] for event in history(lab, execution)]
    assert [kind for kind in kinds if kind != "InvocationCompleted"] == [
        "ExecutionStarted",
        "StepStarted",
        "StepSucceeded",
        "WaitStarted",
        "WaitSucceeded",
        "CallbackStarted",
        "CallbackSucceeded",
        "ExecutionSucceeded",
    ]
    assert kinds.count("InvocationCompleted") == 3
    # The same name and payload are the same execution; with another payload it is refused.
    assert begin(lab, name, {"order": 21}, DurableExecutionName="first") == execution
    code, _ = lab.refused("invoke", FunctionName=name, Payload=b"{}", DurableExecutionName="first")
    assert code == "DurableExecutionAlreadyStartedException"
    code, message = lab.refused("send_durable_execution_callback_success", CallbackId=given)
    assert (code, "ended already" in message) == ("InvalidParameterValueException", True)


def test_a_step_is_tried_again_and_somebody_waits_for_the_end(lab: Lab) -> None:
    name = make(lab, FLAKY)
    answer = lab.client.invoke(FunctionName=name, Payload=b'"x"')
    assert (json.load(answer["Payload"]), answer.get("FunctionError")) == (2, None)
    kinds = [event["EventType"] for event in history(lab, answer["DurableExecutionArn"])]
    assert kinds.count("StepStarted") == 2
    failed = lab.client.invoke(FunctionName=name, Payload=b'"never"')
    assert failed["FunctionError"] == "Unhandled"
    assert json.load(failed["Payload"])["errorType"] == "ValueError"


def test_another_function_is_called(lab: Lab) -> None:
    name, other = make(lab, CALLS), lab.function()
    answer = json.load(lab.client.invoke(FunctionName=name, Payload=json.dumps(other))["Payload"])
    assert answer == ["SUCCEEDED", {"Result": '{"a":1}'}] or answer == ["SUCCEEDED", {"Result": '{"a": 1}'}]
    status, details = json.load(lab.client.invoke(FunctionName=name, Payload=b'"nobody"')["Payload"])
    assert (status, details["Error"]["ErrorType"]) == ("FAILED", "FunctionNotFound")


def test_what_is_stopped_or_takes_too_long_ends(lab: Lab) -> None:
    name = make(lab, ORDER)
    execution = begin(lab, name, {"order": 1})
    given = callback(lab, execution)
    error = {"ErrorType": "Changed", "ErrorMessage": "mind"}
    lab("stop_durable_execution", DurableExecutionArn=execution, Error=error)
    stopped = lab("get_durable_execution", DurableExecutionArn=execution)
    assert (stopped["Status"], stopped["Error"]) == ("STOPPED", error)
    assert (
        lab.refused("send_durable_execution_callback_success", CallbackId=given)[0] == "InvalidParameterValueException"
    )

    given_up = lab.client.invoke(FunctionName=name, Payload=b'{"order": 1, "timeout": 1}')
    assert json.load(given_up["Payload"]) == [2, "TIMED_OUT", None]
    short = make(lab, ORDER, DurableConfig={"ExecutionTimeout": 2, "RetentionPeriodInDays": 1})
    late = lab.client.invoke(FunctionName=short, Payload=b'{"order": 1}')
    assert json.load(late["Payload"])["errorType"] == "TIMED_OUT"


@pytest.mark.parametrize(
    "handler", ["def handler(event, context):\n    return 1\n", "def handler(event, context):\n    raise ValueError\n"]
)
def test_a_handler_that_is_not_durable_fails(lab: Lab, handler: str) -> None:
    name = lab.function(zipped(app=handler), **DURABLE)
    failed = lab.client.invoke(FunctionName=name, Payload=b"1")
    assert failed["FunctionError"] == "Unhandled"
    assert json.load(failed["Payload"])["errorType"] in ("InvalidOutput", "ValueError")


def test_who_has_no_token_checkpoints_nothing(lab: Lab) -> None:
    name = make(lab, ORDER)
    execution = begin(lab, name, {"order": 1})
    callback(lab, execution)
    update = {"Id": "x", "Type": "STEP", "Action": "START"}
    assert lab.refused(
        "checkpoint_durable_execution", DurableExecutionArn=execution, CheckpointToken="eA==", Updates=[update]
    ) == ("InvalidParameterValueException", "Invalid checkpoint token")
    assert "x" not in [event["Id"] for event in history(lab, execution)]
    lab("stop_durable_execution", DurableExecutionArn=execution)
    unknown = execution.replace("durable-execution/", "durable-execution/not-")
    assert lab.refused("get_durable_execution", DurableExecutionArn=unknown)[0] == "ResourceNotFoundException"


@pytest.mark.parametrize("killed", [False, True])
def test_a_restart_goes_on_with_what_was_running(tmp_path: Path, killed: bool) -> None:
    with running_lab(tmp_path) as lab:
        name = make(lab, ORDER)
        execution = begin(lab, name, {"order": 2})
        given = callback(lab, execution)
        if killed:
            lab.kill()
    with running_lab(tmp_path) as lab:
        lab("send_durable_execution_callback_success", CallbackId=given, Result=b"late")
        ended = lab.until("get_durable_execution", "Status", "SUCCEEDED", DurableExecutionArn=execution)
        assert json.loads(ended["Result"]) == [4, "SUCCEEDED", "late"]
        kinds = [event["EventType"] for event in history(lab, execution)]
        assert kinds.count("StepStarted") == 1
