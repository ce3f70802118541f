"""What was announced of a bucket, what its listing shows, and what is therefore to be announced.

PURE: pages are fetched elsewhere (listing.py), time is passed in.

    begin() ─▶ see(page) ─▶ see(page) … ─▶ missing() … ─▶ Changes ─▶ hand_out() ─▶ (the host keeps it) ─▶ keep()
                                                                                  (it could not) ─▶ give_back()

An object is written when its eTag, its size or the time of its last change differ. What is known of an object stays as
the few bytes that its position is: a bucket may have very many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec


class State(msgspec.Struct, frozen=True, array_like=True):
    """An object as a listing shows it."""

    etag: str
    size: int
    modified_ms: int


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of an object; JSON of it is the value of its position."""

    state: State
    sequence: int

    def encode(self) -> bytes:
        return _encode(self)


class Change(msgspec.Struct, frozen=True):
    """`entry` is what to remember from now on, None after a removal. `was` is what was remembered so far."""

    key: str
    entry: Entry | None
    was: Entry | None
    sequence: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


class Ledger:
    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}
        self._unseen: set[str] = set()  # of what is known, in the listing that is under way
        self._away: set[str] = set()  # handed out, not settled
        self._sequence = 0

    def load(self, known: Mapping[str, bytes]) -> None:
        """The host's word on what was kept. What is handed out stays so."""
        self._known = dict(known)
        self._unseen = set()
        self._sequence = max((_decode(entry).sequence for entry in known.values()), default=self._sequence)

    def begin(self) -> None:
        self._unseen = set(self._known)

    def see(self, page: Iterable[tuple[str, State]], now_ms: int) -> list[Change]:
        changes: list[Change] = []
        for key, state in page:
            self._unseen.discard(key)
            if key in self._away:
                continue  # looked at again once it is settled
            was = self._entry(key)
            if was is None or was.state != state:
                sequence = self._next(now_ms)
                changes.append(Change(key, Entry(state, sequence), was, sequence))
        return changes

    def missing(self, now_ms: int, limit: int) -> list[Change]:
        """The listing is at its end: what it did not show is gone. Some of it, and nothing when that was all."""
        changes: list[Change] = []
        while self._unseen and len(changes) < limit:
            key = self._unseen.pop()
            was = self._entry(key)
            if was is not None and key not in self._away:
                changes.append(Change(key, None, was, self._next(now_ms)))
        return changes

    def hand_out(self, key: str) -> None:
        self._away.add(key)

    def keep(self, change: Change) -> None:
        """It is remembered durably."""
        self._away.discard(change.key)
        if change.entry is None:
            self._known.pop(change.key, None)
        else:
            self._known[change.key] = change.entry.encode()

    def give_back(self, key: str) -> None:
        """The host could not take it: the next listing finds it again, as it is then."""
        self._away.discard(key)

    def _entry(self, key: str) -> Entry | None:
        known = self._known.get(key)
        return None if known is None else _decode(known)

    def _next(self, now_ms: int) -> int:
        """Grows with every change, also when the clock was set back."""
        self._sequence = max(self._sequence + 1, now_ms * 1000)
        return self._sequence
