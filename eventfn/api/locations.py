"""Where the code of a function or a layer can be fetched: a plain GET, without a header, for ten minutes.

    /code/<SHA-256>.zip?Expires=1763726400&Signature=<hex>        a blob
    /code/folder.zip?Path=<folder>&Expires=...&Signature=...      a folder that a function's code is

As S3's presigned URLs, what a location says is signed, with a secret of this node that ends with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from urllib.parse import urlencode

from aiohttp import web

from eventfn.api.errors import access_denied, not_found
from eventfn.functions.control import Control
from eventfn.functions.managed import Code
from eventfn.functions.uploads import zipped

PREFIX = "/code/"
VALID = 600  # seconds, Lambda's

_FOLDER = "folder"


class Locations:
    def __init__(self, control: Control) -> None:
        self._control = control

    def of(self, base_url: str, code: Code) -> str:
        """`base_url` is how the caller has reached this node."""
        name = _FOLDER if code.blob is None else code.blob
        expires = str(self._control.clock.now_ms() // 1000 + VALID)
        query = {"Expires": expires, "Signature": self._sign(name, code.folder or "", expires)}
        if code.folder is not None:
            query = {"Path": code.folder, **query}
        return f"{base_url}{PREFIX}{name}.zip?{urlencode(query)}"

    def routes(self) -> list[web.RouteDef]:
        return [web.get(PREFIX + "{name}.zip", self._get)]

    async def _get(self, request: web.Request) -> web.Response:
        name, query = request.match_info["name"], request.query
        path, expires, given = query.get("Path", ""), query.get("Expires", ""), query.get("Signature", "")
        expected = self._sign(name, path, expires)
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), expected.encode()):
            raise access_denied("The request signature we calculated does not match the signature you provided.")
        if int(expires) * 1000 < self._control.clock.now_ms():
            raise access_denied("Request has expired")
        content = (
            await asyncio.to_thread(zipped, path) if name == _FOLDER else await self._control.engine.get_blob(name)
        )
        if content is None:
            raise not_found("The specified key does not exist.")
        return web.Response(body=content, content_type="application/zip")

    def _sign(self, name: str, path: str, expires: str) -> str:
        said = "\n".join((name, path, expires)).encode(errors="surrogateescape")
        return hmac.new(self._control.secret, said, hashlib.sha256).hexdigest()
