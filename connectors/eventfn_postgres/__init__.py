"""PostgreSQL: an outbox table as a source (`type = "postgres"`), a table as a destination ("postgres:TABLE").

Here: the tables (`outbox.sql`, `records.sql`), what is asked of them (`statements.py`, PURE), the shape of a row
(`shape.py`, PURE), connections (`session.py`), and the contract (`trigger.py`, `destination.py`). Not here: eventfn's
own engine on PostgreSQL, which keeps eventfn's data and not the user's.
"""

try:
    import psycopg as _psycopg
except ImportError as missing:
    raise ImportError("PostgreSQL needs psycopg: pip install 'eventfn[postgres]'") from missing

from eventfn_postgres.destination import PostgresDestination
from eventfn_postgres.trigger import PostgresTrigger

del _psycopg

__all__ = ["PostgresDestination", "PostgresTrigger"]
