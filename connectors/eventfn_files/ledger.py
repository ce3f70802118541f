"""What was announced, what is on the disk, and what is therefore to be announced.

PURE: the disk is looked at elsewhere (folder.py), time is passed in. A file's way through here:

    observe() ──▶ waiting until it is quiet ──▶ due() ─ the trigger looks closely ─▶ judge() ──▶ Change or nothing
                         ▲                                                             │
                         └──────────── somebody still writes, it changed again ◀───────┘

    a Change to announce ──▶ hand_out() ──▶ the host keeps it ──▶ keep()    (or retry(): the host could not take it)

What counts as written: another size or modification time. S3 announces every PUT, also one of the same bytes; a file
that is written again, or touched, likewise. If only inode or change time differ (chmod, a new hard link, a folder
copied to another disk with its times), the content decides.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

# Where nothing can tell whether somebody still writes, a file is taken as complete when it did not change for so long.
UNSURE_QUIET = 2.0
# Somebody who still writes is looked for again after 0.1, 0.2, 0.4 ... seconds, but at least this often: closing a
# file is nothing that the watcher reports.
LOOK_AT_LEAST = 2.0
LOOK_AT_MOST = 0.1

_LOOKING = math.inf  # the `due` of a file that is being looked at


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    """A plain file as its directory shows it, without reading it."""

    size: int
    mtime_ns: int
    ino: int
    ctime_ns: int


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a file that was announced; JSON of it is the value of the file's position."""

    stamp: Stamp
    etag: str
    sequence: int


class Gone(msgspec.Struct, frozen=True):
    """There is no plain file of that name."""


class Busy(msgspec.Struct, frozen=True):
    """Somebody has it open for writing, or it changed while it was read."""


class Unreadable(msgspec.Struct, frozen=True):
    reason: str


class Whole(msgspec.Struct, frozen=True):
    """It was read from end to end."""

    stamp: Stamp
    etag: str
    sure: bool  # nobody has it open for writing; False: this file system, or its owner, does not let us know


Look = Gone | Busy | Unreadable | Whole


class Change(msgspec.Struct, frozen=True):
    """`entry` is what to remember from now on, None after a removal. `was` is what was remembered so far."""

    name: str
    entry: Entry | None
    was: Entry | None
    news: bool  # False: only to be remembered, the file is what was announced before


class _Waiting(msgspec.Struct):
    stamp: Stamp | None  # None: it vanished
    since: float  # it looked like this
    due: float
    patience: float = LOOK_AT_MOST


class Ledger:
    def __init__(self, known: Mapping[str, Entry], quiet_time: float) -> None:
        self._known: dict[str, Entry] = {}
        self._sequence = 0
        self.replace_known(known)
        self._quiet_time = quiet_time
        self._waiting: dict[str, _Waiting] = {}
        self._heap: list[tuple[float, str]] = []  # (due, name); stale where `waiting` says otherwise
        self._away: set[str] = set()  # handed out, not settled

    def replace_known(self, known: Mapping[str, Entry]) -> None:
        """After a reconnect: the host's word on what was kept."""
        self._known = dict(known)
        self._sequence = max((entry.sequence for entry in known.values()), default=self._sequence)

    @property
    def known(self) -> Mapping[str, Entry]:
        return self._known

    # --- what the disk shows ---------------------------------------------------------------------------------------

    def observe(self, name: str, stamp: Stamp | None, now: float) -> None:
        """The file looks like this (None: it is not there). Said again and again, it changes nothing."""
        if name in self._away:
            return  # looked at again once it is settled
        waiting, known = self._waiting.get(name), self._known.get(name)
        if stamp == (known.stamp if known else None):
            self._waiting.pop(name, None)
        elif waiting is None or waiting.stamp != stamp:
            self._wait(name, _Waiting(stamp, now, now + self._quiet_time))

    def vanished(self, found: Collection[str], is_seen: Callable[[str], bool], now: float) -> None:
        """A whole folder was looked at: what is not `found`, and would have been seen there, is gone."""
        for name in [*self._known, *self._waiting]:
            if name not in found and is_seen(name):
                self.observe(name, None, now)

    def below(self, folders: Collection[str]) -> list[str]:
        """The files known or waiting inside any of these folders."""
        return [name for name in {*self._known, *self._waiting} if any(part in folders for part in _parents(name))]

    # --- what is to be done ----------------------------------------------------------------------------------------

    @property
    def next_due(self) -> float:
        """When `due` has something; infinity when nothing waits."""
        while self._heap and not self._is_current(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def due(self, now: float, limit: int, limit_bytes: int) -> list[str]:
        """Files to look at closely now; each is judged, or put back. At least one, even if it is larger."""
        names: list[str] = []
        size = 0
        while len(names) < limit and size < limit_bytes and self.next_due <= now:
            name = heapq.heappop(self._heap)[1]
            waiting = self._waiting[name]
            waiting.due = _LOOKING
            size += waiting.stamp.size if waiting.stamp else 0
            names.append(name)
        return names

    def put_back(self, names: Iterable[str], now: float) -> None:
        """The look was broken off: those not judged yet are due again."""
        for name in names:
            waiting = self._waiting.get(name)
            if waiting is not None and waiting.due == _LOOKING:
                self._wait(name, msgspec.structs.replace(waiting, due=now))

    def judge(self, name: str, look: Look, now: float, now_ms: int) -> Change | None:
        """What the close look means. None: nothing to do, or not yet. A Change goes to `keep` or `hand_out`."""
        waiting, known = self._waiting.get(name), self._known.get(name)
        if waiting is None or waiting.due != _LOOKING:
            return None  # it was seen to change while it was looked at
        match look:
            case Gone():
                if known is not None:
                    return Change(name, None, known, news=True)
                del self._waiting[name]  # it came and went before anybody could read it
            case Busy():
                due, patience = now + waiting.patience, min(waiting.patience * 2, LOOK_AT_LEAST)
                self._wait(name, msgspec.structs.replace(waiting, due=due, patience=patience))
            case Unreadable():
                del self._waiting[name]  # until it changes, or the next rescan
            case Whole(stamp, etag, sure):
                if stamp != waiting.stamp:
                    del self._waiting[name]
                    self.observe(name, stamp, now)
                elif not sure and now - waiting.since < UNSURE_QUIET:
                    self._wait(name, msgspec.structs.replace(waiting, due=waiting.since + UNSURE_QUIET))
                else:
                    self._sequence = max(self._sequence + 1, now_ms * 1000)
                    return Change(name, Entry(stamp, etag, self._sequence), known, _is_news(stamp, etag, known))
        return None

    # --- what became of it -----------------------------------------------------------------------------------------

    def hand_out(self, name: str) -> None:
        del self._waiting[name]
        self._away.add(name)

    def keep(self, name: str, entry: Entry | None) -> None:
        """It is remembered durably."""
        self._away.discard(name)
        self._waiting.pop(name, None)
        if entry is None:
            self._known.pop(name, None)
        else:
            self._known[name] = entry

    def retry(self, name: str, entry: Entry | None, now: float, after: float) -> None:
        """The host could not take it: it comes again, as the file is then."""
        self._away.discard(name)
        self._wait(name, _Waiting(entry.stamp if entry else None, -math.inf, now + after))

    def _wait(self, name: str, waiting: _Waiting) -> None:
        self._waiting[name] = waiting
        heapq.heappush(self._heap, (waiting.due, name))

    def _is_current(self, due: float, name: str) -> bool:
        waiting = self._waiting.get(name)
        return waiting is not None and waiting.due == due


def _is_news(stamp: Stamp, etag: str, known: Entry | None) -> bool:
    if known is None:
        return True
    was = known.stamp
    return (stamp.size, stamp.mtime_ns) != (was.size, was.mtime_ns) or etag != known.etag


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]
