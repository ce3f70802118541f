"""Function URL configs by boto3. That a URL is answered: tests of the http connector."""

from __future__ import annotations

import re

import pytest

from tests.api.lab import MISSING, Lab, arn

CORS = {"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET"], "MaxAge": 60}


@pytest.mark.parametrize("name", ["declared", None])
def test_the_life_of_a_url(lab: Lab, name: str | None) -> None:
    name = name or lab.function()
    made = lab("create_function_url_config", FunctionName=name, AuthType="NONE", Cors=CORS)
    url = made.pop("FunctionUrl")
    assert re.fullmatch(r"http://[0-9a-z]{32}\.lambda-url\.us-east-1\.localhost:\d+/", url)
    assert made.pop("CreationTime").endswith("Z")
    assert made == {"FunctionArn": arn(name), "AuthType": "NONE", "Cors": CORS}
    assert lab.refused("create_function_url_config", FunctionName=name, AuthType="NONE") == (
        "ResourceConflictException",
        f"Failed to create function url config for [functionArn = {arn(name)}]. "
        "Error message:  FunctionUrlConfig exists for this Lambda function",
    )
    found = lab("get_function_url_config", FunctionName=name)
    assert (found["FunctionUrl"], found["InvokeMode"], found["AuthType"]) == (url, "BUFFERED", "NONE")
    changed = lab("update_function_url_config", FunctionName=name, AuthType="AWS_IAM", InvokeMode="RESPONSE_STREAM")
    assert (changed["FunctionUrl"], changed["InvokeMode"], changed["Cors"]) == (url, "RESPONSE_STREAM", CORS)
    assert lab("list_function_url_configs", FunctionName=name)["FunctionUrlConfigs"] == [changed]
    assert lab.status("delete_function_url_config", FunctionName=name) == 204
    assert lab.refused("get_function_url_config", FunctionName=name) == MISSING
    assert lab.refused("delete_function_url_config", FunctionName=name) == MISSING
    assert lab("list_function_url_configs", FunctionName=name)["FunctionUrlConfigs"] == []


def test_aliases_have_urls_and_versions_have_none(lab: Lab) -> None:
    name = lab.function()
    version = lab.published(name)
    lab("create_alias", FunctionName=name, Name="live", FunctionVersion=version)
    made = lab("create_function_url_config", FunctionName=name, Qualifier="live", AuthType="AWS_IAM")
    assert made["FunctionArn"] == arn(name, "live")
    assert lab("get_function_url_config", FunctionName=name, Qualifier="live")["AuthType"] == "AWS_IAM"
    assert lab.refused("get_function_url_config", FunctionName=name) == MISSING
    code, message = lab.refused("create_function_url_config", FunctionName=name, Qualifier=version, AuthType="NONE")
    assert code == "ValidationException"
    assert "'qualifier'" in message
    no_function = ("ResourceNotFoundException", "Function does not exist")
    create = "create_function_url_config"
    assert lab.refused(create, FunctionName=name, Qualifier="other", AuthType="NONE") == no_function
    assert lab.refused("list_function_url_configs", FunctionName="nobody") == no_function
