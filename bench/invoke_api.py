"""What does Lambda's API cost? Invoke of a warm function with 100 bytes of JSON, signed as an SDK signs it, beside the
HTTP trigger of the same function on the same node."""

from __future__ import annotations

import functools
import statistics

from bench import running, wrk
from bench.rounds import Plan, interleaved
from bench.table import OURS, Row, rows

CONNECTIONS = (1, 32)
PATH = "/2015-03-31/functions/echo/invocations"

# Without [[aws.keys]] any signature is taken, and none is computed: this is what local development pays.
SIGNED = (
    "AWS4-HMAC-SHA256 Credential=AKIABENCH/20260101/us-east-1/lambda/aws4_request, "
    "SignedHeaders=host;x-amz-date, Signature=0"
)
TIME = "20260101T000000Z"


async def measure(plan: Plan) -> list[Row]:
    found: list[Row] = []
    async with running.node() as node:
        headers = {"Authorization": SIGNED, "X-Amz-Date": TIME}
        invoke = functools.partial(wrk.invoke, f"http://{node.admin}{PATH}", headers)
        trigger = functools.partial(wrk.post, node.http)
        for load in (invoke, trigger):
            await load(max(CONNECTIONS), 1)  # warm
        for connections in CONNECTIONS:
            both = {
                OURS: functools.partial(invoke, connections, plan.whole_seconds),
                "its HTTP trigger": functools.partial(trigger, connections, plan.whole_seconds),
            }
            loads = await interleaved(both, plan.rounds)
            what = f"Invoke by the API, {connections} connection{'s' if connections > 1 else ''}"
            rates = {name: statistics.median(each.requests_per_second for each in loads[name]) for name in loads}
            p50 = {name: statistics.median(each.p50_us for each in loads[name]) for name in loads}
            found += rows(what, "/s", "more", rates)
            found += rows(f"{what}, p50", "us", "less", p50)
    return found
