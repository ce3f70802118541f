"""What eventfn.toml says of a database: where it is, and which table of it is meant.

PURE.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict

from eventfn.units import Between, Duration

_TABLE = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,55}")
TABLE_EXPECTED = 'expected the name of a table such as "outbox" or "shop.outbox": letters, digits and "_"'


def is_table(name: str) -> bool:
    return _TABLE.fullmatch(name) is not None


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    table: str = "outbox"
    create_table: bool = False  # when it is not there: needs the right to
    visibility_timeout: Annotated[Duration, Between(1, 43_200)] = Duration(30)
    max_receive_count: Annotated[int, Between(1, 1_000_000)] = 10

    def __post_init__(self) -> None:
        if not is_table(self.table):
            raise ValueError(f"table: {TABLE_EXPECTED}")


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[postgres]: not shown in `status`."""

    dsn: str

    def __post_init__(self) -> None:
        check_dsn(self.dsn)


class DestinationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[destinations.postgres]."""

    dsn: str
    create_table: bool = False

    def __post_init__(self) -> None:
        check_dsn(self.dsn)


def check_dsn(dsn: str) -> None:
    """Raises ValueError, whose message shows nothing of it: there is a password inside."""
    try:
        conninfo_to_dict(dsn)
    except psycopg.Error:
        raise ValueError('dsn: expected "postgresql://user:password@host/database", or "host=... dbname=..."') from None
