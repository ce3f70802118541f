"""A bucket that nobody tells of: listed every so often, and compared with what was announced.

The host writes an object's entry of the ledger with the event that announces the object, so that an object is announced
once whatever dies in between.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from eventfn.errors import ConnectorError
from eventfn.event import Batch, Position, Record
from eventfn.trigger import Done, Reject, Retry, Settlement, TriggerContext
from eventfn_aws.client import Client
from eventfn_aws.s3 import shape
from eventfn_aws.s3.ledger import Change, Ledger, State
from eventfn_aws.s3.settings import EVERY, S3Settings, S3Shared
from eventfn_aws.s3.wanted import CREATED, REMOVED

# Positions: of each object what was announced of it, and whether a whole listing was remembered once.
_OBJECT = "object/"
_SKIPPED = "skipped"

RETRY_AFTER = 1.0
_GONE_AT_ONCE = 1000  # as many as a page shows
_KEPT_AT_ONCE = 100  # the engine has a commit for many of them


class Listing:
    def __init__(self, settings: S3Settings, shared: S3Shared, context: TriggerContext) -> None:
        assert settings.bucket is not None, "the settings have been checked"
        self._bucket = settings.bucket
        self._wanted = settings.wanted
        self._every = settings.every or EVERY
        self._skips = settings.existing == "skip"
        self._context = context
        self._clock = context.clock
        self._client = Client("s3", shared, default_region=context.region)
        self._ledger = Ledger()
        self._token: str | None = None  # of the next page, while a listing is under way
        self._at_end = False  # of a listing, and what is gone is not all known yet
        self._listed = False  # once, since it was connected
        self._due = 0.0
        self._again = math.inf  # when a listing is due for what was given back
        self._found: deque[Change] = deque()  # to announce, of the last page, or of what is gone
        self._quiet: list[Change] = []  # to remember only

    async def connect(self) -> None:
        await self._client.open()
        await self._page(MaxKeys=1)
        positions = self._context.positions
        kept = await positions.scan(_OBJECT)
        self._ledger.load({_key(position): value for position, value in kept.items()})
        self._skips = self._skips and await positions.get(_SKIPPED) is None
        self._found.clear()
        self._quiet.clear()
        self._token = None
        self._at_end = False
        self._listed = False
        self._due = self._clock.monotonic()

    async def read(self, limit: int) -> Batch:
        while True:
            await self._remember()
            if self._found:
                changes = [self._found.popleft() for _ in range(min(limit, len(self._found)))]
                for change in changes:
                    self._ledger.hand_out(change.key)
                return Batch(tuple(map(self._record, changes)))
            if self._at_end:
                self._look_for_gone()
                continue
            if self._token is None:
                await self._clock.sleep(min(self._due, self._again) - self._clock.monotonic())
            await self._look()

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        for record, settlement in zip(batch.records, settlements, strict=True):
            change: Change = record.token
            match settlement:
                case Done():
                    self._ledger.keep(change)
                case Retry(after):
                    self._ledger.give_back(change.key)
                    again = self._clock.monotonic() + (RETRY_AFTER if after is None else after)
                    self._again = min(self._again, again)
                case Reject(reason):
                    self._context.log.error("%s: the host gave up its event: %s", change.key, reason)
                    await self._keep(change)

    async def close(self, deadline: float) -> None:
        self._ledger = Ledger()
        self._found.clear()
        self._quiet.clear()
        await self._client.close()

    # --- what the bucket shows ---------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """One page. There is an await only before anything is changed: a read may be cancelled."""
        more = {} if self._token is None else {"ContinuationToken": self._token}
        page = await self._page(**more)
        token = page.get("NextContinuationToken") if page.get("IsTruncated") else None
        if page.get("IsTruncated") and token is None:
            # Taken as the end, all that is behind it would be gone.
            raise ConnectorError(f"{self._bucket} cannot be listed: the store does not say how a listing goes on")
        if self._token is None:
            self._ledger.begin()
            self._again = math.inf
        shown = ((each["Key"], _state(each)) for each in page.get("Contents", ()))
        meant = ((key, state) for key, state in shown if self._wanted.has_object(self._bucket, key))
        self._sort(self._ledger.see(meant, self._clock.now_ms()))
        self._token = token
        self._at_end = token is None

    def _look_for_gone(self) -> None:
        gone = self._ledger.missing(self._clock.now_ms(), _GONE_AT_ONCE)
        self._sort(gone)
        if not gone:
            self._at_end = False
            self._listed = True
            self._due = self._clock.monotonic() + self._every

    def _sort(self, changes: Sequence[Change]) -> None:
        for change in changes:
            (self._found if self._announces(change) else self._quiet).append(change)

    async def _page(self, **parameters: Any) -> dict[str, Any]:
        return await self._client.call("list_objects_v2", Bucket=self._bucket, Prefix=self._wanted.prefix, **parameters)

    def _announces(self, change: Change) -> bool:
        return not self._skips and self._wanted.has_event(_event(change))

    # --- what is remembered ------------------------------------------------------------------------------------------

    async def _remember(self) -> None:
        """What is not announced, and that there was a first listing. Cancelled, it is done once more."""
        while self._quiet:
            some = self._quiet[:_KEPT_AT_ONCE]
            await asyncio.gather(*map(self._keep, some))
            del self._quiet[: len(some)]
        if self._skips and self._listed:
            await self._context.positions.put(_SKIPPED, b"")
            self._skips = False

    async def _keep(self, change: Change) -> None:
        position = _position(change)
        await self._context.positions.put(position.key, position.value)
        self._ledger.keep(change)

    # --- what is announced -------------------------------------------------------------------------------------------

    def _record(self, change: Change) -> Record:
        shown = change.entry or change.was
        assert shown is not None, "a change is from something or to something"
        name = _event(change)
        context = self._context
        # The same state of an object has the same id, however often it is tried.
        made_of = f"eventfn:{context.source}:{name}:{shape.object_key(change.key)}:{shown.state}"
        request_id = uuid.uuid5(uuid.NAMESPACE_URL, made_of)
        facts: dict[str, Any] = {"sequencer": shape.sequencer(change.sequence)}
        now_ms = time_ms = self._clock.now_ms()
        if change.entry is not None:
            facts = {"size": shown.state.size, "eTag": shown.state.etag} | facts
            time_ms = shown.state.modified_ms
        record = shape.listed(
            shape.Origin(context.source, self._client.region, context.account),
            self._bucket,
            name,
            change.key,
            request_id=request_id.hex[:16].upper(),
            time_ms=time_ms,
            facts=facts,
        )
        return Record(
            id=str(request_id),
            payload=shape.event(record),
            arrived_ms=now_ms,
            token=change,
            position=_position(change),
        )


def _event(change: Change) -> str:
    return REMOVED if change.entry is None else CREATED


def _state(shown: Mapping[str, Any]) -> State:
    return State(shown["ETag"].strip('"'), shown["Size"], round(shown["LastModified"].timestamp() * 1000))


def _position(change: Change) -> Position:
    # As short as the key, which an engine may have to index, and without the one character that PostgreSQL has not.
    key = change.key.replace("%", "%25").replace("\0", "%00")
    return Position(_OBJECT + key, None if change.entry is None else change.entry.encode())


def _key(position: str) -> str:
    return unquote(position.removeprefix(_OBJECT))
