"""Which records make one invocation, and what its outcome says about each of them.

    waiting records ─▶ Gathering ─▶ one batch ─▶ (invoked) ─▶ judge ─▶ one settlement per record
    a shard's batch (streaming.py) ──────────▶ (invoked) ─▶ judge_stream ─▶ how far it is done

PURE.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import Annotated, Generic, Protocol, TypeVar

import msgspec

from eventfn.event import MAX_SYNC_REQUEST, Outcome, Record
from eventfn.rules.windows import WindowCall, state_of
from eventfn.trigger import DONE, RETRY, Settlement

ENVELOPE = len(b'{"Records":[]}')
MAX_RECORD = MAX_SYNC_REQUEST - ENVELOPE  # the largest record that can be handed to a function at all


def effective_lease(lease: float, window: float, timeout: float) -> float:
    """How long records are to be ours, in seconds, given what the source says: a batch that waits for its window and
    then runs to its timeout must not lapse on the way. The 30 s are Lambda's."""
    return window + timeout + 30 if window > 0 and window + timeout > lease else lease


# --- batches ----------------------------------------------------------------------------------------------------------


class Gathered(Protocol):
    """Whatever the host remembers of a record on its way to an invocation."""

    @property
    def record(self) -> Record: ...


T = TypeVar("T", bound=Gathered)


class Gathering(Generic[T]):
    """Records that wait for their invocation, in the order in which they came.

    A batch is complete when it has `size` records, when the next record would make it larger than 6 MB, or when
    `window` seconds have passed since its first record came. Records of one group are never in two batches at once:
    the caller names the groups that are `busy`.
    """

    def __init__(self, size: int, window: float) -> None:
        self._size = size
        self._window = window
        self._waiting: deque[tuple[float, T]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def room(self, batches: int = 1) -> int:
        """How many more records are of use where so many batches may wait. None while that is few, and there is enough
        for a batch: a few cost as much as many."""
        waiting = len(self._waiting)
        free = self._size * batches - waiting
        if self._bytes >= MAX_RECORD or (waiting >= self._size and 2 * free < self._size * batches):
            return 0
        return max(free, 0)

    def add(self, item: T, now: float) -> None:
        self._waiting.append((now, item))
        self._bytes += len(item.record.payload) + 1

    def waits_for_more(self, now: float) -> bool:
        """Whether nothing is complete: there are too few, and the oldest has not waited long enough."""
        return not self._waiting or (self.room() > 0 and now < self._waiting[0][0] + self._window)

    def take(self, now: float, busy: Collection[str]) -> list[T]:
        """The next batch, if one is complete; else []."""
        if self.waits_for_more(now):  # without looking at each
            return []
        chosen, full = self._choose(busy)
        if not chosen or not (full or now >= self._waiting[chosen[0]][0] + self._window):
            return []
        return self._remove(chosen)

    def due(self, busy: Collection[str]) -> float | None:
        """When the window of the next batch ends; None when no record could be in one."""
        for came, item in self._waiting:
            if item.record.group is None or item.record.group not in busy:
                return came + self._window
        return None

    def take_group(self, group: str) -> list[T]:
        """Everything that waits in a group whose earlier record failed."""
        return self._remove([at for at, (_, item) in enumerate(self._waiting) if item.record.group == group])

    def take_all(self) -> list[T]:
        return self._remove(range(len(self._waiting)))

    def _choose(self, busy: Collection[str]) -> tuple[list[int], bool]:
        chosen: list[int] = []
        size = ENVELOPE
        for at, (_, item) in enumerate(self._waiting):
            if item.record.group is not None and item.record.group in busy:
                continue
            size += len(item.record.payload) + (1 if chosen else 0)  # the comma
            if chosen and size > MAX_SYNC_REQUEST:
                return chosen, True
            chosen.append(at)
            if len(chosen) == self._size:
                return chosen, True
        return chosen, size >= MAX_SYNC_REQUEST

    def _remove(self, positions: Sequence[int]) -> list[T]:
        if len(positions) == len(self._waiting):
            taken = [item for _, item in self._waiting]
            self._waiting.clear()
            self._bytes = 0
            return taken
        gone = set(positions)
        taken = [self._waiting[at][1] for at in positions]
        self._waiting = deque(entry for at, entry in enumerate(self._waiting) if at not in gone)
        self._bytes -= sum(len(item.record.payload) + 1 for item in taken)
        return taken


# --- how many batches at once -----------------------------------------------------------------------------------------


class Scaling:
    """How many batches of a source may be in flight. Without a `fixed` number it is Lambda's 5 to begin with, and 5
    more with every second in which one waits for a place, as Lambda does (300 a minute); but up to 32 and not to 1000:
    more of one function than that leave a machine too little for callers who wait. It is 5 again once so few are
    enough."""

    START = 5
    STEP = 5
    MOST = 32

    def __init__(self, fixed: int | None) -> None:
        self._fixed = fixed
        self._grown = 0.0  # when it has grown
        self.limit = self.START if fixed is None else fixed

    @property
    def may_grow(self) -> bool:
        return self._fixed is None and self.limit < self.MOST

    def one_waits(self, now: float) -> None:
        """A complete batch has no place."""
        if self.may_grow and now - self._grown >= 1:
            self.limit = min(self.limit + self.STEP, self.MOST)
            self._grown = now

    def none_waits(self, in_flight: int, now: float) -> None:
        if self._fixed is None and in_flight < self.START:
            self.limit = self.START
            self._grown = now


class Ahead:
    """How many batches may be read before they have a place, by what the function took for those before.

    None until it is known to be quick. One while the latest took less than a second: what is on a lease meanwhile is
    one batch, for so long. Several once dozens in a row were so quick that all of these begin in the twinkling of an
    eye: reading and settling cost the same for one as for ten. Never several of a source with groups, since whatever
    waits there behind a record that fails counts as received, too.
    """

    ONE = 1.0  # seconds
    SEVERAL = 0.05  # seconds that all of them may take ...
    OF_A_LEASE = 0.01  # ... and so much of their lease, which must not lapse when the machine stands still for a moment
    MOST = 10
    MOST_RECORDS = 500
    FORGOTTEN = 0.9  # of the slowest, with every batch after it

    def __init__(self, size: int) -> None:
        self._most = min(self.MOST, self.MOST_RECORDS // size)
        self._latest = float("inf")
        self._slowest = self.ONE
        self.in_groups = False

    def took(self, seconds: float) -> None:
        self._latest = seconds
        self._slowest = max(seconds, self._slowest * self.FORGOTTEN)

    def batches(self, lease: float | None) -> int:
        """`lease`: how many seconds records are ours; None: there is none."""
        if self._latest >= self.ONE:
            return 0
        seconds = self.SEVERAL if lease is None else min(self.SEVERAL, lease * self.OF_A_LEASE)
        if self.in_groups or self._slowest > seconds:
            return 1
        return max(1, min(self._most, int(seconds / max(self._slowest, 1e-6))))


# --- what became of a batch -------------------------------------------------------------------------------------------


class Verdict(msgspec.Struct, frozen=True):
    """One settlement per record, in order. `problem` is for the function's author: why all of them failed although
    the function returned."""

    settlements: tuple[Settlement, ...]
    problem: str | None = None


def judge(records: Sequence[Record], outcome: Outcome, report_batch_item_failures: bool) -> Verdict:
    """SQS's rules: a failed batch comes again as a whole; with ReportBatchItemFailures only the records do that the
    function names, and those behind them in their group. An answer that names records wrongly fails the whole batch:
    it must not make a record vanish that the function meant to keep."""
    if not outcome.ok:
        return Verdict((RETRY,) * len(records))
    if not report_batch_item_failures:
        return Verdict((DONE,) * len(records))
    try:
        failed = _failures(outcome.payload, {record.id for record in records})
    except ValueError as error:
        return Verdict((RETRY,) * len(records), str(error))
    settlements: list[Settlement] = []
    blocked: set[str] = set()
    for record in records:
        if record.id in failed or record.group in blocked:
            settlements.append(RETRY)
            if record.group is not None:
                blocked.add(record.group)
        else:
            settlements.append(DONE)
    return Verdict(tuple(settlements))


class StreamVerdict(msgspec.Struct, frozen=True):
    """Of a shard's batch: the first `done` records are done; unless it is `ok`, the others are not. `state` is what the
    function answered for its tumbling window."""

    ok: bool
    done: int
    state: bytes | None = None
    problem: str | None = None


def judge_stream(
    records: Sequence[Record], outcome: Outcome, report_batch_item_failures: bool, window: WindowCall | None = None
) -> StreamVerdict:
    """Kinesis' rules: with ReportBatchItemFailures the first record that the function names is where it goes on, and
    everything before it is done. An answer that names records wrongly, or lacks the state of a tumbling window, fails
    the whole batch."""
    if not outcome.ok:
        return StreamVerdict(False, 0)
    state: bytes | None = None
    try:
        failed: set[str] = set()
        if report_batch_item_failures:
            failed = _failures(outcome.payload, {record.id for record in records})
        # A window's last call is the last one only if all of it is done: else the state goes on to its next try.
        if window is not None and (failed or not window.final):
            state = state_of(outcome.payload)
    except ValueError as error:
        return StreamVerdict(False, 0, problem=str(error))
    for at, record in enumerate(records):
        if record.id in failed:
            return StreamVerdict(False, at, state)
    return StreamVerdict(True, len(records), state)


class _KafkaItem(msgspec.Struct, frozen=True):
    partition: Annotated[str, msgspec.Meta(min_length=1)]  # "topic-0"
    offset: int


class _Failure(msgspec.Struct, frozen=True, rename="camel"):
    item_identifier: Annotated[str, msgspec.Meta(min_length=1)] | _KafkaItem

    @property
    def id(self) -> str:
        item = self.item_identifier
        return item if isinstance(item, str) else f"{item.partition}-{item.offset}"


class _Response(msgspec.Struct, frozen=True, rename="camel"):
    batch_item_failures: list[_Failure] | None = None


def _failures(payload: bytes, known: set[str]) -> set[str]:
    """The identifiers that a response reports. Raises ValueError when the whole batch fails by it."""
    if payload.strip() in (b"null", b'""', b"[]"):
        return set()
    try:
        response = msgspec.json.decode(payload, type=_Response)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"the response is not JSON of batchItemFailures: {error}") from error
    failed = {failure.id for failure in response.batch_item_failures or ()}
    if unknown := failed - known:
        raise ValueError(f"batchItemFailures names {min(unknown)!r}, which is not in the batch")
    return failed
