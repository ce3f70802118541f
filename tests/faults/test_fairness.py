"""One function's backlog is its own: it keeps nobody else's event waiting."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support import running_node, until, write_project

BACKLOG = 20_000

PROJECT = """
    [functions.crowded]
    handler = "work.crowded"
    timeout = 60

    [functions.lonely]
    handler = "work.lonely"
    on_success = "queue:done"
"""

WORK = """
    import time

    def crowded(event, context):
        time.sleep(0.5)

    def lonely(event, context):
        return "at last"
"""


async def test_twenty_thousand_events_of_one_function_do_not_keep_another_s_waiting(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:

        async def submit_some() -> None:
            for _ in range(BACKLOG // 50):
                await node.submit("crowded", {})

        await asyncio.gather(*(submit_some() for _ in range(50)))
        before = await node.function("crowded")
        waiting = before["events"]["visible"]
        assert waiting > BACKLOG / 2, "there is a backlog"
        await node.submit("lonely", {})
        await until(lambda: node.messages("done"), "the lonely event is settled")
        after = await node.function("crowded")
        worked_off = after["counts"]["invocations"] - before["counts"]["invocations"]
        assert worked_off < waiting / 10, "it did not wait for the backlog"
        assert after["events"]["visible"] > 0
        await node.kill()  # the backlog is not what is tested
