"""Durable executions: what the SDK in a function tells, what callbacks bring, and what anybody may ask or stop.

They begin with an invocation of a function that has a DurableConfig (invocations.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from eventfn.api.common import named, page
from eventfn.api.operations import Answer, Call, Handler
from eventfn.api.ports import DurableExecutions
from eventfn.functions import durable
from eventfn.functions.control import Control
from eventfn.functions.durable import STOPPED, Execution
from eventfn.functions.managed import LATEST
from eventfn.functions.refusals import missing

_ARN = re.compile(r".+:function:(?P<function>[^:]+):[^/]+/durable-execution/(?P<name>[^/]+)/(?P<id>[^/]+)")
_STATE_PAGE = 1000
_PAGE = 100


class Durable:
    def __init__(self, control: Control, executions: DurableExecutions) -> None:
        self._control = control
        self._executions = executions

    def operations(self) -> Mapping[str, Handler]:
        return {
            "CheckpointDurableExecution": self._checkpoint,
            "GetDurableExecution": self._get,
            "GetDurableExecutionHistory": self._history,
            "GetDurableExecutionState": self._state,
            "ListDurableExecutionsByFunction": self._list,
            "StopDurableExecution": self._stop,
            "SendDurableExecutionCallbackSuccess": self._succeed,
            "SendDurableExecutionCallbackFailure": self._fail,
            "SendDurableExecutionCallbackHeartbeat": self._beat,
        }

    def _now(self) -> int:
        return self._control.clock.now_ms()

    # --- what the function's SDK asks for ----------------------------------------------------------------------------

    async def _checkpoint(self, call: Call) -> Answer:
        before = 0

        def edit(execution: Execution) -> Execution:
            nonlocal before
            before = execution.seen
            ripe = durable.ripened(execution, self._now())
            return durable.checkpointed(ripe, call.input["CheckpointToken"], call.input.get("Updates", []), self._now())

        after = await self._executions.change(self._key(call), edit)
        answer: dict[str, Any] = {"NewExecutionState": {"Operations": durable.changed_since(after, before)}}
        if not after.is_over:
            answer["CheckpointToken"] = durable.token_of(after)
        return Answer(answer)

    async def _state(self, call: Call) -> Answer:
        execution = self._found(call)
        durable.check_token(execution, call.input["CheckpointToken"])
        found, marker = _part(durable.state(execution), call, _STATE_PAGE)
        return Answer(page("Operations", found, marker))

    # --- what anybody may ask ----------------------------------------------------------------------------------------

    async def _get(self, call: Call) -> Answer:
        execution = self._found(call)
        with_data = call.input.get("IncludeExecutionData", True)
        shown = _shown(execution) | {"Version": execution.version, "ExecutionDataIncluded": with_data}
        if with_data:
            data = {"InputPayload": execution.input, "Result": execution.result, "Error": execution.error}
            shown |= {key: value for key, value in data.items() if value is not None}
        shown["DurableConfig"] = {
            "ExecutionTimeout": execution.timeout_ms // 1000,
            "RetentionPeriodInDays": execution.retention_days,
        }
        return Answer(shown)

    async def _history(self, call: Call) -> Answer:
        events = list(self._found(call).events)
        if call.input.get("ReverseOrder"):
            events.reverse()
        found, marker = _part(events, call, _PAGE)
        if not call.input.get("IncludeExecutionData"):
            found = [_without_data(event) for event in found]
        return Answer(page("Events", found, marker))

    async def _list(self, call: Call) -> Answer:
        target, given = named(self._control, call), call.input
        _, version = self._control.require_version(target, region=call.region)
        executions = [
            execution
            for execution in self._executions.of(target.name)
            if execution.version == (version.number if target.qualifier else LATEST)
            and given.get("DurableExecutionName") in (None, execution.name)
            and ("Statuses" not in given or execution.status in given["Statuses"])
            and execution.started_ms / 1000 > given.get("StartedAfter", 0)
            and execution.started_ms / 1000 < given.get("StartedBefore", float("inf"))
        ]
        # The newest first; ReverseOrder is the order in which they were started.
        executions.sort(key=lambda each: (each.started_ms, each.id), reverse=not given.get("ReverseOrder", False))
        found, marker = _part([_shown(each) for each in executions], call, _PAGE)
        return Answer(page("DurableExecutions", found, marker))

    async def _stop(self, call: Call) -> Answer:
        def edit(execution: Execution) -> Execution:
            if execution.is_over:
                return execution
            return durable.over(execution, STOPPED, self._now(), error=call.input.get("Error"))

        after = await self._executions.change(self._key(call), edit)
        return Answer({"StopTimestamp": (after.ended_ms or self._now()) / 1000})

    # --- callbacks ---------------------------------------------------------------------------------------------------

    async def _succeed(self, call: Call) -> Answer:
        key, operation = durable.of_callback(call.input["CallbackId"])
        result = call.input.get("Result", b"").decode(errors="replace")
        await self._executions.change(key, lambda one: durable.called_back(one, operation, self._now(), result=result))
        return Answer({})

    async def _fail(self, call: Call) -> Answer:
        key, operation = durable.of_callback(call.input["CallbackId"])
        error = call.input.get("Error", {})
        await self._executions.change(key, lambda one: durable.called_back(one, operation, self._now(), error=error))
        return Answer({})

    async def _beat(self, call: Call) -> Answer:
        key, operation = durable.of_callback(call.input["CallbackId"])
        await self._executions.change(key, lambda one: durable.beaten(one, operation, self._now()))
        return Answer({})

    # --- finding and showing -----------------------------------------------------------------------------------------

    def _key(self, call: Call) -> str:
        """Raises Refusal: it is no such ARN, or there is none."""
        arn = call.input["DurableExecutionArn"]
        found = _ARN.fullmatch(arn)
        if found is None or self._executions.get(f"{found['function']}/{found['id']}").arn != arn:
            raise missing()
        return f"{found['function']}/{found['id']}"

    def _found(self, call: Call) -> Execution:
        return self._executions.get(self._key(call))


def _shown(execution: Execution) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "DurableExecutionArn": execution.arn,
        "DurableExecutionName": execution.name,
        "FunctionArn": execution.function_arn,
        "Status": execution.status,
        "StartTimestamp": execution.started_ms / 1000,
    }
    if execution.ended_ms is not None:
        shown["EndTimestamp"] = execution.ended_ms / 1000
    return shown


def _part(items: list[Any], call: Call, size: int) -> tuple[list[Any], str | None]:
    """One page; its marker is the number of those before the next."""
    marker = call.input.get("Marker", "0")
    begin = int(marker) if marker.isascii() and marker.isdigit() and len(marker) < 10 else len(items)
    end = begin + (call.input.get("MaxItems") or size)
    return items[begin:end], str(end) if end < len(items) else None


_DATA = frozenset({"Input", "Result", "Error"})


def _without_data(event: dict[str, Any]) -> dict[str, Any]:
    """What was kept of payloads and errors is left out, and that it was is said."""
    return {key: _details(value) if _is_object(value) else value for key, value in event.items()}


def _details(details: dict[str, Any]) -> dict[str, Any]:
    return {name: {"Truncated": True} if name in _DATA else value for name, value in details.items()}


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)
