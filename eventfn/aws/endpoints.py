"""What a function is told of AWS: where services are, who it is there, and which of them its network leads to.

PURE.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from eventfn.aws import services
from eventfn.aws.sessions import Credentials
from eventfn.functions.model import Aws, Network

_PORTS = {"http": 80, "https": 443}
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - where a listener on all addresses is reached


class Told(msgspec.Struct, frozen=True):
    """Variables of an environment. `endpoints` are what a function may set otherwise in its own configuration."""

    endpoints: dict[str, str] = {}
    credentials: dict[str, str] = {}

    def __repr__(self) -> str:
        """Without the secrets: a representation ends in logs."""
        return f"Told({self.endpoints!r})"


def variables(aws: Aws, api: str) -> dict[str, str]:
    """`api` is "host:port" of the node's own listener. Every AWS SDK reads these."""
    general = {} if aws.endpoint is None else {"AWS_ENDPOINT_URL": aws.endpoint}
    named = {services.variable(service): url for service, url in aws.endpoints.items()}
    return general | named | {services.variable("lambda"): f"http://{_reached(api)}"}


def credential_variables(credentials: Credentials, runtime: str) -> dict[str, str]:
    found = {
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        "AWS_SESSION_TOKEN": credentials.session_token,
    }
    if runtime in ("java8.al2", "java11"):  # the SDK of that time reads these
        found |= {"AWS_ACCESS_KEY": credentials.access_key_id, "AWS_SECRET_KEY": credentials.secret_access_key}
    return found


def network(wanted: Network, aws: Aws, api: str) -> Network:
    """With "aws" replaced by what it stands for."""
    if isinstance(wanted, str):
        return wanted if wanted != "aws" else tuple(_entries(aws, api))
    if "aws" not in wanted:
        return wanted
    return tuple(dict.fromkeys([*(entry for entry in wanted if entry != "aws"), *_entries(aws, api)]))


def entry(url: str) -> str:
    """What an allow-list has for a URL: "host:port"."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{parts.port or _PORTS[parts.scheme]}"


def _entries(aws: Aws, api: str) -> list[str]:
    urls = [*([] if aws.endpoint is None else [aws.endpoint]), *aws.endpoints.values()]
    return list(dict.fromkeys([*map(entry, urls), _reached(api)]))


def _reached(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"{_ANYWHERE.get(host, host)}:{port}"
