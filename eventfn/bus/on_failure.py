"""Where the batches go that a stream gives up: into the outbox, and from there to its on-failure destination.

What belongs here: the record that is made of such a batch, and its id. Who waits for its arrival: shard.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from eventfn.bus.outbox import Outbox
from eventfn.clock import Clock
from eventfn.event import Outcome, Record
from eventfn.rules.records import BatchFailure, given_up
from eventfn.trigger import BatchInfo


class OnFailure:
    """Of one stream."""

    def __init__(self, outbox: Outbox, clock: Clock, *, source: str, function_arn: str, uri: str) -> None:
        self.uri = uri
        self._outbox = outbox
        self._clock = clock
        self._source = source
        self._function_arn = function_arn

    @property
    def trouble(self) -> str | None:
        """Why what is on its way is not there yet, as far as this node knows."""
        return self._outbox.errors.get(self.uri)

    async def keep(
        self,
        info: BatchInfo,
        condition: str,
        invokes: int,
        outcome: Outcome | None,
        records: Sequence[Record],
        event: bytes,
    ) -> str:
        """The id of its record, once that is in the outbox, for good. Raises EngineFull, EngineError."""
        # Not of the condition: what waits until it is too old, and is given up for that after a crash, waits already.
        first, last = (records[0].id, records[-1].id) if records else ("", "")
        told_apart = f"{self._source} {info.info} {first} {last}"
        digest = hashlib.sha256(told_apart.encode()).hexdigest()
        record_id = "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))  # as a UUID looks
        failure = BatchFailure(record_id, self._function_arn, condition, invokes, outcome, info, event)
        await self._outbox.keep(self.uri, given_up(failure, self.uri, self._clock.now_ms()))
        return record_id

    async def arrived(self, record_id: str) -> None:
        """Returns once the destination has taken it, or the dead letters have. Safe to cancel."""
        await self._outbox.arrived(self.uri, record_id)
