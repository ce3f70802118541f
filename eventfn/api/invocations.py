"""Lambda's Invoke (RequestResponse, Event, DryRun) and its older kin InvokeAsync.

Source: invocation.md, 1. Not here: streams (streaming), what a payload may be (payloads).
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping

import msgspec

from eventfn.api.answers import REQUEST_ID
from eventfn.api.common import named
from eventfn.api.errors import did_you_mean, not_found
from eventfn.api.operations import Answer, Call, Done, Handler
from eventfn.api.payloads import client_context, json_event, refuse_unless_it_ran
from eventfn.api.ports import Node
from eventfn.errors import FunctionNotFound, PayloadTooLarge
from eventfn.event import MAX_ASYNC_REQUEST, Outcome
from eventfn.functions.durable import SUCCEEDED
from eventfn.functions.managed import LATEST
from eventfn.functions.names import Named

MAX_LOG_TAIL = 4096  # bytes
IDEMPOTENCY_KEY = "Idempotency-Key"  # ours, for Event: within the window an event with this key is accepted once
DURATION = "X-Eventfn-Duration-Ms"  # ours: Lambda tells the duration in the log only


class Invocations:
    """Of Invoke's kinds the usual one needs no task: operations.Prompt."""

    prompt = "Invoke"

    def __init__(self, node: Node) -> None:
        self._node = node

    def operations(self) -> Mapping[str, Handler]:
        return {"Invoke": self._invoke, "InvokeAsync": self._invoke_async}

    def begin(self, call: Call, done: Done) -> bool:
        if call.input.get("InvocationType", "RequestResponse") != "RequestResponse":
            return False
        target = named(self._node.control, call)
        if self._node.durable.settings(target) is not None:
            return False
        self._request_response(call, target, done)
        return True

    async def _invoke(self, call: Call) -> Answer:
        target = named(self._node.control, call)
        match call.input.get("InvocationType"):
            case "DryRun":
                return self._dry_run(call, target)
            case kind if self._node.durable.settings(target) is not None:
                return await self._durable(call, target, wait=kind != "Event")
            case "Event":
                return await self._event(call, target, call.input["Payload"])
            case _:
                return await self._answered(call, target)

    async def _answered(self, call: Call, target: Named) -> Answer:
        """Cancelling it does not cancel the function, as in Lambda."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(found: Answer | Exception) -> None:
            if answer.done():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        self._request_response(call, target, done)
        return await answer

    def _request_response(self, call: Call, target: Named, done: Done) -> None:
        trace_id = call.headers.get("X-Amzn-Trace-Id")
        version = ""

        def ended(outcome: Outcome) -> None:
            try:
                answer = _answer(outcome, version, trace_id)
            except Exception as error:
                done(error)
            else:
                done(answer)

        try:
            version = self._node.invoke(
                target.reference,
                json_event(call.input["Payload"]),
                ended,
                request_id=call.request_id,
                log_tail=call.input.get("LogType") == "Tail",
                client_context=client_context(call.input.get("ClientContext")),
                trace_id=trace_id,
            )
        except FunctionNotFound as error:
            raise self._not_found(call, target) from error

    async def _event(self, call: Call, target: Named, body: bytes) -> Answer:
        if len(body) > MAX_ASYNC_REQUEST:
            raise PayloadTooLarge(len(body), MAX_ASYNC_REQUEST)
        try:
            request_id = await self._node.submit(
                target.reference,
                json_event(body),
                request_id=call.request_id,
                dedupe_key=call.headers.get(IDEMPOTENCY_KEY),
                trace_id=call.headers.get("X-Amzn-Trace-Id"),
            )
        except FunctionNotFound as error:
            raise self._not_found(call, target) from error
        return Answer(status=202, headers={REQUEST_ID: request_id})

    async def _durable(self, call: Call, target: Named, *, wait: bool) -> Answer:
        """Of a function with a DurableConfig: an execution, and its end if somebody waits for it."""
        function, version = self._node.control.require_version(target, region=call.region, shown=LATEST)
        payload = json_event(call.input["Payload"])
        begun = await self._node.durable.begin(function, version, payload, call.input.get("DurableExecutionName"))
        headers = {"X-Amz-Durable-Execution-Arn": begun.arn}
        if not wait:
            return Answer(status=202, headers=headers)
        ended = await self._node.durable.end(begun)
        headers |= {"Content-Type": "application/json", "X-Amz-Executed-Version": ended.version}
        if ended.status == SUCCEEDED:
            return Answer((ended.result or "null").encode(), headers=headers)
        headers["X-Amz-Function-Error"] = "Unhandled"
        error = ended.error or {}
        said = {"errorMessage": error.get("ErrorMessage") or "", "errorType": error.get("ErrorType") or ended.status}
        return Answer(msgspec.json.encode(said), headers=headers)

    def _dry_run(self, call: Call, target: Named) -> Answer:
        if target.reference not in self._node.control.registry:
            raise self._not_found(call, target)
        return Answer(status=204)

    async def _invoke_async(self, call: Call) -> Answer:
        """It knows no qualifier, and says its status in its body too."""
        answer = await self._event(call, named(self._node.control, call), call.input["InvokeArgs"])
        return Answer({"Status": 202}, headers=answer.headers)

    def _not_found(self, call: Call, target: Named) -> Exception:
        """As Lambda says it, with the nearest name there is."""
        arn = self._node.control.arn(target.name, target.qualifier or LATEST, region=call.region)
        known = list(self._node.function_names())
        hint = "" if target.name in known else did_you_mean(target.name, known)
        return not_found(f"Function not found: {arn}{hint}")


def _answer(outcome: Outcome, version: str, trace_id: str | None) -> Answer:
    """`version`: empty where nothing ran. Raises ApiError: then, too."""
    refuse_unless_it_ran(outcome)
    headers = {
        "Content-Type": "application/json",
        "X-Amz-Executed-Version": version or outcome.executed_version,
        "x-amzn-Remapped-Content-Length": "0",
        DURATION: f"{outcome.duration_ms:.2f}",
    }
    if not outcome.ok:
        headers["X-Amz-Function-Error"] = "Unhandled"
    if outcome.log_tail:
        headers["X-Amz-Log-Result"] = base64.b64encode(outcome.log_tail[-MAX_LOG_TAIL:]).decode()
    if trace_id is not None:
        headers["X-Amzn-Trace-Id"] = trace_id
    return Answer(outcome.payload, headers=headers)
