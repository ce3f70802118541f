"""Functions whose code lies in S3: on a server that stands for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.api.boto import boto_client
from tests.api.test_functions import Client, arguments_of, says
from tests.servers.aws import Servers
from tests.support import running_node, write_project


@pytest.mark.timeout(180)
async def test_code_comes_from_s3(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    try:
        url = servers.get("moto").url
        bucket = boto_client("s3", url)
        await asyncio.to_thread(bucket.create_bucket, Bucket="code")
        versioned = {"Status": "Enabled"}
        await asyncio.to_thread(bucket.put_bucket_versioning, Bucket="code", VersioningConfiguration=versioned)
        first = await asyncio.to_thread(bucket.put_object, Bucket="code", Key="f.zip", Body=says("one"))
        await asyncio.to_thread(bucket.put_object, Bucket="code", Key="f.zip", Body=says("two"))
        await asyncio.to_thread(bucket.put_object, Bucket="code", Key="text", Body=b"no zip")
        project = write_project(tmp_path / "project", f'[aws]\nendpoints = {{ s3 = "{url}" }}\n')
        async with running_node(project, tmp_path / "data") as node:
            client = Client(node)
            given = arguments_of("f", Code={"S3Bucket": "code", "S3Key": "f.zip"})
            await client("create_function", **given)
            await client.wait("function_active_v2", FunctionName="f")
            assert await client.invoke("f") == "two"
            before = {"S3Bucket": "code", "S3Key": "f.zip", "S3ObjectVersion": first["VersionId"]}
            await client("update_function_code", FunctionName="f", **before)
            await client.wait("function_updated_v2", FunctionName="f")
            assert await client.invoke("f") == "one"
            for key, bucket_name, why in (
                (
                    "f.zip",
                    "nowhere",
                    "Error occurred while GetObject. S3 Error Code: NoSuchBucket. S3 Error Message: The specified "
                    "bucket does not exist",
                ),
                (
                    "none.zip",
                    "code",
                    "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key "
                    "does not exist.",
                ),
                ("text", "code", "Could not unzip uploaded file. Please check your file, then try to upload again."),
            ):
                refused = await client.refused(
                    "update_function_code", FunctionName="f", S3Bucket=bucket_name, S3Key=key
                )
                assert refused == (400, "InvalidParameterValueException", why)
            assert await client.invoke("f") == "one"
    finally:
        servers.close()
