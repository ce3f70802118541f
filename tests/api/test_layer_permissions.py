"""Who of another account may look at a layer version, and use it: as its policy says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.api.boto import REGION, Api
from tests.api.lab import ACCOUNT, ECHO, ROLE
from tests.support import running_node, write_project

TOML = """
[aws]

[[aws.keys]]
access_key_id = "AKIAOWNER"
secret_access_key = "owners-secret"

[[aws.keys]]
access_key_id = "AKIAGUEST"
secret_access_key = "guests-secret"
principal = "arn:aws:iam::111111111111:user/guest"
"""
GUEST = "111111111111"
LAYER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:shared"


def denied(action: str, resource: str) -> tuple[str, str]:
    return (
        "AccessDeniedException",
        f"User: arn:aws:iam::{GUEST}:user/guest is not authorized to perform: lambda:{action} on resource: {resource} "
        f"because no resource-based policy allows the lambda:{action} action",
    )


async def test_a_layer_is_used_by_those_whom_its_policy_lets(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", TOML)
    async with running_node(folder, tmp_path / "data") as node:
        owner = Api(node.admin, access_key_id="AKIAOWNER", secret_access_key="owners-secret")
        guest = Api(node.admin, access_key_id="AKIAGUEST", secret_access_key="guests-secret")
        for _ in range(2):
            await owner("publish_layer_version", LayerName="shared", Content={"ZipFile": ECHO})
        given: dict[str, Any] = {"FunctionName": "f", "Runtime": "python3.11", "Handler": "app.handler", "Role": ROLE}
        await owner("create_function", **given, Code={"ZipFile": ECHO})
        await owner.wait("function_active_v2", FunctionName="f")
        # The guest may change the function, and so far has no layer that he could give it.
        action = {"Action": "lambda:UpdateFunctionConfiguration", "Principal": GUEST}
        await owner("add_permission", FunctionName="f", StatementId="guest", **action)
        first = f"{LAYER}:1"
        looks = {"LayerName": LAYER, "VersionNumber": 1}
        assert await guest.refused("get_layer_version", **looks) == denied("GetLayerVersion", first)
        assert await guest.refused("get_layer_version_by_arn", Arn=first) == denied("GetLayerVersion", first)
        use = {"FunctionName": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f", "Layers": [first]}
        assert await guest.refused("update_function_configuration", **use) == denied("GetLayerVersion", first)

        permission = {"StatementId": "guest", "Action": "lambda:GetLayerVersion", "Principal": GUEST}
        await owner("add_layer_version_permission", LayerName="shared", VersionNumber=1, **permission)
        assert (await guest("get_layer_version", **looks))["LayerVersionArn"] == first
        assert (await guest("get_layer_version_by_arn", Arn=first))["Version"] == 1
        second = {**looks, "VersionNumber": 2}
        assert await guest.refused("get_layer_version", **second) == denied("GetLayerVersion", f"{LAYER}:2")
        assert (await guest.refused("delete_layer_version", **looks))[0] == "AccessDeniedException"
        shown = await guest("update_function_configuration", **use)
        assert [layer["Arn"] for layer in shown["Layers"]] == [first]
        await owner.wait("function_updated_v2", FunctionName="f")
        both = {**use, "Layers": [f"{LAYER}:2"]}
        assert await guest.refused("update_function_configuration", **both) == denied("GetLayerVersion", f"{LAYER}:2")

        gone = {"LayerName": "shared", "VersionNumber": 1, "StatementId": "guest"}
        await owner("remove_layer_version_permission", **gone)
        assert await guest.refused("get_layer_version", **looks) == denied("GetLayerVersion", first)
        assert (await owner("get_layer_version", LayerName="shared", VersionNumber=1))["Version"] == 1
