"""The trigger: brings together what the disk shows, what was announced, and the host.

The host writes a file's entry of the ledger with the event that announces the file, so a file is announced once
whatever dies in between. The watcher only says where to look; a rescan of everything, at the start and every minute,
finds what it did not say.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from eventfn.event import Batch, Position, Record
from eventfn.trigger import Done, Reject, Retry, Settlement, Traits, TriggerContext
from eventfn_files.folder import Folder, Scan, Stop, watch
from eventfn_files.ledger import Change, Entry, Ledger, Unreadable
from eventfn_files.s3 import Origin, name_of, notification, object_key
from eventfn_files.settings import CREATED, REMOVED, FilesSettings, Rules

# More hints than this between two reads, and everything is looked at instead: it is cheaper, bounds what is held while
# nobody reads, and such a crowd may have been larger than the kernel's queue.
MOST_HINTS = 4096
# Files read in one go, so that small ones need not wait long behind large ones.
LOOK_BYTES = 64 * 1024 * 1024
# A watcher that broke is made again after this long, then twice as long ..., and everything is looked at.
WATCH_AGAIN = 1.0
RETRY_AFTER = 1.0
# Between so many observations of a large folder the loop gets to do other things.
OBSERVE_AT_ONCE = 2000


class FilesTrigger:
    Settings: ClassVar[type[msgspec.Struct]] = FilesSettings
    Shared: ClassVar[type[msgspec.Struct] | None] = None
    traits: ClassVar[Traits] = Traits(invocation="event", ack="record", shared=False, default_batch_size=100)

    def __init__(self, settings: FilesSettings, shared: None, context: TriggerContext) -> None:
        self._settings = settings
        self._context = context
        self._clock = context.clock
        self._rules = Rules(settings)
        self._ledger = Ledger({}, settings.quiet_time)
        self._folder: Folder | None = None
        self._origin: Origin | None = None
        self._next_scan = 0.0
        self._watch_again = WATCH_AGAIN
        self._hints: set[str] = set()  # names to look at
        self._woken = asyncio.Event()
        self._watcher: _Watcher | None = None
        self._reported: dict[str, str] = {}  # name -> what was last said in the log of it

    async def connect(self) -> None:
        await self._stop_watching()
        kept = await self._context.positions.scan()
        self._ledger.replace_known(
            {name_of(key): msgspec.json.decode(value, type=Entry) for key, value in kept.items()}
        )
        path = Path(self._context.folder, self._settings.path)
        self._folder = await asyncio.to_thread(
            Folder, path, Path(self._context.data), self._rules, not self._ledger.known
        )
        context = self._context
        self._origin = Origin(self._folder.root, context.source, context.region, context.account)
        self._next_scan = self._clock.monotonic()

    async def read(self, limit: int) -> Batch:
        while True:
            await self._look_around()
            names = self._ledger.due(self._clock.monotonic(), limit, LOOK_BYTES)
            if names and (records := await self._look_closely(names)):
                return Batch(tuple(records))
            if not names:
                await self._rest(min(self._ledger.next_due, self._next_scan) - self._clock.monotonic())

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        for record, settlement in zip(batch.records, settlements, strict=True):
            change: Change = record.token
            match settlement:
                case Done():
                    self._ledger.keep(change.name, change.entry)
                case Retry(after):
                    pause = RETRY_AFTER if after is None else after
                    self._ledger.retry(change.name, change.entry, self._clock.monotonic(), pause)
                case Reject(reason):
                    self._context.log.error("%s: the host gave up its event: %s", object_key(change.name), reason)
                    await self._remember(change)
            self._hint({change.name})  # it may have changed on its way

    async def close(self, deadline: float) -> None:
        await self._stop_watching()
        self._ledger = Ledger({}, self._settings.quiet_time)
        self._folder = None

    # --- where to look ---------------------------------------------------------------------------------------------

    async def _look_around(self) -> None:
        """Tells the ledger what the disk shows: of everything when that is due, else of what the watcher said."""
        now = self._clock.monotonic()
        self._woken.clear()
        if self._watcher is not None and self._watcher.failure is not None:
            self._report("", f"the watcher broke and is made again: {self._watcher.failure}")
            await self._stop_watching()
            self._next_scan = min(self._next_scan, now + self._watch_again)
            self._watch_again = min(self._watch_again * 2, self._settings.rescan)
        if now >= self._next_scan or len(self._hints) > MOST_HINTS:
            if self._watcher is None:
                self._watcher = _Watcher(self._opened.root, self._rules.recursive, self._hint_paths)
                self._next_scan = now + self._watch_again  # and once more when it surely watches
            else:
                self._watch_again = WATCH_AGAIN
                self._next_scan = now + self._settings.rescan
            await self._rescan()
        elif self._hints:
            await self._follow_hints()

    async def _rescan(self) -> None:
        self._hints.clear()
        try:
            scan = await asyncio.to_thread(self._opened.scan)
            await self._observe(scan)
        except BaseException:
            self._next_scan = self._clock.monotonic()  # this one does not count
            raise
        closed = tuple(scan.closed)
        self._ledger.vanished(
            scan.found, lambda name: self._rules.mean(name) and not name.startswith(closed), self._clock.monotonic()
        )

    async def _follow_hints(self) -> None:
        names, self._hints = self._hints, set()
        try:
            scan = await asyncio.to_thread(self._opened.glance, sorted(names))
            await self._observe(scan)
        except BaseException:
            self._hints |= names
            raise
        # What is gone may have been a folder: then all that was in it is gone with it.
        gone = [*scan.gone, *self._ledger.below(set(scan.gone))] if scan.gone else []
        for name in filter(self._rules.mean, gone):
            self._ledger.observe(name, None, self._clock.monotonic())

    async def _observe(self, scan: Scan) -> None:
        for name, reason in scan.passed_over.items():
            self._report(name, f"not announced: {reason}")
        for count, (name, stamp) in enumerate(scan.found.items(), 1):
            self._ledger.observe(name, stamp, self._clock.monotonic())
            if count % OBSERVE_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _hint_paths(self, root: str, paths: set[str]) -> None:
        if root in paths:
            self._next_scan = self._clock.monotonic()
        self._hint({path[len(root) + 1 :] for path in paths if path != root})

    def _hint(self, names: set[str]) -> None:
        if len(self._hints) <= MOST_HINTS:
            self._hints |= names
        self._woken.set()

    async def _rest(self, seconds: float) -> None:
        """Until the watcher has something to say, at most so long."""
        rests: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(self._woken.wait()),
        }
        try:
            await asyncio.wait(rests, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for rest in rests:
                rest.cancel()
            await asyncio.gather(*rests, return_exceptions=True)

    async def _stop_watching(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            await watcher.close()

    # --- what to announce ------------------------------------------------------------------------------------------

    async def _look_closely(self, names: list[str]) -> list[Record]:
        stop = threading.Event()
        try:
            looks = await asyncio.to_thread(self._opened.look, names, stop)
            changes: list[Change] = []
            for name, look in zip(names, looks, strict=True):
                if isinstance(look, Unreadable):
                    self._report(name, f"not announced: {look.reason}")
                change = self._ledger.judge(name, look, self._clock.monotonic(), self._clock.now_ms())
                if change is not None and not self._is_announced(change):
                    await self._remember(change)
                elif change is not None:
                    changes.append(change)
        except BaseException:
            # Cancelled, mostly: nothing was taken. The thread ends at its next megabyte.
            stop.set()
            self._ledger.put_back(names, self._clock.monotonic())
            raise
        for change in changes:
            self._ledger.hand_out(change.name)
        return [self._record(change) for change in changes]

    def _is_announced(self, change: Change) -> bool:
        return change.news and self._rules.announces(REMOVED if change.entry is None else CREATED)

    async def _remember(self, change: Change) -> None:
        position = _position(change)
        await self._context.positions.put(position.key, position.value)
        self._ledger.keep(change.name, change.entry)

    def _record(self, change: Change) -> Record:
        assert self._origin is not None, "connect comes first"
        self._reported.pop(change.name, None)
        # The same state of a file has the same id, however often it is tried.
        shown = change.entry or change.was
        assert shown is not None, "a change is from something or to something"
        event = REMOVED if change.entry is None else CREATED
        request_id = uuid.uuid5(
            uuid.NAMESPACE_URL, f"eventfn:{self._context.source}:{event}:{object_key(change.name)}:{shown.stamp}"
        )
        now_ms = self._clock.now_ms()
        return Record(
            id=str(request_id),
            payload=notification(
                self._origin,
                event,
                change.name,
                request_id=request_id.hex[:16].upper(),
                now_ms=now_ms,
                size=shown.stamp.size,
                etag=shown.etag,
                sequence=shown.sequence if change.entry else max(shown.sequence + 1, now_ms * 1000),
            ),
            arrived_ms=now_ms,
            token=change,
            position=_position(change),
        )

    def _report(self, name: str, reason: str) -> None:
        """Once, not at every rescan. The empty name is the folder's own."""
        if self._reported.get(name) != reason:
            self._reported[name] = reason
            self._context.log.warning("%s: %s", object_key(name) or self._opened.root, reason)

    @property
    def _opened(self) -> Folder:
        assert self._folder is not None, "connect comes first"
        return self._folder


def _position(change: Change) -> Position:
    return Position(object_key(change.name), None if change.entry is None else msgspec.json.encode(change.entry))


class _Watcher:
    """The thread of one watch, which it owns from start to end."""

    def __init__(self, root: str, recursive: bool, report: Callable[[str, set[str]], None]) -> None:
        self.failure: Exception | None = None
        self._stop = Stop()
        loop = asyncio.get_running_loop()

        def run() -> None:
            try:
                watch(root, recursive, self._stop, tell)
            except (OSError, RuntimeError) as error:
                self.failure = error
                tell(set())

        def tell(paths: set[str]) -> None:
            # A loop that is closed was left without a close(): nobody listens any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(report, root, paths)

        # Its own thread: a watch takes one for good, and the loop's own are few.
        self._thread = threading.Thread(target=run, name="eventfn-files-watch")
        self._thread.start()

    async def close(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join)  # it looks at `stop` every 50 ms
