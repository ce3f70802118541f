"""Where the connectors to AWS find its services: what `[aws]` says, unless their own table says it.

The keys are those that all of eventfn's own connectors to AWS have in common.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from eventfn.functions.model import Aws

_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONFIG_FILE")
_DESTINATIONS = frozenset({"kinesis", "s3", "sns", "sqs"})  # schemes that are services


def placed(settings: Any, aws: Aws, *services: str) -> Any:
    """The same settings, at the endpoint of the first of these services (boto3's names) that `[aws]` has one for."""
    endpoints = [endpoint for service in services if (endpoint := aws.endpoint_of(service)) is not None]
    if not endpoints or settings.endpoint_url is not None:
        return settings
    return msgspec.structs.replace(settings, endpoint_url=endpoints[0], **_anybody(settings, aws.account))


def placed_destination(uri: str, settings: Any, aws: Aws) -> Any:
    """As `placed`, of a destination: "sqs:jobs", or an ARN."""
    scheme, _, target = uri.partition(":")
    service = target.split(":")[1] if scheme == "arn" and target.count(":") > 1 else scheme
    return placed(settings, aws, service) if service in _DESTINATIONS else settings


def _anybody(settings: Any, account: str) -> dict[str, str]:
    """Servers that are not AWS's take any credentials, and several read the account from the access key id; but a
    request must have some. Those of the machine come first, where it has any."""
    files = (os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"), "~/.aws/config")
    known = settings.access_key_id or settings.profile or any(os.environ.get(name) for name in _CREDENTIALS)
    if known or any(Path(each).expanduser().exists() for each in files):
        return {}
    return {"access_key_id": account, "secret_access_key": "eventfn"}
