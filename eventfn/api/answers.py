"""What every answer has."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

REQUEST_ID = "x-amzn-RequestId"


def json_answer(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


class Reply(msgspec.Struct, frozen=True):
    """Of Lambda's API, for whichever way it takes to the caller."""

    status: int
    headers: dict[str, str]
    body: bytes
