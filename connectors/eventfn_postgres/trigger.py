"""An outbox table as a source: rows are claimed by a lease in the row itself, and NOTIFY says when to look."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from psycopg import sql

from eventfn.errors import ConnectorError
from eventfn.event import Batch, Record
from eventfn.trigger import Done, Reject, Retry, Settlement, Traits, TriggerContext
from eventfn_postgres import shape, statements
from eventfn_postgres.listening import Listening
from eventfn_postgres.session import Session, composed
from eventfn_postgres.settings import DatabaseSettings, OutboxSettings

# Seconds after which the table is looked at although nothing was heard: for rows that somebody changed by hand, and for
# those that another node had locked when it died.
LOOK_ANYWAY = 60.0


class PostgresTrigger:
    Settings: ClassVar[type[msgspec.Struct]] = OutboxSettings
    Shared: ClassVar[type[msgspec.Struct] | None] = DatabaseSettings
    traits: ClassVar[Traits] = Traits(invocation="request_response", ordered=True)
    data_key: ClassVar[str] = "body"

    def __init__(self, settings: OutboxSettings, shared: DatabaseSettings, context: TriggerContext) -> None:
        self._settings = settings
        self._clock = context.clock
        self._log = context.log
        self._dsn = shared.dsn
        self._session = Session(shared.dsn)
        self._listening = Listening(shared.dsn)
        self._channel = ""
        self._claiming: asyncio.Task[list[shape.Row]] | None = None
        self._due: float | None = None  # seconds until the next hidden row is visible, when nothing was
        self._claimed: deque[shape.Row] = deque()  # and not handed over: a read was cancelled while they came

    @property
    def lease(self) -> float:
        return float(self._settings.visibility_timeout)

    # --- connect -----------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        table = self._settings.table
        await self._session.close()
        self._session = Session(self._dsn)
        oid, notifies = await self._look_up()
        if oid is None and self._settings.create_table:
            await self._session.create(create_statements(table), self._exists)
            oid, notifies = await self._look_up()
        if oid is None:
            raise ConnectorError(
                f"PostgreSQL: there is no table {table}: create it with what `python -m eventfn_postgres {table}` "
                "prints, or set create_table = true"
            )
        if not notifies:
            raise ConnectorError(
                f"PostgreSQL: the table {table} has no trigger eventfn_notify: create it with what "
                f"`python -m eventfn_postgres {table}` prints"
            )
        # By the table's number: the channel is the same whichever way the table is named.
        self._channel = f"eventfn_{oid}"
        await self._listening.open(self._channel, self._session)

    async def _look_up(self) -> tuple[int | None, bool]:
        name = statements.identifier(self._settings.table).as_string()
        ((oid, notifies),) = await self._session.rows(composed(statements.LOOK_UP), {"table": name})
        return oid, notifies

    async def _exists(self) -> bool:
        return (await self._look_up())[0] is not None

    # --- read --------------------------------------------------------------------------------------------------------

    async def read(self, limit: int) -> Batch:
        while True:
            if self._listening.lost is not None:
                raise ConnectorError(f"PostgreSQL: {self._listening.lost}")
            self._listening.heard.clear()  # before looking: what is inserted meanwhile is heard
            if rows := await self._next(limit):
                return Batch(tuple(self._record(row) for row in rows))
            if self._listening.lost is None:
                await self._until_something_changes()

    async def _next(self, limit: int) -> list[shape.Row]:
        if not self._claimed:
            if self._claiming is None:
                self._claiming = asyncio.create_task(self._claim(limit))
            await self._until_claimed(self._claiming)
        return [self._claimed.popleft() for _ in range(min(limit, len(self._claimed)))]

    async def _until_claimed(self, claiming: asyncio.Task[list[shape.Row]]) -> None:
        """A cancelled read leaves the claim alone: the next one gets what it brings, or it is given back."""
        await asyncio.wait({claiming})
        if self._claiming is claiming:  # a close may have waited for the same
            self._claiming = None
            self._claimed.extend(claiming.result())

    async def _claim(self, limit: int) -> list[shape.Row]:
        values = {
            "limit": limit,
            "bytes": statements.BYTES_AT_ONCE,
            "lease": self.lease,
            "max_receives": self._settings.max_receive_count,
        }
        while True:
            claimed = await self._ask(statements.CLAIM, values)
            rows = [shape.Row(*facts) for *facts, dead_reason in sorted(claimed) if dead_reason is None]
            for message, *_, dead_reason in claimed:
                if dead_reason is not None:
                    self._log.error("row %d of %s is dead: %s", message, self._settings.table, dead_reason)
            if not claimed:
                ((self._due,),) = await self._ask(statements.NEXT_DUE)
            if rows or not claimed:
                return rows

    async def _until_something_changes(self) -> None:
        pause = LOOK_ANYWAY if self._due is None else min(self._due, LOOK_ANYWAY)
        hearing = asyncio.ensure_future(self._listening.heard.wait())
        waiting = asyncio.ensure_future(self._clock.sleep(pause))
        try:
            await asyncio.wait({hearing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hearing.cancel()
            waiting.cancel()
            await asyncio.gather(hearing, waiting, return_exceptions=True)

    def _record(self, row: shape.Row) -> Record:
        return Record(
            id=str(row.id),
            payload=shape.record(row, self._settings.table),
            group=row.group_id,
            arrived_ms=row.created_ms,
            receives=row.attempts,
            token=row,
        )

    # --- settle ------------------------------------------------------------------------------------------------------

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        fates: list[tuple[str, float | None, str | None]] = []
        for settlement in settlements:
            match settlement:
                case Done():
                    fates.append(("done", None, None))
                case Retry(after):
                    # A list of numbers must be of one type, and some say 0.
                    fates.append(("retry", None if after is None else float(after), None))
                case Reject(reason):
                    # Visible, should somebody take its reason away; and no text there can have a NUL.
                    fates.append(("dead", 0.0, reason.replace("\0", "")))
        rows = _rows_of(batch)
        told = _fences(rows) | {
            "fates": [fate for fate, _, _ in fates],
            "after": [after for _, after, _ in fates],
            "reasons": [reason for _, _, reason in fates],
            "wake": any(row.group_id is not None for row in rows) or any(after is not None for _, after, _ in fates),
            "channel": self._channel,
        }
        kept = {message for message, _ in await self._ask(statements.SETTLE, told)}
        late = [str(row.id) for row in rows if row.id not in kept]
        if late:
            self._log.warning(
                "%d rows of %s were handled after their visibility timeout, and others have them now: %s",
                len(late),
                self._settings.table,
                ", ".join(late[:10]),
            )

    async def extend(self, batch: Batch, seconds: float) -> None:
        await self._ask(statements.EXTEND, _fences(_rows_of(batch)) | {"seconds": seconds})

    async def pending(self) -> int:
        ((count,),) = await self._ask(statements.PENDING)
        return int(count)

    async def _ask(self, statement: Any, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        table = statements.identifier(self._settings.table)
        return await self._session.rows(composed(statement, table=table), values or {})

    # --- close -------------------------------------------------------------------------------------------------------

    async def close(self, deadline: float) -> None:
        """What was claimed and not handed over is as if it had never been. What is not settled is visible again when
        its timeout ends."""
        await self._listening.close()
        with contextlib.suppress(TimeoutError, ConnectorError):
            async with asyncio.timeout(deadline / 2):
                await self._give_back()
        self._session.hang_up()
        if self._claiming is not None:
            await asyncio.gather(self._claiming, return_exceptions=True)
            self._claiming = None
        await self._session.close()

    async def _give_back(self) -> None:
        if self._claiming is not None:
            await self._until_claimed(self._claiming)
        rows, self._claimed = list(self._claimed), deque()
        if rows:
            await self._ask(statements.UNCLAIM, _fences(rows))


def create_statements(table: str) -> sql.Composed:
    text: Any = (Path(__file__).parent / "outbox.sql").read_text()  # ours, and not something that a user typed
    return composed(text, table=statements.identifier(table), function=statements.function_of(table))


def _rows_of(batch: Batch) -> list[shape.Row]:
    return [record.token for record in batch.records]


def _fences(rows: Sequence[shape.Row]) -> dict[str, Any]:
    return {"ids": [row.id for row in rows], "attempts": [row.attempts for row in rows]}
