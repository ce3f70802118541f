from __future__ import annotations

import json

import click

from eventfn.cli.status import page
from eventfn.observe.status import (
    Address,
    Counts,
    Depth,
    Environments,
    FunctionStatus,
    HeldUp,
    LastError,
    OutboxStatus,
    QueueStatus,
    SourceStatus,
    Status,
    Wall,
)
from tests.api.fake_node import FakeNode
from tests.cli.conftest import Eventfn

DOCUMENT = Status(
    version="0.1.0",
    python="3.11.7",
    pid=7,
    started_ms=0,
    now_ms=3_725_000,
    folder="/p",
    data="/p/.eventfn",
    addresses=[Address("http", "127.0.0.1:8080")],
    enforcement=[
        Wall("time limits", True, "timeouts end an environment"),
        Wall("network", False, "all can be reached"),
    ],
    functions=[
        FunctionStatus(
            name="thumb",
            arn="",
            handler="",
            runtime="",
            memory_size=128,
            timeout=3,
            triggers=[
                SourceStatus("files", "s1", "path=[red]inbox", state="down", reason="no such folder\x1b[2J", lag=4),
                SourceStatus("http", "s2", "path=/thumb"),
                SourceStatus(
                    "kinesis",
                    "s3",
                    held_up=[HeldUp("shard-0", 2, "https://x", 5, "503 from x"), HeldUp("shard-1", 1, "queue:dead", 6)],
                ),
            ],
            counts=Counts(invocations=12_345, errors=2, system_errors=1, throttles=9),
            environments=Environments(total=3, idle=1, in_flight=2),
            events=Depth(visible=5, oldest_ms=3_665_000),
            log_lines_dropped=1,
            last_error=LastError("id-1", "ValueError", "no"),
        )
    ],
    queues=[QueueStatus("dead", Depth(visible=1), dead_letter_for=["fn:thumb"])],
    outbox=[OutboxStatus("https://x", Depth(delayed=2), "503 from x")],
)


def test_everything_that_matters_is_on_the_page() -> None:
    text = click.unstyle(page(DOCUMENT))
    assert "pid 7, up for 1h 2m" in text
    assert "http    127.0.0.1:8080" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["NOT", "ENFORCED", "network", "all", "can", "be", "reached"] in lines
    (thumb,) = [words for words in lines if words[:1] == ["thumb"]]
    assert thumb == ["thumb", "12,345", "3", "9", "2", "1", "5", "1m"]
    assert [words for words in lines if words[:1] == ["files"]] == [
        ["files", "path=[red]inbox", "thumb", "down:", "no", "such", "folder\\x1b[2J", "4"]
    ]
    assert ["http", "path=/thumb", "thumb", "running"] in lines
    assert "thumb: last error ValueError: no (request id-1)" in text
    assert "thumb: 1 log line dropped" in text
    assert (
        "thumb: shard-0 of kinesis waits until https://x has taken 2 records that were given up: 503 from x\n" in text
    )
    assert "thumb: shard-1 of kinesis waits until queue:dead has taken 1 record that was given up\n" in text
    assert ["dead", "1", "0", "0", "fn:thumb"] in lines
    assert ["https://x", "0", "0", "2", "503", "from", "x"] in lines


def test_the_command_shows_the_running_node(run: Eventfn, node: FakeNode) -> None:
    assert "eventfn 0.1.0" in run("status").stdout
    assert json.loads(run("status", "--json").stdout)["functions"][0]["name"] == "hello"
