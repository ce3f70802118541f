"""A node that runs for all tests of a module's resources, boto3 for it, and functions that are there in a moment.

Each test makes functions of its own: they share the node, and nothing else.
"""

from __future__ import annotations

import io
import itertools
import json
import signal
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.api.boto import REGION, boto_client
from tests.support import PATIENCE, RunningNode, write_project

ACCOUNT = "000000000000"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/worker"
MISSING = ("ResourceNotFoundException", "The resource you requested does not exist.")

_names = (f"function-{number}" for number in itertools.count())


def zipped(**modules: str) -> bytes:
    """A zip with NAME.py for each; "/" in a name is "__"."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, code in modules.items():
            archive.writestr(f"{name.replace('__', '/')}.py", code)
    return buffer.getvalue()


ECHO = zipped(app="def handler(event, context):\n    return event\n")


def arn(name: str, qualifier: str | None = None) -> str:
    found = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    return found if qualifier is None else f"{found}:{qualifier}"


class Lab:
    def __init__(self, url: str, node: RunningNode | None = None) -> None:
        self.url = url
        self._node = node
        self.client = boto_client("lambda", url)
        self._logs = boto_client("logs", url)

    def __call__(self, operation: str, **given: Any) -> dict[str, Any]:
        """The answer without its metadata; its status is checked to be one of success by the client."""
        answer: dict[str, Any] = getattr(self.client, operation)(**given)
        answer.pop("ResponseMetadata")
        return answer

    def status(self, operation: str, **given: Any) -> int:
        answer: dict[str, Any] = getattr(self.client, operation)(**given)
        code: int = answer["ResponseMetadata"]["HTTPStatusCode"]
        return code

    def refused(self, operation: str, **given: Any) -> tuple[str, str]:
        """The code and the message that it is answered with."""
        with pytest.raises(ClientError) as told:
            self(operation, **given)
        error = told.value.response["Error"]
        return error["Code"], error["Message"]

    def function(self, code: bytes = ECHO, **more: Any) -> str:
        """The name of a new function that is active."""
        name = next(_names)
        given = {"Role": ROLE, "Runtime": "python3.11", "Handler": "app.handler", "Code": {"ZipFile": code}} | more
        self("create_function", FunctionName=name, **given)
        self.active(name)
        return name

    def active(self, name: str) -> None:
        self.client.get_waiter("function_active_v2").wait(
            FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 600}
        )

    def published(self, name: str) -> str:
        """The number of a new version that is active."""
        version: str = self("publish_version", FunctionName=name)["Version"]
        self.client.get_waiter("published_version_active").wait(
            FunctionName=name, Qualifier=version, WaiterConfig={"Delay": 0.05, "MaxAttempts": 600}
        )
        return version

    def invoke(self, name: str, event: Any = None, **more: Any) -> Any:
        return json.loads(self.client.invoke(FunctionName=name, Payload=json.dumps(event), **more)["Payload"].read())

    def kill(self) -> None:
        """kill -9: nothing is told, nothing is flushed."""
        assert self._node is not None, "it runs in a process of its own"
        self._node.process.kill()
        self._node.process.wait(PATIENCE)

    def output(self) -> str:
        """What the node itself has said."""
        assert self._node is not None, "it runs in a process of its own"
        return self._node.output()

    def metrics(self) -> str:
        assert self._node is not None, "it runs in a process of its own"
        token = json.loads((self._node.data / "node.json").read_text())["token"]
        request = urllib.request.Request(f"{self.url}/metrics", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return str(answer.read().decode())

    def logs(self, name: str) -> str:
        """All that a function has logged, of any of its environments; nothing before its first invocation."""
        try:
            found = self._logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")
        except ClientError:
            return ""
        return "".join(event["message"] for event in found["events"])

    def until(self, operation: str, key: str, wanted: Any, **given: Any) -> dict[str, Any]:
        """Asks until the answer's `key` is `wanted`."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self(operation, **given)
            if answer.get(key) == wanted:
                return answer
            assert time.monotonic() < deadline, f"{operation} never had {key} = {wanted}: {answer}"
            time.sleep(0.02)


DECLARATION = """
    [http]
    listen = "127.0.0.1:0"

    [functions.declared]
    handler = "work.handler"
"""


@contextmanager
def running_lab(folder: Path, declaration: str = DECLARATION, **environment: str) -> Iterator[Lab]:
    work = "def handler(event, context):\n    return event\n"
    project = write_project(folder / "project", declaration, work=work)
    node = RunningNode(project, folder / "data", environment=environment)
    node.spawn()
    try:
        deadline = time.monotonic() + PATIENCE
        facts: dict[str, Any] = {}
        while facts.get("pid") != node.process.pid:  # one that was killed has left its own
            assert node.process.poll() is None, node.output()
            assert time.monotonic() < deadline, node.output()
            time.sleep(0.02)
            with suppress(FileNotFoundError, json.JSONDecodeError):
                facts = json.loads((folder / "data" / "node.json").read_text())
        yield Lab(f"http://{facts['admin']}", node)
    finally:
        if node.process.poll() is None:
            node.process.send_signal(signal.SIGTERM)
            assert node.process.wait(PATIENCE) == 0, node.output()
