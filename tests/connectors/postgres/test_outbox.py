"""What is special about an outbox: its table, groups, leases, late commits, delays, dead rows, and no polling."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any

import msgspec
import psycopg
import pytest

from eventfn.errors import ConnectorError
from eventfn.observe.status import summary
from eventfn.testing import FakeClock, eventually, lint
from eventfn.trigger import DONE, RETRY, Reject, Retry, Settlement
from eventfn_postgres import PostgresTrigger, statements
from eventfn_postgres.settings import DatabaseSettings, OutboxSettings
from eventfn_postgres.shape import Row, record
from tests.connectors.postgres.outbox import Outbox, bodies, printed
from tests.servers.proxy import Proxy

# --- shape and settings -----------------------------------------------------------------------------------------------


def test_a_row_is_near_an_sqs_message() -> None:
    row = Row(17, '{"a": 1}', {"City": "Wien", "N": 2, "ok": True, "deep": [1]}, "g", 3, 1_700_000_000_123)
    assert list(msgspec.json.decode(record(row, "shop.outbox")).items()) == [
        ("messageId", "17"),
        ("body", '{"a": 1}'),
        (
            "attributes",
            {"ApproximateReceiveCount": "3", "SentTimestamp": "1700000000123", "MessageGroupId": "g"},
        ),
        (
            "messageAttributes",
            {
                name: {"stringValue": text, "stringListValues": [], "binaryListValues": [], "dataType": kind}
                for name, text, kind in [
                    ("City", "Wien", "String"),
                    ("N", "2", "Number"),
                    ("ok", "true", "String"),
                    ("deep", "[1]", "String"),
                ]
            },
        ),
        ("eventSource", "eventfn:postgres"),
        ("table", "shop.outbox"),
    ]


@pytest.mark.parametrize("table", ["", "two words", "a.b.c", 'quo"ted', "1st", "x" * 60, "a;drop table b"])
def test_what_is_no_table_is_refused(table: str) -> None:
    with pytest.raises(ValueError, match=r"^table: expected the name of a table"):
        OutboxSettings(table=table)


@pytest.mark.parametrize("dsn", ["s3cret", "postgresql://u:s3cret@[::1/d", "password=s3cret nonsense=1"])
def test_a_dsn_that_is_none_is_refused_and_not_shown(dsn: str) -> None:
    with pytest.raises(ValueError, match=r"^dsn: expected") as refused:
        DatabaseSettings(dsn=dsn)
    assert "s3cret" not in repr(refused.value)
    assert refused.value.__cause__ is None


def test_its_password_comes_from_a_variable_and_is_not_shown() -> None:
    loaded = lint.load_settings(DatabaseSettings, {"dsn": "${DSN}"}, {"DSN": "postgresql://u:s3cret@h/d"})
    assert loaded.dsn == "postgresql://u:s3cret@h/d"
    assert summary(OutboxSettings(table="mine")) == "table=mine"


def test_without_its_library_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['psycopg'] = None; import eventfn_postgres"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: PostgreSQL needs psycopg: pip install 'eventfn[postgres]'" in ended.stderr


# --- the table --------------------------------------------------------------------------------------------------------


async def test_what_the_command_prints_creates_the_table(outbox: Outbox) -> None:
    schema = f"shop_{outbox.table}"
    await outbox.run(f"CREATE SCHEMA {schema}")
    await outbox.create(printed(f"{schema}.outbox"))
    outbox.table = f"{schema}.outbox"
    trigger = await outbox.opened()
    reading = asyncio.create_task(trigger.read(10))
    await outbox.put("hello")
    batch = await reading
    assert bodies(batch) == ["hello"]
    await trigger.settle(batch, [DONE])
    assert await outbox.rows() == []


@pytest.mark.parametrize("arguments", [[], ["--help"], ["two words"], ["--other", "outbox"]])
def test_the_command_says_how_it_is_used(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"^usage: python -m eventfn_postgres \[--records\] TABLE"):
        printed(*arguments)


async def test_a_table_that_is_not_there_is_said_with_what_to_do(outbox: Outbox) -> None:
    outbox.table = "nowhere"
    with pytest.raises(ConnectorError, match=r"no table nowhere: create it .*python -m eventfn_postgres nowhere"):
        await outbox.opened()


async def test_a_table_that_does_not_notify_is_said_with_what_to_do(outbox: Outbox) -> None:
    await outbox.run("DROP TRIGGER eventfn_notify ON {table}")
    with pytest.raises(ConnectorError, match="no trigger eventfn_notify"):
        await outbox.opened()


async def test_several_that_start_at_once_create_one_table(outbox: Outbox) -> None:
    outbox.table += "_new"
    triggers = [outbox.trigger(create_table=True) for _ in range(4)]
    await asyncio.gather(*(trigger.connect() for trigger in triggers))
    await outbox.put("hello")
    assert bodies(await triggers[0].read(10)) == ["hello"]


async def test_a_pooler_that_drops_listen_is_noticed(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventfn_postgres.listening.NOTIFY", "SELECT %(channel)s")
    monkeypatch.setattr("eventfn_postgres.listening.ARRIVAL", 0.05)
    with pytest.raises(ConnectorError, match=r"a notification did not arrive.*pooler"):
        await outbox.opened()


async def test_a_wrong_password_is_not_shown(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.servers.postgres.PASSWORD", "not the s3cret")
    with pytest.raises(ConnectorError, match="password authentication failed") as refused:
        await outbox.opened()
    assert "s3cret" not in str(refused.value)


async def test_the_rights_that_the_readme_names_are_enough(outbox: Outbox) -> None:
    node, writer = f"node_{outbox.table}", f"writer_{outbox.table}"
    for role, rights in ((node, "SELECT, UPDATE, DELETE"), (writer, "INSERT")):
        await outbox.run(f"CREATE ROLE {role} LOGIN PASSWORD 'word'")
        await outbox.run(f"GRANT {rights} ON {{table}} TO {role}")
    address = f"127.0.0.1:{outbox.server.port}/postgres"
    trigger = await outbox.opened(dsn=f"postgresql://{node}:word@{address}", max_receive_count=2)
    async with await psycopg.AsyncConnection.connect(f"postgresql://{writer}:word@{address}") as connection:
        await connection.execute(f"INSERT INTO {outbox.table} (body, group_id) VALUES ('one', 'a'), ('two', 'b')")
    batch = await trigger.read(10)
    await trigger.extend(batch, 60)
    await trigger.settle(batch, [DONE, Reject("no")])
    assert await trigger.pending() == 0
    assert [body for body, *_ in await outbox.rows()] == ["two"]


# --- what is handed out -----------------------------------------------------------------------------------------------


async def test_a_late_commit_with_a_lower_id_is_not_skipped(outbox: Outbox) -> None:
    trigger = await outbox.opened()
    async with await psycopg.AsyncConnection.connect(outbox.server.dsn()) as slow:
        await slow.execute(f"INSERT INTO {outbox.table} (body) VALUES ('early')")
        await outbox.put("late")
        batch = await trigger.read(10)
        assert bodies(batch) == ["late"]
        await trigger.settle(batch, [DONE])
        reading = asyncio.create_task(trigger.read(10))
        await slow.commit()
        assert bodies(await reading) == ["early"]


async def test_what_was_rolled_back_was_never_there(outbox: Outbox) -> None:
    trigger = await outbox.opened()
    async with await psycopg.AsyncConnection.connect(outbox.server.dsn()) as writer:
        await writer.execute(f"INSERT INTO {outbox.table} (body) VALUES ('never')")
        await writer.rollback()
    await outbox.put("ever")
    assert bodies(await trigger.read(10)) == ["ever"]


async def test_a_delayed_row_comes_in_its_time(outbox: Outbox) -> None:
    trigger = await outbox.opened()
    await outbox.run(
        "INSERT INTO {table} (body, visible_at) VALUES ('later', now() + interval '300 ms'), ('now', now())"
    )
    assert bodies(await trigger.read(10)) == ["now"]
    assert bodies(await trigger.read(10)) == ["later"]


async def test_a_batch_is_bounded_in_bytes(outbox: Outbox) -> None:
    trigger = await outbox.opened()
    await outbox.run("INSERT INTO {table} (body) SELECT repeat('x', 3000000) FROM generate_series(1, 5)")
    assert [len(body) for body in bodies(await trigger.read(10))] == [3_000_000] * 3
    assert [len(body) for body in bodies(await trigger.read(10))] == [3_000_000] * 2


async def test_a_row_of_any_text_arrives(outbox: Outbox) -> None:
    trigger = await outbox.opened()
    text = 'Zoë 東京 \U0001f600 \u2028 "quoted" \\ \n line \x01'
    await outbox.put(text, "")
    assert bodies(await trigger.read(10)) == [text, ""]


async def test_while_nothing_happens_nothing_is_asked(outbox: Outbox) -> None:
    clock = FakeClock()
    async with Proxy(outbox.server.host, outbox.server.port) as proxy:
        trigger = await outbox.opened(clock=clock, port=proxy.port)
        reading = asyncio.create_task(trigger.read(10))
        await eventually(lambda: clock.next_wake is not None)
        asked = [link.passed["up"] for link in proxy.links]
        await clock.advance(59)
        assert [link.passed["up"] for link in proxy.links] == asked
        await outbox.put("hello")
        assert bodies(await reading) == ["hello"]


async def test_once_in_a_while_it_looks_anyway(outbox: Outbox) -> None:
    clock = FakeClock()
    trigger = await outbox.opened(clock=clock)
    await outbox.put("dead")
    batch = await trigger.read(10)
    await trigger.settle(batch, [Reject("by mistake")])
    reading = asyncio.create_task(trigger.read(10))
    await eventually(lambda: clock.next_wake is not None)
    await outbox.run("UPDATE {table} SET dead_reason = NULL, attempts = 0")  # nobody is notified
    while not reading.done():
        await clock.advance(60)
        await asyncio.sleep(0.01)
    assert bodies(await reading) == ["dead"]


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_one_batch_of_a_group_is_under_way_at_a_time(outbox: Outbox) -> None:
    one, other = await outbox.opened(), await outbox.opened()
    await outbox.put("a1", "a2", "a3", group="a")
    await outbox.put("b1", group="b")
    first = await one.read(2)
    assert bodies(first) == ["a1", "a2"]
    assert bodies(await other.read(10)) == ["b1"]
    waiting = asyncio.create_task(other.read(10))
    await outbox.put("c1")  # the group is held up, and nothing else is
    assert bodies(await waiting) == ["c1"]
    waiting = asyncio.create_task(other.read(10))
    await one.settle(first, [DONE, DONE])
    assert bodies(await waiting) == ["a3"], "the other node is told that the group is free"


async def test_its_own_reader_goes_on_with_a_group_that_is_free(outbox: Outbox) -> None:
    trigger = await outbox.opened(clock=FakeClock())  # no time passes: it is not the end of a lease that wakes it
    await outbox.put("a1", "a2", group="a")
    first = await trigger.read(1)
    waiting = asyncio.create_task(trigger.read(10))
    await asyncio.sleep(0.05)
    await trigger.settle(first, [DONE])
    assert bodies(await waiting) == ["a2"]


async def test_what_is_to_be_retried_holds_up_its_group(outbox: Outbox) -> None:
    trigger = await outbox.opened()
    await outbox.put("a1", "a2", "a3", group="a")
    batch = await trigger.read(2)
    await trigger.settle(batch, [Retry(after=0.3), Retry(after=0.3)])
    await outbox.put("b1", group="b")
    assert bodies(await trigger.read(10)) == ["b1"]
    assert bodies(await trigger.read(10)) == ["a1", "a2", "a3"]


async def test_a_dead_row_holds_up_nobody(outbox: Outbox) -> None:
    trigger = await outbox.opened()
    await outbox.put("a1", "a2", group="a")
    await trigger.settle(await trigger.read(1), [Reject("it is poison")])
    assert bodies(await trigger.read(10)) == ["a2"]


async def test_a_delayed_row_takes_its_place_when_its_time_has_come(outbox: Outbox) -> None:
    trigger = await outbox.opened()
    await outbox.run(
        "INSERT INTO {table} (body, group_id, visible_at) VALUES "
        "('a1', 'a', now() + interval '300 ms'), ('a2', 'a', now()), ('a3', 'a', now() + interval '300 ms')"
    )
    first = await trigger.read(10)
    assert bodies(first) == ["a2"]
    await trigger.settle(first, [DONE])
    assert bodies(await trigger.read(10)) == ["a1", "a3"]


async def test_thousands_of_groups_that_are_held_up_hide_no_other(outbox: Outbox) -> None:
    trigger = await outbox.opened()
    await outbox.run(
        "INSERT INTO {table} (body, group_id, visible_at, attempts) "
        "SELECT 'x', 'held ' || g, now() + (i = 1)::int * interval '1 hour', (i = 1)::int "
        "FROM generate_series(1, 5000) AS g, generate_series(1, 5) AS i"
    )
    await outbox.put("free", group="free")
    for statement in ("SELECT", "ANALYZE {table}"):  # whatever the statistics say
        await outbox.run(statement)
        batch = await trigger.read(10)
        assert bodies(batch) == ["free"]
        await trigger.settle(batch, [Retry(after=0)])


async def test_a_row_that_somebody_has_locked_holds_up_its_group(outbox: Outbox) -> None:
    trigger = await outbox.opened(clock=FakeClock())
    await outbox.put("a1", "a2", "a3", group="a")
    async with await psycopg.AsyncConnection.connect(outbox.server.dsn()) as somebody:
        await somebody.execute(f"SELECT FROM {outbox.table} WHERE body = 'a2' FOR UPDATE")
        batch = await trigger.read(10)
        assert bodies(batch) == ["a1"]
    await trigger.settle(batch, [DONE])
    assert bodies(await trigger.read(10)) == ["a2", "a3"]


# --- leases and fences ------------------------------------------------------------------------------------------------


async def test_a_late_settle_changes_nothing(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    slow, quick = await outbox.opened(lease=1), await outbox.opened()
    await outbox.put("one", "two", "three")
    late = await slow.read(10)
    again = await quick.read(10)  # once the lease is over
    assert bodies(again) == bodies(late) == ["one", "two", "three"]
    assert [record.receives for record in again.records] == [2, 2, 2]
    before = await outbox.rows()
    with caplog.at_level(logging.WARNING):
        await slow.settle(late, [DONE, Retry(after=0), Reject("no")])
    assert "3 rows" in caplog.text
    await slow.extend(late, 0)
    assert await outbox.rows() == before
    await quick.settle(again, [DONE] * 3)
    assert await outbox.rows() == []


async def test_a_settle_after_the_lease_counts_while_nobody_else_has_the_row(outbox: Outbox) -> None:
    trigger = await outbox.opened(lease=1)
    await outbox.put("one")
    batch = await trigger.read(10)
    while (await outbox.rows())[0][2]:
        await asyncio.sleep(0.05)
    await trigger.settle(batch, [DONE])
    assert await outbox.rows() == []


async def test_a_lease_that_is_extended_is_nobody_elses(outbox: Outbox) -> None:
    one, other = await outbox.opened(lease=1), await outbox.opened()
    await outbox.put("one")
    batch = await one.read(10)
    await one.extend(batch, 3600)
    ((hidden_for,),) = await outbox.run("SELECT extract(epoch FROM visible_at - now())::float8 FROM {table}")
    assert 3500 < hidden_for <= 3600
    await one.settle(batch, [DONE])
    await outbox.put("two")
    assert bodies(await other.read(10)) == ["two"]


async def test_without_a_time_it_comes_again_when_the_lease_ends(outbox: Outbox) -> None:
    trigger = await outbox.opened(lease=1)
    await outbox.put("one")
    batch = await trigger.read(10)
    await trigger.settle(batch, [RETRY])
    assert (await outbox.rows())[0][2], "it is hidden still"
    (record,) = (await trigger.read(10)).records
    assert record.receives == 2


async def test_each_of_a_batch_may_come_again_in_its_own_time(outbox: Outbox) -> None:
    trigger = await outbox.opened()
    await outbox.put("one", "two", "three", "four", "five")
    fates: list[Settlement] = [Retry(after=0), Retry(after=3600.5), RETRY, DONE, Reject("no")]
    await trigger.settle(await trigger.read(10), fates)
    assert [(body, hidden, reason) for body, _, hidden, reason in await outbox.rows()] == [
        ("one", False, None),
        ("two", True, None),
        ("three", True, None),
        ("five", False, "no"),
    ]


async def test_a_claim_that_nobody_got_is_as_if_it_had_not_been(outbox: Outbox) -> None:
    trigger = await outbox.opened()
    await outbox.put("one", "two")
    reading = asyncio.create_task(trigger.read(10))
    await asyncio.sleep(0)
    assert trigger._claiming is not None
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await trigger.close(5)
    assert [(attempts, hidden) for _, attempts, hidden, _ in await outbox.rows()] == [(0, False)] * 2


async def test_a_cancelled_claim_goes_to_the_next_read_as_far_as_that_wants_it(outbox: Outbox) -> None:
    trigger = await outbox.opened()
    await outbox.put("one", "two", "three")
    reading = asyncio.create_task(trigger.read(10))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert bodies(await trigger.read(2)) == ["one", "two"]
    assert bodies(await trigger.read(2)) == ["three"]


# --- dead rows --------------------------------------------------------------------------------------------------------


async def test_a_rejected_row_stays_with_its_reason(outbox: Outbox) -> None:
    trigger = await outbox.opened()
    await outbox.put("one")
    await trigger.settle(await trigger.read(10), [Reject("it is \0 poison")])
    assert [(body, reason) for body, *_, reason in await outbox.rows()] == [("one", "it is  poison")]
    assert await trigger.pending() == 0


async def test_what_fails_too_often_is_dead_and_can_be_handed_out_again(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    trigger = await outbox.opened(max_receive_count=2)
    await outbox.put("poison")
    for receives in (1, 2):
        batch = await trigger.read(10)
        assert batch.records[0].receives == receives
        await trigger.settle(batch, [Retry(after=0)])
    reading = asyncio.create_task(trigger.read(10))
    await outbox.put("good")
    with caplog.at_level(logging.ERROR):
        batch = await reading
    assert bodies(batch) == ["good"]
    await trigger.settle(batch, [DONE])
    ((_, _, _, reason),) = await outbox.rows()
    assert reason == "handed out 2 times without success"
    assert "is dead: handed out 2 times" in caplog.text
    await outbox.run("UPDATE {table} SET dead_reason = NULL, attempts = 0")
    ((record),) = (await (await outbox.opened()).read(10)).records
    assert record.receives == 1


# --- its life ---------------------------------------------------------------------------------------------------------


async def test_a_close_is_quick_while_a_read_waits(outbox: Outbox) -> None:
    trigger: PostgresTrigger = await outbox.opened()
    reading: asyncio.Task[Any] = asyncio.create_task(trigger.read(10))
    await asyncio.sleep(0.02)
    await trigger.close(5)
    with pytest.raises(ConnectorError):
        await reading


def test_every_statement_names_the_table_by_its_identifier() -> None:
    texts = [value for name, value in vars(statements).items() if name.isupper() and isinstance(value, str)]
    assert len(texts) > 5
    assert all("outbox" not in text for text in texts)
