"""What every answer has."""

from __future__ import annotations

import os
from typing import Any

import msgspec
from aiohttp import web

REQUEST_ID = "x-amzn-RequestId"


def json_answer(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def new_request_id() -> str:
    """A version 4 UUID, at a third of the price of uuid4(): every request has one."""
    chance = os.urandom(16).hex()
    return (
        f"{chance[:8]}-{chance[8:12]}-4{chance[13:16]}-{'89ab'[int(chance[16], 16) & 3]}{chance[17:20]}-{chance[20:]}"
    )


class Reply(msgspec.Struct, frozen=True):
    """Of Lambda's API, for whichever way it takes to the caller."""

    status: int
    headers: dict[str, str]
    body: bytes
