"""Counters: plain integers that the bus increments as attributes, read when somebody scrapes.

No lock (one loop, one thread), no look-up by label on the hot path: whoever counts holds the function's own object.
How they are written down for Prometheus stands in exposition.py.
"""

from __future__ import annotations

from bisect import bisect_left

from eventfn.event import Outcome, OutcomeKind
from eventfn.observe.status import Counts, LastError

# Upper bounds in milliseconds: from a warm call to Lambda's longest timeout.
BOUNDS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000)


_BOUNDS = tuple(map(float, BOUNDS_MS))  # two floats are compared faster than an integer and a float
_SYSTEM_ERROR, _FUNCTION_ERROR, _SUCCESS = OutcomeKind.SYSTEM_ERROR, OutcomeKind.FUNCTION_ERROR, OutcomeKind.SUCCESS


class Histogram:
    """Durations in fixed buckets. Sums are whole microseconds: integers neither drift nor overflow."""

    __slots__ = ("buckets", "total_us")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_MS) + 1)  # one for each bound, and one for all above
        self.total_us = 0

    def observe(self, milliseconds: float) -> None:
        self.buckets[bisect_left(_BOUNDS, milliseconds)] += 1
        self.total_us += int(milliseconds * 1000 + 0.5)

    @property
    def count(self) -> int:
        return sum(self.buckets)


class FunctionMetrics:
    """What is counted about one function since the node started."""

    __slots__ = (
        "cold_starts",
        "duration",
        "errors",
        "events_dropped",
        "events_received",
        "init_duration",
        "invocations",
        "last_error",
        "system_errors",
        "throttles",
    )

    def __init__(self) -> None:
        self.invocations = 0  # started, every attempt of an asynchronous event included
        self.errors = 0  # of those, ended with the function's error
        self.system_errors = 0  # of those, ended with one of ours
        self.throttles = 0  # turned away: not among the invocations
        self.cold_starts = 0
        self.events_received = 0  # asynchronous events accepted: on disk
        self.events_dropped = 0  # asynchronous events given up: sent to dead letters or the on-failure destination
        self.duration = Histogram()
        self.init_duration = Histogram()
        self.last_error: LastError | None = None

    def finished(self, outcome: Outcome) -> None:
        """An invocation that was counted has ended."""
        kind = outcome.kind
        if kind is _SYSTEM_ERROR:
            self.system_errors += 1
        else:
            self.duration.observe(outcome.duration_ms)
            if kind is _FUNCTION_ERROR:
                self.errors += 1
        if outcome.init_ms is not None:
            self.cold_starts += 1
            self.init_duration.observe(outcome.init_ms)
        if kind is not _SUCCESS:
            self.last_error = LastError(outcome.request_id, outcome.error_type or "", outcome.error_message or "")

    def counts(self) -> Counts:
        return Counts(
            invocations=self.invocations,
            errors=self.errors,
            system_errors=self.system_errors,
            throttles=self.throttles,
            cold_starts=self.cold_starts,
            events_received=self.events_received,
            events_dropped=self.events_dropped,
        )


class Metrics:
    """All counters of a node. `function(name)` is the same object for as long as the node lives: a reload forgets
    nothing, and Prometheus sees no counter go back."""

    def __init__(self) -> None:
        self.functions: dict[str, FunctionMetrics] = {}
        self.records_delivered = 0  # written by a destination
        self.delivery_failures = 0  # tries that a destination did not take
        self.signature_validation_errors = 0  # code and layers that a code signing config was asked about
        self.log_events_dropped = 0  # that a CloudWatch Logs elsewhere did not get

    def function(self, name: str) -> FunctionMetrics:
        found = self.functions.get(name)
        if found is None:
            found = self.functions[name] = FunctionMetrics()
        return found
