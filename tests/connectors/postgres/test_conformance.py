"""The outbox is a trigger, and the table of records a destination, as the contracts have them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import psycopg
import pytest
import pytest_asyncio

from eventfn.event import Record
from eventfn.testing import DestinationSuite, TriggerSuite
from eventfn.units import Duration
from eventfn_postgres import PostgresDestination, PostgresTrigger
from eventfn_postgres.settings import DatabaseSettings, DestinationSettings, OutboxSettings
from eventfn_postgres.trigger import create_statements
from tests.servers.postgres import Postgres

_numbers = itertools.count(1)


class TestPostgresTrigger(TriggerSuite):
    trigger = PostgresTrigger
    name = "postgres"
    outside = True
    nonsense = ({"table": "two words"}, {"visibility_timeout": "0s"}, {"max_receive_count": 0}, {"dsn": "host=h"})
    variables = {"DATABASE_URL": "postgresql://shop@db.example.com/shop"}  # noqa: RUF012

    server: Postgres
    table: str
    down = False

    writer: psycopg.AsyncConnection[Any] | None = None

    @pytest_asyncio.fixture(autouse=True)
    async def _table(self, server: Postgres) -> AsyncIterator[None]:
        self.server = server
        self.table = f"outbox_{next(_numbers)}"
        with psycopg.connect(server.dsn()) as owner:
            owner.execute(create_statements(self.table))
        yield
        if self.down:
            server.start()
        if self.writer is not None:
            await self.writer.close()

    def settings(self) -> OutboxSettings:
        # What is not settled comes again after a real second: it is the server's clock that counts.
        return OutboxSettings(table=self.table, visibility_timeout=Duration(1))

    async def elsewhere(self) -> OutboxSettings:
        return OutboxSettings(table=f"{self.table}_else", create_table=True)

    async def lapse(self) -> None:
        assert self.writer is not None
        hidden = f"SELECT FROM {self.table} WHERE visible_at > now()"
        while await (await self.writer.execute(hidden)).fetchone() is not None:
            await asyncio.sleep(0.05)

    def shared(self) -> DatabaseSettings:
        return DatabaseSettings(dsn=self.server.dsn())

    async def put(self, number: int) -> None:
        if self.writer is None:
            self.writer = await psycopg.AsyncConnection.connect(self.server.dsn(), autocommit=True)
        body = f'{{"number": {number}}}'
        await self.writer.execute(f"INSERT INTO {self.table} (body, group_id) VALUES (%s, 'one')", [body])

    def number(self, record: Record) -> int:
        number: int = msgspec.json.decode(msgspec.json.decode(record.payload)["body"])["number"]
        return number

    async def refuse(self) -> None:
        self.down = True
        if self.writer is not None:
            await self.writer.close()
            self.writer = None
        self.server.stop()

    async def accept(self) -> None:
        self.server.start()
        self.down = False


class TestPostgresDestination(DestinationSuite):
    destination = PostgresDestination
    scheme = "postgres"
    nonsense = ("", "two words", "1st", "a.b.c", 'quo"ted', "x" * 100)
    variables = {"DATABASE_URL": "postgresql://shop@db.example.com/shop"}  # noqa: RUF012

    server: Postgres
    down = False

    @pytest.fixture(autouse=True)
    def _table(self, server: Postgres) -> Iterator[None]:
        self.server = server
        self.target = f"records_{next(_numbers)}"
        self.elsewhere = f"{self.target}_else"
        yield
        if self.down:
            server.start()

    def settings(self) -> DestinationSettings:
        return DestinationSettings(dsn=self.server.dsn(), create_table=True)

    async def received(self) -> list[Any]:
        async with await psycopg.AsyncConnection.connect(self.server.dsn()) as reader:
            cursor = await reader.execute(f"SELECT payload FROM {self.target} ORDER BY position")
            return [payload for (payload,) in await cursor.fetchall()]

    async def refuse(self) -> None:
        self.down = True
        self.server.stop()

    async def accept(self) -> None:
        self.server.start()
        self.down = False
