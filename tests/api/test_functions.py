"""The life of a function through the API, as boto3 sees it: a real node, real environments."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import urllib.request
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from tests.api.boto import REGION, boto_client
from tests.support import PATIENCE, RunningNode, command, running_node, write_project

ROLE = "arn:aws:iam::000000000000:role/worker"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
RUNTIME = "python3.11"


def code(source: str, **more: str) -> bytes:
    """A zip with app.py, the same bytes whenever it is made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {"app": source, **more}.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.py"), content)
    return buffer.getvalue()


ECHO = code("def handler(event, context): return [event, context.function_version, context.invoked_function_arn]\n")


def says(word: str) -> bytes:
    return code(f"def handler(event, context): return {word!r}\n")


class Client:
    """boto3's client, each call in a thread."""

    def __init__(self, node: RunningNode, region: str = REGION) -> None:
        self.plain = boto_client("lambda", node.admin, region)

    async def __call__(self, operation: str, **arguments: Any) -> Any:
        answer = await asyncio.to_thread(getattr(self.plain, operation), **arguments)
        status = answer.pop("ResponseMetadata")["HTTPStatusCode"]
        assert 200 <= status < 300
        return answer

    async def refused(self, operation: str, **arguments: Any) -> tuple[int, str, str | None]:
        with pytest.raises(ClientError) as raised:
            await self(operation, **arguments)
        answer = raised.value.response
        error = answer["Error"]
        return answer["ResponseMetadata"]["HTTPStatusCode"], error["Code"], error.get("Message")

    async def create(self, name: str, archive: bytes = ECHO, *, wait: bool = True, **more: Any) -> Any:
        given = {"Runtime": RUNTIME, "Handler": "app.handler", "Role": ROLE, "Code": {"ZipFile": archive}, **more}
        created = await self("create_function", FunctionName=name, **given)
        if wait:
            await self.wait("function_active_v2", FunctionName=name)
        return created

    async def wait(self, waiter: str, **arguments: Any) -> None:
        settings = {"Delay": 0.05, "MaxAttempts": int(PATIENCE / 0.05)}
        waiting = self.plain.get_waiter(waiter)
        waiting.config.delay = settings["Delay"]
        await asyncio.to_thread(waiting.wait, **arguments, WaiterConfig=settings)

    async def invoke(self, name: str, event: object = None, **more: Any) -> Any:
        answer = await self("invoke", FunctionName=name, Payload=json.dumps(event).encode(), **more)
        payload = await asyncio.to_thread(answer["Payload"].read)
        assert "FunctionError" not in answer, payload
        return json.loads(payload)


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[RunningNode]:
    folder = write_project(tmp_path / "project", '[functions.declared]\nhandler = "work.handler"\n', work=DECLARED)
    async with running_node(folder, tmp_path / "data") as node:
        yield node


DECLARED = "def handler(event, context): return 'declared'\n"


@pytest.fixture
def client(node: RunningNode) -> Client:
    return Client(node)


async def test_created_waited_for_and_invoked(client: Client) -> None:
    created = await client.create("hello", wait=False, Environment={"Variables": {"GREETING": "hi"}}, Tags={"a": "b"})
    assert created == {
        "FunctionName": "hello",
        "FunctionArn": f"{ARN}hello",
        "Runtime": RUNTIME,
        "Role": ROLE,
        "Handler": "app.handler",
        "CodeSize": len(ECHO),
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "LastModified": created["LastModified"],
        "CodeSha256": base64.b64encode(hashlib.sha256(ECHO).digest()).decode(),
        "Version": "$LATEST",
        "Environment": {"Variables": {"GREETING": "hi"}},
        "TracingConfig": {"Mode": "PassThrough"},
        "RevisionId": created["RevisionId"],
        "State": "Pending",
        "StateReason": "The function is being created.",
        "StateReasonCode": "Creating",
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "RuntimeVersionConfig": created["RuntimeVersionConfig"],
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/hello"},
    }
    await client.wait("function_active_v2", FunctionName="hello")
    found = await client("get_function", FunctionName="hello")
    configuration = found["Configuration"]
    assert (configuration["State"], configuration["LastUpdateStatus"]) == ("Active", "Successful")
    assert "StateReason" not in configuration
    assert configuration["RevisionId"] != created["RevisionId"]
    assert found["Tags"] == {"a": "b"}
    assert found["Code"]["RepositoryType"] == "S3"
    with urllib.request.urlopen(found["Code"]["Location"]) as answer:
        assert answer.read() == ECHO
    assert await client.invoke("hello", {"n": 1}) == [{"n": 1}, "$LATEST", f"{ARN}hello"]
    assert await client.invoke(f"{ARN}hello", 2) == [2, "$LATEST", f"{ARN}hello"]


async def test_updated_code_and_configuration_answer_from_then_on(client: Client) -> None:
    await client.create("f", says("one"))
    assert await client.invoke("f") == "one"
    before = (await client("get_function_configuration", FunctionName="f"))["RevisionId"]

    updated = await client("update_function_code", FunctionName="f", ZipFile=says("two"), RevisionId=before)
    assert (updated["State"], updated["LastUpdateStatus"]) == ("Active", "InProgress")
    assert updated["LastUpdateStatusReasonCode"] == "Creating"
    await client.wait("function_updated_v2", FunctionName="f")
    assert await client.invoke("f") == "two"

    stale = await client.refused("update_function_configuration", FunctionName="f", Timeout=9, RevisionId=before)
    assert stale == (
        412,
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve "
        "the latest Revision Id",
    )
    show = code("import os\ndef handler(event, context): return [os.environ.get('WHO'), context.memory_limit_in_mb]\n")
    await client("update_function_code", FunctionName="f", ZipFile=show)
    await client.wait("function_updated_v2", FunctionName="f")
    configured = await client(
        "update_function_configuration", FunctionName="f", MemorySize=256, Environment={"Variables": {"WHO": "me"}}
    )
    assert (configured["MemorySize"], configured["Timeout"]) == (256, 3)
    await client.wait("function_updated_v2", FunctionName="f")
    assert await client.invoke("f") == ["me", "256"]


async def test_a_dry_run_changes_nothing(client: Client) -> None:
    await client.create("f", says("one"))
    before = await client("get_function_configuration", FunctionName="f")
    shown = await client("update_function_code", FunctionName="f", ZipFile=says("two"), DryRun=True)
    assert shown["CodeSha256"] == base64.b64encode(hashlib.sha256(says("two")).digest()).decode()
    assert await client("get_function_configuration", FunctionName="f") == before


async def test_versions_do_not_change_and_aliases_lead_to_them(client: Client) -> None:
    await client.create("f", says("one"))
    first = await client("publish_version", FunctionName="f", Description="the first")
    assert (first["Version"], first["FunctionArn"], first["Description"]) == ("1", f"{ARN}f:1", "the first")
    await client.wait("published_version_active", FunctionName="f", Qualifier="1")
    again = await client("publish_version", FunctionName="f")
    assert again["Version"] == "1"

    await client("update_function_code", FunctionName="f", ZipFile=says("two"))
    await client.wait("function_updated_v2", FunctionName="f")
    second = await client("update_function_code", FunctionName="f", ZipFile=says("three"), Publish=True)
    assert (second["Version"], second["FunctionArn"]) == ("2", f"{ARN}f:2")
    await client.wait("published_version_active", FunctionName="f", Qualifier="2")
    await client.wait("function_updated_v2", FunctionName="f")

    alias = await client("create_alias", FunctionName="f", Name="live", FunctionVersion="1")
    assert alias == {
        "AliasArn": f"{ARN}f:live",
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "",
        "RevisionId": alias["RevisionId"],
    }
    assert [await client.invoke(name) for name in ("f", "f:1", "f:2", "f:live")] == ["three", "one", "three", "one"]
    shifted = await client("update_alias", FunctionName="f", Name="live", FunctionVersion="2")
    assert shifted["RevisionId"] != alias["RevisionId"]
    answer = await client("invoke", FunctionName="f", Qualifier="live")
    assert (answer["ExecutedVersion"], json.loads(answer["Payload"].read())) == ("2", "three")

    found = await client("get_function", FunctionName="f", Qualifier="live")
    assert (found["Configuration"]["FunctionArn"], found["Configuration"]["Version"]) == (f"{ARN}f:live", "2")
    listed = await client("list_versions_by_function", FunctionName="f")
    assert [(each["Version"], each["FunctionArn"]) for each in listed["Versions"]] == [
        ("$LATEST", f"{ARN}f:$LATEST"),
        ("1", f"{ARN}f:1"),
        ("2", f"{ARN}f:2"),
    ]
    assert "State" not in listed["Versions"][0]

    refused = await client.refused("delete_function", FunctionName="f", Qualifier="2")
    assert refused[:2] == (409, "ResourceConflictException")
    await client("delete_function", FunctionName="f", Qualifier="1")
    await client("delete_function", FunctionName="f:1")
    assert (await client.refused("invoke", FunctionName="f", Qualifier="1"))[2] == f"Function not found: {ARN}f:1"
    await client("update_function_configuration", FunctionName="f", Description="new")
    await client.wait("function_updated_v2", FunctionName="f")
    assert (await client("publish_version", FunctionName="f"))["Version"] == "3"


async def test_an_alias_shares_between_two_versions(client: Client) -> None:
    await client.create("f", says("one"), Publish=True)
    await client("update_function_code", FunctionName="f", ZipFile=says("two"), Publish=True)
    for number in ("1", "2"):
        await client.wait("published_version_active", FunctionName="f", Qualifier=number)
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    alias = await client("create_alias", FunctionName="f", Name="half", FunctionVersion="1", RoutingConfig=weights)
    assert alias["RoutingConfig"] == weights
    said = {await client.invoke("f:half") for _ in range(40)}  # 1 in 10^12 that one of them is never heard
    assert said == {"one", "two"}
    alias = await client("update_alias", FunctionName="f", Name="half", RoutingConfig={})
    assert "RoutingConfig" not in alias
    assert {await client.invoke("f:half") for _ in range(5)} == {"one"}


async def test_deleted_it_is_gone_and_its_name_is_free(client: Client) -> None:
    await client.create("f", says("one"), Publish=True)
    await client("delete_function", FunctionName="f")
    assert await client.refused("get_function", FunctionName="f") == (
        404,
        "ResourceNotFoundException",
        f"Function not found: {ARN}f",
    )
    assert (await client.refused("invoke", FunctionName="f"))[2] == f"Function not found: {ARN}f:$LATEST"
    assert (await client.refused("delete_function", FunctionName="f"))[0] == 404
    await client.create("f", says("again"), Publish=True)
    assert await client.invoke("f") == "again"


async def test_functions_of_the_file_are_shown_and_changed_only_there(client: Client, node: RunningNode) -> None:
    listed = (await client("list_functions"))["Functions"]
    assert [each["FunctionName"] for each in listed] == ["declared"]
    found = await client("get_function", FunctionName="declared")
    assert found["Configuration"]["State"] == "Active"
    with urllib.request.urlopen(found["Code"]["Location"]) as answer:
        assert "work.py" in zipfile.ZipFile(io.BytesIO(answer.read())).namelist()
    place = f"declared is declared in {node.folder / 'eventfn.toml'}, line 1: change it there"
    tried: dict[str, dict[str, Any]] = {
        "update_function_code": {"ZipFile": ECHO},
        "update_function_configuration": {"Timeout": 5},
        "delete_function": {},
        "publish_version": {},
        "create_alias": {"Name": "a", "FunctionVersion": "$LATEST"},
    }
    for operation, arguments in tried.items():
        refused = await client.refused(operation, FunctionName="declared", **arguments)
        assert refused == (409, "ResourceConflictException", place), operation
    assert await client.refused("create_function", **arguments_of("declared")) == (
        409,
        "ResourceConflictException",
        "Function already exist: declared",
    )


def arguments_of(name: str, **more: Any) -> dict[str, Any]:
    given = {"Runtime": RUNTIME, "Handler": "app.handler", "Role": ROLE, "Code": {"ZipFile": ECHO}}
    return {"FunctionName": name, **given, **more}


async def test_status_and_commands_know_both_kinds(client: Client, node: RunningNode) -> None:
    await client.create("made", ECHO, Publish=True)
    await client.wait("published_version_active", FunctionName="made", Qualifier="1")
    status = await node.json("GET", "/status")
    assert {each["name"]: each["origin"] for each in status["functions"]} == {
        "declared": f"{node.folder / 'eventfn.toml'}:1",
        "made": "API",
    }
    shown = await asyncio.to_thread(command, "status", "--data", str(node.data))
    assert "made" in shown.stdout
    assert "API" in shown.stdout
    invoked = await asyncio.to_thread(command, "invoke", "made:1", "-e", "-", "--data", str(node.data), stdin="7")
    assert json.loads(invoked.stdout) == [7, "1", f"{ARN}made:1"], invoked.stderr


async def test_a_folder_of_the_machine_is_code_too(client: Client, node: RunningNode, tmp_path: Path) -> None:
    folder = tmp_path / "live"
    folder.mkdir()
    (folder / "app.py").write_text("def handler(event, context): return 'one'\n")
    source = {"S3Bucket": "local-folder", "S3Key": str(folder)}
    await client("create_function", **arguments_of("f", Code=source))
    await client.wait("function_active_v2", FunctionName="f")
    assert await client.invoke("f") == "one"
    (folder / "app.py").write_text("def handler(event, context): return 'two'\n")
    await client("update_function_code", FunctionName="f", **source)
    await client.wait("function_updated_v2", FunctionName="f")
    assert await client.invoke("f") == "two"
    assert (await client.refused("publish_version", FunctionName="f"))[1] == "InvalidParameterValueException"
    for key in ("relative", str(tmp_path / "nowhere"), str(node.data), str(tmp_path)):
        refused = await client.refused("update_function_code", FunctionName="f", S3Bucket="local-folder", S3Key=key)
        assert refused[:2] == (400, "InvalidParameterValueException"), key


async def test_everything_is_there_after_a_restart(client: Client, node: RunningNode) -> None:
    await client.create("f", says("one"), Publish=True, Tags={"a": "b"})
    await client("update_function_code", FunctionName="f", ZipFile=says("two"))
    await client.wait("function_updated_v2", FunctionName="f")
    await client("create_alias", FunctionName="f", Name="live", FunctionVersion="1")
    before = await client("get_function", FunctionName="f")
    assert await node.stop() == 0
    for folder in (node.data / "code").iterdir():  # as if it had been cleared away: blobs are what is kept
        if folder.is_dir():
            folder.rename(node.data / f"moved-{folder.name}")
    async with running_node(node.folder, node.data) as again:
        client = Client(again)
        after = await client("get_function", FunctionName="f")
        assert after["Configuration"] == before["Configuration"]
        assert after["Tags"] == {"a": "b"}
        assert [await client.invoke(name) for name in ("f", "f:1", "f:live")] == ["two", "one", "one"]


async def test_lists_come_in_pages(client: Client) -> None:
    for name in ("c", "a", "b"):
        await client.create(name, says(name), Publish=name == "b")
    await client.wait("published_version_active", FunctionName="b", Qualifier="1")

    async def pages(operation: str, key: str, name: str, **given: Any) -> list[list[str]]:
        found: list[list[str]] = []
        marker: dict[str, str] = {}
        while True:
            answer = await client(operation, MaxItems=2, **marker, **given)
            found.append([each[name] for each in answer[key]])
            if "NextMarker" not in answer:
                return found
            marker = {"Marker": answer["NextMarker"]}

    assert await pages("list_functions", "Functions", "FunctionName") == [["a", "b"], ["c", "declared"]]
    assert await pages("list_functions", "Functions", "FunctionArn", FunctionVersion="ALL") == [
        [f"{ARN}a:$LATEST", f"{ARN}b:$LATEST"],
        [f"{ARN}b:1", f"{ARN}c:$LATEST"],
        [f"{ARN}declared:$LATEST"],
    ]
    for number in range(2, 12):
        await client("update_function_configuration", FunctionName="b", Description=str(number))
        await client.wait("function_updated_v2", FunctionName="b")
        await client("publish_version", FunctionName="b")
    versions = await pages("list_versions_by_function", "Versions", "Version", FunctionName="b")
    assert [number for page in versions for number in page] == ["$LATEST", *map(str, range(1, 12))]
    for alias, version in (("x", "1"), ("y", "2"), ("z", "1")):
        await client("create_alias", FunctionName="b", Name=alias, FunctionVersion=version)
    assert await pages("list_aliases", "Aliases", "Name", FunctionName="b") == [["x", "y"], ["z"]]
    assert await pages("list_aliases", "Aliases", "Name", FunctionName="b", FunctionVersion="1") == [["x", "z"]]


async def test_a_name_that_is_made_and_declared_is_an_error_at_the_start(client: Client, node: RunningNode) -> None:
    await client.create("both")
    assert await node.stop() == 0
    file = node.folder / "eventfn.toml"
    file.write_text(f'{file.read_text()}\n[functions.both]\nhandler = "work.handler"\n')
    again = RunningNode(node.folder, node.data)
    again.spawn()
    assert await asyncio.to_thread(again.process.wait, PATIENCE) == 1
    assert "functions.both" in again.output()
    assert "a function of this name was made through the API" in again.output()
