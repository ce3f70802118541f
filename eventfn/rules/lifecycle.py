"""The life of an asynchronous invocation, as a table.

PURE. The rules above the table:

  1. All that changes the state of an accepted event stands in this file. Nobody else decides where it goes next.
  2. Each row is one engine transaction: the message's new state and the records that leave because of it are kept
     together or not at all (bus/dispatch.py writes it).
  3. An event is settled once. The engine refuses a settle with an old fencing number, so a late answer changes nothing.
  4. Only the function's own failures use up its attempts. No capacity, a drain or a crash of ours hand the event back:
     the first two uncounted; a claim that died with its node stays counted, but an event is never given up without its
     last attempt having been seen to fail. INTERRUPTIONS bounds what may come of an event that kills nodes.
  5. An event that is settled without success leaves at least one record behind: it is never nowhere.

Timing is Lambda's (asynchronous invocation, contract section "Asynchronous invocation"): the wait before retry 1 and 2
is the function's `retry_delays`; throttles and our own errors back off 1 s doubling to 5 min; whoever would wait
beyond `maximum_event_age` is settled now instead of waiting for it.
"""

from __future__ import annotations

import enum

import msgspec

from eventfn.event import Outcome, OutcomeKind
from eventfn.functions.model import Function

INTERRUPTIONS = 20  # nodes that may die over one event, beyond its attempts, before it is given up
FIRST_BACKOFF_MS = 1_000
LONGEST_BACKOFF_MS = 300_000


class State(enum.Enum):
    QUEUED = "queued"
    RUNNING = "running"
    SETTLED = "settled"


class On(enum.Enum):
    """What can happen to an event."""

    CLAIMED = "claimed by a node"
    SUCCEEDED = "success"
    FAILED = "error, attempts left and young enough"
    EXHAUSTED = "error, none left"
    TOO_OLD = "too old"
    BLOCKED = "reserved concurrency is 0"
    UNKNOWN = "no such function"
    RECURSIVE = "it has come back to its function too often"
    INTERRUPTED = "its node died too often"
    HELD_BACK = "no capacity, or a fault of ours"
    LAPSED = "lease expired: the node died"


class Row(msgspec.Struct, frozen=True):
    next: State
    condition: str | None = None  # of the destination record, when one leaves
    counted: bool = True  # the attempt counts


TABLE: dict[tuple[State, On], Row] = {
    (State.QUEUED, On.CLAIMED): Row(State.RUNNING),
    (State.RUNNING, On.SUCCEEDED): Row(State.SETTLED, "Success"),
    (State.RUNNING, On.FAILED): Row(State.QUEUED),
    (State.RUNNING, On.EXHAUSTED): Row(State.SETTLED, "RetriesExhausted"),
    (State.RUNNING, On.TOO_OLD): Row(State.SETTLED, "EventAgeExceeded"),
    (State.RUNNING, On.BLOCKED): Row(State.SETTLED, "ZeroReservedConcurrency"),
    (State.RUNNING, On.UNKNOWN): Row(State.SETTLED, "FunctionNotFound"),
    (State.RUNNING, On.RECURSIVE): Row(State.SETTLED, "RecursiveInvocation"),
    (State.RUNNING, On.INTERRUPTED): Row(State.SETTLED, "RetriesExhausted"),
    (State.RUNNING, On.HELD_BACK): Row(State.QUEUED, counted=False),
    # The engine does this one by itself: the lease is the message's own visibility, the next claim raises the fence.
    (State.RUNNING, On.LAPSED): Row(State.QUEUED),
}


class Accepted(msgspec.Struct, frozen=True):
    """An event with a 202, as it was claimed."""

    request_id: str
    payload: bytes
    accepted_ms: int
    attempts: int  # counted claims, this one included
    claims: int  # all claims


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of the event now."""

    on: On
    next: State
    condition: str | None = None
    counted: bool = True
    visible_ms: int = 0  # when it is queued again

    @property
    def success(self) -> bool:
        return self.on is On.SUCCEEDED


def before_running(event: Accepted, function: Function | None, now: int) -> Verdict | None:
    """The verdict that makes running pointless, or None: run it."""
    if function is None:
        return _settle(On.UNKNOWN)
    if function.reserved_concurrency == 0:
        return _settle(On.BLOCKED)
    if now - event.accepted_ms > function.maximum_event_age * 1000:
        return _settle(On.TOO_OLD)
    if event.attempts > _allowed(function) + INTERRUPTIONS:
        return _settle(On.INTERRUPTED)
    return None


def after_running(event: Accepted, outcome: Outcome, function: Function, now: int) -> Verdict:
    if outcome.kind is OutcomeKind.SUCCESS:
        return _settle(On.SUCCEEDED)
    if outcome.kind is OutcomeKind.FUNCTION_ERROR:
        if event.attempts >= _allowed(function):
            return _settle(On.EXHAUSTED)
        delays = function.retry_delays
        delay = round(delays[min(event.attempts, len(delays)) - 1] * 1000) if delays else 0
        return _again(On.FAILED, event, function, now, delay)
    held_back = max(event.claims - event.attempts, 0)
    return _again(On.HELD_BACK, event, function, now, backoff_ms(held_back))


def recursive() -> Verdict:
    """Its chain of invocations ends here."""
    return _settle(On.RECURSIVE)


def handed_back(now: int) -> Verdict:
    """The node is stopping: another may have it at once."""
    return Verdict(On.HELD_BACK, State.QUEUED, counted=False, visible_ms=now)


def backoff_ms(times: int) -> int:
    """1 s, 2 s, 4 s ... 5 min: how long to wait after having been held back so many times before."""
    return min(FIRST_BACKOFF_MS << min(times, 20), LONGEST_BACKOFF_MS)


def _allowed(function: Function) -> int:
    return function.maximum_retry_attempts + 1


def _settle(on: On) -> Verdict:
    row = TABLE[State.RUNNING, on]
    return Verdict(on, row.next, row.condition, row.counted)


def _again(on: On, event: Accepted, function: Function, now: int, delay: int) -> Verdict:
    # Looking ahead, as Lambda does: an event that would be too old by then is settled now, not after the wait.
    if now + delay - event.accepted_ms > function.maximum_event_age * 1000:
        return _settle(On.TOO_OLD)
    row = TABLE[State.RUNNING, on]
    return Verdict(on, row.next, row.condition, row.counted, now + delay)
