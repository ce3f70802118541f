"""A table as a destination: "postgres:TABLE" inserts each record once, by its id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import psycopg
from psycopg import sql

from eventfn.destination import WRITTEN, Delivery, DestinationContext, OutgoingRecord, Rejected
from eventfn.errors import ConnectorError
from eventfn_postgres import statements
from eventfn_postgres.session import Session, composed, said
from eventfn_postgres.settings import TABLE_EXPECTED, DestinationSettings, is_table


class PostgresDestination:
    Settings: ClassVar[type[msgspec.Struct]] = DestinationSettings
    idempotent: ClassVar[bool] = True  # by the record's id, for as long as its row is there

    @classmethod
    def check(cls, target: str, settings: DestinationSettings) -> str | None:
        return None if is_table(target) else TABLE_EXPECTED

    def __init__(self, target: str, settings: DestinationSettings, context: DestinationContext) -> None:
        self._table = target
        self._create = settings.create_table
        self._session = Session(settings.dsn)

    async def connect(self) -> None:
        if await self._exists():
            return
        if not self._create:
            raise ConnectorError(
                f"PostgreSQL: there is no table {self._table}: create it with what `python -m eventfn_postgres "
                f"--records {self._table}` prints, or set create_table = true in [destinations.postgres]"
            )
        await self._session.create(create_statements(self._table), self._exists)

    async def _exists(self) -> bool:
        name = statements.identifier(self._table).as_string()
        ((oid, _),) = await self._session.rows(composed(statements.LOOK_UP), {"table": name})
        return oid is not None

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        values = {
            "ids": [record.id for record in records],
            "payloads": [record.payload.decode() for record in records],
            "attributes": [msgspec.json.encode(record.attributes).decode() for record in records],
        }
        try:
            await self._session.rows(composed(statements.WRITE, table=statements.identifier(self._table)), values)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if len(records) == 1:
                return [Rejected(f"the table {self._table} does not take it: {said(error)}")]
            # One of them cannot be in the table: it must not take the others with it.
            return [delivery for record in records for delivery in await self.write([record])]
        return [WRITTEN] * len(records)

    async def close(self, deadline: float) -> None:
        await self._session.close()


def create_statements(table: str) -> sql.Composed:
    text: Any = (Path(__file__).parent / "records.sql").read_text()  # ours, and not something that a user typed
    return composed(text, table=statements.identifier(table))
