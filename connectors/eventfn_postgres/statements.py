"""What is asked of the tables. {table} is put in as an identifier; values are parameters. Time is the server's now().

PURE. A row is hidden while its visible_at is in the future: a node has it on a lease, it is to be retried, or it is
delayed. A claim is by state and not by position, so a row that becomes visible late is found all the same.
"""

from __future__ import annotations

from typing import Final

from psycopg import sql

BYTES_AT_ONCE: Final = 8 * 1024 * 1024  # a claim brings so much text and one row: batches are bounded in memory too

# The order of a group, whoever asks at the same time: only a run of its rows from the first one on is taken, and each
# of them is locked and still visible. Another node's claim has locked, hidden or removed the first; a lease that is
# being extended has locked it. What was handed out and is not settled, or is to be retried, holds up its group.
#
# Those groups are left out by NOT IN, of which PostgreSQL makes a hash table. By its statistics there are none, and a
# join with thousands of them would go through all of them for each row.
CLAIM: Final = """
WITH held_up AS MATERIALIZED (
    SELECT group_id FROM {table}
    WHERE dead_reason IS NULL AND visible_at > now() AND attempts > 0 AND group_id IS NOT NULL
), oldest AS MATERIALIZED (
    SELECT one.id, one.group_id, octet_length(one.body) AS size
    FROM {table} AS one
    WHERE one.dead_reason IS NULL AND one.visible_at <= now()
      AND (one.group_id IS NULL OR one.group_id NOT IN (SELECT group_id FROM held_up))
    ORDER BY one.id
    LIMIT %(limit)s
), due AS MATERIALIZED (
    SELECT id, group_id, row_number() OVER (PARTITION BY group_id ORDER BY id) AS place
    FROM (SELECT *, sum(size) OVER (ORDER BY id) - size AS before FROM oldest) AS weighed
    WHERE before < %(bytes)s
), locked AS MATERIALIZED (
    SELECT one.id, one.attempts >= %(max_receives)s AS too_often
    FROM {table} AS one JOIN due USING (id)
    WHERE one.dead_reason IS NULL AND one.visible_at <= now()
    ORDER BY one.id
    FOR UPDATE OF one SKIP LOCKED
), ours AS MATERIALIZED (
    SELECT id, too_often
    FROM (
        SELECT due.*, locked.id IS NOT NULL AS held, locked.too_often,
               count(locked.id) OVER (PARTITION BY due.group_id ORDER BY due.id) AS held_so_far
        FROM due LEFT JOIN locked USING (id)
    ) AS looked_at
    WHERE held AND (group_id IS NULL OR held_so_far = place)
)
UPDATE {table} AS one
SET attempts = one.attempts + CASE WHEN too_often THEN 0 ELSE 1 END,
    visible_at = now() + CASE WHEN too_often THEN 0 ELSE %(lease)s END * interval '1 second',
    dead_reason = CASE WHEN too_often THEN 'handed out ' || one.attempts || ' times without success' END
FROM ours
WHERE one.id = ours.id
RETURNING one.id, one.body, one.attributes, one.group_id, one.attempts,
          (extract(epoch FROM one.created_at) * 1000)::bigint, one.dead_reason
"""

# A fate is 'done', 'retry' (after so many seconds, or when the lease ends) or 'dead'. `attempts` is the fence: a row
# that was handed out again since, or is gone, is left as it is. Nodes are woken where others may go on now: those
# behind in a group, and what is to be retried.
SETTLE: Final = """
WITH told AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[], %(fates)s::text[], %(after)s::float8[],
                         %(reasons)s::text[]) AS told(id, attempt, fate, after, reason)
), gone AS (
    DELETE FROM {table} AS one USING told
    WHERE one.id = told.id AND one.attempts = told.attempt AND one.dead_reason IS NULL AND told.fate = 'done'
    RETURNING one.id
), kept AS (
    UPDATE {table} AS one
    SET visible_at = coalesce(now() + told.after * interval '1 second', one.visible_at), dead_reason = told.reason
    FROM told
    WHERE one.id = told.id AND one.attempts = told.attempt AND one.dead_reason IS NULL AND told.fate <> 'done'
    RETURNING one.id
)
SELECT id, CASE WHEN %(wake)s THEN pg_notify(%(channel)s, '') END
FROM (SELECT id FROM gone UNION ALL SELECT id FROM kept) AS settled
"""

EXTEND: Final = """
UPDATE {table} AS one SET visible_at = now() + %(seconds)s * interval '1 second'
FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[]) AS told(id, attempt)
WHERE one.id = told.id AND one.attempts = told.attempt AND one.dead_reason IS NULL
RETURNING one.id
"""

# What was claimed and never handed to anybody: as if it had not been.
UNCLAIM: Final = """
UPDATE {table} AS one SET visible_at = now(), attempts = one.attempts - 1
FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[]) AS told(id, attempt)
WHERE one.id = told.id AND one.attempts = told.attempt AND one.dead_reason IS NULL
"""

NEXT_DUE: Final = """
SELECT extract(epoch FROM min(visible_at) - now())::float8 FROM {table}
WHERE dead_reason IS NULL AND visible_at > now()
"""

PENDING: Final = "SELECT count(*) FROM {table} WHERE dead_reason IS NULL AND visible_at <= now()"

# NULL: there is no such table. The second: whether inserts notify.
LOOK_UP: Final = """
SELECT to_regclass(%(table)s)::oid::bigint,
       EXISTS (SELECT FROM pg_trigger
               WHERE tgrelid = to_regclass(%(table)s) AND tgname = 'eventfn_notify' AND tgenabled <> 'D')
"""

# One at a time: two nodes that start together on a new database must not both create it.
CREATING: Final = "SELECT pg_advisory_xact_lock(hashtext('eventfn.create'))"

NOTIFY: Final = "SELECT pg_notify(%(channel)s, '')"

WRITE: Final = """
INSERT INTO {table} (id, payload, attributes)
SELECT id, payload::json, attributes::jsonb
FROM unnest(%(ids)s::text[], %(payloads)s::text[], %(attributes)s::text[])
     WITH ORDINALITY AS record(id, payload, attributes, place)
ORDER BY place
ON CONFLICT (id) DO NOTHING
"""


def identifier(table: str) -> sql.Identifier:
    """A table's name as settings have it, "outbox" or "shop.outbox", quoted."""
    return sql.Identifier(*table.split("."))


def function_of(table: str) -> sql.Identifier:
    """The name of the outbox's trigger function, in the table's own schema."""
    *schema, name = table.split(".")
    return sql.Identifier(*schema, f"{name}_notify")
