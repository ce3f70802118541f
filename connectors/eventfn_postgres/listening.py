"""LISTEN: a connection of its own on which nothing is asked, and that is looked at only when something comes in."""

from __future__ import annotations

import asyncio

import psycopg
from psycopg import sql

from eventfn.errors import ConnectorError
from eventfn_postgres.session import Connection, Session, asking, composed, connect, said
from eventfn_postgres.statements import NOTIFY

ARRIVAL = 10.0  # real seconds that a notification may take from one connection to the other


class Listening:
    """`heard` is set whenever something may have changed: a notification came, or the connection is lost."""

    def __init__(self, dsn: str) -> None:
        self.heard = asyncio.Event()
        self.lost: str | None = "not connected"  # why nothing will be heard any more
        self._dsn = dsn
        self._connection: Connection | None = None
        self._descriptor = -1

    async def open(self, channel: str, session: Session) -> None:
        """Listens, and makes sure that it does: `session` says something on the channel. Raises ConnectorError."""
        await self.close()
        connection = self._connection = await connect(self._dsn)
        with asking(connection):
            await connection.execute(composed("LISTEN {channel}", channel=sql.Identifier(channel)))
        self.lost = None
        self.heard.clear()
        self._descriptor = connection.fileno()
        # Not psycopg's notifies(), which looks at the clock ten times a second.
        asyncio.get_running_loop().add_reader(self._descriptor, self._readable)
        await session.rows(composed(NOTIFY), {"channel": channel})
        try:
            async with asyncio.timeout(ARRIVAL):
                await self.heard.wait()
        except TimeoutError:
            await self.close()
            raise ConnectorError(
                "PostgreSQL: a notification did not arrive. A pooler that hands out connections by transaction takes "
                "LISTEN and drops it: let the DSN lead to the server itself, or to a pooler that does so by session"
            ) from None

    def _readable(self) -> None:
        assert self._connection is not None
        wire = self._connection.pgconn
        try:
            wire.consume_input()
            while wire.notifies() is not None:
                self.heard.set()
        except psycopg.Error as error:
            self._leave(said(error))

    def _leave(self, why: str) -> None:
        """Looked at once more, a connection that is at its end would be ready to be read for ever."""
        if self.lost is None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self.lost = why
        self.heard.set()

    async def close(self) -> None:
        self._leave("not connected")
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
