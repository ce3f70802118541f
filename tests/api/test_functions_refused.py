"""What the API refuses of functions, versions and aliases, in Lambda's words, and that nothing has changed then."""

from __future__ import annotations

import io
import shutil
import stat
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from eventfn.functions.configuring import CREATABLE
from eventfn.workers.runtimes import python
from tests.api.test_functions import ARN, ECHO, ROLE, RUNTIME, Client, arguments_of, code
from tests.support import RunningNode, running_node, write_project

pytestmark = pytest.mark.asyncio(loop_scope="module")

LINK = (stat.S_IFLNK | 0o777) << 16
SIGNING = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:"
INVALID = "InvalidParameterValueException"
UNZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."
TOO_LARGE = "Unzipped size must be smaller than 262144000 bytes"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    folder = tmp_path_factory.mktemp("node")
    async with running_node(write_project(folder / "project", ""), folder / "data") as node:
        client = Client(node)
        await client.create("f", ECHO, Publish=True)
        await client.wait("published_version_active", FunctionName="f", Qualifier="1")
        await client("create_alias", FunctionName="f", Name="live", FunctionVersion="1")
        yield node


@pytest.fixture
def client(node: RunningNode) -> Client:
    return Client(node)


async def everything(client: Client) -> object:
    return (
        await client("list_functions", FunctionVersion="ALL"),
        await client("list_aliases", FunctionName="f"),
        await client("get_function_configuration", FunctionName="f"),
    )


def on_disk(node: RunningNode) -> set[str]:
    return {
        str(path.relative_to(node.data))
        for place in ("blobs", "code")
        for path in (node.data / place).glob("*")
        if not path.name.endswith(".lock")
    }


# --- zips -------------------------------------------------------------------------------------------------------------


def archive(*entries: tuple[str, bytes, int]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content, attributes in entries:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, attributes
            info.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(info, content)
    return buffer.getvalue()


def bomb() -> bytes:
    return archive(*((f"zeros{n}", bytes(10_000_000), 0) for n in range(27)))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(lambda: b"", UNZIP, id="nothing"),
        pytest.param(lambda: b"PK\x03\x04 no zip", UNZIP, id="no zip"),
        pytest.param(lambda: ECHO[:-30], UNZIP, id="cut"),
        pytest.param(lambda: archive(("../../evil.py", b"", 0)), UNZIP, id="path traversal"),
        pytest.param(lambda: archive(("/etc/evil", b"", 0)), UNZIP, id="absolute"),
        pytest.param(lambda: archive(("passwd", b"/etc/passwd", LINK)), UNZIP, id="a link out"),
        pytest.param(lambda: archive(("a", b"..", LINK), ("b", b"a/x", LINK)), UNZIP, id="a link out by another"),
        pytest.param(lambda: archive(("app.py", b"1", 0), ("app.py", b"2", 0)), UNZIP, id="twice"),
        pytest.param(lambda: archive(("app", b"1", 0), ("app/x.py", b"2", 0)), UNZIP, id="below a file"),
        pytest.param(lambda: archive(("device", b"", (stat.S_IFCHR | 0o600) << 16)), UNZIP, id="a device"),
        pytest.param(bomb, TOO_LARGE, id="a bomb"),
    ],
)
async def test_a_hostile_zip_leaves_nothing(client: Client, node: RunningNode, content: Any, expected: str) -> None:
    before, files = await everything(client), on_disk(node)
    hostile = content()
    refused = await client.refused("create_function", **arguments_of("new", Code={"ZipFile": hostile}))
    assert refused == (400, INVALID, expected)
    assert await client.refused("update_function_code", FunctionName="f", ZipFile=hostile) == refused
    assert await everything(client) == before
    assert on_disk(node) == files


async def test_a_wrong_checksum(client: Client, node: RunningNode) -> None:
    broken = bytearray(archive(("app.py", b"x" * 1000, 0)))
    crc = broken.find(b"PK\x01\x02") + 16
    broken[crc] ^= 0xFF
    broken[14] ^= 0xFF
    files = on_disk(node)
    refused = await client.refused("create_function", **arguments_of("new", Code={"ZipFile": bytes(broken)}))
    assert refused == (400, INVALID, UNZIP)
    assert on_disk(node) == files


async def test_a_zip_that_is_too_large_for_a_request(client: Client) -> None:
    assert await client.refused("update_function_code", FunctionName="f", ZipFile=bytes(52_428_801)) == (
        413,
        "RequestEntityTooLargeException",
        "Zipped size must be smaller than 52428800 bytes",
    )


# --- what a function may be -------------------------------------------------------------------------------------------

NOT_HERE = next(f"python3.{minor}" for minor in (8, 9, 10, 14, 13, 12) if shutil.which(f"python3.{minor}") is None)

CREATE: list[tuple[str, dict[str, Any], tuple[int, str, str | None]]] = [
    ("taken", {"FunctionName": "f"}, (409, "ResourceConflictException", "Function already exist: f")),
    (
        "name of 65",
        {"FunctionName": "x" * 65},
        (
            400,
            INVALID,
            f"1 validation error detected: Value '{'x' * 65}' at 'functionName' failed to satisfy constraint: Member "
            "must have length less than or equal to 64",
        ),
    ),
    (
        "runtime",
        {"Runtime": "cobol1"},
        (
            400,
            INVALID,
            "Value cobol1 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
            f"[{', '.join(CREATABLE)}] or be a valid ARN",
        ),
    ),
    (
        "retired runtime",
        {"Runtime": "python3.7"},
        (
            400,
            INVALID,
            "The runtime parameter of python3.7 is no longer supported for creating or updating AWS Lambda functions. "
            "We recommend you use a supported runtime while creating or updating functions.",
        ),
    ),
    (
        "a runtime that is not here",
        {"Runtime": NOT_HERE},
        (400, INVALID, f"no {NOT_HERE} is on PATH: install it, or say {python.own().runtime}, which is here"),
    ),
    (
        "no source",
        {"Code": {}},
        (400, INVALID, "Please provide a source for function code."),
    ),
    (
        "an image",
        {"Code": {"ImageUri": "000000000000.dkr.ecr.us-east-1.amazonaws.com/x:1"}, "PackageType": "Image"},
        (
            400,
            INVALID,
            "eventfn runs code from zip files, and no container images: create the function with PackageType Zip",
        ),
    ),
    (
        "a long timeout",
        {"Timeout": 901},
        (
            400,
            "ValidationException",
            "1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: Member must have "
            "value less than or equal to 900",
        ),
    ),
    (
        "much memory",
        {"MemorySize": 10_241},
        (
            400,
            "ValidationException",
            "1 validation error detected: Value '10241' at 'memorySize' failed to satisfy constraint: Member must have "
            "value less than or equal to 10240",
        ),
    ),
    (
        "variables of 4 KB and more",
        {"Environment": {"Variables": {"LONG": "x" * 4087}}},
        (
            400,
            INVALID,
            "Lambda was unable to configure your environment variables because the environment variables you have "
            'provided exceeded the 4KB limit. String measured: {"LONG":"' + "x" * 4087 + '"}',
        ),
    ),
    (
        "Lambda's own variable",
        {"Environment": {"Variables": {"AWS_REGION": "mars-1"}}},
        (
            400,
            INVALID,
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. Reserved keys used in "
            "this request: AWS_REGION",
        ),
    ),
    (
        "six layers",
        {"Layers": [f"arn:aws:lambda:us-east-1:000000000000:layer:l{n}:1" for n in range(6)]},
        (400, INVALID, "Cannot reference more than 5 layers."),
    ),
    (
        "a layer that is not there",
        {"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:none:1"]},
        (400, INVALID, "Layer version arn:aws:lambda:us-east-1:000000000000:layer:none:1 does not exist."),
    ),
    (
        "a layer from elsewhere",
        {"Layers": ["arn:aws:lambda:eu-west-1:000000000000:layer:none:1"]},
        (
            400,
            INVALID,
            "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.",
        ),
    ),
    (
        "snapshots",
        {"SnapStart": {"ApplyOn": "PublishedVersions"}, "Runtime": "python3.11"},
        (400, INVALID, "python3.11 is not supported for SnapStart enabled functions."),
    ),
    (
        "a code signing config that is not there",
        {"CodeSigningConfigArn": f"{SIGNING}csc-{'0' * 17}"},
        (
            404,
            "CodeSigningConfigNotFoundException",
            "The code signing configuration cannot be found. Check that the provided configuration is not deleted: "
            f"{SIGNING}csc-{'0' * 17}.",
        ),
    ),
    (
        "too many tags",
        {"Tags": {f"t{n}": "" for n in range(51)}},
        (400, INVALID, "Number of tags exceeds resource tag limit."),
    ),
    (
        "another region's name",
        {"FunctionName": "arn:aws:lambda:eu-west-1:000000000000:function:new"},
        (
            404,
            "ResourceNotFoundException",
            "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')",
        ),
    ),
    ("another account's name", {"FunctionName": "111111111111:function:new"}, (403, "AccessDeniedException", None)),
]


@pytest.mark.parametrize(("given", "expected"), [case[1:] for case in CREATE], ids=[case[0] for case in CREATE])
async def test_what_is_no_function(
    client: Client, given: dict[str, Any], expected: tuple[int, str, str | None]
) -> None:
    before = await everything(client)
    status, error, message = await client.refused("create_function", **{**arguments_of("new"), **given})
    assert (status, error) == expected[:2]
    assert message == expected[2] or (expected[2] is None and message in (None, "None"))
    assert await everything(client) == before


async def test_runtime_and_handler_are_needed(client: Client) -> None:
    given = {"FunctionName": "new", "Role": ROLE, "Code": {"ZipFile": ECHO}}
    for missing in ({}, {"Runtime": RUNTIME}, {"Handler": "app.handler"}):
        assert await client.refused("create_function", **given, **missing) == (
            400,
            INVALID,
            "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
        )


# --- versions and aliases ---------------------------------------------------------------------------------------------

REFUSED: list[tuple[str, dict[str, Any], tuple[int, str, str]]] = [
    (
        "delete_function",
        {"Qualifier": "$LATEST"},
        (400, INVALID, "$LATEST version cannot be deleted without deleting the function."),
    ),
    ("delete_function", {"Qualifier": "live"}, (400, INVALID, "Deletion of aliases is not currently supported.")),
    (
        "delete_function",
        {"Qualifier": "1"},
        (
            409,
            "ResourceConflictException",
            "Unable to delete version because the following aliases reference it: [live]",
        ),
    ),
    ("get_function", {"Qualifier": "7"}, (404, "ResourceNotFoundException", f"Function not found: {ARN}f:7")),
    (
        "get_function",
        {"Qualifier": "$latest"},
        (404, "ResourceNotFoundException", f"Function not found: {ARN}f:$latest"),
    ),
    (
        "get_function",
        {"FunctionName": "f:1", "Qualifier": "live"},
        (400, INVALID, "The derived qualifier from the function name does not match the specified qualifier."),
    ),
    (
        "get_function_configuration",
        {"FunctionName": "none"},
        (404, "ResourceNotFoundException", f"Function not found: {ARN}none"),
    ),
    (
        "update_function_code",
        {"ImageUri": "x"},
        (400, INVALID, "Please don't provide ImageUri when updating a function with packageType Zip."),
    ),
    (
        "update_function_code",
        {"FunctionName": "none", "ZipFile": ECHO},
        (404, "ResourceNotFoundException", f"Function not found: {ARN}none"),
    ),
    (
        "publish_version",
        {"CodeSha256": "wrong"},
        (
            400,
            INVALID,
            "CodeSHA256 (wrong) is different from current CodeSHA256 in $LATEST (SHA). Please try again with the "
            "CodeSHA256 in $LATEST.",
        ),
    ),
    (
        "publish_version",
        {"RevisionId": "old"},
        (
            412,
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to "
            "retrieve the latest Revision Id",
        ),
    ),
    (
        "create_alias",
        {"Name": "live", "FunctionVersion": "1"},
        (409, "ResourceConflictException", f"Alias already exists: {ARN}f:live"),
    ),
    (
        "create_alias",
        {"Name": "new", "FunctionVersion": "9"},
        (404, "ResourceNotFoundException", f"Function not found: {ARN}f:9"),
    ),
    (
        "create_alias",
        {
            "Name": "new",
            "FunctionVersion": "$LATEST",
            "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}},
        },
        (400, INVALID, "$LATEST is not supported for an alias pointing to more than 1 version"),
    ),
    (
        "create_alias",
        {"Name": "new", "FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}}},
        (
            400,
            INVALID,
            "Invalid function version 1. Function version 1 is already included in routing configuration.",
        ),
    ),
    (
        "create_alias",
        {"Name": "new", "FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.5, "3": 0.1}}},
        (400, INVALID, "Number of items in AdditionalVersionWeights cannot be greater than 1"),
    ),
    ("get_alias", {"Name": "none"}, (404, "ResourceNotFoundException", f"Cannot find alias arn: {ARN}f:none")),
    ("update_alias", {"Name": "none"}, (404, "ResourceNotFoundException", f"Alias not found: {ARN}f:none")),
    (
        "update_alias",
        {"Name": "live", "RevisionId": "old"},
        (
            412,
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to "
            "retrieve the latest Revision Id",
        ),
    ),
]


@pytest.mark.parametrize(("operation", "given", "expected"), REFUSED)
async def test_what_versions_and_aliases_are_not(
    client: Client, operation: str, given: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    before = await everything(client)
    current = (await client("get_function_configuration", FunctionName="f"))["CodeSha256"]
    status, error, message = await client.refused(operation, **{"FunctionName": "f", **given})
    assert (status, error, message) == (*expected[:2], expected[2].replace("SHA)", f"{current})"))
    assert await everything(client) == before


async def test_what_is_not_there_is_deleted_already(client: Client) -> None:
    await client("delete_function", FunctionName="f", Qualifier="99")
    await client("delete_alias", FunctionName="f", Name="none")


async def test_an_update_waits_for_the_one_before(client: Client) -> None:
    """Either it is over already, or it is said that it is under way: never both at once."""
    await client.create("busy", code("def handler(event, context): return 0\n"))
    first = await client("update_function_configuration", FunctionName="busy", Timeout=5)
    assert first["LastUpdateStatus"] == "InProgress"
    said: set[str] = set()
    for seconds in range(6, 12):
        try:
            await client("update_function_configuration", FunctionName="busy", Timeout=seconds)
        except client.plain.exceptions.ResourceConflictException as error:
            said.add(error.response["message"])
    under_way = "The operation cannot be performed at this time. An update is in progress for resource: "
    assert said <= {f"{under_way}{ARN}busy"}
    await client.wait("function_updated_v2", FunctionName="busy")
    await client("delete_function", FunctionName="busy")


async def test_a_location_of_code_is_signed(client: Client, node: RunningNode) -> None:
    location: str = (await client("get_function", FunctionName="f"))["Code"]["Location"]
    path = location.removeprefix(node.admin)
    assert (await plain(node, path))[0] == 200
    for forged in (
        path.replace("Signature=", "Signature=0"),
        path.replace("Expires=", "Expires=9"),
        path.partition("?")[0],
        "/code/folder.zip?Path=/etc&Expires=9999999999&Signature=00",
        "/code/../node.json",
    ):
        assert (await plain(node, forged))[0] in (403, 404), forged


async def plain(node: RunningNode, path: str) -> tuple[int, bytes]:
    """Without a header."""
    async with aiohttp.ClientSession() as session, session.get(node.admin + path) as answer:
        return answer.status, await answer.read()
