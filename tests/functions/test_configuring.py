"""What a request says of a function -> its configuration."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.functions import configuring, deriving, uploads, versioning
from eventfn.functions.configuring import CREATABLE, RETIRED
from eventfn.functions.managed import LATEST, AttachedLayer, Code, Configuration, ManagedFunction
from eventfn.functions.model import Aws, Function
from eventfn.functions.refusals import Refusal
from eventfn.workers.contract import Prepared

ROLE = "arn:aws:iam::000000000000:role/r"
CODE = Code(sha256="c2hh", size=1, unpacked=10, blob="00" * 32)


def created(**given: Any) -> Configuration:
    request = {"FunctionName": "f", "Role": ROLE, "Runtime": "python3.11", "Handler": "a.b", **given}
    return configuring.created(request, (), CODE)


def test_lambdas_defaults() -> None:
    made = created()
    assert made == Configuration(role=ROLE, runtime="python3.11", handler="a.b")
    assert (made.timeout, made.memory_size, made.ephemeral_storage) == (3, 128, 512)
    assert (made.architectures, made.tracing_mode, made.snap_start) == (("x86_64",), "PassThrough", "None")
    assert made.environment is None


def test_what_an_update_does_not_name_stays() -> None:
    before = created(Timeout=9, Environment={"Variables": {"A": "1"}}, Description="text")
    after = configuring.updated(before, {"MemorySize": 512}, None, CODE)
    assert after == msgspec.structs.replace(before, memory_size=512)
    assert configuring.updated(before, {"Environment": {"Variables": {"B": "2"}}}, None, CODE).environment == {"B": "2"}
    assert configuring.updated(before, {"Environment": {}}, None, CODE).environment == {}
    assert configuring.updated(before, {"Description": ""}, None, CODE).description == ""


def test_layers_are_replaced_or_cleared() -> None:
    layer = AttachedLayer(arn="arn:1", code=CODE)
    before = configuring.updated(created(), {}, [layer], CODE)
    assert before.layers == (layer,)
    assert configuring.updated(before, {"Timeout": 5}, None, CODE).layers == (layer,)
    assert configuring.updated(before, {}, [], CODE).layers == ()


@pytest.mark.parametrize(
    ("before", "given", "after"),
    [
        ({}, {"LogFormat": "JSON"}, {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}),
        (
            {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"},
            {"SystemLogLevel": "WARN"},
            {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "WARN"},
        ),
        (
            {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "SystemLogLevel": "INFO", "LogGroup": "g"},
            {"LogFormat": "Text"},
            {"LogFormat": "Text", "LogGroup": "g"},
        ),
        ({}, {"LogGroup": "mine"}, {"LogGroup": "mine"}),
    ],
)
def test_logging_is_merged(before: dict[str, str], given: dict[str, str], after: dict[str, str]) -> None:
    made = msgspec.structs.replace(created(), logging_config=before)
    assert configuring.updated(made, {"LoggingConfig": given}, None, CODE).logging_config == after


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), st.text(max_size=300), max_size=30)
)
def test_variables_are_measured_as_compact_json(variables: dict[str, str]) -> None:
    size = len(msgspec.json.encode(variables))
    given = {"Environment": {"Variables": variables}}
    if {"_HANDLER", "AWS_REGION"} & variables.keys():
        with pytest.raises(Refusal, match="reserved keys"):
            created(**given)
    elif size > configuring.MAX_ENVIRONMENT:
        with pytest.raises(Refusal, match="4KB limit"):
            created(**given)
    else:
        assert created(**given).environment == variables


@pytest.mark.parametrize("extra", [0, 1])
def test_the_last_byte_of_the_variables(extra: int) -> None:
    variables = {"LONG": "x" * (configuring.MAX_ENVIRONMENT - len('{"LONG":""}') + extra)}
    if extra:
        with pytest.raises(Refusal, match="exceeded the 4KB limit"):
            created(Environment={"Variables": variables})
    else:
        assert created(Environment={"Variables": variables}).environment == variables


def test_code_and_layers_are_large_together() -> None:
    half = Code(sha256="", size=1, unpacked=150 * 1024 * 1024, blob="00")
    with pytest.raises(Refusal, match="Unzipped size must be smaller than 262144000 bytes"):
        configuring.updated(created(), {}, [AttachedLayer(arn="l", code=half)], half)


def test_every_runtime_can_be_created_or_is_retired() -> None:
    assert not set(CREATABLE) & set(RETIRED)
    for runtime in CREATABLE:
        assert created(Runtime=runtime).runtime == runtime
    for runtime in RETIRED:
        with pytest.raises(Refusal, match="is no longer supported"):
            created(Runtime=runtime)
    for runtime in ("", "python", "python3.99", "arn:aws:lambda:us-east-1::runtime:x"):
        with pytest.raises(Refusal):
            created(Runtime=runtime)


@pytest.mark.parametrize(
    ("runtime", "supported"),
    [("python3.12", True), ("python3.11", False), ("java11", True), ("java8.al2", False), ("dotnet8", True)],
)
def test_snap_start_is_of_some_runtimes(runtime: str, supported: bool) -> None:
    given: dict[str, Any] = {"Runtime": runtime, "SnapStart": {"ApplyOn": "PublishedVersions"}}
    if supported:
        assert created(**given).snap_start == "PublishedVersions"
    else:
        with pytest.raises(Refusal, match="is not supported for SnapStart enabled functions"):
            created(**given)


def test_snapshots_are_of_published_versions() -> None:
    made = created(Runtime="python3.12", SnapStart={"ApplyOn": "PublishedVersions"})
    latest = versioning.pending(LATEST, made, CODE, 1, lambda: "r")
    function = ManagedFunction(name="f", region="us-east-1", account="000000000000", latest=latest)
    published = msgspec.structs.replace(latest, number="1")
    found = [deriving.environment_of(function, each, "/code", (), Aws()).snap_start for each in (latest, published)]
    assert found == [False, True]


def prepared(function: Function, version: str) -> Prepared:
    return Prepared(
        function=function, arn="", version=version, task_root="/code", interpreter="/python", runtime="python3.11"
    )


def test_a_function_of_the_file_is_shown_as_one_of_the_api() -> None:
    function = Function(name="f", handler="a.b", code="/code", environment={"A": "1"}, reserved_concurrency=3)
    shown = deriving.declared(function, prepared(function, "version"), Aws(), 5)
    assert shown.latest.state == "Active"
    assert shown.latest.configuration.runtime == "python3.11"
    assert shown.latest.configuration.environment == {"A": "1"}
    assert shown.reserved == 3
    again = deriving.declared(function, prepared(function, "version"), Aws(), 5)
    assert again == shown  # the same revision, as long as nothing has changed
    other = deriving.declared(function, prepared(function, "other"), Aws(), 5)
    assert other.latest.revision_id != shown.latest.revision_id


def test_a_folder_is_handed_out_as_it_would_be_uploaded(tmp_path: Path) -> None:
    (tmp_path / "package" / "__pycache__").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    for name in ("app.py", "package/lib.py", "package/__pycache__/lib.pyc", ".git/config"):
        (tmp_path / name).write_text("x" * 1000)
    archive = uploads.zipped(str(tmp_path))
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.namelist() == ["app.py", "package/lib.py"]
    code = uploads.checked(archive)
    assert (code.size, code.unpacked) == (len(archive), 2000)
    assert code.blob == hashlib.sha256(archive).hexdigest()
    assert base64.b64decode(code.sha256).hex() == code.blob
