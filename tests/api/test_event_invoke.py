"""Event invoke configs by boto3, and that they are kept: retries and destinations of a qualifier."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.boto import REGION, Api
from tests.api.lab import ACCOUNT, ECHO, ROLE, Lab, arn, zipped
from tests.servers.aws import REGION as OTHER_REGION
from tests.servers.aws import Servers
from tests.servers.sqs import Queue
from tests.support import PATIENCE, running_node, until, write_project

INVALID = "InvalidParameterValueException"
PRINTS = zipped(
    app="""
import json


def handler(event, context):
    about = event["requestContext"]
    print("record", json.dumps([about["condition"], about["approximateInvokeCount"], about["functionArn"],
                                event["requestPayload"]]))
"""
)
FAILS = zipped(app="def handler(event, context):\n    raise ValueError(event)\n")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("aws"))
    yield servers
    servers.close()


def sqs(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


def test_put_replaces_and_update_merges(lab: Lab) -> None:
    name = lab.function()
    put = lab("put_function_event_invoke_config", FunctionName=name, MaximumRetryAttempts=1)
    put.pop("LastModified")
    assert put == {
        "FunctionArn": arn(name, "$LATEST"),
        "MaximumRetryAttempts": 1,
        "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}},
    }
    updated = lab(
        "update_function_event_invoke_config",
        FunctionName=name,
        MaximumEventAgeInSeconds=60,
        DestinationConfig={"OnFailure": {"Destination": sqs("dead")}},
    )
    assert (updated["MaximumRetryAttempts"], updated["MaximumEventAgeInSeconds"]) == (1, 60)
    assert updated["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {"Destination": sqs("dead")}}
    assert lab("get_function_event_invoke_config", FunctionName=name) == updated
    replaced = lab("put_function_event_invoke_config", FunctionName=name, MaximumEventAgeInSeconds=90)
    assert "MaximumRetryAttempts" not in replaced
    assert replaced["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}
    listed = lab("list_function_event_invoke_configs", FunctionName=name)["FunctionEventInvokeConfigs"]
    assert listed == [replaced]
    assert lab.status("delete_function_event_invoke_config", FunctionName=name) == 204
    none = ("ResourceNotFoundException", f"The function {arn(name, '$LATEST')} doesn't have an EventInvokeConfig")
    assert lab.refused("get_function_event_invoke_config", FunctionName=name) == none
    assert lab.refused("delete_function_event_invoke_config", FunctionName=name) == none
    assert lab.refused("update_function_event_invoke_config", FunctionName=name, MaximumRetryAttempts=0) == none


def test_what_is_refused(lab: Lab) -> None:
    name = lab.function()
    put = "put_function_event_invoke_config"

    def refused(**to: str) -> tuple[str, str]:
        config: Any = {key: {"Destination": value} for key, value in to.items()}
        return lab.refused(put, FunctionName=name, DestinationConfig=config)

    assert lab.refused(put, FunctionName=name) == (
        INVALID,
        "You must specify at least one of error handling or destination setting.",
    )
    assert lab.refused(put, FunctionName="nobody", MaximumRetryAttempts=0) == (
        "ResourceNotFoundException",
        "The function doesn't exist.",
    )
    assert refused(OnSuccess=arn(name)) == (INVALID, "You can't specify the function as a destination for itself.")
    assert refused(OnSuccess=arn("nobody")) == (INVALID, f"The destination ARN {arn('nobody')} is invalid.")
    rule = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/r"
    assert refused(OnSuccess=rule) == (INVALID, f"The destination ARN {rule} is invalid.")
    assert refused(OnSuccess="arn:aws:s3:::b") == (
        INVALID,
        "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination=arn:aws:s3:::b), "
        "onFailure=null) is invalid.",
    )
    assert lab.refused(put, FunctionName="declared", MaximumRetryAttempts=0)[0] == "ResourceConflictException"


def test_records_go_where_the_config_of_the_qualifier_says(lab: Lab) -> None:
    prints = lab.function(PRINTS)
    name = lab.function(FAILS)
    version = lab.published(name)
    lab("create_alias", FunctionName=name, Name="live", FunctionVersion=version)
    lab(
        "put_function_event_invoke_config",
        FunctionName=name,
        Qualifier="live",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": arn(prints)}},
    )
    lab.client.invoke(FunctionName=name, Qualifier="live", InvocationType="Event", Payload=b'"one"')
    wanted = json.dumps(["RetriesExhausted", 1, arn(name, "live"), "one"])
    deadline = time.monotonic() + PATIENCE
    while f"record {wanted}" not in (said := lab.logs(prints)):
        assert time.monotonic() < deadline, said
        time.sleep(0.02)


async def test_queues_and_buses_are_where_the_node_says(servers: Servers, tmp_path: Path) -> None:
    async with Queue.on(servers, "elasticmq") as queue:
        project = write_project(
            tmp_path / "project",
            f"""
            [aws]
            region = "{OTHER_REGION}"
            endpoints = {{ sqs = "{queue.settings.endpoint_url}" }}
            """,
        )
        async with running_node(project, tmp_path / "data") as node:
            call = Api(node.admin, OTHER_REGION)
            given: Any = {"Role": ROLE, "Runtime": "python3.11", "Handler": "app.handler", "Code": {"ZipFile": ECHO}}
            await call("create_function", FunctionName="echo", **given)
            bus = f"arn:aws:events:{OTHER_REGION}:{ACCOUNT}:event-bus/default"
            await call(
                "put_function_event_invoke_config",
                FunctionName="echo",
                DestinationConfig={"OnSuccess": {"Destination": await queue.arn(queue.url)}},
            )

            async def active() -> bool:
                state = (await call("get_function_configuration", FunctionName="echo"))["State"]
                return bool(state == "Active")

            await until(active, "the function is active")
            await node.submit("echo", {"number": 1})

            async def received() -> Any:
                found = await queue.received()
                return json.loads(found[0]["Body"]) if found else None

            record = await until(received, "the record is in the queue")
            assert (record["requestPayload"], record["requestContext"]["condition"]) == ({"number": 1}, "Success")
            await call(
                "put_function_event_invoke_config",
                FunctionName="echo",
                DestinationConfig={"OnSuccess": {"Destination": bus}},
            )
            await node.submit("echo", {"number": 2})

            async def on_the_bus() -> Any:
                status = await node.json("GET", "/queues")
                names = [each["name"] for each in status]
                return await node.messages("bus.default") if "bus.default" in names else None

            (message,) = await until(on_the_bus, "the record is on the bus")
            assert json.loads(message["body"])["requestPayload"] == {"number": 2}
