"""Durable executions: what a function has done of its work, so that it goes on where it was when it is invoked again.

    invoke ─▶ START ─▶ the function: steps, waits, callbacks, each told by CheckpointDurableExecution
                ▲        └─▶ PENDING: nothing to do before a wait is over, a retry is due, a callback has come
                └── invoked again with all operations so far ◀── `ripened` says that there is something to do

PURE: what a checkpoint, the time and a callback make of an execution. Who invokes: durable/running.py. Source: Lambda's
service model (CheckpointDurableExecution and its kin), and what Amazon's SDK for durable functions reads and writes.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from eventfn.functions.managed import JsonObject
from eventfn.functions.refusals import invalid

RUNNING, SUCCEEDED, FAILED, TIMED_OUT, STOPPED = "RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "STOPPED"
ENDED = frozenset({SUCCEEDED, FAILED, TIMED_OUT, STOPPED, "CANCELLED"})  # of operations too

_NAMES = {
    "STEP": "Step",
    "WAIT": "Wait",
    "CALLBACK": "Callback",
    "CONTEXT": "Context",
    "CHAINED_INVOKE": "ChainedInvoke",
}
# What each type of operation may be told.
_ACTIONS = {
    "STEP": ("START", "SUCCEED", "FAIL", "RETRY"),
    "WAIT": ("START", "CANCEL"),
    "CALLBACK": ("START",),
    "CONTEXT": ("START", "SUCCEED", "FAIL"),
    "CHAINED_INVOKE": ("START", "CANCEL"),
    "EXECUTION": ("SUCCEED", "FAIL"),
}
_DAY_MS = 86_400_000
_MOST_OPERATIONS = 4 * 1024 * 1024  # bytes in the event of an invocation, which takes 6 MB


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`due_ms`: when a wait is over, a retry may start, or a callback is given up."""

    id: str
    type: str
    status: str
    start_ms: int
    changed: int  # the execution's `changes` when it last changed
    end_ms: int | None = None
    name: str | None = None
    parent_id: str | None = None
    sub_type: str | None = None
    attempt: int = 0
    due_ms: int | None = None
    result: str | None = None
    error: JsonObject | None = None
    input: str | None = None
    function: str | None = None  # that a chained invoke calls
    replay_children: bool = False
    callback_id: str | None = None
    heartbeat_ms: int = 0  # the longest time between two; 0: none are wanted
    heartbeat_due_ms: int | None = None


class Execution(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    arn: str
    name: str
    id: str
    function: str
    function_arn: str  # qualified
    version: str
    input: str
    started_ms: int
    timeout_ms: int
    retention_days: int
    status: str = RUNNING
    ended_ms: int | None = None
    result: str | None = None
    error: JsonObject | None = None
    token: int = 0  # the checkpoint that is expected
    changes: int = 0  # of operations
    seen: int = 0  # how many of them the function knows: those that came with its last token
    operations: dict[str, Operation] = {}
    events: tuple[JsonObject, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.function}/{self.id}"

    @property
    def is_over(self) -> bool:
        return self.status != RUNNING

    def forgotten(self, now: int) -> bool:
        return self.ended_ms is not None and now > self.ended_ms + self.retention_days * _DAY_MS


def begun(execution: Execution) -> Execution:
    details = {"Input": {"Payload": execution.input}, "ExecutionTimeout": execution.timeout_ms // 1000}
    return _told(execution, "ExecutionStarted", execution.id, execution.started_ms, details)


# --- tokens -----------------------------------------------------------------------------------------------------------


def token_of(execution: Execution) -> str:
    return base64.b64encode(f"{execution.key} {execution.token}".encode()).decode()


def handed_out(execution: Execution) -> Execution:
    """With a new token: those before are worth nothing any more."""
    return msgspec.structs.replace(execution, token=execution.token + 1, seen=execution.changes)


def check_token(execution: Execution, token: str) -> None:
    """Raises Refusal: it is not the latest."""
    try:
        key, number = base64.b64decode(token, validate=True).decode().split(" ")
        known = key == execution.key and int(number) == execution.token
    except ValueError:
        known = False
    if not known or execution.is_over:
        raise invalid("Invalid checkpoint token")


def callback_id(execution: Execution, operation: str) -> str:
    return base64.b64encode(f"{execution.key} {operation}".encode()).decode()


def of_callback(given: str) -> tuple[str, str]:
    """The execution's key and the operation's id. Raises Refusal."""
    try:
        key, operation = base64.b64decode(given, validate=True).decode().split(" ")
    except ValueError as error:
        raise invalid("Invalid callback id") from error
    return key, operation


# --- a checkpoint -----------------------------------------------------------------------------------------------------


def checkpointed(execution: Execution, token: str, updates: Sequence[Mapping[str, Any]], now: int) -> Execution:
    """With all updates, or none. Raises Refusal."""
    check_token(execution, token)
    for update in updates:
        execution = _updated(execution, update, now)
    return handed_out(execution)


def _updated(execution: Execution, update: Mapping[str, Any], now: int) -> Execution:
    kind, action, name = update["Type"], update["Action"], update["Id"]
    if action not in _ACTIONS[kind]:
        raise invalid(f"Invalid action {action} for an operation of type {kind}")
    payload: str | None = update.get("Payload")
    error: JsonObject | None = update.get("Error")
    if kind == "EXECUTION":
        if execution.is_over:
            raise invalid("The execution has ended already")
        return over(execution, SUCCEEDED if action == "SUCCEED" else FAILED, now, result=payload, error=error)
    before = execution.operations.get(name)
    if before is not None and (before.type != kind or before.status in ENDED):
        raise invalid(f"Operation {name} has ended already, or is of another type")
    if before is None and action not in ("START", "SUCCEED", "FAIL", "RETRY"):
        raise invalid(f"Operation {name} was never started")
    operation = before or Operation(
        id=name,
        type=kind,
        status="STARTED",
        start_ms=now,
        changed=0,
        name=update.get("Name"),
        parent_id=update.get("ParentId"),
        sub_type=update.get("SubType"),
    )
    details: JsonObject = {}
    match action:
        case "START":
            operation, details = _started(execution, operation, update, now)
            event = "Started"
        case "SUCCEED":
            replay = bool(update.get("ContextOptions", {}).get("ReplayChildren", False))
            operation = _ended(operation, SUCCEEDED, now, result=payload, replay_children=replay)
            details, event = {"Result": {"Payload": payload or ""}}, "Succeeded"
        case "FAIL":
            operation = _ended(operation, FAILED, now, error=error)
            details, event = {"Error": {"Payload": error or {}}}, "Failed"
        case "RETRY":
            delay: int = update.get("StepOptions", {}).get("NextAttemptDelaySeconds", 1)
            operation = msgspec.structs.replace(operation, status="PENDING", due_ms=now + delay * 1000, error=error)
            operation = msgspec.structs.replace(operation, result=payload)
            details, event = {"Error": {"Payload": error or {}}}, "Failed"
        case _:
            operation = _ended(operation, "CANCELLED", now)
            event = "Cancelled"
    if kind == "STEP" and event != "Started":
        retry: JsonObject = {"CurrentAttempt": operation.attempt}
        if action == "RETRY" and operation.due_ms is not None:
            retry["NextAttemptDelaySeconds"] = (operation.due_ms - now) // 1000
        details["RetryDetails"] = retry
    execution = _with(execution, operation)
    if kind == "CHAINED_INVOKE" and event == "Cancelled":
        event = "Stopped"  # history has no other word for it
        details = {"Error": {"Payload": {}}}
    return _told(execution, _NAMES[kind] + event, name, now, details)


def _started(
    execution: Execution, operation: Operation, update: Mapping[str, Any], now: int
) -> tuple[Operation, JsonObject]:
    replace = msgspec.structs.replace
    match operation.type:
        case "STEP":
            return replace(operation, status="STARTED", attempt=operation.attempt + 1, due_ms=None), {}
        case "WAIT":
            seconds: int = update.get("WaitOptions", {}).get("WaitSeconds", 1)
            end = now + seconds * 1000
            details = {"Duration": seconds, "ScheduledEndTimestamp": end / 1000}
            return replace(operation, due_ms=end), details
        case "CALLBACK":
            options = update.get("CallbackOptions", {})
            timeout, heartbeat = options.get("TimeoutSeconds", 0), options.get("HeartbeatTimeoutSeconds", 0)
            given = callback_id(execution, operation.id)
            operation = replace(
                operation,
                callback_id=given,
                due_ms=now + timeout * 1000 if timeout else None,
                heartbeat_ms=heartbeat * 1000,
                heartbeat_due_ms=now + heartbeat * 1000 if heartbeat else None,
            )
            return operation, {"CallbackId": given, "Timeout": timeout, "HeartbeatTimeout": heartbeat}
        case "CHAINED_INVOKE":
            name = update.get("ChainedInvokeOptions", {}).get("FunctionName", "")
            operation = replace(operation, function=name, input=update.get("Payload"))
            return operation, {"FunctionName": name, "Input": {"Payload": operation.input or ""}}
        case _:
            return operation, {}


# --- what comes by itself ---------------------------------------------------------------------------------------------


def ripened(execution: Execution, now: int) -> Execution:
    """What has become of it by now: waits that are over, retries that are due, callbacks that are given up."""
    if execution.is_over:
        return execution
    if now >= execution.started_ms + execution.timeout_ms:
        return over(execution, TIMED_OUT, now)
    for operation in execution.operations.values():
        if operation.status in ENDED or (due := _due(operation)) is None or now < due:
            continue
        match operation.type:
            case "WAIT":
                waited = (due - operation.start_ms) // 1000
                execution = _with(execution, _ended(operation, SUCCEEDED, due))
                execution = _told(execution, "WaitSucceeded", operation.id, due, {"Duration": waited})
            case "STEP" if operation.status == "PENDING":
                execution = _with(execution, msgspec.structs.replace(operation, status="READY"))
            case "CALLBACK":
                error = {"ErrorType": "Callback.Timeout", "ErrorMessage": "Callback timed out"}
                execution = _with(execution, _ended(operation, TIMED_OUT, due, error=error))
                told: JsonObject = {"Error": {"Payload": error}}
                execution = _told(execution, "CallbackTimedOut", operation.id, due, told)
            case _:
                pass
    return execution


def next_due(execution: Execution) -> int:
    """When `ripened` will have something to do."""
    waiting = [
        due
        for operation in execution.operations.values()
        if operation.status not in ENDED | {"READY"} and (due := _due(operation)) is not None
    ]
    return min([execution.started_ms + execution.timeout_ms, *waiting])


def _due(operation: Operation) -> int | None:
    times = [each for each in (operation.due_ms, operation.heartbeat_due_ms) if each is not None]
    return min(times) if times else None


def called_back(
    execution: Execution, name: str, now: int, *, result: str | None = None, error: JsonObject | None = None
) -> Execution:
    """A callback has come, with its result or its error. Raises Refusal."""
    operation = _waiting(execution, name)
    status = SUCCEEDED if error is None else FAILED
    execution = _with(execution, _ended(operation, status, now, result=result, error=error))
    details: JsonObject = {"Result": {"Payload": result or ""}} if error is None else {"Error": {"Payload": error}}
    return _told(execution, f"Callback{status.capitalize()}", name, now, details)


def beaten(execution: Execution, name: str, now: int) -> Execution:
    """Whoever will call back is alive. Raises Refusal."""
    operation = _waiting(execution, name)
    if not operation.heartbeat_ms:
        return execution
    return _with(execution, msgspec.structs.replace(operation, heartbeat_due_ms=now + operation.heartbeat_ms))


def _waiting(execution: Execution, name: str) -> Operation:
    operation = execution.operations.get(name)
    if execution.is_over or operation is None or operation.type != "CALLBACK" or operation.status in ENDED:
        raise invalid("The callback has ended already, or there is none of this id")
    return operation


def chained(
    execution: Execution, name: str, now: int, *, result: str | None = None, error: JsonObject | None = None
) -> Execution:
    """A function that was invoked for it has answered."""
    operation = execution.operations.get(name)
    if execution.is_over or operation is None or operation.status in ENDED:
        return execution  # stopped or cancelled meanwhile
    status = SUCCEEDED if error is None else FAILED
    execution = _with(execution, _ended(operation, status, now, result=result, error=error))
    details: JsonObject = {"Result": {"Payload": result or ""}} if error is None else {"Error": {"Payload": error}}
    return _told(execution, f"ChainedInvoke{status.capitalize()}", name, now, details)


def over(
    execution: Execution, status: str, now: int, *, result: str | None = None, error: JsonObject | None = None
) -> Execution:
    """The end of the whole execution."""
    details: JsonObject = (
        {"Result": {"Payload": result or ""}} if status == SUCCEEDED else {"Error": {"Payload": error or {}}}
    )
    word = {SUCCEEDED: "Succeeded", FAILED: "Failed", TIMED_OUT: "TimedOut", STOPPED: "Stopped"}[status]
    ended = msgspec.structs.replace(execution, status=status, ended_ms=now, result=result, error=error)
    return _told(ended, f"Execution{word}", execution.id, now, details)


def invoked(execution: Execution, request_id: str, start_ms: int, now: int, error: JsonObject | None) -> Execution:
    """One invocation of the function has come to its end."""
    details: JsonObject = {"StartTimestamp": start_ms / 1000, "EndTimestamp": now / 1000, "RequestId": request_id}
    if error is not None:
        details["Error"] = {"Payload": error}
    return _told(execution, "InvocationCompleted", execution.id, now, details)


# --- shapes -----------------------------------------------------------------------------------------------------------


def envelope(execution: Execution) -> bytes:
    """The event that the function is invoked with. Times within are milliseconds, unlike those of the API. Operations
    that are too many for it are asked for, from the marker on: GetDurableExecutionState."""
    operations = [_shown_execution(execution, 1), *(shown(each, 1) for each in execution.operations.values())]
    taken: list[msgspec.Raw] = []
    room = _MOST_OPERATIONS
    for operation in operations:
        encoded = msgspec.json.encode(operation)
        room -= len(encoded)
        if taken and room < 0:
            break
        taken.append(msgspec.Raw(encoded))
    return msgspec.json.encode(
        {
            "DurableExecutionArn": execution.arn,
            "CheckpointToken": token_of(execution),
            "InitialExecutionState": {
                "Operations": taken,
                "NextMarker": str(len(taken)) if len(taken) < len(operations) else "",
            },
        }
    )


def state(execution: Execution) -> list[JsonObject]:
    return [_shown_execution(execution, 1000), *(shown(each) for each in execution.operations.values())]


def changed_since(execution: Execution, changes: int) -> list[JsonObject]:
    """The operations that changed after so many changes."""
    return [shown(each) for each in execution.operations.values() if each.changed > changes]


def _shown_execution(execution: Execution, unit: int) -> JsonObject:
    return {
        "Id": execution.id,
        "Name": execution.name,
        "Type": "EXECUTION",
        "StartTimestamp": _time(execution.started_ms, unit),
        "Status": "STARTED",
        "ExecutionDetails": {"InputPayload": execution.input},
    }


def shown(operation: Operation, unit: int = 1000) -> JsonObject:
    """As the API has it; times in seconds, or in milliseconds (`unit` 1)."""
    said: JsonObject = {
        "Id": operation.id,
        "ParentId": operation.parent_id,
        "Name": operation.name,
        "Type": operation.type,
        "SubType": operation.sub_type,
        "StartTimestamp": _time(operation.start_ms, unit),
        "EndTimestamp": None if operation.end_ms is None else _time(operation.end_ms, unit),
        "Status": operation.status,
    }
    due = None if operation.due_ms is None else _time(operation.due_ms, unit)
    result = {"Result": operation.result, "Error": operation.error}
    match operation.type:
        case "STEP":
            retry = due if operation.status in ("PENDING", "READY") else None
            said["StepDetails"] = _there({"Attempt": operation.attempt, "NextAttemptTimestamp": retry, **result})
        case "WAIT":
            said["WaitDetails"] = _there({"ScheduledEndTimestamp": due})
        case "CALLBACK":
            said["CallbackDetails"] = _there({"CallbackId": operation.callback_id, **result})
        case "CHAINED_INVOKE":
            said["ChainedInvokeDetails"] = _there(result)
        case _:
            said["ContextDetails"] = _there({"ReplayChildren": operation.replay_children or None, **result})
    return _there(said)


def _there(said: JsonObject) -> JsonObject:
    return {key: value for key, value in said.items() if value is not None}


def _time(milliseconds: int, unit: int) -> float | int:
    return milliseconds if unit == 1 else milliseconds / unit


def _ended(operation: Operation, status: str, now: int, **more: Any) -> Operation:
    return msgspec.structs.replace(operation, status=status, end_ms=now, **more)


def _with(execution: Execution, operation: Operation) -> Execution:
    changes = execution.changes + 1
    operation = msgspec.structs.replace(operation, changed=changes)
    operations = {**execution.operations, operation.id: operation}
    return msgspec.structs.replace(execution, operations=operations, changes=changes)


def _told(execution: Execution, kind: str, name: str, now: int, details: JsonObject) -> Execution:
    """One event more in its history."""
    operation = execution.operations.get(name)
    event = _there(
        {
            "EventType": kind,
            "EventId": len(execution.events) + 1,
            "EventTimestamp": now / 1000,
            "Id": name,
            "Name": execution.name if operation is None else operation.name,
            "ParentId": None if operation is None else operation.parent_id,
            "SubType": None if operation is None else operation.sub_type,
        }
    )
    return msgspec.structs.replace(execution, events=(*execution.events, {**event, f"{kind}Details": details}))
