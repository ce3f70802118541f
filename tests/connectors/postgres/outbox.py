"""An outbox for one test: a table that is new, a writer, and the triggers that read it."""

from __future__ import annotations

import contextlib
import io
import itertools
import runpy
import sys
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg.abc import Query

from eventfn.clock import Clock, SystemClock
from eventfn.event import Batch
from eventfn.testing import trigger_context
from eventfn.units import Duration
from eventfn_postgres import PostgresTrigger
from eventfn_postgres.settings import DatabaseSettings, OutboxSettings
from eventfn_postgres.trigger import create_statements
from tests.servers.postgres import Postgres

numbers = itertools.count(1)


class Outbox:
    def __init__(self, server: Postgres, folder: Path) -> None:
        self.server = server
        self.table = f"mine_{next(numbers)}"
        self._folder = folder
        self._writer: psycopg.AsyncConnection[Any] | None = None
        self._made: list[PostgresTrigger] = []

    async def __aenter__(self) -> Outbox:
        await self.write_again()
        await self.create(create_statements(self.table))
        return self

    async def __aexit__(self, *failure: object) -> None:
        for trigger in self._made:
            await trigger.close(5)
        if self._writer is not None:
            await self._writer.close()

    async def write_again(self) -> None:
        """After the server was restarted."""
        if self._writer is not None:
            await self._writer.close()
        self._writer = await psycopg.AsyncConnection.connect(self.server.dsn(), autocommit=True)

    async def create(self, statements: Query) -> None:
        assert self._writer is not None
        await self._writer.execute(statements)

    async def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """A statement about {table}, as anybody may run it."""
        assert self._writer is not None
        cursor = await self._writer.execute(statement.format(table=self.table), values)
        return await cursor.fetchall() if cursor.description else []

    async def put(self, *bodies: str, group: str | None = None) -> None:
        await self.run("INSERT INTO {table} (body, group_id) SELECT unnest(%s::text[]), %s", list(bodies), group)

    async def rows(self) -> list[tuple[Any, ...]]:
        """(body, attempts, hidden, dead_reason), by id."""
        return await self.run("SELECT body, attempts, visible_at > now(), dead_reason FROM {table} ORDER BY id")

    def trigger(
        self,
        *,
        clock: Clock | None = None,
        port: int | None = None,
        dsn: str | None = None,
        lease: float = 30,
        **settings: Any,
    ) -> PostgresTrigger:
        made = PostgresTrigger(
            OutboxSettings(table=self.table, visibility_timeout=Duration(lease), **settings),
            DatabaseSettings(dsn=dsn or self.server.dsn(port)),
            trigger_context(self._folder, clock=clock or SystemClock()),
        )
        self._made.append(made)
        return made

    async def opened(self, **settings: Any) -> PostgresTrigger:
        made = self.trigger(**settings)
        await made.connect()
        return made


def printed(*arguments: str) -> str:
    """What `python -m eventfn_postgres ARGUMENTS` prints. Raises SystemExit as it does."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setattr(sys, "argv", ["eventfn_postgres", *arguments])
        runpy.run_module("eventfn_postgres", run_name="__main__")
    return output.getvalue()


def bodies(batch: Batch) -> list[str]:
    return [msgspec.json.decode(record.payload)["body"] for record in batch.records]
