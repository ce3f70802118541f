"""One environment's life: starting, initialising, then idle and busy in turn, ending. Its processes, its channel, its
log and its deadlines, and nobody else's.

    start ──▶ ready ──▶ run … answer ──▶ run … ──▶ kill ──▶ gone
      └── InitFailed       └── timed out, exited, broke the protocol: the request gets a function error, then gone

The process lives in real time, whatever clock the pool was given: deadlines are the loop's timers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from eventfn.clock import Clock
from eventfn.event import MAX_STREAMED_RESPONSE, Buffer, Outcome, OutcomeKind
from eventfn.sandbox.allow_list import Target
from eventfn.workers import failures, wire
from eventfn.workers.ahead import Ahead
from eventfn.workers.child import frames
from eventfn.workers.contract import LogSink, Prepared
from eventfn.workers.failures import Failure
from eventfn.workers.flow import Flow
from eventfn.workers.gate import Gate
from eventfn.workers.journal import Journal
from eventfn.workers.launching import First, Launch, Launched, Living
from eventfn.workers.logpipe import LogPipe
from eventfn.workers.names import Names
from eventfn.workers.relay import OwnApi, Relay
from eventfn.workers.request import NEVER, Request
from eventfn.workers.runtimes import telling
from eventfn.workers.waiters import Waiters

_REST = 0.1  # seconds without a request until it is frozen, and between two looks at its memory
_SHUTDOWN = 0.5  # seconds after SIGTERM, Lambda's for a runtime
_SUCCESS = OutcomeKind.SUCCESS  # to CPython 3.11 a member of an enum is an expensive attribute
_RESULT, _ERROR = frames.RESULT, frames.ERROR
_MOMENT = 0.025  # seconds that START may wait for END; with observe.logs.FLUSH_SECONDS what a kill -9 may cost of it
_BETWEEN = 0.005  # seconds
_MOST_NUMBERS = 1 << 31
_FIRST = 1
_MOST_LAST_ANSWERS = 1024  # reads, since it may be there still, and go on writing
_SILENT = 16  # answers in a row without a line in the log, until requests are sent ahead (see `_printed`)
_LAST_WORDS = 0.5  # seconds that a closed channel and the process's end may lie apart, and a cancelled request may take


class InitFailed(Exception):
    """The environment could not be made ready, by the function's own fault."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.text)


class NotStarted(Exception):
    """The environment could not be made ready, and not by the function's fault: its sandbox did not hold."""


class Owner(Protocol):
    """Whoever keeps the environment: told when it can take a request, and when it is gone."""

    def freed(self, environment: Environment) -> None: ...

    def ending(self, environment: Environment) -> None:
        """It takes no more requests. `gone` follows."""
        ...

    def gone(self, environment: Environment, undelivered: list[Request]) -> None: ...

    def given_back(self, requests: list[Request]) -> None:
        """They were sent ahead and not begun, and will not be: the first one first."""
        ...

    def finished(self, request: Request, outcome: Outcome) -> None: ...


class Environment(asyncio.Protocol):
    def __init__(
        self,
        prepared: Prepared,
        owner: Owner,
        clock: Clock,
        sink: LogSink,
        names: Names,
        own_api: OwnApi | None,
        *,
        provisioned: bool,
    ) -> None:
        self.prepared = prepared
        self.provisioned = provisioned
        self.capacity: int = prepared.function.concurrency_per_environment
        self.requests: dict[int, Request] = {}  # that run
        self.ahead: Ahead[Request] = Ahead()  # that it has besides, and will run one by one
        self.answers = 0
        self.idle_since = 0.0
        self.ended = False  # takes no more requests
        self.good_until = NEVER  # on the pool's clock: then its credentials expire soon
        self.stale = False  # it is past that, and ends when it is done
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._owner = owner
        self._clock = clock
        self._names = names
        self._own_api = own_api
        self._loop = asyncio.get_running_loop()
        self._name = prepared.function.name
        # A plain number: what a subclass of float does takes longer.
        self._timeout = float(prepared.function.timeout)
        self._timeout_ms = int(self._timeout * 1000)
        self.journal = Journal(prepared, sink, clock, self.requests, provisioned=provisioned)
        self._number = 0
        self._peak_kb = 0
        self._init_ms: float | None = None
        self._reader = wire.Reader()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._cancelled: dict[int, asyncio.TimerHandle] = {}  # timed out, and not yet let go of by the handler
        self._look: asyncio.TimerHandle | None = None
        self._next_look = NEVER  # when that fires
        self._end_timer: asyncio.TimerHandle | None = None
        self._last_moment: asyncio.TimerHandle | None = None
        self._frozen = False
        self._gate: Gate | None = None
        self._gate_shut = True  # by this side, which it is until a request is sent to open it
        self._lets_pass = False  # what is sent ahead now will be run
        self._alone = 0  # the number of the last one that was not sent ahead
        self._followed = False  # what was sent last was sent ahead
        self._waiters = Waiters()
        self._measures = False  # how long the next frame takes
        self._silent = 0  # answers in a row without a line in the log
        self._is_late = False  # its request's time was over, and its answer on its way
        self._doors: socket.socket | None = None
        self._relay: Relay | None = None
        self._first: Request | None = None  # given to it at its start, and not begun with
        self._was_begun = False  # it has begun with that before anybody knew that it was ready
        self._restored = False
        self._start_began = 0.0
        self._cause: Failure | None = None  # why it was killed, when that was not its own doing
        self._undelivered = False
        self._process: Living | None = None
        self._channel_open = False
        self._connecting = False
        self._logs: LogPipe
        self._transport: asyncio.Transport

    # --- starting --------------------------------------------------------------------------------------------------

    async def start(
        self,
        launch: Launch,
        init_timeout: float,
        phase: str = "init",
        *,
        restored: bool = False,
        first: Request | None = None,
    ) -> None:
        """Until it can take a request; `restored`: its init has run already, in another one. Of `first`, which it may
        begin with at once, `unbegun` says afterwards what has become. Raises InitFailed, NotStarted, OSError; then it
        ends."""
        self._start_began = began = self._clock.monotonic()
        self._restored = restored
        try:
            launched = self._launch(launch, self._ahead(first))
            # Before anything is heard of it, but not before it has been given something to do.
            runtime = telling.version_and_arn(self.prepared)
            said = self.journal.lines
            self.journal.say(said.restore_start(*runtime) if restored else said.init_start(*runtime))
            await self._connect(launched)
            async with asyncio.timeout(init_timeout):
                await self._ready
                self._open_doors(launched)
                await self._initialised()
        except TimeoutError:
            self.journal.say(self.journal.lines.init_report(init_timeout * 1000, phase, "timeout", None))
            self.kill()
            raise InitFailed(failures.timed_out(init_timeout)) from None
        except InitFailed as error:
            milliseconds = (self._clock.monotonic() - began) * 1000
            self.journal.say(self.journal.lines.init_report(milliseconds, phase, "error", error.failure.error_type))
            self.kill()
            raise
        except BaseException:
            self.kill()
            raise
        launched.process.limit_cpu_to(int(self.prepared.function.memory_size))
        if not self._was_begun:
            self._init_is_over()
        self.idle_since = self._clock.monotonic()

    def _init_is_over(self) -> None:
        self._init_ms = (self._clock.monotonic() - self._start_began) * 1000
        if self._restored:
            self.journal.say(self.journal.lines.restore_report(self._init_ms))

    def _launch(self, launch: Launch, first: First | None) -> Launched:
        log_read, log_write = os.pipe2(os.O_CLOEXEC)
        self._logs = LogPipe(log_read, self._log_printed, self._printed)
        try:
            launched = launch(self.journal.stream, log_write, first)
        except BaseException:
            self._logs.close()  # there is no process whose end would do so
            raise
        finally:
            os.close(log_write)
        self._process = launched.process
        self._doors = launched.doors
        self._gate = launched.gate
        launched.process.on_end(self._exited)
        if first is None:
            self._logs.follow()
        else:
            # A look at the channel lies between the two, where a late turn of the loop may find that it has begun.
            self._loop.call_later(_MOMENT, self._loop.call_later, _BETWEEN, self._logs.follow)
        return launched

    async def _connect(self, launched: Launched) -> None:
        self._connecting = True  # what it says may be there already, and its end known
        try:
            await self._loop.create_unix_connection(lambda: self, sock=launched.channel)
        except BaseException:
            launched.channel.close()
            raise
        finally:
            self._connecting = False
        if launched.unsent:
            self._transport.write(launched.unsent)

    def _ahead(self, request: Request | None) -> First | None:
        """A request as it goes with the settings: it is sent again where the init takes its time."""
        if request is None:
            return None
        self._first = request
        # Until then the log pipe is not read, so that what the init has written can be told from the request's.
        return First(b"".join(self._frame(_FIRST, request)), time.monotonic() + _MOMENT)

    def _begin_first(self, request: Request, written: int) -> None:
        """Its init is over, and it is at its first request already. `written`: bytes in the log by then."""
        self._first = None
        if written:
            self._logs.drain(written)
        self._was_begun = True
        self._number = _FIRST
        self._init_is_over()
        request.sent = self._begin(_FIRST, request)
        self._logs.follow()

    def unbegun(self) -> Request | None:
        """What it was given at its start, if it has not begun with it."""
        request, self._first = self._first, None
        return request

    def _open_doors(self, launched: Launched) -> None:
        """It has handed over the sockets of its allow-list before it was ready."""
        if launched.relayed is not None:
            targets = launched.relayed.targets
            self._open_relay(self._listeners(len(targets)), targets)

    def _listeners(self, count: int) -> list[socket.socket]:
        """What it has handed over: so many, if it did as it was told."""
        assert self._doors is not None
        with self._doors as doors:
            doors.setblocking(False)
            try:
                _, descriptors, _, _ = socket.recv_fds(doors, 16, count)
            except BlockingIOError:
                descriptors = []
        return [socket.socket(fileno=descriptor) for descriptor in descriptors]

    def _open_relay(self, listeners: Sequence[socket.socket], targets: Sequence[Target]) -> None:
        try:
            self._relay = Relay(
                listeners, targets, self._names, self.journal.say, self._clock, inward=self._connected_inward
            )
        except ValueError as error:
            raise NotStarted(f"environment not started: {error}") from None

    def _connected_inward(self, host: str, port: int) -> socket.socket | None:
        return None if self._own_api is None else self._own_api.connect(self._name, host, port)

    async def _initialised(self) -> None:
        """A Python handler is imported before its environment says that it is ready."""

    # --- running ---------------------------------------------------------------------------------------------------

    @property
    def process(self) -> Living | None:
        return self._process

    @property
    def full(self) -> bool:
        # A request that was cancelled and has not let go still takes its place.
        return len(self.requests) + len(self._cancelled) >= self.capacity

    def run(self, request: Request) -> None:
        """The hot path out: one frame."""
        if self._frozen:
            self._thaw()
        self._number = number = self._number % _MOST_NUMBERS + 1
        request.sent = self._begin(number, request)
        self._followed = False
        if self._gate is None:
            self._send(number, request)
            return
        self._alone = number
        self.ahead.begin_alone(number)
        self._lets_pass = request.stream is None
        flag, self._gate_shut = (frames.OPEN if self._gate_shut else 0), False
        self._send(number, request, flag)

    @property
    def reads_ahead(self) -> bool:
        return self._gate is not None

    @property
    def may_send_ahead(self) -> bool:
        return self._lets_pass and self._silent >= _SILENT and not self.ended and bool(self.requests)

    def send_ahead(self, request: Request) -> None:
        """To be run after what it has already, or given back. One that `may_send_ahead` takes, not streamed, small."""
        self._number = number = self._number % _MOST_NUMBERS + 1
        request.sent = self._clock.monotonic()
        self.ahead.add(number, request)
        self._followed = True
        self._write(wire.invoke(number, self._timeout_ms, request.invocation, flag=frames.AHEAD)[0])

    def take_back(self) -> None:
        """What it has not begun, and now never will, goes to the owner."""
        if self._gate is None or self._gate_shut or (passed := self._gate.shut()) is None:
            return
        self._gate_shut = True
        self._lets_pass = False
        self._give_back(passed)
        if not self.requests and not self.ended:
            self.idle_since = self._clock.monotonic()
            self._owner.freed(self)

    def _give_back(self, passed: int | None) -> None:
        """All that the gate lets pass no more, by its number."""
        requests = self.ahead.take_back(passed or 0)
        number = self.ahead.held_up(passed)
        held_up = self.requests.get(number)
        if held_up is not None and number == self._alone and not self.ended:
            self._send_again(number, held_up)
        elif held_up is not None and not (self.ended and held_up.resent):
            del self.requests[number]
            # What the gate says is the function's word in the end: one that ends its environment has it twice at most.
            held_up.resent |= self.ended
            requests.insert(0, held_up)
        if requests:
            self._owner.given_back(requests)

    def _send_again(self, number: int, request: Request) -> None:
        """What it was to begin with, and now cannot, as the gate is shut that was open when it was sent. It stays here:
        an environment that does not even begin is none to give somebody else. Nothing is sent behind it."""
        del self.requests[number]
        self._number = self._alone = number = self._number % _MOST_NUMBERS + 1
        self.requests[number] = request
        self._gate_shut = False
        self.ahead.begin_alone(number)
        self._send(number, request, frames.OPEN)

    def _begin(self, number: int, request: Request, started: float | None = None) -> float:
        """It runs from now on. The time, on the pool's clock, which may have been looked at already."""
        self.requests[number] = request
        request.started_ms = self._clock.now_ms()
        if started is None:
            started = self._clock.monotonic()
        request.started = started
        now = time.monotonic()
        request.deadline = now + self._timeout
        request.start_due = due = now + _MOMENT
        if self._next_look > due:
            self._look_at(due, now)
        if request.tail is not None:
            self.journal.say_start(request)
        return started

    def _frame(self, number: int, request: Request, flag: int = 0) -> tuple[Buffer, ...]:
        kind = frames.INVOKE if request.stream is None else frames.STREAM
        return wire.invoke(number, self._timeout_ms, request.invocation, kind, flag)

    def _send(self, number: int, request: Request, flag: int = 0) -> None:
        frame = self._frame(number, request, flag)
        if len(frame) == 1:
            self._write(frame[0])
        else:
            self._transport.writelines(frame)

    def _write(self, frame: Buffer) -> None:
        if self._measures and not self._transport.get_write_buffer_size():
            frame = self._measured(frame)
        if frame:
            self._transport.write(frame)

    def _measured(self, frame: Buffer) -> Buffer:
        """What of it is still to be written."""
        left = self._waiters.write(self._transport.get_extra_info("socket").fileno(), frame)
        self._measures = self._waiters.suspected
        if self._waiters.are_too_many:  # a turn later: whoever has this one run is not through with it
            what = "too many of its threads or descriptors wait for its channel"
            self._loop.call_soon(self._break_protocol, what)
        return left

    def _answered(self, answer: wire.Answer) -> None:
        """The hot path back: the function's lines, then the outcome, then END and REPORT."""
        number, requests = answer.number, self.requests
        request = requests.get(number)
        if request is None:
            self._let_go(number)
            return
        if answer.body and request.invocation.apart is None:
            self._break_protocol("a body that nobody asked for")
            return
        if answer.logged:
            self._logs.drain()
        if self._logs.rest and self.capacity == 1:
            self._logs.finish_line()
        del requests[number]
        if answer.peak_kb > self._peak_kb:
            self._peak_kb = answer.peak_kb
        self.answers += 1
        self._silent = 0 if answer.logged else self._silent + 1
        self.idle_since = now = self._clock.monotonic()
        milliseconds = request.took_ms = (now - request.started) * 1000
        if answer.kind == _RESULT:
            if answer.took_us:
                request.took_ms = took_ms = answer.took_us / 1000
                if took_ms > milliseconds:
                    # It has waited in its channel and begun before that was known here, and is never billed as less.
                    milliseconds = max(milliseconds, min(took_ms, (now - request.sent) * 1000))
            outcome = self._outcome(request, milliseconds, _SUCCESS, answer.payload, body=answer.body)
        else:
            # The function reported it: REPORT has no status then, as in Lambda.
            outcome = self._outcome(request, milliseconds, OutcomeKind.FUNCTION_ERROR, answer.payload, *answer.error)
        if self.ahead:
            self._go_on(now, logged=bool(answer.logged))
        if not self.ended and len(requests) + len(self._cancelled) < self.capacity:
            self._owner.freed(self)
        self._owner.finished(request, outcome)

    def _go_on(self, now: float, *, logged: bool) -> None:
        """With what it was sent ahead, now that it has answered. After lines in its log it lets all of that pass."""
        self._is_late = False
        if logged:
            self._lets_pass = False
            self._owner.given_back(self.ahead.take_back(0))
        else:
            self._begin(*self.ahead.begin(), now)
        if not self.ahead:
            self._logs.follow()

    def _printed(self) -> None:
        """Something is in its log pipe. Whose it is can be told only as long as no other request is begun before the
        answer of this one has come: while a function prints, nothing is sent ahead."""
        self._silent = 0
        if self.ahead:
            self.take_back()
        if self.ahead:
            self._logs.pause()  # one is begun, so the answer before it is on its way here
        else:
            self._logs.drain_some()

    def _streamed(self, chunk: wire.Answer) -> None:
        """Some of an answer, for whoever takes it while it is made."""
        number = chunk.number
        request = self.requests.get(number)
        if request is None and number in self._cancelled:
            return  # on its way when its time was over
        if request is None or request.stream is None:
            self._break_protocol(f"a chunk of an answer to request {number}, which is not streamed")
            return
        if request.flow is None:
            request.flow = Flow(number, request.stream, lambda frame: self._say_to(request, number, frame))
        try:
            request.flow.arrived(chunk)
        except wire.ResponseTooLarge:
            self._cause = failures.response_too_large(MAX_STREAMED_RESPONSE)
            self.kill()
        except wire.ProtocolError as error:
            self._break_protocol(str(error))

    def _say_to(self, request: Request, number: int, frame: bytes) -> None:
        if self.requests.get(number) is request and self._channel_open:
            self._write(frame)

    def _outcome(
        self,
        request: Request,
        milliseconds: float,
        kind: OutcomeKind,
        payload: bytes,
        error_type: str | None = None,
        message: str | None = None,
        suffix: str = "",
        body: Buffer = b"",
    ) -> Outcome:
        request_id, init_ms, used_mb = request.invocation.request_id, self._init_ms, -(-self._peak_kb // 1024)
        self._init_ms = None  # only the first request of an environment is a cold start
        failed = kind is not _SUCCESS
        tail = self.journal.say_end(request, milliseconds, init_ms, used_mb, suffix, failed=failed)
        return Outcome(kind, payload, request_id, error_type, message, milliseconds, init_ms, used_mb, tail, None, body)

    def _fail(self, number: int, failure: Failure, milliseconds: float | None = None, status: str = "") -> None:
        """The request ends by what happened to its environment."""
        request = self.requests.pop(number)
        request_id = request.invocation.request_id
        ran = (self._clock.monotonic() - request.started) * 1000
        outcome = self._outcome(
            request,
            ran if milliseconds is None else milliseconds,
            OutcomeKind.FUNCTION_ERROR,
            failure.body(request_id),
            failure.error_type,
            failure.message(request_id),
            status or f"Status: error\tError Type: {failure.error_type}",
        )
        self._owner.finished(request, outcome)

    def refuse(self, request: Request, failure: Failure) -> None:
        """The init that this request waited for failed: it gets the init's error, in this environment's log."""
        self._number += 1
        self.requests[self._number] = request
        request.started, request.started_ms = self._clock.monotonic(), self._clock.now_ms()
        self._fail(self._number, failure)

    # --- deadlines -------------------------------------------------------------------------------------------------

    def _look_at(self, moment: float, now: float) -> None:
        """One timer for all requests, set again only when it fires: one that is answered in time costs none."""
        if self._look is not None:
            self._look.cancel()
        self._next_look = moment
        self._look = self._loop.call_later(moment - now, self._check_times)

    def _check_times(self) -> None:
        """Says that those have begun that have run for a moment, and ends those that have run for too long."""
        self._look, self._next_look = None, NEVER
        now = time.monotonic()
        for number, request in list(self.requests.items()):
            if request.start_due <= now:
                self.journal.say_start(request)
            if request.deadline <= now:
                self._timed_out(number, request)
        if self.requests and not self.ended:
            due = min(min(request.start_due, request.deadline) for request in self.requests.values())
            self._look_at(due, now)

    def _timed_out(self, number: int, request: Request) -> None:
        if self.ahead:
            self.take_back()
        if number not in self.requests:
            return  # it was not begun, and is given back
        if self.ahead and not self._is_late:
            self._is_late = True  # the next one is begun, so the answer of this one is here, and read in a moment
            request.deadline += _MOMENT
            return
        seconds: float = self.prepared.function.timeout
        self._logs.drain()
        self.journal.say(self.journal.lines.timed_out(self._clock.now_ms(), request.invocation.request_id, seconds))
        if self._process is not None:
            self._peak_kb = max(self._peak_kb, self._process.memory_kb())
        if self.capacity == 1:
            request.resent = True  # its time is over, also where it was not begun
            self._give_up()
        else:
            # The others of this environment live on, if the handler gives the event loop back.
            self._transport.write(wire.cancel(number))
            self._cancelled[number] = self._loop.call_later(_LAST_WORDS, self._kept_hold)
        self._fail(number, failures.timed_out(seconds), seconds * 1000, "Status: timeout")

    def _give_up(self) -> None:
        """Its one request has run for too long."""
        self.kill()

    def _let_go(self, number: int) -> None:
        timer = self._cancelled.pop(number, None)
        if timer is None:
            self._break_protocol(f"an answer to request {number}, which is not in flight")
            return
        timer.cancel()
        self.idle_since = self._clock.monotonic()
        if not self.ended:
            self._owner.freed(self)

    def _kept_hold(self) -> None:
        self._cause = failures.sibling_timed_out()
        self.kill()

    # --- between requests --------------------------------------------------------------------------------------------

    def look_after(self) -> None:
        """From time to time while it runs: holds it to its memory, and stops it once it has nothing to do.

        Not at once, as Lambda does: the next request mostly comes sooner, and two signals cost a tenth of it.
        """
        process = self._process
        if self.ended or process is None:
            return
        self._measures = True
        if self.requests or self._cancelled:
            if process.group is not None and process.group.over_memory():
                self._cause = failures.out_of_memory()
                self.kill()
                return
        elif self._clock.monotonic() - self.idle_since >= _REST:
            process.freeze()
            self._frozen = True
            return
        self._loop.call_later(_REST, self.look_after)

    def _thaw(self) -> None:
        assert self._process is not None
        self._frozen = False
        self._process.thaw()
        self._loop.call_later(_REST, self.look_after)

    # --- the channel -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._channel_open = True
        if self.gone.done():  # it died while the channel was being set up
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._read(self._reader.feed, data)

    def rest_received(self, count: int) -> None:
        """So many bytes of a large frame, where it wants them."""
        if self._reader.rest is not None and count == len(self._reader.rest):
            self._transport.set_protocol(self)
        self._read(self._reader.filled, count)

    def _read(self, read: Callable[[Any], list[wire.Answer]], arrived: object) -> None:
        try:
            answers = read(arrived)
        except wire.ResponseTooLarge:
            self._cause = failures.response_too_large()
            self.kill()
            return
        except wire.ProtocolError as error:
            self._break_protocol(str(error))
            return
        for answer in answers:
            if answer.kind == _RESULT or answer.kind == _ERROR:
                self._answered(answer)
            else:
                self._take(answer)
        if self._reader.rest is not None:
            self._transport.set_protocol(_LargeFrame(self, self._reader))

    def _take(self, answer: wire.Answer) -> None:
        """Of an answer that comes in chunks, or about its start."""
        if answer.kind == frames.CHUNK:
            self._streamed(answer)
        elif self._ready.done():
            self._break_protocol("it is ready twice")
        elif answer.kind == frames.STANDS:
            pass  # it was taken before it did
        elif answer.kind == frames.READY:
            if not answer.logged:
                self._leave_gate()  # it reads nothing ahead
            self._is_ready(answer)
        elif answer.kind == frames.NEVER_STARTED:
            self._ready.set_exception(NotStarted(answer.header))
        else:
            self._ready.set_exception(InitFailed(failures.reported(*answer.error, answer.payload)))

    def _is_ready(self, answer: wire.Answer) -> None:
        if answer.number:
            if self._first is None:
                self._break_protocol("it has begun with a request that it was not given")
                return
            self._ready.set_result(None)
            self._begin_first(self._first, answer.peak_kb)
        else:
            self._logs.drain()  # what the init has written, before the first request's
            self._logs.follow()
            self._ready.set_result(None)

    def eof_received(self) -> None:
        """At once, and not when the transport says so a turn later: a request that came in between would be lost."""
        self._undelivered = not self._followed and self._transport.get_write_buffer_size() > 0
        self._lost_its_channel()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._followed:
            self._lost_its_channel()
            self._read_last_answers()
        self._channel_open = False
        # A broken pipe or a reset channel: the process died before it had read its request to the end, so the
        # handler never saw it, and another environment may have it.
        if exc is not None and not self._followed:
            self._undelivered = True
        if self._process is not None and self._process.exit_code is not None:
            self._end()
        else:
            self._lost_its_channel()

    def _lost_its_channel(self) -> None:
        if not self._ready.done():
            # Before it is ready its end is waited for, or its init takes too long: what a wrapper starts without the
            # channel has something to say about it.
            return
        if self._end_timer is None and not self.ended:
            # Mostly the process is on its way out, with its own exit status. If the function closed the channel
            # and lives on, it is ended.
            self._end_timer = self._loop.call_later(_LAST_WORDS, self._closed_its_channel)
        self._takes_no_more()

    def _read_last_answers(self) -> None:
        """A request that could not be sent any more is known before the answers that stand in the channel still."""
        channel = self._transport.get_extra_info("socket").fileno()
        for _ in range(_MOST_LAST_ANSWERS):
            try:
                data = os.read(channel, frames.READ)
            except OSError:
                return
            if not data:
                return
            self._read(self._reader.feed, data)

    def _closed_its_channel(self) -> None:
        if self._cause is None:
            self._cause = failures.broke_protocol("it closed its channel")
        self.kill()

    def _break_protocol(self, what: str) -> None:
        """Once: it may have sent thousands of such frames, and goes on sending until it is dead."""
        if self._cause is not None:
            return
        self._cause = failures.broke_protocol(what)
        self.kill()
        self._transport.abort()  # nothing more of it is read

    # --- ending ----------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL to all of it. `gone` is done once the process is waited for."""
        self._takes_no_more()
        if self._process is not None:
            self._process.kill()
        elif not self.gone.done():
            self.gone.set_result(None)

    def end(self) -> None:
        """Lets an idle environment put away what it has, for a moment, and ends it."""
        self._takes_no_more()
        if self._process is None or self._process.exit_code is not None:
            self.kill()
            return
        if self._last_moment is not None:
            return  # asked already: a second SIGTERM would reach it in the middle of what it does about the first
        self._process.ask_to_end()
        self._last_moment = self._loop.call_later(_SHUTDOWN, self.kill)

    def _takes_no_more(self) -> None:
        if not self.ended:
            self.ended = True
            self._owner.ending(self)
            self.take_back()

    def _exited(self) -> None:
        self._takes_no_more()
        if not self._channel_open and not self._connecting:
            self._end()
        elif self._end_timer is None:
            # Its last answer may still be in the channel, which then ends; unless a daemon of it holds it open.
            self._end_timer = self._loop.call_later(_LAST_WORDS, self._end)

    def _end(self) -> None:
        if self.gone.done():
            return
        process = self._process
        assert process is not None and process.exit_code is not None  # noqa: PT018 - one fact: it has ended
        self._peak_kb = max(self._peak_kb, process.peak_kb)
        for timer in (self._look, self._end_timer, self._last_moment, *self._cancelled.values()):
            if timer is not None:
                timer.cancel()
        if self._channel_open:
            self._transport.abort()
        self._logs.close()
        if self._doors is not None:
            self._doors.close()
        if self._relay is not None:
            self._relay.close()
        self._leave_gate()
        failure = self._cause or self._why_it_ended(process)
        self._init_failed(InitFailed(failure))
        undelivered: list[Request] = []
        if self._undelivered and self.capacity == 1 and self._cause is None:
            undelivered = [each for each in self.requests.values() if not each.resent and each.flow is None]
        if undelivered:
            self.requests.clear()
        self._fail_all(failure)
        self.journal.say_over()
        self.gone.set_result(None)
        self._owner.gone(self, undelivered)

    def _leave_gate(self) -> None:
        """Nothing passes it any more: what has not, goes back to the owner."""
        if self._gate is None:
            return
        self.take_back()
        if not self._gate_shut:
            self._give_back(None)
        while self.ahead:
            self._begin(*self.ahead.begin())
        self._gate.close()
        self._gate = None

    def _fail_all(self, failure: Failure) -> None:
        for number, request in list(self.requests.items()):
            if failure.crash:
                self.journal.say(f"{failure.message(request.invocation.request_id)}\n{failure.error_type}")
            self._fail(number, failure)

    def _init_failed(self, error: Exception) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # also when nobody waits for it any more

    def _why_it_ended(self, process: Living) -> Failure:
        assert process.exit_code is not None
        # Without a cgroup that counts it, a SIGKILL at the memory limit is taken for the kernel's.
        full = self._peak_kb >= self.prepared.function.memory_size * 1024
        if process.exit_code == -signal.SIGKILL and (process.ran_out_of_memory or full):
            return failures.out_of_memory()
        return failures.exited(process.exit_code)

    def abandon(self) -> list[Request]:
        """What it was working on, taken away from it: the pool is closing."""
        self.take_back()
        while self.ahead:
            self._begin(*self.ahead.begin())
        requests = list(self.requests.values())
        self.requests.clear()
        return requests

    def _log_printed(self, line: str) -> None:
        self.journal.say_printed(line)


class _LargeFrame(asyncio.BufferedProtocol):
    """In the environment's place on its channel while the rest of a large frame is received where it belongs: copied
    once by the kernel, and not again."""

    def __init__(self, environment: Environment, reader: wire.Reader) -> None:
        self._environment = environment
        self._reader = reader

    def get_buffer(self, sizehint: int) -> memoryview:
        assert self._reader.rest is not None
        return self._reader.rest

    def buffer_updated(self, nbytes: int) -> None:
        self._environment.rest_received(nbytes)

    def connection_lost(self, exc: Exception | None) -> None:
        self._environment.connection_lost(exc)
