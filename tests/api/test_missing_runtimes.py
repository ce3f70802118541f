"""A runtime that this machine does not have is refused at once, and says what to do: not seconds later as a state."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from eventfn.functions.configuring import CREATABLE
from eventfn.workers.runtimes import family, nodejs, python
from tests.api.test_functions import ECHO, ROLE, Client, code
from tests.support import RunningNode, running_node, write_project

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID = "InvalidParameterValueException"
BOOTSTRAPS = [runtime for runtime in CREATABLE if family(runtime) == "bootstrap"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first folder on the node's PATH."""
    return tmp_path_factory.mktemp("programs")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> AsyncIterator[RunningNode]:
    folder = tmp_path_factory.mktemp("node")
    # Without the machine's own versions of Node.js, which are another number on each machine.
    path = {"PATH": f"{programs}:/usr/local/sbin", "NVM_DIR": str(folder)}
    async with running_node(write_project(folder / "project", ""), folder / "data", environment=path) as node:
        yield node


@pytest.fixture
def client(node: RunningNode) -> Client:
    return Client(node)


def bootstrap(mode: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.create_system, entry.external_attr = 3, mode << 16
        archive.writestr(entry, "#!/bin/sh\nexit 1\n")
    return buffer.getvalue()


PROGRAM, NO_PROGRAM = bootstrap(0o755), bootstrap(0o644)


def new(runtime: str, archive: bytes = ECHO, **more: Any) -> dict[str, Any]:
    code = {"ZipFile": archive}
    return {"FunctionName": "new", "Runtime": runtime, "Handler": "app.handler", "Role": ROLE, "Code": code, **more}


def no_bootstrap(runtime: str) -> tuple[int, str, str]:
    text = "put an executable file `bootstrap` that speaks the Runtime API into the code or a layer"
    return 400, INVALID, f"eventfn has no {runtime} of its own: {text}"


async def nothing_is_kept(client: Client, node: RunningNode) -> bool:
    blobs = [path for path in (node.data / "blobs").rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    return (await client("list_functions"))["Functions"] == [] and blobs == []


@pytest.mark.parametrize("runtime", BOOTSTRAPS)
async def test_created_without_its_bootstrap(client: Client, node: RunningNode, runtime: str) -> None:
    for archive in (ECHO, NO_PROGRAM):
        assert await client.refused("create_function", **new(runtime, archive)) == no_bootstrap(runtime)
    assert await nothing_is_kept(client, node)


@pytest.mark.parametrize("runtime", [each for each in CREATABLE if family(each) in ("nodejs", "python")])
async def test_created_on_a_machine_without_it(client: Client, node: RunningNode, runtime: str) -> None:
    if runtime == python.own().runtime:
        pytest.skip("eventfn itself runs on it")
    number = nodejs.major(runtime)
    expected = {
        "nodejs": f"no node of version {number} is on PATH (there is none at all): install it, or say the version you "
        "have",
        "python": f"no {runtime} is on PATH: install it, or say {python.own().runtime}, which is here",
    }
    refused = await client.refused("create_function", **new(runtime))
    assert refused == (400, INVALID, expected[str(family(runtime))])
    assert await nothing_is_kept(client, node)


async def test_updated_so_that_nothing_runs_it(client: Client) -> None:
    """From the code, from a layer, from a folder: wherever the bootstrap goes, it is missed before anything changes."""
    runtime = BOOTSTRAPS[0]
    layer = await client("publish_layer_version", LayerName="runtime", Content={"ZipFile": PROGRAM})
    await client.create("fn", PROGRAM, Runtime=runtime)
    before = await client("get_function", FunctionName="fn")
    assert await client.refused("update_function_code", FunctionName="fn", ZipFile=ECHO) == no_bootstrap(runtime)
    after = await client("get_function", FunctionName="fn")
    assert after["Configuration"] == before["Configuration"]

    await client("update_function_configuration", FunctionName="fn", Layers=[layer["LayerVersionArn"]])
    await client.wait("function_updated_v2", FunctionName="fn")
    await client("update_function_code", FunctionName="fn", ZipFile=ECHO)
    await client.wait("function_updated_v2", FunctionName="fn")
    refused = await client.refused("update_function_configuration", FunctionName="fn", Layers=[])
    assert refused == no_bootstrap(runtime)

    await client.create("other", ECHO, Runtime=python.own().runtime)
    refused = await client.refused("update_function_configuration", FunctionName="other", Runtime=runtime)
    assert refused == no_bootstrap(runtime)
    assert (await client("get_function_configuration", FunctionName="other"))["Runtime"] == python.own().runtime


async def test_a_folder_is_looked_at_as_it_is(client: Client, tmp_path: Path) -> None:
    runtime, local = BOOTSTRAPS[0], {"S3Bucket": "local-folder", "S3Key": str(tmp_path)}
    tmp_path.chmod(0o755)
    given = {**new(runtime), "FunctionName": "live", "Code": local}
    assert await client.refused("create_function", **given) == no_bootstrap(runtime)
    program = tmp_path / "bootstrap"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    await client("create_function", **given)
    await client.wait("function_active_v2", FunctionName="live")
    program.unlink()
    refused = await client.refused("update_function_configuration", FunctionName="live", Timeout=9)
    assert refused == no_bootstrap(runtime)


async def test_what_was_there_when_it_was_created(client: Client, programs: Path) -> None:
    """A stand-in for a node that is taken off the machine again: it is asked its version, and never run."""
    here = programs / "node"
    here.write_text("#!/bin/sh\necho v16.20.2\n")
    here.chmod(0o755)
    await client.create("fn16", code(""), Runtime="nodejs16.x")
    real, before = os.path.realpath(here), await client("get_function_configuration", FunctionName="fn16")
    here.write_text("#!/bin/sh\necho v18.20.4 # another one now\n")
    expected = (
        *(400, INVALID),
        f"no node of version 16 is on PATH (there is 18.20.4 at {real}): install it, or say the version you have",
    )
    assert await client.refused("update_function_code", FunctionName="fn16", ZipFile=ECHO) == expected
    assert await client.refused("update_function_configuration", FunctionName="fn16", Timeout=9) == expected
    assert await client("get_function_configuration", FunctionName="fn16") == before
