"""What is special about a table as a destination: what it refuses, what it repeats, and what is missing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from eventfn.destination import WRITTEN, OutgoingRecord, Rejected
from eventfn.errors import ConnectorError
from eventfn.testing import destination_context
from eventfn_postgres import PostgresDestination
from eventfn_postgres.settings import DestinationSettings
from tests.connectors.postgres.outbox import printed
from tests.servers.postgres import Postgres

_numbers = itertools.count(1)


class Sinks:
    """Destinations for one table that is new."""

    def __init__(self, server: Postgres, folder: Path) -> None:
        self.table = f"sink_{next(_numbers)}"
        self._server = server
        self._folder = folder
        self._made: list[PostgresDestination] = []

    def __call__(self, *, create_table: bool = True) -> PostgresDestination:
        settings = DestinationSettings(dsn=self._server.dsn(), create_table=create_table)
        self._made.append(PostgresDestination(self.table, settings, destination_context(self._folder)))
        return self._made[-1]

    async def run(self, statement: str) -> list[tuple[object, ...]]:
        async with await psycopg.AsyncConnection.connect(self._server.dsn()) as connection:
            cursor = await connection.execute(statement.format(table=self.table))
            return await cursor.fetchall() if cursor.description else []

    async def close(self) -> None:
        for made in self._made:
            await made.close(5)


@pytest_asyncio.fixture
async def sinks(server: Postgres, tmp_path: Path) -> AsyncIterator[Sinks]:
    made = Sinks(server, tmp_path)
    yield made
    await made.close()


def record(number: int, payload: bytes = b"{}", **attributes: str) -> OutgoingRecord:
    return OutgoingRecord(id=f"record-{number}", payload=payload, attributes=attributes)


async def test_a_row_has_all_that_a_record_has(sinks: Sinks) -> None:
    sink = sinks()
    await sink.connect()
    assert await sink.write([record(1, b'{"a":  1, "n": "\\u0000"}', ErrorCode="200")]) == [WRITTEN]
    assert await sinks.run("SELECT id, payload::text, attributes, written_at <= now() FROM {table}") == [
        ("record-1", '{"a":  1, "n": "\\u0000"}', {"ErrorCode": "200"}, True)
    ]


async def test_what_cannot_be_in_a_table_takes_nothing_with_it(sinks: Sinks) -> None:
    sink = sinks()
    await sink.connect()
    answers = await sink.write(
        [record(1), record(2, b"no JSON"), record(3, name="a \0 in it"), record(4), record(5)],
    )
    assert [answer == WRITTEN for answer in answers] == [True, False, False, True, True]
    assert isinstance(answers[1], Rejected)
    assert "does not take it: invalid input syntax for type json" in answers[1].reason
    assert await sinks.run("SELECT id FROM {table} ORDER BY position") == [("record-1",), ("record-4",), ("record-5",)]


async def test_two_that_write_the_same_at_once_write_it_once(sinks: Sinks) -> None:
    one, other = sinks(), sinks()
    await asyncio.gather(one.connect(), other.connect())
    records = [record(number) for number in range(50)]
    await asyncio.gather(*(sink.write(records) for sink in (one, other)))
    assert await sinks.run("SELECT count(*) FROM {table}") == [(50,)]


async def test_a_table_that_is_not_there_is_said_with_what_to_do(sinks: Sinks) -> None:
    with pytest.raises(ConnectorError, match=rf"python -m eventfn_postgres --records {sinks.table}"):
        await sinks(create_table=False).connect()


async def test_what_the_command_prints_creates_the_table(sinks: Sinks) -> None:
    await sinks.run(printed("--records", sinks.table))
    sink = sinks(create_table=False)
    await sink.connect()
    assert await sink.write([record(1)]) == [WRITTEN]


async def test_a_table_that_was_dropped_is_no_reason_to_give_up(sinks: Sinks) -> None:
    sink = sinks()
    await sink.connect()
    await sinks.run("DROP TABLE {table}")
    with pytest.raises(ConnectorError, match="does not exist"):
        await sink.write([record(1)])
    await sink.connect()
    assert await sink.write([record(1)]) == [WRITTEN]
