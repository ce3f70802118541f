"""boto3 in a function finds its queue and the node's own API by what the environment tells it, and nothing else."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.aws import boto3_layer
from tests.servers.aws import Servers, client
from tests.support import RunningNode, running_node, write_project

CODE = """
    import os
    import socket

    import boto3


    def send(event, context):
        sqs = boto3.client("sqs")
        url = sqs.get_queue_url(QueueName="jobs")["QueueUrl"]
        return sqs.send_message(QueueUrl=url, MessageBody=event["text"])["MessageId"]


    def told(event, context):
        return {name: os.environ.get(name) for name in event}


    def reach(event, context):
        try:
            socket.create_connection((event["host"], event["port"]), 5).close()
        except OSError as error:
            return type(error).__name__
        return "reached"
"""


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return boto3_layer.write(tmp_path_factory.mktemp("layer"), ["lambda", "sqs"])


async def invoke(node: RunningNode, function: str, event: Any) -> Any:
    status, body = await node.request("POST", f"/2015-03-31/functions/{function}/invocations", data=json.dumps(event))
    assert status == 200, body
    return json.loads(body)


@pytest.mark.parametrize("server", ["elasticmq", "moto", "ministack"])
async def test_a_function_sends_to_a_queue(servers: Servers, layer: Path, tmp_path: Path, server: str) -> None:
    url = servers.get(server).url
    folder = write_project(
        tmp_path / "project",
        f"""
        [aws]
        endpoints = {{ sqs = "{url}" }}

        [functions.send]
        handler = "work.send"
        layers = ["{layer}"]
        memory_size = 512
        timeout = 30
        network = "aws"
        """,
        work=CODE,
    )
    async with client("sqs", url, "us-east-1") as sqs:
        queue = (await sqs.call("create_queue", QueueName="jobs"))["QueueUrl"]
        async with running_node(folder, tmp_path / "data") as node:
            sent = await invoke(node, "send", {"text": "hello"})
        [message] = (await sqs.call("receive_message", QueueUrl=queue, WaitTimeSeconds=5))["Messages"]
    assert (message["MessageId"], message["Body"]) == (sent, "hello")


async def test_what_a_function_is_told_and_what_it_reaches(servers: Servers, tmp_path: Path) -> None:
    url = servers.get("moto").url
    code = CODE.replace("import boto3", "")
    folder = write_project(
        tmp_path / "project",
        f"""
        [aws]
        account = "123456789012"
        endpoint = "{url}"
        endpoints = {{ s3 = "http://127.0.0.1:1" }}

        [functions.told]
        handler = "work.told"
        environment = {{ AWS_ENDPOINT_URL_S3 = "http://its.own" }}

        [functions.reach]
        handler = "work.reach"
        network = "aws"

        [functions.shut]
        handler = "work.reach"
        """,
        work=code,
    )
    async with running_node(folder, tmp_path / "data") as node:
        names = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_LAMBDA"]
        assert await invoke(node, "told", names) == dict(zip(names, [url, "http://its.own", node.admin], strict=True))
        credentials = await invoke(node, "told", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
        assert credentials["AWS_ACCESS_KEY_ID"].startswith("ASIA")
        for address, expected in (
            (url, "reached"),
            (node.admin, "reached"),
            ("http://127.0.0.1:22", "ConnectionRefusedError"),
        ):
            host, _, port = address.removeprefix("http://").partition(":")
            assert await invoke(node, "reach", {"host": host, "port": int(port)}) == expected
            assert await invoke(node, "shut", {"host": host, "port": int(port)}) == "ConnectionRefusedError"
        shown = json.dumps(await node.json("GET", "/status")) + node.output()
        for secret in (credentials["AWS_SECRET_ACCESS_KEY"], credentials["AWS_SESSION_TOKEN"]):
            assert secret not in shown


KEYS = """
        [[aws.keys]]
        access_key_id = "operator"
        secret_access_key = "0123456789abcdef"
"""


@pytest.mark.parametrize("keys", [KEYS, ""], ids=["keys", "no keys"])
async def test_a_function_calls_another_and_may_do_no_more(layer: Path, tmp_path: Path, keys: str) -> None:
    folder = write_project(
        tmp_path / "project",
        f"""{keys}
        [functions.call]
        handler = "work.call"
        layers = ["{layer}"]
        memory_size = 512
        timeout = 30
        network = "aws"

        [functions.told]
        handler = "work.told"
        layers = ["{layer}"]
        """,
        work=CODE
        + """

    def call(event, context):
        functions = boto3.client("lambda")
        answer = functions.invoke(FunctionName="told", Payload=b'["AWS_REGION"]')
        try:
            functions.delete_function(FunctionName="told")
        except Exception as error:
            refused = error.response["Error"]["Code"]
        return answer["Payload"].read().decode(), refused
""",
    )
    async with running_node(folder, tmp_path / "data") as node:
        assert await invoke(node, "call", None) == ['{"AWS_REGION": "us-east-1"}', "AccessDeniedException"]


async def test_a_role_that_cannot_be_assumed_is_said_to_whoever_invokes(servers: Servers, tmp_path: Path) -> None:
    folder = write_project(
        tmp_path / "project",
        """
        [aws.endpoints]
        sts = "http://127.0.0.1:1"

        [functions.told]
        handler = "work.told"
        role = "arn:aws:iam::000000000000:role/worker"
        """,
        work=CODE.replace("import boto3", ""),
    )
    async with running_node(folder, tmp_path / "data") as node:
        status, body = await node.request("POST", "/2015-03-31/functions/told/invocations", data=b"[]")
        assert status >= 500
        assert b"sts assume_role: http://127.0.0.1:1" in body


async def test_a_function_is_not_made_with_a_role_that_sts_refuses(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        role = str((await request.post())["RoleArn"])
        asked.append(role)
        text = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
        if role.endswith("/right"):
            given = (
                "<AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
            )
            given += "<Expiration>2999-01-01T00:00:00Z</Expiration>"
            text = f"<R><AssumeRoleResult><Credentials>{given}</Credentials></AssumeRoleResult></R>"
        return web.Response(status=200 if role.endswith("/right") else 403, text=text, content_type="text/xml")

    app = web.Application()
    app.router.add_post("/", answer)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("work.py", dedent(CODE).replace("import boto3", ""))
    async with TestServer(app) as sts:
        folder = write_project(tmp_path / "project", f"[aws.endpoints]\nsts = '{sts.make_url('/')}'\n")
        async with running_node(folder, tmp_path / "data") as node:
            boto3: Any = import_module("boto3")
            errors: Any = import_module("botocore.exceptions")
            functions = boto3.client(
                "lambda",
                endpoint_url=node.admin,
                region_name="us-east-1",
                aws_access_key_id="test",
                aws_secret_access_key="secret",
            )

            def make(name: str, role: str) -> None:
                functions.create_function(
                    FunctionName=name,
                    Role=f"arn:aws:iam::000000000000:role/{role}",
                    Runtime=f"python3.{sys.version_info.minor}",
                    Handler="work.told",
                    Code={"ZipFile": archive.getvalue()},
                )
                functions.get_waiter("function_active_v2").wait(FunctionName=name)

            with pytest.raises(errors.ClientError) as refused:
                await asyncio.to_thread(make, "one", "wrong")
            assert refused.value.response["Error"] == {
                "Code": "InvalidParameterValueException",
                "Message": "The role defined for the function cannot be assumed by Lambda.",
            }
            await asyncio.to_thread(make, "two", "right")
            assert await invoke(node, "two", ["AWS_ACCESS_KEY_ID"]) == {"AWS_ACCESS_KEY_ID": "ASIAROLE"}
            with pytest.raises(errors.ClientError, match="cannot be assumed by Lambda"):
                await asyncio.to_thread(
                    functions.update_function_configuration,
                    FunctionName="two",
                    Role="arn:aws:iam::000000000000:role/wrong",
                )
    assert asked[0].endswith("/wrong")
