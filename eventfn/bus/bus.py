"""The front door: `invoke` (somebody waits) and `submit` (accepted once it is on disk). Both meet at admission.

`invoke` is the hot path: a dict look-up, integers, and on to the pool. No task, no lock, no decoding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from eventfn.bus import names
from eventfn.bus.admission import Admission
from eventfn.bus.ids import new_id
from eventfn.clock import Clock
from eventfn.engine.contract import Engine, Operation, Put, QueueFull, Send
from eventfn.errors import PayloadTooLarge, RecursiveInvocation, ShuttingDown, Throttled
from eventfn.event import (
    MAX_ASYNC_REQUEST,
    MAX_SYNC_REQUEST,
    Apart,
    Invocation,
    Outcome,
    OutcomeKind,
    Position,
    ResponseStream,
)
from eventfn.functions.model import Limits
from eventfn.functions.registry import Registry, Target
from eventfn.observe.metrics import Metrics
from eventfn.rules import recursion
from eventfn.workers.contract import Pool

QUEUE_LIMIT_REACHED = "FunctionInvocationRateLimitExceeded"


class Bus:
    """A function is named by a reference: "name", or "name:qualifier" with a version's number or an alias.

    Raises FunctionNotFound, FunctionNotReady, RecursiveInvocation, PayloadTooLarge and ShuttingDown before anything
    has happened."""

    def __init__(
        self,
        functions: Registry,
        pool: Pool,
        engine: Engine,
        admission: Admission,
        metrics: Metrics,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._functions = functions
        self._pool = pool
        self._engine = engine
        self._admission = admission
        self._metrics = metrics
        self._clock = clock
        self._limits = limits
        self._closed = False

    def close(self) -> None:
        """Nothing new from now on; what is under way goes on."""
        self._closed = True

    def invoke(
        self,
        reference: str,
        payload: bytes,
        done: Callable[[Outcome], None],
        *,
        request_id: str,
        client_context: str | None = None,
        trace_id: str | None = None,
        log_tail: bool = False,
        apart: Apart | None = None,
        stream: ResponseStream | None = None,
    ) -> str:
        """The version that runs it, Lambda's: "$LATEST" or "3". `done` is called exactly once, after what the function
        streams has gone to `stream`. No capacity is an outcome too: THROTTLED, at once."""
        target = self._functions.require(reference)
        size = len(payload) if apart is None else len(payload) + len(apart.body)
        if size > MAX_SYNC_REQUEST:
            raise PayloadTooLarge(size, MAX_SYNC_REQUEST)
        if self._closed:
            raise ShuttingDown("the node is stopping")
        if trace_id is None:
            trace_id = recursion.rooted(target.unrooted, request_id, self._clock.now_ms())
        else:
            trace_id = chained(target, trace_id)
        name = target.function.name
        counters = self._metrics.function(name)
        share = self._admission.enter(name)
        if share is None:
            counters.throttles += 1
            done(throttled(request_id, self._admission.reason(name)))
            return target.version
        counters.invocations += 1

        def finished(outcome: Outcome) -> None:
            self._admission.leave(share)
            counters.finished(outcome)
            done(outcome)

        invocation = Invocation(request_id, target.key, payload, target.arn, client_context, trace_id, apart)
        self._pool.invoke(invocation, finished, log_tail=log_tail, stream=stream)
        return target.version

    async def call(
        self,
        reference: str,
        payload: bytes,
        *,
        request_id: str | None = None,
        client_context: str | None = None,
        trace_id: str | None = None,
        log_tail: bool = False,
    ) -> Outcome:
        """`invoke` for those who can await. Cancelling the caller does not cancel the function, as in Lambda."""
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            if not answer.done():
                answer.set_result(outcome)

        version = self.invoke(
            reference,
            payload,
            done,
            request_id=request_id or new_id(),
            client_context=client_context,
            trace_id=trace_id,
            log_tail=log_tail,
        )
        outcome = await answer
        if version != outcome.executed_version:
            outcome = msgspec.structs.replace(outcome, executed_version=version)
        return outcome

    def stops(self, reference: str, trace_id: str) -> bool:
        """Whether the function is not to run for what has come with this trace header: it has too often already."""
        target = self._functions.get(reference)
        if target is None:
            return False  # which is said when it is invoked
        try:
            chained(target, trace_id)
        except RecursiveInvocation:
            return True
        return False

    async def submit(
        self,
        reference: str,
        payload: bytes,
        *,
        request_id: str | None = None,
        dedupe_key: str | None = None,
        position: Position | None = None,
        trace_id: str | None = None,
    ) -> str:
        """The request id, once the event is on disk; with a `dedupe_key` seen within the idempotency window, the id
        of the event accepted then. `position` is kept in the same transaction.

        Raises Throttled (the function's queue is at its limit), EngineFull, EngineError: then nothing was kept.
        """
        name = self._functions.require(reference).function.name
        if len(payload) > MAX_ASYNC_REQUEST:
            raise PayloadTooLarge(len(payload), MAX_ASYNC_REQUEST)
        if self._closed:
            raise ShuttingDown("the node is stopping")
        now = self._clock.now_ms()
        send = Send(
            queue=names.EVENTS + reference,
            id=request_id or new_id(),
            body=payload,
            attributes={} if trace_id is None else {recursion.TRACE_HEADER: trace_id},
            dedupe_key=dedupe_key,
            dedupe_until_ms=now + round(self._limits.idempotency_window * 1000) if dedupe_key else 0,
            limit=self._limits.queued_events,
        )
        operations: list[Operation] = [send]
        if position is not None:
            operations.append(Put(position.key, position.value))
        counters = self._metrics.function(name)
        try:
            accepted = (await self._engine.commit(operations, now))[0]
        except QueueFull as full:
            counters.throttles += 1
            raise Throttled(QUEUE_LIMIT_REACHED, retry_after=5) from full
        assert accepted is not None, "a Send always has an id"
        counters.events_received += 1
        return accepted


def chained(target: Target, trace_id: str) -> str:
    """The trace header that the function gets for the one that its caller has sent. Raises RecursiveInvocation."""
    trace, count = recursion.stepped(trace_id, target.mark)
    if target.terminates and count > recursion.MOST:
        raise RecursiveInvocation(target.name)
    return trace


def throttled(request_id: str, reason: str) -> Outcome:
    payload = b'{"Reason":"%b","Type":"User","message":"Rate Exceeded."}' % reason.encode()
    return Outcome(
        OutcomeKind.THROTTLED,
        payload,
        request_id,
        error_type="TooManyRequestsException",
        error_message=reason,
        retry_after=1,
    )
