"""A whole node on queues of ElasticMQ: functions longer than the visibility timeout, groups that fail, poison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.servers.aws import REGION, Servers
from tests.servers.sqs import Queue
from tests.support import running_node, until, write_project

CODE = """
    import os
    import pathlib
    import time


    def note(name, text):
        with pathlib.Path(os.environ["SHARED"], name).open("a") as file:
            file.write(text + "\\n")


    def slow(event, context):
        for record in event["Records"]:
            note("slow", f"{record['body']} {record['attributes']['ApproximateReceiveCount']}")
        time.sleep(7)


    def ordered(event, context):
        failed = set()
        answer = []
        for record in event["Records"]:
            group = record["attributes"]["MessageGroupId"]
            first = record["attributes"]["ApproximateReceiveCount"] == "1"
            if group in failed or (first and record["body"].endswith("3")):
                failed.add(group)
                answer.append({"itemIdentifier": record["messageId"]})
            else:
                note("ordered", record["body"])
        return {"batchItemFailures": answer}


    def poisoned(event, context):
        for record in event["Records"]:
            if record["body"] == "poison":
                raise ValueError("it can never be handled")
            note("poisoned", record["body"])
"""


async def test_a_node_works_through_its_queues(servers: Servers, tmp_path: Path) -> None:
    async with (
        Queue.on(servers, "elasticmq") as slow,
        Queue.on(servers, "elasticmq", fifo=True) as ordered,
        Queue.on(servers, "elasticmq", dead_letters=2) as poisoned,
    ):
        project = write_project(
            tmp_path / "project",
            f"""
            [sqs]
            region = "{REGION}"
            endpoint_url = "{slow.settings.endpoint_url}"
            access_key_id = "test"
            secret_access_key = "secret"

            [functions.slow]
            handler = "work.slow"
            timeout = "20s"
            file_system_configs = [{{ path = "shared" }}]
            environment = {{ SHARED = "${{EVENTFN_FOLDER}}/shared" }}
            triggers = [{{ type = "sqs", queue = "{slow.name}", visibility_timeout = 3 }}]

            [functions.ordered]
            handler = "work.ordered"
            file_system_configs = [{{ path = "shared" }}]
            environment = {{ SHARED = "${{EVENTFN_FOLDER}}/shared" }}
            triggers = [{{ type = "sqs", queue = "{ordered.name}", report_batch_item_failures = true }}]

            [functions.poisoned]
            handler = "work.poisoned"
            file_system_configs = [{{ path = "shared" }}]
            environment = {{ SHARED = "${{EVENTFN_FOLDER}}/shared" }}
            triggers = [{{ type = "sqs", queue = "{poisoned.name}", batch_size = 1 }}]
            """,
            work=CODE,
        )

        def noted(name: str) -> list[str]:
            file = project / "shared" / name
            return file.read_text().splitlines() if file.exists() else []

        async with running_node(project, tmp_path / "data") as node:
            await slow.send("long")
            for number in range(6):
                for group in "ab":
                    await ordered.send(f"{group}{number}", MessageGroupId=group)
            for body in ("1", "poison", "2"):
                await poisoned.send(body)

            await until(lambda: len(noted("ordered")) == 12, "all of the groups is handled")
            for group in "ab":
                assert [body for body in noted("ordered") if body[0] == group] == [f"{group}{at}" for at in range(6)]

            async def is_dead() -> bool:
                return (await poisoned.attributes(poisoned.dead_url))["ApproximateNumberOfMessages"] == "1"

            await until(is_dead, "what is poisoned is in the dead letter queue of the redrive policy")
            assert sorted(noted("poisoned")) == ["1", "2"]

            await until(lambda: _all_gone(slow, ordered, poisoned), "all else is deleted")
            assert noted("slow") == ["long 1"], "it ran for two timeouts, and came once"

            shown = json.dumps(await node.json("GET", "/status"))
            assert slow.name in shown
            assert "secret" not in shown.replace("secret_access_key", "")


async def _all_gone(*queues: Queue) -> bool:
    said: list[dict[str, Any]] = [await queue.attributes() for queue in queues]
    return all(
        each["ApproximateNumberOfMessages"] == each["ApproximateNumberOfMessagesNotVisible"] == "0" for each in said
    )
