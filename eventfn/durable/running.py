"""Drives durable executions: invoke, wait for something to do, invoke again.

Each is a document, changed by compare-and-set, and a task while it runs. A node that is started again goes on with all
that were running: an invocation that a crash cut off is made once more, with what was checkpointed of it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import uuid
from collections.abc import Awaitable, Callable

import msgspec

from eventfn.bus.waiting import wait_for
from eventfn.clock import Clock
from eventfn.errors import EventfnError, FunctionNotFound, Refused
from eventfn.event import Outcome, OutcomeKind
from eventfn.functions import durable
from eventfn.functions.durable import FAILED, SUCCEEDED, Execution
from eventfn.functions.managed import JsonObject, ManagedFunction, Version
from eventfn.functions.names import Named
from eventfn.functions.refusals import Refusal, missing
from eventfn.functions.store import Store

DOCUMENTS = "durable/"  # durable/<function>/<id>
NAMES = "durable-names/"  # durable-names/<function>/<version>/<name>, of those that were given one
DEFAULT_TIMEOUT = 86_400  # seconds, of an execution whose function says nothing
DEFAULT_RETENTION = 14  # days
_FAILURES = 3  # invocations in a row that end without an answer
_LONGEST_PAUSE = 60.0  # seconds between them

_THE_FUNCTIONS = (OutcomeKind.SUCCESS, OutcomeKind.FUNCTION_ERROR)

Edit = Callable[[Execution], Execution]
Invoke = Callable[..., Awaitable[Outcome]]  # Bus.call

log = logging.getLogger("eventfn.durable")


class Answer(msgspec.Struct, frozen=True):
    """What the function says at the end of an invocation: Amazon's SDK writes it."""

    status: str = msgspec.field(name="Status")
    result: str | None = msgspec.field(default=None, name="Result")
    error: JsonObject | None = msgspec.field(default=None, name="Error")


class _Name(msgspec.Struct, frozen=True):
    """Whose name it is."""

    execution: str  # its key


class _Failure(msgspec.Struct, frozen=True):
    """An invocation without an answer. `counts`: it was the function's fault, and not for want of room."""

    error: JsonObject
    counts: bool


class DurableExecutions:
    """`run` it while the node takes requests."""

    def __init__(self, store: Store, invoke: Invoke, clock: Clock) -> None:
        self._store = store
        self._invoke = invoke
        self._clock = clock
        self._changed: dict[str, asyncio.Event] = {}  # of those that run
        self._over: dict[str, asyncio.Future[Execution]] = {}  # somebody waits for their end
        self._calling: set[str] = set()  # chained invokes under way
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            for execution in self._store.documents(DOCUMENTS, Execution).values():
                if execution.forgotten(self._clock.now_ms()):
                    await self._forget(execution)
                    continue
                if execution.name != execution.id and self._store.document(_name_key(execution), _Name) is None:
                    # Of a data folder from before names were kept by themselves: it is still taken.
                    await self._store.put_document(_name_key(execution), _Name(execution.key))
                if not execution.is_over:
                    self._drive(execution.key)
            await asyncio.Event().wait()

    # --- beginning and asking ----------------------------------------------------------------------------------------

    def settings(self, target: Named) -> JsonObject | None:
        """DurableConfig of what a request names; None: an invocation of it is an ordinary one."""
        function = self._store.get(target.name)
        version = None if function is None else function.resolve(target.qualifier)
        return None if version is None else version.configuration.durable_config

    async def begin(self, function: ManagedFunction, version: Version, payload: bytes, name: str | None) -> Execution:
        """A new one, or the one that has this name and payload already. Raises Refusal: it has another payload."""
        new = found = self._new(function, version, payload, name)

        def unless_known(holder: _Name | None) -> dict[str, msgspec.Struct]:
            nonlocal found
            known = None if holder is None else self._document(holder.execution)
            if known is None or known.forgotten(self._clock.now_ms()):
                return {_name_key(new): _Name(new.key), DOCUMENTS + new.key: new}
            if known.input != new.input:
                raise Refusal(
                    "DurableExecutionAlreadyStartedException",
                    f"A durable execution named {name} has been started with another payload.",
                )
            found = known
            return {}

        try:
            if name is None:
                await self._store.put_document(DOCUMENTS + new.key, new)
            else:  # the name and the execution in one commit: of several that begin with it at once, one does
                await self._store.put_together(_name_key(new), _Name, unless_known)
        finally:
            if self._document(new.key) is not None:  # also when the caller has gone meanwhile
                self._drive(new.key)
        return found

    def _new(self, function: ManagedFunction, version: Version, payload: bytes, name: str | None) -> Execution:
        config = version.configuration.durable_config or {}
        execution_id = str(uuid.uuid4())
        name = name or execution_id
        qualified = function.qualified(version.number)
        return durable.begun(
            Execution(
                arn=f"{qualified}/durable-execution/{name}/{execution_id}",
                name=name,
                id=execution_id,
                function=function.name,
                function_arn=qualified,
                version=version.number,
                input=payload.decode(),
                started_ms=self._clock.now_ms(),
                timeout_ms=config.get("ExecutionTimeout", DEFAULT_TIMEOUT) * 1000,
                retention_days=config.get("RetentionPeriodInDays", DEFAULT_RETENTION),
            )
        )

    async def _forget(self, execution: Execution) -> None:
        def its_own(holder: _Name | None) -> dict[str, None]:
            named = holder is not None and holder.execution == execution.key
            return dict.fromkeys([DOCUMENTS + execution.key, *([_name_key(execution)] if named else [])])

        await self._store.put_together(_name_key(execution), _Name, its_own)

    async def end(self, execution: Execution) -> Execution:
        """Waits for it. Cancelling it does not end the execution."""
        if execution.is_over:
            return execution
        waiting = self._over.setdefault(execution.key, asyncio.get_running_loop().create_future())
        current = self._document(execution.key)
        return current if current is not None and current.is_over else await asyncio.shield(waiting)

    def of(self, function: str) -> list[Execution]:
        """In the order of their ids."""
        now = self._clock.now_ms()
        found = self._store.documents(f"{DOCUMENTS}{function}/", Execution).values()
        return [execution for execution in found if not execution.forgotten(now)]

    def get(self, key: str) -> Execution:
        """Raises Refusal: there is none, or none any more."""
        execution = self._document(key)
        if execution is None or execution.forgotten(self._clock.now_ms()):
            raise missing()
        return execution

    async def change(self, key: str, edit: Edit) -> Execution:
        """Raises Refusal: there is none; and what `edit` raises."""

        def change(before: Execution | None) -> Execution:
            if before is None:
                raise missing()
            return edit(before)

        after = await self._store.change_document(DOCUMENTS + key, Execution, change)
        assert after is not None, "a change gives one"
        if key in self._changed:
            self._changed[key].set()
        return after

    def _document(self, key: str) -> Execution | None:
        return self._store.document(DOCUMENTS + key, Execution)

    # --- one execution -----------------------------------------------------------------------------------------------

    def _drive(self, key: str) -> None:
        assert self._tasks is not None, "nothing begins before `run`"
        self._changed[key] = asyncio.Event()
        self._tasks.create_task(self._to_its_end(key))

    async def _to_its_end(self, key: str) -> None:
        try:
            await self._work(key)
        except Refusal as gone:
            log.info("the durable execution %s is not there any more: %s", key, gone)
        except EventfnError as error:  # the data folder's, mostly: a restart goes on with it
            log.error("the durable execution %s is left as it is until the next start: %s", key, error)
        except Exception:  # ours: what comes of one execution must not end the others, and the node with them
            log.exception("eventfn bug: the durable execution %s is left as it is until the next start", key)
        finally:
            del self._changed[key]
            waiting, ended = self._over.pop(key, None), self._document(key)
            if waiting is not None and not waiting.done():
                if ended is None:
                    waiting.set_exception(missing())
                else:
                    waiting.set_result(ended)

    async def _work(self, key: str) -> None:
        failures, asked = 0, False
        while True:
            self._changed[key].clear()
            now = self._clock.now_ms()
            await self.change(key, lambda before: durable.ripened(before, self._clock.now_ms()))
            self._changed[key].clear()
            execution = self.get(key)  # after the clear: what changes from here on is heard
            if execution.is_over:
                return
            self._call_others(execution)
            if asked and execution.changes == execution.seen:
                await wait_for(self._changed[key], self._clock, max(0, durable.next_due(execution) - now) / 1000)
                continue
            asked = True
            failure = await self._once(key)
            if failure is None:
                failures = 0
                continue
            failures += failure.counts
            if failures == _FAILURES:
                await self.change(key, functools.partial(self._failed, failure.error))
                return
            asked = False
            await self._clock.sleep(min(2.0**failures, _LONGEST_PAUSE))

    def _failed(self, error: JsonObject, execution: Execution) -> Execution:
        return execution if execution.is_over else durable.over(execution, FAILED, self._clock.now_ms(), error=error)

    async def _once(self, key: str) -> _Failure | None:
        """One invocation. What it failed with when it gave no answer of a durable function; else None."""
        execution = await self.change(key, durable.handed_out)
        request_id, started = str(uuid.uuid4()), self._clock.now_ms()
        reference = Named(execution.function, execution.version).reference
        try:
            outcome = await self._invoke(reference, durable.envelope(execution), request_id=request_id)
        except FunctionNotFound as gone:
            error: JsonObject = {"ErrorType": "ResourceNotFoundException", "ErrorMessage": str(gone)}
            await self.change(key, functools.partial(self._failed, error))
            return None
        except Refused as refused:
            return _Failure({"ErrorType": type(refused).__name__, "ErrorMessage": str(refused)}, True)
        answer, failure = _answer(outcome)

        def edit(before: Execution) -> Execution:
            now = self._clock.now_ms()
            after = durable.invoked(before, request_id, started, now, failure)
            if after.is_over or answer is None or answer.status == "PENDING":
                return after
            # A result that was too large for an answer has ended it by a checkpoint.
            if answer.status == SUCCEEDED:
                return durable.over(after, SUCCEEDED, now, result=answer.result)
            return durable.over(after, FAILED, now, error=answer.error)

        await self.change(key, edit)
        return None if failure is None else _Failure(failure, outcome.kind in _THE_FUNCTIONS)

    def _call_others(self, execution: Execution) -> None:
        """Chained invokes that were started and nobody has made yet."""
        assert self._tasks is not None
        for operation in execution.operations.values():
            mark = f"{execution.key}/{operation.id}"
            if operation.type == "CHAINED_INVOKE" and operation.status == "STARTED" and mark not in self._calling:
                self._calling.add(mark)
                self._tasks.create_task(self._call(execution.key, operation.id, mark))

    async def _call(self, key: str, operation: str, mark: str) -> None:
        try:
            asked = self.get(key).operations[operation]
            payload = (asked.input or "null").encode()
            name = (asked.function or "").partition(":function:")[2] or asked.function or ""
            try:
                outcome = await self._invoke(name, payload, request_id=str(uuid.uuid4()))
            except Refused as refused:
                outcome = Outcome(
                    OutcomeKind.FUNCTION_ERROR, b"", error_type=type(refused).__name__, error_message=str(refused)
                )
            result, error = _result(outcome)

            def edit(before: Execution) -> Execution:
                return durable.chained(before, operation, self._clock.now_ms(), result=result, error=error)

            await self.change(key, edit)
        except EventfnError as error_:
            log.error("a chained invoke of %s was not kept: %s", key, error_)
        except Exception:
            log.exception("eventfn bug: a chained invoke of %s was not kept", key)
        finally:
            self._calling.discard(mark)


def _name_key(execution: Execution) -> str:
    return f"{NAMES}{execution.function}/{execution.version}/{execution.name}"


def _answer(outcome: Outcome) -> tuple[Answer | None, JsonObject | None]:
    """What the function has said, or what it failed with."""
    if not outcome.ok:
        return None, _error_of(outcome)
    try:
        answer = msgspec.json.decode(outcome.payload, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return None, {"ErrorType": "InvalidOutput", "ErrorMessage": f"Invalid Status in invocation output: {error}"}
    if answer.status not in ("PENDING", SUCCEEDED, FAILED):
        return None, {"ErrorType": "InvalidOutput", "ErrorMessage": "Invalid Status in invocation output"}
    return answer, None


def _result(outcome: Outcome) -> tuple[str | None, JsonObject | None]:
    """Of a chained invoke: what the other function has answered, or what it failed with."""
    if not outcome.ok:
        return None, _error_of(outcome)
    try:
        return outcome.payload.decode(), None
    except UnicodeDecodeError as error:
        return None, {"ErrorType": "InvalidOutput", "ErrorMessage": f"Invalid invocation output: {error}"}


def _error_of(outcome: Outcome) -> JsonObject:
    return {"ErrorType": outcome.error_type or outcome.kind.name, "ErrorMessage": outcome.error_message or ""}
