"""A connection to the server that is made when it is needed, and says in eventfn's words what went wrong with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, LiteralString, cast

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from eventfn.errors import ConnectorError
from eventfn_postgres.statements import CREATING

Connection = psycopg.AsyncConnection[TupleRow]

# Real seconds: a server that has not answered a statement by then is taken for unreachable. A proxy or a frozen server
# keeps a connection open that nothing comes through, and no operating system notices.
ANSWER = 30.0

# A connection whose other end has vanished without a word is noticed within a minute. The DSN may say otherwise.
_DEFAULTS = {
    "application_name": "eventfn",
    "client_encoding": "utf8",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


class NoAnswer(ConnectorError):
    """The server may be there, and may even have done what it was asked."""


class Session:
    """One connection for everything that is asked and answered. It is opened by the first question and, once it is
    lost, by the next one, until the session is closed."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()
        self._is_over = False

    async def rows(self, statement: sql.Composed, values: Mapping[str, Any]) -> list[TupleRow]:
        """What a statement gives back, [] for one that gives nothing. Raises ConnectorError; `psycopg.DataError` and
        `psycopg.IntegrityError` are about the values, and the caller's.

        It may be run twice: a server that was restarted is found out only by asking it.
        """
        connection = await self._opened()
        try:
            return await _asked(connection, statement, values)
        except ConnectorError as error:
            if not connection.closed or isinstance(error, NoAnswer):
                raise
        return await _asked(await self._opened(), statement, values)

    async def create(self, statements: sql.Composed, exists: Callable[[], Awaitable[bool]]) -> None:
        """Runs them in one transaction unless they have been by now, by one node at a time."""
        connection = await self._opened()
        with asking(connection):
            async with connection.transaction():
                await connection.execute(CREATING)
                if not await exists():
                    await connection.execute(statements)

    async def _opened(self) -> Connection:
        async with self._opening:
            if self._is_over:
                raise ConnectorError("PostgreSQL: not connected")
            if self._connection is None or self._connection.closed:
                await self._leave()
                self._connection = await connect(self._dsn)
            return self._connection

    def hang_up(self) -> None:
        """Whoever waits for an answer fails at once."""
        self._is_over = True
        if self._connection is not None:
            hang_up(self._connection)

    async def close(self) -> None:
        self._is_over = True
        async with self._opening:
            await self._leave()

    async def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


async def _asked(connection: Connection, statement: sql.Composed, values: Mapping[str, Any]) -> list[TupleRow]:
    with asking(connection):
        cursor = await connection.execute(statement, values)
        return await cursor.fetchall() if cursor.description else []


async def connect(dsn: str) -> Connection:
    """Raises ConnectorError."""
    try:
        connection = await psycopg.AsyncConnection.connect(
            make_conninfo(**(_DEFAULTS | cast(dict[str, Any], conninfo_to_dict(dsn)))), autocommit=True
        )
    except psycopg.Error as error:
        raise ConnectorError(f"PostgreSQL: {said(error)}") from error
    try:
        with asking(connection):
            # Ours wait for hours, and are no forgotten ones. Servers before 14 do not have it.
            await connection.execute(
                "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'"
            )
    except BaseException:
        await connection.close()
        raise
    return connection


def composed(text: LiteralString, **names: sql.Identifier) -> sql.Composed:
    return sql.SQL(text).format(**names)


@contextlib.contextmanager
def asking(connection: Connection) -> Generator[None, None, None]:
    """What goes wrong in here is a ConnectorError, but for what is wrong with the values. While it takes longer than
    ANSWER, the connection is dead. It is not cancelled: psycopg would then ask the server to end the statement, and
    wait for that."""
    too_late = False

    def give_up() -> None:
        nonlocal too_late
        too_late = True
        hang_up(connection)

    overdue = asyncio.get_running_loop().call_later(ANSWER, give_up)
    try:
        yield
    except (psycopg.DataError, psycopg.IntegrityError):
        raise
    except psycopg.Error as error:
        if too_late:
            raise NoAnswer(f"PostgreSQL did not answer within {ANSWER:g} s") from error
        raise ConnectorError(f"PostgreSQL: {said(error)}") from error
    finally:
        overdue.cancel()


def said(error: psycopg.Error) -> str:
    """On one line."""
    return " ".join(str(error).split()) or type(error).__name__


def hang_up(connection: Connection) -> None:
    """Ends the conversation: whoever waits for an answer gets an OperationalError at once."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
