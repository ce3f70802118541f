"""Runtime versions by boto3: which one a function has, may have, and what becomes of it when that one is gone.

A stand-in for Node.js, asked for its version and never run, is what is exchanged on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from eventfn.workers.runtimes import python, versions
from tests.api.boto import REGION
from tests.api.lab import DECLARATION, Lab, arn, running_lab, zipped
from tests.support import PATIENCE

INVALID = "InvalidParameterValueException"
CODE = zipped(index="")
OLD, NEW = "20.1.0", "20.2.0"


def own_version() -> str:
    own = python.own()
    return versions.arn(REGION, own.runtime, own.version, own.build)


def of_node(version: str) -> str:
    return versions.arn(REGION, "nodejs20.x", version, "")


def install(programs: Path, version: str) -> None:
    programs.mkdir(exist_ok=True)
    (programs / "node").write_text(f"#!/bin/sh\necho v{version}\n")
    (programs / "node").chmod(0o755)


@contextmanager
def node_with(folder: Path, version: str) -> Iterator[Lab]:
    """A node on a machine that has this version of Node.js; the one before has left its data folder."""
    install(folder / "programs", version)
    path = {"PATH": f"{folder / 'programs'}:/usr/bin:/bin", "NVM_DIR": str(folder)}
    with running_lab(folder, DECLARATION, **path) as lab:
        yield lab


def function(lab: Lab, mode: str, pinned: str | None = None) -> str:
    name = lab.function(CODE, Runtime="nodejs20.x", Handler="index.handler")
    given = {} if pinned is None else {"RuntimeVersionArn": pinned}
    lab("put_runtime_management_config", FunctionName=name, UpdateRuntimeOn=mode, **given)
    return name


def shown(lab: Lab, name: str) -> tuple[str, str | None]:
    """The ARN of its runtime's version, and the error's message."""
    config = lab("get_function_configuration", FunctionName=name)["RuntimeVersionConfig"]
    return config["RuntimeVersionArn"], config.get("Error", {}).get("Message")


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_function_shows_the_version_that_it_runs_on(lab: Lab) -> None:
    name = lab.function(Runtime=python.own().runtime)
    for each in (name, "declared"):
        assert shown(lab, each) == (own_version(), None)
    lab.invoke(name)
    version = versions.shown(python.own().runtime, python.own().version)
    line = f"INIT_START Runtime Version: {version}\tRuntime Version ARN: {own_version()}"
    eventually(lambda: line in lab.logs(name))
    number = lab.published(name)
    assert lab("get_function", FunctionName=name, Qualifier=number)["Configuration"]["RuntimeVersionConfig"] == {
        "RuntimeVersionArn": own_version()
    }


def test_a_version_can_be_pinned_when_it_is_there(lab: Lab) -> None:
    name = lab.function(Runtime=python.own().runtime)
    auto = {"UpdateRuntimeOn": "Auto", "FunctionArn": arn(name, "$LATEST")}
    assert lab("get_runtime_management_config", FunctionName=name) == auto
    here = own_version()
    given = {"FunctionName": name, "UpdateRuntimeOn": "Manual"}
    manual = lab("put_runtime_management_config", **given, RuntimeVersionArn=here)
    assert manual == {"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": here, "FunctionArn": arn(name, "$LATEST")}
    assert lab("get_runtime_management_config", FunctionName=name) == manual
    assert lab.invoke(name, 1) == 1

    elsewhere = f"arn:aws:lambda:{REGION}::runtime:{'0' * 64}"
    code, message = lab.refused("put_runtime_management_config", **given, RuntimeVersionArn=elsewhere)
    assert code == INVALID
    assert elsewhere in message
    assert here in message, "it says what could be named"
    assert lab.refused("put_runtime_management_config", **given)[0] == INVALID
    auto_with_arn = {"FunctionName": name, "UpdateRuntimeOn": "Auto", "RuntimeVersionArn": here}
    assert lab.refused("put_runtime_management_config", **auto_with_arn)[0] == INVALID
    assert lab("get_runtime_management_config", FunctionName=name) == manual, "nothing has changed"

    code, message = lab.refused("update_function_configuration", FunctionName=name, Runtime="provided.al2023")
    assert code == INVALID
    assert message.endswith(
        "call PutRuntimeManagementConfig with UpdateRuntimeOn Auto or FunctionUpdate before you change its runtime."
    )
    assert lab.invoke(name, 1) == 1


def test_each_version_of_a_function_has_its_own(lab: Lab) -> None:
    name = lab.function(Runtime=python.own().runtime)
    number = lab.published(name)
    given = {"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": own_version()}
    lab("put_runtime_management_config", FunctionName=name, Qualifier=number, **given)
    assert lab("get_runtime_management_config", FunctionName=name)["UpdateRuntimeOn"] == "Auto"
    assert lab("get_runtime_management_config", FunctionName=name, Qualifier=number) == {
        **given,
        "FunctionArn": arn(name, number),
    }


def test_when_the_machine_has_another_version(tmp_path: Path) -> None:
    with node_with(tmp_path, OLD) as lab:
        auto, manual, updated = (
            function(lab, *config) for config in (("Auto",), ("Manual", of_node(OLD)), ("FunctionUpdate",))
        )
        for name in (auto, manual, updated):
            assert shown(lab, name) == (of_node(OLD), None)

    with node_with(tmp_path, NEW) as lab:
        assert shown(lab, auto) == (of_node(NEW), None), "it takes what is installed"
        for name in (manual, updated):
            version, message = shown(lab, name)
            assert version == of_node(OLD)
            assert message is not None
            assert message.startswith(f"{name}:$LATEST may run on the runtime version {of_node(OLD)} only")
            assert f"this machine has nodejs20.x {NEW}, {of_node(NEW)}" in message
            for kind in ("RequestResponse", "Event"):
                with pytest.raises(ClientError) as told:
                    lab.client.invoke(FunctionName=name, InvocationType=kind)
                error = told.value.response["Error"]
                assert (error["Code"], error["Message"]) == ("InvalidRuntimeException", message)
            assert lab("get_function", FunctionName=name)["Configuration"]["State"] == "Active"

        # What each owner can do about it.
        lab("update_function_code", FunctionName=updated, ZipFile=CODE)
        lab.client.get_waiter("function_updated_v2").wait(FunctionName=updated)
        assert shown(lab, updated) == (of_node(NEW), None)
        lab("put_runtime_management_config", FunctionName=manual, UpdateRuntimeOn="Auto")
        eventually(lambda: shown(lab, manual) == (of_node(NEW), None))

    with node_with(tmp_path, OLD) as lab:
        assert shown(lab, manual) == (of_node(OLD), None)
        assert shown(lab, updated)[0] == of_node(NEW)
        assert shown(lab, updated)[1] is not None, "its last update was on the newer one"

    with node_with(tmp_path, NEW) as lab:
        assert shown(lab, updated) == (of_node(NEW), None), "installed again, it runs again"
