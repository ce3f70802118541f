"""The embedded engine: SQLite behind one writer thread, which commits for all who wait at once.

    callers ──▶ turn ──▶ writer thread: BEGIN, each caller's work, COMMIT (one fsync) ──▶ loop: all futures, listeners

One fsync costs as much as hundreds of inserts, so the thread takes whatever has queued up while the last one ran:
alone, a commit waits for nobody; in a crowd, the crowd shares the fsync. What callers ask for in one turn of the loop
is handed over at its end, at once: waking a thread costs more than most of what it is woken for. Reads have a thread
and a connection of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from eventfn.engine import database
from eventfn.engine.blobs import BlobFolder
from eventfn.engine.contract import Conflict, Lease, Message, Operation, QueueFull, QueueStats, Release
from eventfn.engine.folder import DataFolder
from eventfn.engine.store import Store
from eventfn.engine.view import View
from eventfn.errors import EngineError, EngineFull, EventfnError, Fenced

# Callers that share one transaction: more would save little of the fsync and hold up the first of them.
_GROUP = 1024

# The log cannot grow: the write itself fails (FULL), or its shared index cannot be extended (IOERR_SHMSIZE).
_NO_SPACE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}

_SAID_EVERY = 60.0  # seconds: a disk that is full fails every commit

T = TypeVar("T")
log = logging.getLogger("eventfn.engine")


class _Job:
    """One caller's work, and where its answer goes."""

    __slots__ = ("answer", "error", "future", "work")

    def __init__(self, work: Callable[[Store], Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future
        self.answer: Any = None
        self.error: BaseException | None = None


class SqliteEngine:
    """See eventfn.engine.contract.Engine. `transactions` counts the commits to disk, each shared by many callers."""

    def __init__(self, folder: Path) -> None:
        self._folder = DataFolder(folder)
        self._blobs = BlobFolder(folder / "blobs")
        self._listeners: list[Callable[[str], None]] = []
        self._connections: list[sqlite3.Connection] = []
        self._threads: list[ThreadPoolExecutor] = []
        self._writer: threading.Thread | None = None
        self._turn: list[_Job] = []  # what was asked for in this turn of the loop
        self._opened = False
        self._said = float("-inf")  # when the log was told last that the disk fails
        self.transactions = 0

    # --- its life -----------------------------------------------------------------------------------------------------

    async def open(self, now: int) -> None:
        assert not self._opened, "opened twice"
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        # A thread each, so that a large upload holds up no read.
        self._threads = [ThreadPoolExecutor(1, "eventfn-reads"), ThreadPoolExecutor(1, "eventfn-blobs")]
        self._reads, self._files = self._threads
        self._opened = True
        try:
            await self._loop.run_in_executor(self._files, self._take, now)
        except BaseException:
            await self.close()
            raise

    def _take(self, now: int) -> None:
        try:
            path = self._folder.take(database.create, database.inspect, database.upgrade)
            self._blobs.prepare()
            for _ in range(2):
                self._connections.append(database.connect(path))
            self._store, self._view = Store(self._connections[0]), View(self._connections[1])
            self._store.begin()
            self._store.recover(now)
            self._store.commit()
        except (sqlite3.Error, OSError) as error:
            raise self._translated(error) from error
        # A daemon: a loop that was abandoned without `close` must not keep the process, and what is committed is safe.
        self._writer = threading.Thread(target=self._write, name="eventfn-writer", daemon=True)
        self._writer.start()

    async def close(self) -> None:
        if self._opened:
            self._hand_over()
        self._opened = False
        # Cancelling the caller must not leave the folder half closed: what was begun here ends by itself.
        await asyncio.shield(asyncio.to_thread(self._release))

    def _release(self) -> None:
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.shutdown()
        writer, self._writer = self._writer, None
        if writer is not None:
            self._inbox.put(None)
            writer.join()
        if self._connections:
            # The reader goes first: the last one to leave, the writer, brings the log home.
            while self._connections:
                self._connections.pop().close()
            self._folder.closed()
        self._folder.let_go()

    # --- writing ------------------------------------------------------------------------------------------------------

    async def commit(self, operations: Sequence[Operation], now: int) -> list[str | None]:
        if not operations:
            return []
        kept = tuple(operations)  # the thread reads them later, also when the caller is gone
        return await self._submit(lambda store: store.apply(kept, now))

    async def claim(
        self,
        queue: str,
        limit: int,
        until_ms: int,
        now: int,
        *,
        max_claims: int | None = None,
        dead_letters: str | None = None,
    ) -> list[Message]:
        claimed = self._submit(lambda store: store.claim(queue, limit, until_ms, now, max_claims, dead_letters))
        try:
            return await asyncio.shield(claimed)
        except asyncio.CancelledError:
            # Nobody is left to settle what this brings: back it goes, rather than lying claimed until the lease ends.
            await asyncio.wait({claimed})
            if claimed.exception() is None and self._opened:
                releases = [Release(message.claim, now, count=False) for message in claimed.result()]
                with contextlib.suppress(EngineError):  # then the end of the lease does the same
                    await self.commit(releases, now)
            raise

    async def purge(self, queue: str) -> int:
        return await self._submit(lambda store: store.purge(queue))

    async def acquire(self, name: str, owner: str, until_ms: int, now: int) -> Lease | None:
        return await self._submit(lambda store: store.acquire(name, owner, until_ms, now))

    async def give_up(self, lease: Lease) -> None:
        await self._submit(lambda store: store.give_up(lease))

    def on_send(self, listener: Callable[[str], None]) -> None:
        self._listeners.append(listener)

    def _submit(self, work: Callable[[Store], T]) -> asyncio.Future[T]:
        self._must_be_open()
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._turn:
            self._loop.call_soon(self._hand_over)
        self._turn.append(_Job(work, future))
        return future

    def _hand_over(self) -> None:
        if self._turn:  # else it was closed meanwhile, which handed it over
            turn, self._turn = self._turn, []
            self._inbox.put(turn)

    def _must_be_open(self) -> None:
        if not self._opened:
            raise EngineError(f"The engine of {self._folder.path} is closed")

    # --- the writer thread --------------------------------------------------------------------------------------------

    def _write(self) -> None:
        asked: deque[_Job] = deque()
        last = False
        while asked or not last:
            with contextlib.suppress(queue.Empty):
                while len(asked) < _GROUP and not last:
                    turn = self._inbox.get(block=not asked)
                    if turn is None:
                        last = True
                    else:
                        asked += turn
            group = [asked.popleft() for _ in range(min(len(asked), _GROUP))]
            touched = self._transact(group) if group else set[str]()
            try:
                self._loop.call_soon_threadsafe(self._tell, group, touched)
            except RuntimeError:  # the loop was closed without us: nobody is left to be told
                return

    def _transact(self, group: list[_Job]) -> set[str]:
        """One transaction for all of them, or, should it fail, one for each: who broke it then stands alone."""
        try:
            self._store.begin()
            for job in group:
                try:
                    job.answer = job.work(self._store)
                except (Fenced, QueueFull, Conflict) as refusal:
                    job.error = refusal
            touched = self._store.commit()
            self.transactions += 1
        except Exception as error:
            # Whatever happens, the thread lives on: should even this fail, the next BEGIN does, and says so.
            with contextlib.suppress(sqlite3.Error):
                self._store.rollback()
            if len(group) == 1:
                group[0].error = self._translated(error)
                return set()
            for job in group:
                job.error = None
            return set[str]().union(*[self._transact([job]) for job in group])
        return touched

    def _tell(self, group: list[_Job], touched: set[str]) -> None:
        for job in group:
            if job.future.done():  # cancelled: what he asked for is done all the same
                continue
            if job.error is None:
                job.future.set_result(job.answer)
            else:
                job.future.set_exception(job.error)
                self._say(job.error)
        for queue_name in touched:
            for listener in self._listeners:
                listener(queue_name)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def next_visible(self, prefix: str) -> dict[str, int]:
        known, rows = await self._submit(lambda store: store.next_visible(prefix))
        if not rows:
            return known
        return await self._read(self._reads, lambda: self._view.next_visible(prefix, known))

    async def peek(self, queue: str, limit: int, after: int = 0) -> list[Message]:
        return await self._read(self._reads, lambda: self._view.peek(queue, limit, after, self._store.held_until))

    async def stats(self, prefix: str, now: int) -> list[QueueStats]:
        known = await self._submit(lambda store: store.counts(prefix, now))
        return await self._read(self._reads, lambda: self._view.stats(prefix, now, known))

    async def get(self, key: str) -> bytes | None:
        return await self._read(self._reads, lambda: self._view.get(key))

    async def scan(self, prefix: str) -> dict[str, bytes]:
        return await self._read(self._reads, lambda: self._view.scan(prefix))

    async def put_blob(self, chunks: Iterable[bytes]) -> str:
        return await self._read(self._files, lambda: self._blobs.put(chunks))

    async def get_blob(self, digest: str) -> bytes | None:
        return await self._read(self._files, lambda: self._blobs.get(digest))

    async def drop_blobs(self, keep: Collection[str]) -> int:
        kept = set(keep)
        return await self._read(self._files, lambda: self._blobs.drop(kept))

    async def _read(self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        self._must_be_open()
        try:
            return await self._loop.run_in_executor(thread, work)
        except (sqlite3.Error, OSError) as error:
            raise self._translated(error) from error

    # --- what a disk can do to us -------------------------------------------------------------------------------------

    def _translated(self, error: Exception) -> Exception:
        """In eventfn's words; a bug stays as it is."""
        if isinstance(error, EventfnError):
            return error
        if isinstance(error, sqlite3.Error):  # errors of the Python module itself carry no code
            full = getattr(error, "sqlite_errorcode", None) in _NO_SPACE
        elif isinstance(error, OSError):
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        else:
            return error
        where = self._folder.path
        if full:
            return EngineFull(f"No space left for {where}: {error}. Free some; what was kept before is intact.")
        return EngineError(f"The data folder {where} cannot be used: {error}")

    def _say(self, error: BaseException) -> None:
        """To the operator, who has to act: a client that is refused is told that the service is unavailable."""
        ours = isinstance(error, EngineError) and not isinstance(error, Fenced)
        if ours and self._loop.time() >= self._said + _SAID_EVERY:
            self._said = self._loop.time()
            log.error("%s New events are refused meanwhile.", error)
