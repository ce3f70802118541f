"""The context object: what a handler is told about its invocation, with the names of Lambda's Python client."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from eventfn.workers.child.results import Fault


class Client:
    def __init__(self, facts: dict[str, Any]) -> None:
        self.installation_id = facts.get("installation_id")
        self.app_title = facts.get("app_title")
        self.app_version_name = facts.get("app_version_name")
        self.app_version_code = facts.get("app_version_code")
        self.app_package_name = facts.get("app_package_name")


class ClientContext:
    def __init__(self, facts: dict[str, Any]) -> None:
        self.custom: dict[str, Any] | None = facts.get("custom")
        self.env: dict[str, Any] | None = facts.get("env")
        self.client = Client(facts["client"]) if facts.get("client") else None


class CognitoIdentity:
    cognito_identity_id: str | None = None
    cognito_identity_pool_id: str | None = None


class Facts:
    """What is the same in every invocation of an environment, read from its variables once."""

    def __init__(self) -> None:
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]


class LambdaContext:
    def __init__(self, facts: Facts, request_id: str, milliseconds_left: int, arn: str, client_context: str) -> None:
        self.aws_request_id = request_id
        self.invoked_function_arn = arn
        self.function_name = facts.function_name
        self.function_version = facts.function_version
        self.memory_limit_in_mb = facts.memory_limit_in_mb
        self.log_group_name = facts.log_group_name
        self.log_stream_name = facts.log_stream_name
        self.identity = CognitoIdentity()
        self.client_context = _client_context(client_context) if client_context else None
        self.tenant_id: str | None = None
        self._deadline = time.monotonic() + milliseconds_left / 1000

    def get_remaining_time_in_millis(self) -> int:
        return max(int((self._deadline - time.monotonic()) * 1000), 0)

    def log(self, message: object) -> None:
        sys.stdout.write(str(message))

    def __repr__(self) -> str:
        names = [name for name in vars(self) if not name.startswith("_")]
        return f"LambdaContext([{','.join(f'{name}={getattr(self, name)}' for name in names)}])"


def _client_context(text: str) -> ClientContext:
    try:
        return ClientContext(json.loads(text))
    except (ValueError, AttributeError) as error:
        message = f"Unable to parse Client Context JSON: {error}"
        raise Fault("Runtime.LambdaContextUnmarshalError", message) from None
