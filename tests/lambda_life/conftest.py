"""A node between AWS-compatible servers, boto3 for it, and what a team has ready: zips of handlers and two layers."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tests.api.boto import boto_client
from tests.api.lab import ROLE, Lab, running_lab
from tests.lambda_life import packages
from tests.servers import elasticmq, moto
from tests.servers.needed import need
from tests.support import PATIENCE

HANDLERS = Path(__file__).parent / "handlers"
PYTHON = f"python{packages.PYTHON}"


def node_runtime() -> str:
    """Of the node that this machine has."""
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return f"nodejs{version.lstrip('v').partition('.')[0]}.x"


def zipped(*folders: Path) -> bytes:
    """As `zip -r` makes it, with the files' modes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for folder in folders:
            for file in sorted(folder.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    archive.write(file, file.relative_to(folder))
    return buffer.getvalue()


class Url:
    """A name below localhost, which not every resolver knows: the address is told apart from the Host."""

    def __init__(self, url: str) -> None:
        host = url.removeprefix("http://").rstrip("/")
        self._host = host
        self._base = f"http://127.0.0.1:{host.rpartition(':')[2]}"

    def fetch(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Message, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()} | {"Host": self._host}
        request = urllib.request.Request(self._base + path, body, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.headers, refused.read()


class Team:
    """Who deploys. `deploy("orders", handler="app.handler")` takes handlers/orders."""

    def __init__(self, lab: Lab, aws: str, queues: str) -> None:
        self.lab = lab
        self.aws_url = aws
        self.queues_url = queues
        self._layers: dict[str, str] = {}

    def service(self, name: str) -> Any:
        """boto3's client of another service than Lambda; SQS is ElasticMQ's."""
        return boto_client(name, self.queues_url if name == "sqs" else self.aws_url)

    def layer(self, name: str, folder: Path) -> str:
        """The ARN of its version 1, published once."""
        if name not in self._layers:
            made = self.lab("publish_layer_version", LayerName=name, Content={"ZipFile": zipped(folder)})
            self._layers[name] = made["LayerVersionArn"]
        return self._layers[name]

    def python_layer(self) -> str:
        need(packages.PYTHON_PACKAGES.missing())
        return self.layer("powertools-python", packages.PYTHON_PACKAGES.folder / "layer")

    def deploy(self, name: str, handler: str, runtime: str = PYTHON, *beside: Path, **more: Any) -> str:
        """The name of the function, active; `beside` are folders whose content goes into the zip too."""
        variables = more.pop("variables", {})
        archive = zipped(more.pop("folder", HANDLERS / name), *beside)
        given = {"Role": ROLE, "Runtime": runtime, "Handler": handler, "MemorySize": 512, "Timeout": 30} | more
        code, environment = {"ZipFile": archive}, {"Variables": variables}
        self.lab("create_function", FunctionName=name, Code=code, Environment=environment, **given)
        self.lab.active(name)
        return name

    def deploy_node(self, name: str, handler: str, **more: Any) -> str:
        """With the node_modules that were installed for it."""
        need(packages.NODE_PACKAGES.missing())
        installed = packages.NODE_PACKAGES.folder / name
        return self.deploy(name, handler, node_runtime(), *([installed] if installed.is_dir() else []), **more)

    def invoke(self, name: str, event: Any, **more: Any) -> Any:
        """What the handler returned; its error fails the test."""
        answer = self.lab.client.invoke(FunctionName=name, Payload=json.dumps(event), **more)
        said = answer["Payload"].read()
        assert "FunctionError" not in answer, said
        return json.loads(said)

    def logged(self, name: str, text: str) -> str:
        """The first line of its log with this text in it, once it is there."""
        return self.all_logged(name, text)[0]

    def all_logged(self, name: str, text: str, enough: Callable[[list[str]], bool] = bool) -> list[str]:
        """The lines of its log with this text in them, once they are enough."""
        logs = self.service_of_node("logs")
        deadline = time.monotonic() + PATIENCE
        while True:
            found = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}", filterPattern=f'"{text}"')["events"]
            lines = [event["message"] for event in found]
            if enough(lines):
                return lines
            assert time.monotonic() < deadline, f"{name} never logged enough of {text!r}: {lines}"
            time.sleep(0.02)

    def url(self, name: str, mode: str = "BUFFERED") -> Url:
        """A function URL that anybody may call."""
        self.lab(
            "add_permission",
            FunctionName=name,
            StatementId="anybody",
            Action="lambda:InvokeFunctionUrl",
            Principal="*",
            FunctionUrlAuthType="NONE",
        )
        self.lab(
            "add_permission",
            FunctionName=name,
            StatementId="anybody-through-it",
            Action="lambda:InvokeFunction",
            Principal="*",
            InvokedViaFunctionUrl=True,
        )
        made = self.lab("create_function_url_config", FunctionName=name, AuthType="NONE", InvokeMode=mode)
        return Url(made["FunctionUrl"])

    def service_of_node(self, name: str) -> Any:
        """A service that the node itself answers."""
        return boto_client(name, self.lab.url)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    need(moto.missing())
    need(elasticmq.missing())
    folder = tmp_path_factory.mktemp("life")
    with moto.server(folder) as aws, elasticmq.server(folder) as queues:
        declaration = f"""
            [http]
            listen = "127.0.0.1:0"

            [aws]
            endpoint = "{aws.url}"
            endpoints = {{ sqs = "{queues.url}" }}
        """
        with running_lab(folder, declaration) as lab:
            yield Team(lab, aws.url, queues.url)


@pytest.fixture(autouse=True)
def node_is_there(request: pytest.FixtureRequest) -> None:
    if "team" in request.fixturenames:
        need(None if shutil.which("node") else "apt-get install nodejs")
