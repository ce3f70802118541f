"""What is to be reached, and beside what: one line for each figure of the table that is a promise.

A target is of the ratio of eventfn's figure to the other's, so that it means the same on every machine; or of the
figure itself, where that is what a user waits for or pays. Missing one fails nothing: the table says so.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Target(msgspec.Struct, frozen=True):
    """Of the ratio, or of eventfn's own figure in the unit of its row."""

    of: Literal["ratio", "figure"]
    sign: Literal[">=", "<="]
    value: float

    def met(self, ours: float, ratio: float | None) -> bool | None:
        """None: what it is of could not be measured here."""
        measured = ratio if self.of == "ratio" else ours
        if measured is None:
            return None
        return measured >= self.value if self.sign == ">=" else measured <= self.value

    def text(self, unit: str) -> str:
        return f"{self.sign} {self.value:,g}" + ("x" if self.of == "ratio" else f" {unit}")


# By (what, beside) of the row.
TARGETS = {
    ("warm HTTP, 32 connections", "aiohttp echo"): Target("ratio", ">=", 1.5),
    ("warm HTTP, 32 connections", "two forked workers"): Target("ratio", ">=", 0.7),
    ("warm HTTP, 1 connection, p50", "aiohttp echo"): Target("ratio", "<=", 1.5),
    ("warm HTTP, 1 connection, p99", "aiohttp echo"): Target("ratio", "<=", 2),
    ("Invoke by the API, 32 connections", "its HTTP trigger"): Target("ratio", ">=", 0.5),
    ("CreateFunction, 8 callers", "the zips, written and synced"): Target("figure", ">=", 50),
    ("CreateFunction to the first answer, zip of 1 MB", "the zip, unpacked"): Target("figure", "<=", 150),
    ("1 MB JSON both ways, 2 connections", "aiohttp echo"): Target("ratio", ">=", 1),
    ("cold start, p50", "bare fork"): Target("figure", "<=", 3),
    ("what eventfn adds to the start of python", "python alone"): Target("figure", "<=", 10),
    ("what eventfn adds to the start of node", "node alone"): Target("figure", "<=", 10),
    ("cold start, p99", "bare fork"): Target("figure", "<=", 15),
    ("cold start with heavy imports, snap_start, p50", "without snap_start"): Target("figure", "<=", 10),
    ("200 functions in turn, 32 connections", "one function"): Target("ratio", ">=", 0.8),
    ("overload, offered", "2xx of a load that fits"): Target("ratio", ">=", 10),
    ("overload, 2xx", "2xx of a load that fits"): Target("ratio", ">=", 0.9),
    ("overload, neither 2xx nor 429", "2xx of a load that fits"): Target("figure", "<=", 0),
    ("durable submit, settled", "Redis streams, everysec"): Target("ratio", ">=", 0.5),
    ("queue, batches of 10", "engine alone"): Target("figure", ">=", 20_000),
    ("queue, batches of 100", "engine alone"): Target("figure", ">=", 100_000),
    ("Kafka, batches of 500", "bare getmany and commit"): Target("ratio", ">=", 0.6),
    ("put to handler start, kafka, p50", "bare client"): Target("figure", "<=", 5),
    ("SQS, batches of 10", "bare receive and delete"): Target("ratio", ">=", 0.9),
    ("put to handler start, queue, p50", "bare client"): Target("figure", "<=", 5),
    ("put to handler start, redis, p50", "bare client"): Target("figure", "<=", 5),
    ("put to handler start, nats, p50", "bare client"): Target("figure", "<=", 5),
    ("500 idle sources, queue: memory of each", "a node with one"): Target("figure", "<=", 1024),
    ("500 idle sources, queue", "a node with one"): Target("ratio", "<=", 1),
    ("500 idle sources, redis: memory of each", "a node with one"): Target("figure", "<=", 1024),
    ("500 idle sources, redis", "a node with one"): Target("ratio", "<=", 1),
    ("idle memory: supervisor and zygote", "bare python"): Target("figure", "<=", 60),
    ("idle memory: an environment", "bare python"): Target("figure", "<=", 3),
    ("eventfn run, until it is ready", "python -c pass"): Target("figure", "<=", 300),
}
