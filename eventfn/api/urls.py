"""Function URL configs: which functions and aliases have a URL, and who may call it how. The http connector serves it.

Functions of eventfn.toml may have URLs too: they are resources of their own.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from eventfn.api.common import iso, named, page, paged
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions.control import Control
from eventfn.functions.managed import ManagedFunction, Url
from eventfn.functions.names import Named
from eventfn.functions.refusals import conflict, missing

_ID = string.digits + string.ascii_lowercase


class Urls:
    """`address(id, region)` says where a URL is answered; `changed` returns once what has changed is in force."""

    def __init__(
        self, control: Control, address: Callable[[str, str], str], changed: Callable[[], Awaitable[None]]
    ) -> None:
        self._control = control
        self._changed = changed
        self._address = address

    def operations(self) -> Mapping[str, Handler]:
        return {
            "CreateFunctionUrlConfig": self._create,
            "GetFunctionUrlConfig": self._get,
            "UpdateFunctionUrlConfig": self._update,
            "DeleteFunctionUrlConfig": self._delete,
            "ListFunctionUrlConfigs": self._list,
        }

    async def _create(self, call: Call) -> Answer:
        target, _ = self._function(call)
        now = self._control.clock.now_ms()
        url = Url(
            id="".join(secrets.choice(_ID) for _ in range(32)),
            auth_type=call.input["AuthType"],
            created_ms=now,
            modified_ms=now,
            cors=call.input.get("Cors"),
            invoke_mode=call.input.get("InvokeMode"),
            asks_for_both=True,
        )

        def edit(function: ManagedFunction) -> ManagedFunction:
            if _key(target) in function.urls:
                raise conflict(
                    f"Failed to create function url config for [functionArn = {_arn(function, target)}]. "
                    "Error message:  FunctionUrlConfig exists for this Lambda function"
                )
            return msgspec.structs.replace(function, urls={**function.urls, _key(target): url})

        function = await self._control.add(target.name, edit)
        await self._changed()
        shown = self._shown(function, _key(target))
        del shown["LastModifiedTime"]
        if url.invoke_mode is None:
            del shown["InvokeMode"]
        return Answer(shown)

    async def _get(self, call: Call) -> Answer:
        target = named(self._control, call)
        function = self._control.get(target.name)
        if function is None or _key(target) not in function.urls:
            raise missing()
        return Answer(self._shown(function, _key(target)))

    async def _update(self, call: Call) -> Answer:
        target, _ = self._function(call)

        def edit(function: ManagedFunction) -> ManagedFunction:
            before = function.urls.get(_key(target))
            if before is None:
                raise missing()
            after = msgspec.structs.replace(
                before,
                auth_type=call.input.get("AuthType", before.auth_type),
                cors=call.input.get("Cors", before.cors),
                invoke_mode=call.input.get("InvokeMode", before.invoke_mode),
                modified_ms=self._control.clock.now_ms(),
            )
            return msgspec.structs.replace(function, urls={**function.urls, _key(target): after})

        function = await self._control.add(target.name, edit)
        await self._changed()
        return Answer(self._shown(function, _key(target)))

    async def _delete(self, call: Call) -> Answer:
        target = named(self._control, call)
        if self._control.get(target.name) is None:
            raise missing()

        def edit(function: ManagedFunction) -> ManagedFunction:
            if _key(target) not in function.urls:
                raise missing()
            left = {key: each for key, each in function.urls.items() if key != _key(target)}
            return msgspec.structs.replace(function, urls=left)

        await self._control.add(target.name, edit)
        await self._changed()
        return Answer()

    async def _list(self, call: Call) -> Answer:
        _, function = self._function(call)
        found, marker = paged(sorted(function.urls), call, str)
        return Answer(page("FunctionUrlConfigs", [self._shown(function, key) for key in found], marker))

    def _function(self, call: Call) -> tuple[Named, ManagedFunction]:
        target = named(self._control, call)
        function = self._control.get(target.name)
        if function is None or function.resolve(target.qualifier) is None:
            raise missing("Function does not exist")
        return target, function

    def _shown(self, function: ManagedFunction, key: str) -> dict[str, Any]:
        url = function.urls[key]
        shown: dict[str, Any] = {
            "FunctionUrl": self._address(url.id, function.region),
            "FunctionArn": f"{function.arn}:{key}" if key else function.arn,
            "AuthType": url.auth_type,
            "CreationTime": iso(url.created_ms, "Z"),
            "LastModifiedTime": iso(url.modified_ms, "Z"),
            "InvokeMode": url.invoke_mode or "BUFFERED",
        }
        if url.cors is not None:
            shown["Cors"] = url.cors
        return shown


def _key(target: Named) -> str:
    return target.qualifier or ""


def _arn(function: ManagedFunction, target: Named) -> str:
    return function.arn if target.qualifier is None else function.qualified(target.qualifier)
