"""Event source mappings by boto3: a node that runs, and real servers behind the ARNs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.boto import Api
from tests.api.lab import ROLE, zipped
from tests.servers.aws import REGION, Servers, client
from tests.servers.sqs import VISIBILITY, Queue
from tests.support import RunningNode, command, running_node, until, write_project

CODE = """
    import json
    import os
    import pathlib


    def note(event, context):
        with pathlib.Path(os.environ["SHARED"], context.function_name).open("a") as file:
            for record in event["Records"]:
                file.write(json.dumps([record["eventSourceARN"], record["body"]]) + "\\n")


    def other(event, context):
        note(event, context)


    def slow(event, context):
        note(event, context)
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("aws"))
    yield servers
    servers.close()


class Project:
    def __init__(self, folder: Path, endpoint: str) -> None:
        self.data = folder / "data"
        self.shared = folder / "project" / "shared"
        self.folder = write_project(
            folder / "project",
            f"""
            [aws]
            region = "{REGION}"
            endpoints = {{ sqs = "{endpoint}" }}

            [functions.note]
            handler = "work.note"
            timeout = "2s"
            environment = {{ SHARED = "${{EVENTFN_FOLDER}}/shared" }}
            file_system_configs = [{{ path = "shared" }}]

            [functions.other]
            handler = "work.other"
            timeout = "2s"
            environment = {{ SHARED = "${{EVENTFN_FOLDER}}/shared" }}
            file_system_configs = [{{ path = "shared" }}]

            [functions.slow]
            handler = "work.slow"
            timeout = "60s"
            """,
            work=CODE,
        )

    def noted(self, function: str) -> list[tuple[str, str]]:
        path = self.shared / function
        lines = path.read_text().splitlines() if path.exists() else []
        return [(arn, body) for arn, body in map(json.loads, lines)]


def api(node: RunningNode) -> Api:
    return Api(node.admin, REGION)


@pytest.fixture
async def queue(servers: Servers) -> AsyncIterator[Queue]:
    async with Queue.on(servers, "elasticmq") as queue:
        yield queue


async def settled(call: Api, uuid: str) -> dict[str, Any]:
    async def now() -> dict[str, Any] | None:
        found = await call("get_event_source_mapping", UUID=uuid)
        return found if found["State"] in ("Enabled", "Disabled") else None

    found: dict[str, Any] = await until(now, "the mapping has a state that lasts")
    return found


async def test_the_life_of_a_mapping_on_a_queue(queue: Queue, tmp_path: Path) -> None:
    project, arn_of_queue = Project(tmp_path, str(queue.settings.endpoint_url)), await queue.arn(queue.url)
    async with running_node(project.folder, project.data) as node:
        call = api(node)
        created = await call(
            "create_event_source_mapping",
            EventSourceArn=arn_of_queue,
            FunctionName="note",
            BatchSize=5,
            Tags={"a": "b"},
        )
        uuid = created["UUID"]
        assert (created["State"], created["BatchSize"]) == ("Creating", 5)
        assert (await settled(call, uuid))["State"] == "Enabled"
        await queue.send("one")
        await until(lambda: project.noted("note") == [(arn_of_queue, "one")], "the function is fed")

        # Another function, without a restart.
        updating = await call("update_event_source_mapping", UUID=uuid, FunctionName="other")
        assert updating["State"] == "Updating"
        assert (await settled(call, uuid))["FunctionArn"].endswith(":function:other")
        await queue.send("two")
        await until(lambda: project.noted("other") == [(arn_of_queue, "two")], "the other function is fed")

        # Off: what comes waits in the queue. On again: it is there.
        assert (await call("update_event_source_mapping", UUID=uuid, Enabled=False))["State"] == "Disabling"
        assert (await settled(call, uuid))["State"] == "Disabled"
        await queue.send("three")
        listed = command("trigger", "list", "--data", str(project.data)).stdout
        assert f"mapping/{uuid}" in listed
        assert "API" in listed
        assert project.noted("other") == [(arn_of_queue, "two")]
        assert (await call("update_event_source_mapping", UUID=uuid, Enabled=True))["State"] == "Enabling"
        await until(lambda: (arn_of_queue, "three") in project.noted("other"), "what waited is handled")
        await settled(call, uuid)

        # An operator switches it by its name: it is the same switch.
        command("trigger", "disable", f"mapping/{uuid}", "--data", str(project.data))
        assert (await settled(call, uuid))["State"] == "Disabled"
        await node.kill()

    async with running_node(project.folder, project.data) as node:
        call = api(node)
        (listed_one,) = (await call("list_event_source_mappings", FunctionName="other"))["EventSourceMappings"]
        assert (listed_one["UUID"], listed_one["State"], listed_one["BatchSize"]) == (uuid, "Disabled", 5)
        arn = listed_one["EventSourceMappingArn"]
        assert (await call("list_tags", Resource=arn))["Tags"] == {"a": "b"}
        await call("tag_resource", Resource=arn, Tags={"c": "d"})
        await call("untag_resource", Resource=arn, TagKeys=["a"])
        assert (await call("list_tags", Resource=arn))["Tags"] == {"c": "d"}
        assert (await call("delete_event_source_mapping", UUID=uuid))["State"] == "Deleting"

        async def gone() -> bool:
            return not (await call("list_event_source_mappings"))["EventSourceMappings"]

        await until(gone, "the mapping is gone")
        assert await call.refused("get_event_source_mapping", UUID=uuid) == (
            "ResourceNotFoundException",
            "The resource you requested does not exist.",
        )


async def test_what_is_refused_of_a_queue(queue: Queue, tmp_path: Path) -> None:
    project, arn_of_queue = Project(tmp_path, str(queue.settings.endpoint_url)), await queue.arn(queue.url)
    async with running_node(project.folder, project.data) as node:
        call = api(node)
        invalid = "InvalidParameterValueException"
        create = "create_event_source_mapping"
        assert await call.refused(create, EventSourceArn=arn_of_queue, FunctionName="nobody") == (
            invalid,
            "Function does not exist",
        )
        assert await call.refused(create, EventSourceArn=f"{arn_of_queue}-not", FunctionName="note") == (
            invalid,
            "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. "
            "SQS Error Message: The specified queue does not exist.",
        )
        assert await call.refused(create, EventSourceArn=arn_of_queue, FunctionName="slow") == (
            invalid,
            f"Queue visibility timeout: {VISIBILITY} seconds is less than Function timeout: 60 seconds",
        )
        made = await call(create, EventSourceArn=arn_of_queue, FunctionName="note")
        code, message = await call.refused(create, EventSourceArn=arn_of_queue, FunctionName="note")
        assert code == "ResourceConflictException"
        assert message.endswith(f"Please update or delete the existing mapping with UUID {made['UUID']}")
        await settled(call, made["UUID"])
        assert await call.refused("update_event_source_mapping", UUID=made["UUID"], BatchSize=100) == (
            invalid,
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
        )


async def test_a_mapping_follows_its_alias_and_outlives_its_function(queue: Queue, tmp_path: Path) -> None:
    folder = write_project(
        tmp_path / "project",
        f"""
        [aws]
        region = "{REGION}"
        endpoints = {{ sqs = "{queue.settings.endpoint_url}" }}
        """,
    )
    async with running_node(folder, tmp_path / "data") as node:
        call = api(node)

        async def make(says: str) -> None:
            code = f"def handler(event, context):\n    print('{says}', event['Records'][0]['body'])\n"
            given: Any = {"Role": ROLE, "Runtime": "python3.11", "Handler": "app.handler", "Timeout": 2}
            await call(
                "create_function", FunctionName="jobs", Code={"ZipFile": zipped(app=code)}, Publish=True, **given
            )
            await ready()

        async def ready() -> None:
            async def is_ready() -> bool:
                now = await call("get_function_configuration", FunctionName="jobs")
                return bool(now["State"] == "Active" and now["LastUpdateStatus"] == "Successful")

            await until(is_ready, "the function is ready")

        async def said(line: str) -> None:
            def shown() -> bool:
                return line in command("logs", "jobs", "--data", str(tmp_path / "data")).stdout

            await until(shown, line)

        await make("first")
        await call("create_alias", FunctionName="jobs", Name="live", FunctionVersion="1")
        created = await call(
            "create_event_source_mapping", EventSourceArn=await queue.arn(queue.url), FunctionName="jobs:live"
        )
        assert created["FunctionArn"].endswith(":function:jobs:live")
        await settled(call, created["UUID"])
        await queue.send("one")
        await said("first one")

        code = zipped(app="def handler(event, context):\n    print('second', event['Records'][0]['body'])\n")
        await call("update_function_code", FunctionName="jobs", ZipFile=code, Publish=True)
        await ready()
        await call("update_alias", FunctionName="jobs", Name="live", FunctionVersion="2")
        await queue.send("two")
        await said("second two")

        await call("delete_function", FunctionName="jobs")

        async def lost() -> bool:
            found = await call("get_event_source_mapping", UUID=created["UUID"])
            return bool(found.get("LastProcessingResult", "").startswith("PROBLEM: Function not found"))

        await until(lost, "the mapping says that its function is gone")
        await queue.send("three")
        await make("third")
        await call("create_alias", FunctionName="jobs", Name="live", FunctionVersion="1")
        await said("third three")


STREAM_CODE = """
    import base64
    import json
    import os
    import pathlib


    def stream(event, context):
        with pathlib.Path(os.environ["SHARED"], "stream").open("a") as file:
            for record in event["Records"]:
                if record["eventSource"] == "aws:kinesis":
                    said = base64.b64decode(record["kinesis"]["data"]).decode()
                else:
                    said = record["dynamodb"]["Keys"]["id"]["S"]
                if said == "bad":
                    raise ValueError("it can never be handled")
                file.write(json.dumps([record["eventSourceARN"], said]) + "\\n")
"""


class Streams:
    """A node with one function, and a server that has Kinesis and DynamoDB."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.data = folder / "data"
        self.shared = folder / "project" / "shared"
        self.folder = write_project(
            folder / "project",
            f"""
            [aws]
            region = "{REGION}"
            endpoint = "{endpoint}"

            [functions.stream]
            handler = "work.stream"
            environment = {{ SHARED = "${{EVENTFN_FOLDER}}/shared" }}
            file_system_configs = [{{ path = "shared" }}]
            """,
            work=STREAM_CODE,
        )

    def noted(self, arn: str) -> list[str]:
        path = self.shared / "stream"
        lines = path.read_text().splitlines() if path.exists() else []
        return [said for source, said in map(json.loads, lines) if source == arn]


async def test_mappings_of_streams_keep_their_place(servers: Servers, tmp_path: Path) -> None:
    endpoint = servers.get("ministack").url
    async with client("kinesis", endpoint) as kinesis, client("dynamodb", endpoint) as dynamodb:
        await kinesis.call("create_stream", StreamName="orders", ShardCount=1)

        async def active() -> bool:
            found = await kinesis.call("describe_stream_summary", StreamName="orders")
            return bool(found["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE")

        await until(active, "the stream is active")
        summary = await kinesis.call("describe_stream_summary", StreamName="orders")
        stream: str = summary["StreamDescriptionSummary"]["StreamARN"]
        made = await dynamodb.call(
            "create_table",
            TableName="orders",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
        )
        table: str = made["TableDescription"]["LatestStreamArn"]

        async def put(said: str) -> None:
            await kinesis.call("put_record", StreamName="orders", PartitionKey="k", Data=said.encode())
            await dynamodb.call("put_item", TableName="orders", Item={"id": {"S": said}})

        def said(project: Streams) -> list[list[str]]:
            return [project.noted(arn) for arn in (stream, table)]

        project = Streams(tmp_path, endpoint)
        await put("one")
        async with running_node(project.folder, project.data) as node:
            call = api(node)
            uuids: list[str] = []
            for arn in (stream, table):
                created = await call(
                    "create_event_source_mapping",
                    EventSourceArn=arn,
                    FunctionName="stream",
                    StartingPosition="TRIM_HORIZON",
                    MaximumRetryAttempts=0,
                    BisectBatchOnFunctionError=True,
                )
                assert created["LastProcessingResult"] == "No records processed"
                assert created["StateTransitionReason"] == "User action"
                uuids.append(created["UUID"])
            await until(lambda: said(project) == [["one"], ["one"]], "both streams are read")

            async def fine() -> bool:
                found = [await call("get_event_source_mapping", UUID=uuid) for uuid in uuids]
                return {each["LastProcessingResult"] for each in found} == {"OK"}

            await until(fine, "both mappings say OK")
            missing = stream.replace("orders", "nothing")
            assert await call.refused(
                "create_event_source_mapping",
                EventSourceArn=missing,
                FunctionName="stream",
                StartingPosition="LATEST",
            ) == ("InvalidParameterValueException", f"Stream not found: {missing}")
        await put("bad")
        await put("two")
        async with running_node(project.folder, project.data) as node:
            await until(lambda: said(project) == [["one", "two"], ["one", "two"]], "both are read on")

            async def given_up() -> bool:  # from the outbox, a moment after what came behind them
                return len(await node.messages("dead-letters")) == 2

            await until(given_up, "both records are in the dead letters")
            for uuid in uuids:
                await api(node)("delete_event_source_mapping", UUID=uuid)


async def test_a_function_that_feeds_its_own_queue_is_stopped(servers: Servers, tmp_path: Path) -> None:
    """ElasticMQ keeps the header of whoever sends as AWSTraceHeader, as SQS does. moto and MiniStack do not."""
    code = """
import json
import os
import urllib.request


def handler(event, context):
    for record in event["Records"]:
        again = {"QueueUrl": os.environ["QUEUE"], "MessageBody": str(int(record["body"]) + 1)}
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "AmazonSQS.SendMessage",
            "X-Amzn-Trace-Id": os.environ["_X_AMZN_TRACE_ID"],
        }
        sent = urllib.request.Request(os.environ["AWS_ENDPOINT_URL_SQS"], json.dumps(again).encode(), headers)
        urllib.request.urlopen(sent).close()
"""
    async with Queue.on(servers, "elasticmq", dead_letters=1) as queue:
        project = Project(tmp_path, str(queue.settings.endpoint_url))
        async with running_node(project.folder, project.data) as node:
            call = api(node)
            await call(
                "create_function",
                FunctionName="echo",
                Role=ROLE,
                Runtime="python3.11",
                Handler="app.handler",
                Timeout=2,
                Code={"ZipFile": zipped(app=code)},
                Environment={"Variables": {"QUEUE": queue.url}},
            )

            async def is_ready() -> bool:
                return bool((await call("get_function_configuration", FunctionName="echo"))["State"] == "Active")

            await until(is_ready, "the function is ready")
            created = await call(
                "create_event_source_mapping", EventSourceArn=await queue.arn(queue.url), FunctionName="echo"
            )
            await settled(call, created["UUID"])
            await queue.send("1")
            (dead,) = await until(lambda: queue.received(queue.dead_url), "the queue's RedrivePolicy has the last one")
            assert dead["Body"] == "17", "sixteen have been handled"
            assert (await node.function("echo"))["counts"]["invocations"] == 16
            await queue.send("100")  # another chain begins: the queue is not stopped, nor the function
            (dead,) = await until(lambda: queue.received(queue.dead_url), "this one is found too")
            assert dead["Body"] == "116"
