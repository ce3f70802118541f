"""What becomes of a shard's records, in their order: batches, retries, halves, age, and how far the shard is done.

    records ─▶ Progress ─▶ Lane (one for each hash of the key) ─▶ Invoke | GiveUp ─▶ (the host) ─▶ succeeded | failed …
                  ▲                                                                                   │
                  └──────────── mark: everything up to here is done ◀──────────────────────────────────┘

The rules above the code:

    one batch of a lane is in flight, and nothing behind it starts before it is done or given up
    a retry takes the same records again; only what was done in front of them is gone
    a split takes the failed records in two halves, the first one first, and uses up no attempt
    what is too old is given up before each try, without an invocation
    the mark moves over what is done, was filtered out, or was given up and has arrived where it goes, and never over
    anything else

PURE: the clock is passed in, as seconds (monotonic) and epoch milliseconds.
"""

from __future__ import annotations

import bisect
import zlib
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from eventfn.event import MAX_SYNC_REQUEST, Record
from eventfn.rules.windows import STATE_LIMIT, Window, WindowCall, window_start

EXHAUSTED = "RetryAttemptsExhausted"
TOO_OLD = "RecordAgeExceeded"
NO_EVENT = "RecordNotEncodable"  # eventfn's own: the connector makes no event of it
TOO_LARGE = "RecordTooLarge"  # eventfn's own: one record alone is more than a function can be invoked with
# Seconds after the end of a tumbling window in which its last records may still come, and in which a shard that has
# more would have given some: it is read once a second.
LATENESS = 2.0
RECORD_ITSELF = 500  # bytes that a record takes beside its payload, about


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The event source mapping's settings, as the rules need them. Times in seconds."""

    batch_size: int
    batching_window: float = 0
    bisect: bool = False
    maximum_retry_attempts: int = -1  # -1: for ever
    maximum_record_age: float | None = None
    tumbling_window: float = 0  # 0: none
    envelope: int = 64  # bytes of the event around its records


class Piece(msgspec.Struct, eq=False):
    """Records that are tried together until they are done, split or given up. In a tumbling window's last call there
    may be none."""

    records: list[Record]
    numbers: list[int]  # of each within its shard
    failures: int = 0  # that counted
    invokes: int = 0
    window: int | None = None  # start of its tumbling window, epoch ms
    final: bool = False  # it ends that window ...
    early: bool = False  # ... because the window's state has become too large


class Invoke(msgspec.Struct, frozen=True, eq=False):
    piece: Piece
    window: WindowCall | None = None


class GiveUp(msgspec.Struct, frozen=True, eq=False):
    """The records go to the on-failure destination. Once it has taken them, `gave_up` lets the lane go on."""

    piece: Piece
    condition: str


Step = Invoke | GiveUp


class Lane:
    """One line of records that are handled strictly one batch after the other. `next` says what is to be done; exactly
    one of `succeeded`, `failed`, `put_back`, `unfit` or `gave_up` says what came of it."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._waiting: deque[tuple[int, float, Record]] = deque()  # number, when it came, the record
        self._waiting_bytes = 0
        self._pieces: list[Piece] = []  # a stack: tried before anything that waits
        self._busy: Piece | None = None
        self._not_before = 0.0
        self._give_up: str | None = None  # the piece on top, for this reason
        self._ended = False
        self.window: Window | None = None  # the tumbling window that is open
        self.quiet_since: float | None = None  # when the shard was asked for more; None: it is not asked now
        self.read_until_ms = 0  # arrival of the last record that was read, wanted or not

    def add(self, number: int, record: Record, now: float) -> None:
        self._waiting.append((number, now, record))
        self._waiting_bytes += len(record.payload)

    def end(self) -> None:
        """Nothing more will come: what waits need not wait for its window."""
        self._ended = True

    @property
    def waiting(self) -> int:
        """Records that are not in flight."""
        return len(self._waiting) + sum(len(piece.records) for piece in self._pieces)

    @property
    def waiting_bytes(self) -> int:
        """Of those that are in no batch yet."""
        return self._waiting_bytes

    @property
    def idle(self) -> bool:
        """Nothing is in flight, and nothing is left to do."""
        return self._busy is None and not self._pieces and not self._waiting and self.window is None

    @property
    def oldest(self) -> tuple[int, Record] | None:
        """The first record that is not done, with its number."""
        for piece in (self._busy, *reversed(self._pieces)):
            if piece is not None and piece.records:
                return piece.numbers[0], piece.records[0]
        return (self._waiting[0][0], self._waiting[0][2]) if self._waiting else None

    # --- what to do --------------------------------------------------------------------------------------------------

    def next(self, now: float, now_ms: int) -> Step | None:
        """None while a batch is in flight, not complete, or not to be tried again yet."""
        if self._busy is not None:
            return None
        if self._give_up is not None:
            return self._begin(GiveUp(self._pieces.pop(), self._give_up))
        if not self._pieces:
            piece = self._take(now, now_ms)
            if piece is None:
                return None
            self._pieces.append(piece)
        elif now < self._not_before:
            return None
        piece = self._pieces.pop()
        if expired := self._expired(piece, now_ms):
            if expired < len(piece.records) or piece.final:  # a window is ended by a call of its own, also of nothing
                self._pieces.append(_behind(piece, expired))
            return self._begin(GiveUp(_front(piece, expired), TOO_OLD))
        if len(piece.records) == 1 and len(piece.records[0].payload) + self._policy.envelope > MAX_SYNC_REQUEST:
            return self._begin(GiveUp(piece, TOO_LARGE))
        piece.invokes += 1
        return self._begin(Invoke(piece, self._call(piece)))

    def due(self) -> float | None:
        """When `next` may have something without anything else happening, monotonic; None: only after something has.

        The end of a tumbling window is not in here: see `window_due`."""
        if self._busy is not None:
            return None
        if self._pieces:
            return self._not_before
        return self._waiting[0][1] + self._policy.batching_window if self._waiting else None

    def window_due(self, now: float, now_ms: int) -> float | None:
        """In how many seconds the open tumbling window ends for want of records. Not before what is to be tried again,
        nor while the shard may have more of it."""
        if self._busy is not None or self._pieces or self.window is None or self.quiet_since is None:
            return None
        end = self.window.start_ms / 1000 + self._policy.tumbling_window
        return max(end + LATENESS - now_ms / 1000, self.quiet_since + LATENESS - now)

    def _begin(self, step: Step) -> Step:
        self._busy = step.piece
        return step

    def _take(self, now: float, now_ms: int) -> Piece | None:
        """The next batch off what waits, if one is complete."""
        if self._policy.tumbling_window:
            return self._take_of_window(now, now_ms)
        count, full = self._fitting(None)
        if not count or not (full or self._ended or now >= self._waiting[0][1] + self._policy.batching_window):
            return None
        return self._piece(count)

    def _fitting(self, before_ms: int | None) -> tuple[int, bool]:
        """How many of those that wait make a batch, and whether no more can: by number, by bytes, or because the next
        one arrived in a later tumbling window, at `before_ms` or after."""
        size = self._policy.envelope
        count = 0
        for _, _, record in self._waiting:
            if before_ms is not None and record.arrived_ms >= before_ms:
                return count, True
            size += len(record.payload) + 1  # the comma
            if count and size > MAX_SYNC_REQUEST:
                return count, True
            count += 1
            if count == self._policy.batch_size:
                return count, True
        return count, False

    def _piece(self, count: int) -> Piece:
        if count == len(self._waiting):
            taken: Iterable[tuple[int, float, Record]] = self._waiting
            self._waiting = deque()
        else:
            taken = [self._waiting.popleft() for _ in range(count)]
        numbers, _, records = zip(*taken, strict=True)
        self._waiting_bytes -= sum(len(record.payload) for record in records)
        return Piece(list(records), list(numbers))

    # --- tumbling windows --------------------------------------------------------------------------------------------

    def _take_of_window(self, now: float, now_ms: int) -> Piece | None:
        length = round(self._policy.tumbling_window * 1000)
        if self.window is None:
            if not self._waiting:
                return None
            self.window = Window(window_start(self._waiting[0][2].arrived_ms, length))
        elif len(self.window.state) > STATE_LIMIT:
            return Piece([], [], window=self.window.start_ms, final=True, early=True)
        end = self.window.start_ms + length
        quiet = self.quiet_since is not None and now - self.quiet_since >= LATENESS
        over = self._ended or self.read_until_ms >= end or (quiet and now_ms >= end + LATENESS * 1000)
        count, full = self._fitting(end)
        # Whatever comes late, with an arrival in a window that is closed, belongs to the one that is open.
        later = count < len(self._waiting) and self._waiting[count][2].arrived_ms >= end
        last = later or (over and count == len(self._waiting))
        if count and (full or last or now >= self._waiting[0][1] + self._policy.batching_window):
            piece = self._piece(count)
        elif last:
            piece = Piece([], [])
        else:
            return None
        piece.window, piece.final = self.window.start_ms, last
        return piece

    def _call(self, piece: Piece) -> WindowCall | None:
        if piece.window is None:
            return None
        assert self.window is not None, "a window stays open until its last call"
        end = piece.window + round(self._policy.tumbling_window * 1000)
        return WindowCall(piece.window, end, self.window.state, piece.final, piece.early)

    # --- what came of it ---------------------------------------------------------------------------------------------

    def succeeded(self, state: bytes = b"{}") -> None:
        """All of it is done. `state` is what the function answered for its tumbling window, JSON."""
        piece = self._ends()
        if piece.window is None:
            return
        if piece.final and not piece.early:
            self.window = None
        elif piece.early:
            self.window = Window(piece.window)  # what else comes in this window begins anew
        else:
            self.window = Window(piece.window, state)

    def failed(self, done: int, now: float, delay: float, state: bytes | None = None) -> None:
        """The first `done` records of it are done, the rest is not. A retry comes after `delay` seconds. `state` is
        what the function answered for its tumbling window, with what is done in it."""
        piece = self._ends()
        if done and state is not None and piece.window is not None:
            self.window = Window(piece.window, state)
        rest = _behind(piece, done)
        if self._policy.bisect and len(rest.records) > 1:
            if done:  # the function said where it failed: that is where it is split
                self._pieces.append(rest)
            else:
                middle = len(rest.records) // 2
                self._pieces += [_behind(rest, middle), _front(rest, middle)]
            return
        rest.failures += 1
        self._pieces.append(rest)
        if 0 <= self._policy.maximum_retry_attempts < rest.failures:
            self._give_up = EXHAUSTED
        else:
            self._not_before = now + delay

    def put_back(self, now: float, delay: float) -> None:
        """It was not run: no attempt is counted."""
        piece = self._ends()
        piece.invokes -= 1
        self._pieces.append(piece)
        self._not_before = now + delay

    def unfit(self) -> None:
        """No event can be made of it, now or later: it was not run. It is halved until it is known which record is at
        fault, and that one is given up."""
        piece = self._ends()
        piece.invokes -= 1
        if middle := len(piece.records) // 2:
            self._pieces += [_behind(piece, middle), _front(piece, middle)]
        else:
            self._pieces.append(piece)
            self._give_up = NO_EVENT

    def gave_up(self) -> None:
        """What was to be given up has arrived at the on-failure destination."""
        piece = self._ends()
        self._give_up = None
        if piece.final:
            self.window = None

    def _ends(self) -> Piece:
        assert self._busy is not None, "nothing is in flight"
        piece, self._busy = self._busy, None
        return piece

    def _expired(self, piece: Piece, now_ms: int) -> int:
        """How many records in front of it are too old. One of an unknown arrival (0) never is."""
        if self._policy.maximum_record_age is None:
            return 0
        oldest = now_ms - self._policy.maximum_record_age * 1000
        for at, record in enumerate(piece.records):
            if not record.arrived_ms or record.arrived_ms >= oldest:
                return at
        return len(piece.records)


def _front(piece: Piece, count: int) -> Piece:
    return Piece(piece.records[:count], piece.numbers[:count], piece.failures, piece.invokes, piece.window)


def _behind(piece: Piece, count: int) -> Piece:
    return msgspec.structs.replace(piece, records=piece.records[count:], numbers=piece.numbers[count:])


# --- the shard --------------------------------------------------------------------------------------------------------


class Progress:
    """All of a shard that was read and is not done, in lanes by key, and the mark: how far it is done without a gap.

    The mark stands behind a record, and moves from one that is not done to the next: only what is right in front of a
    record that was wanted, or the last that was read, is ever asked for. The rest of what was filtered out is not held.
    """

    def __init__(self, policy: Policy, lanes: int = 1) -> None:
        self.lanes = [Lane(policy) for _ in range(lanes)]
        self._held: deque[tuple[Sequence[int], Sequence[Record]]] = deque()  # of each read: numbers, and their records
        self._next = 0  # number of the next record
        self.held_bytes = 0

    def add(self, records: Sequence[Record], wanted: Sequence[bool] | None, now: float) -> None:
        """What one read brought; those that are not `wanted` were filtered out and are done (None: all are)."""
        number = self._next
        self._next += len(records)
        self._hold(number, records, wanted)
        lanes = self.lanes
        for lane in lanes:
            lane.read_until_ms = records[-1].arrived_ms
        for at, record in enumerate(records):
            if wanted is None or wanted[at]:
                lane = lanes[0] if len(lanes) == 1 else lanes[_lane_of(record, number + at, len(lanes))]
                lane.add(number + at, record, now)

    def _hold(self, number: int, records: Sequence[Record], wanted: Sequence[bool] | None) -> None:
        numbers: Sequence[int] = range(number, number + len(records))
        if wanted is not None:
            if self._held and not wanted[0]:  # what was the last one before is neither
                before, them = self._held.pop()
                self.held_bytes -= _bytes(them[-1:])
                if len(them) > 1:
                    self._held.append((before[:-1], them[:-1]))
            at = [at for at in range(len(records)) if at + 1 == len(records) or wanted[at + 1]]
            numbers, records = [number + each for each in at], [records[each] for each in at]
        self._held.append((numbers, records))
        self.held_bytes += _bytes(records)

    @property
    def waiting(self) -> int:
        return sum(lane.waiting for lane in self.lanes)

    @property
    def waiting_bytes(self) -> int:
        return sum(lane.waiting_bytes for lane in self.lanes)

    @property
    def idle(self) -> bool:
        return all(lane.idle for lane in self.lanes)

    def end(self) -> None:
        for lane in self.lanes:
            lane.end()

    def oldest(self) -> Record | None:
        """The first record that is not done."""
        undone = [oldest for lane in self.lanes if (oldest := lane.oldest)]
        return min(undone, key=lambda each: each[0])[1] if undone else None

    def mark(self) -> Record | None:
        """The record up to which everything is done, if that has moved since the last call."""
        undone = [oldest[0] for lane in self.lanes if (oldest := lane.oldest)]
        done = min(undone, default=self._next)  # everything below this number
        found: Record | None = None
        while self._held and self._held[0][0][0] < done:
            numbers, records = self._held.popleft()
            passed = bisect.bisect_left(numbers, done)
            found = records[passed - 1]
            self.held_bytes -= _bytes(records[:passed])
            if passed < len(records):
                self._held.appendleft((numbers[passed:], records[passed:]))
        return found


def _bytes(records: Sequence[Record]) -> int:
    return sum([len(record.payload) + RECORD_ITSELF for record in records])


def _lane_of(record: Record, number: int, lanes: int) -> int:
    # A record without a key has no order to keep.
    return (number if record.group is None else zlib.crc32(record.group.encode())) % lanes
