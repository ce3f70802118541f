"""Who may run now: integers, compared. Saying no is immediate, so overload slows nothing that was admitted.

A function with `reserved_concurrency` has that many places of its own and no more; all others share what is left of
the node's limit. An admitted invocation holds its place until its outcome is there, also while it waits for an
environment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from eventfn.functions.model import Function

# Lambda's reasons of TooManyRequestsException.
RESERVED_REACHED = "ReservedFunctionConcurrentInvocationLimitExceeded"
ACCOUNT_REACHED = "ConcurrentInvocationLimitExceeded"


class Share:
    """The places that one function draws on: its own, or the common ones."""

    __slots__ = ("in_use", "limit", "reason")

    def __init__(self, limit: int, reason: str) -> None:
        self.limit = limit
        self.in_use = 0
        self.reason = reason


class Admission:
    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._common = Share(concurrency, ACCOUNT_REACHED)
        self._shares: dict[str, Share] = {}  # of functions with places of their own
        self._waiting: dict[Callable[[], None], None] = {}  # each once, in the order in which they asked

    def declare(self, functions: Iterable[Function]) -> None:
        """The functions of the node, now. Invocations under way keep counting where they entered."""
        shares: dict[str, Share] = {}
        reserved = 0
        for function in functions:
            if function.reserved_concurrency is None:
                continue
            reserved += function.reserved_concurrency
            before = self._shares.get(function.name, self._common)
            share = Share(0, RESERVED_REACHED) if before is self._common else before
            share.limit = function.reserved_concurrency
            shares[function.name] = share
        self._common.limit = self._concurrency - reserved
        self._shares = shares
        self._wake()

    def enter(self, function: str) -> Share | None:
        """The share to `leave` when it is over; None: no place is free (`reason` says which limit)."""
        share = self._shares.get(function, self._common)
        if share.in_use >= share.limit:
            return None
        share.in_use += 1
        return share

    def leave(self, share: Share) -> None:
        share.in_use -= 1
        if self._waiting:
            self._wake()

    def reason(self, function: str) -> str:
        return self._shares.get(function, self._common).reason

    def room(self, function: str) -> int:
        share = self._shares.get(function, self._common)
        return max(share.limit - share.in_use, 0)

    def when_room(self, wake: Callable[[], None]) -> None:
        """`wake` is called once, however often it was given, when a place has become free somewhere: look again."""
        self._waiting[wake] = None

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for wake in waiting:
            wake()
