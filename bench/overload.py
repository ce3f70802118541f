"""What becomes of a function's answers when ten times as many requests come as it can serve?

It takes 10 ms and may run eight times at once. A load that fits is eight callers, each of whom waits for his answer.
The rest should be told 429 at once, and cost those who are served nothing.
"""

from __future__ import annotations

import functools
import statistics

from bench import running, wrk
from bench.rounds import Plan, interleaved
from bench.table import OURS, Row, rows

FIT = 8
TOO_MANY, PAUSE_MS = 500, 50  # callers, each with a pause on average: 9,000 a second of about 750

_BESIDE = "2xx of a load that fits"


async def measure(plan: Plan) -> list[Row]:
    async with running.node() as node:
        url = f"http://{node.http}/slow"
        load = {
            OURS: functools.partial(wrk.offer, url, TOO_MANY, PAUSE_MS, plan.whole_seconds),
            _BESIDE: functools.partial(wrk.offer, url, FIT, 0, plan.whole_seconds),
        }
        await wrk.offer(url, FIT, 0, 1)  # warm: environments started
        offers = await interleaved(load, plan.rounds)
    good = {name: statistics.median(each.good for each in offers[name]) for name in offers}
    offered = {OURS: statistics.median(each.offered for each in offers[OURS]), _BESIDE: good[_BESIDE]}
    wrong = {name: statistics.median(each.wrong_percent for each in offers[name]) for name in offers}
    return (
        rows("overload, offered", "/s", "more", offered)
        + rows("overload, 2xx", "/s", "more", good)
        + rows("overload, neither 2xx nor 429", "%", "less", wrong)
    )
