"""CloudWatch Logs' read operations on the functions' logs: what `aws logs tail` and SDKs ask, on the same listener.

A group is /aws/lambda/<function>, or what the function's LoggingConfig says; several functions may share one. Retention
is that of the node's log files. Source: CloudWatch Logs' service model 2014-03-28, AWS JSON 1.1.

Not here: reading and paging (observe/log_events.py), patterns (observe/filter_patterns.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from eventfn.api.errors import ApiError
from eventfn.api.ports import Node
from eventfn.observe import log_events, logs
from eventfn.observe.filter_patterns import BadPattern, compiled
from eventfn.observe.log_events import BadToken

TARGET = "Logs_20140328."
_CONTENT_TYPE = "application/x-amz-json-1.1"
_MOST_LISTED = 50
_LONGEST_TOKEN = 4096

_Name = Annotated[str, Meta(min_length=1, max_length=512)]
_Time = Annotated[int, Meta(ge=0, le=2**53)]
_Token = Annotated[str, Meta(min_length=1, max_length=_LONGEST_TOKEN)]
_Listed = Annotated[int, Meta(ge=1, le=_MOST_LISTED)]
_Paged = Annotated[int, Meta(ge=1, le=log_events.MOST_EVENTS)]


class _Request(msgspec.Struct, frozen=True, rename="camel"):
    pass


class _DescribeGroups(_Request, frozen=True):
    log_group_name_prefix: str = ""
    log_group_name_pattern: str = ""
    limit: _Listed = _MOST_LISTED
    next_token: _Token = ""


class _OfGroup(_Request, frozen=True):
    log_group_name: _Name | None = None
    log_group_identifier: _Name | None = None  # the name, or the ARN


class _DescribeStreams(_OfGroup, frozen=True):
    log_stream_name_prefix: str = ""
    order_by: str = "LogStreamName"
    descending: bool = False
    limit: _Listed = _MOST_LISTED
    next_token: _Token = ""


class _GetEvents(_OfGroup, frozen=True, kw_only=True):
    log_stream_name: _Name
    start_time: _Time = 0
    end_time: _Time | None = None
    limit: _Paged = log_events.MOST_EVENTS
    start_from_head: bool = False
    next_token: _Token | None = None


class _Filter(_OfGroup, frozen=True):
    log_stream_names: list[_Name] | None = None
    log_stream_name_prefix: str = ""
    start_time: _Time = 0
    end_time: _Time | None = None
    filter_pattern: str = ""
    limit: _Paged = log_events.MOST_EVENTS
    next_token: _Token | None = None


def is_logs(request: web.Request) -> bool:
    """Whether it is for this service. A web page cannot send the header without asking first (CORS)."""
    return request.path == "/" and request.headers.get("X-Amz-Target", "").startswith(TARGET)


class CloudWatchLogs:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._operations: dict[str, Callable[[bytes], Awaitable[dict[str, Any]]]] = {
            "DescribeLogGroups": self._describe_groups,
            "DescribeLogStreams": self._describe_streams,
            "GetLogEvents": self._get_events,
            "FilterLogEvents": self._filter_events,
        }

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/", self._answer)]

    async def _answer(self, request: web.Request) -> web.Response:
        name = request.headers.get("X-Amz-Target", "").removeprefix(TARGET)
        operation = self._operations.get(name)
        if operation is None:
            known = ", ".join(self._operations)
            raise _refused("UnknownOperationException", f"{name or 'A request without X-Amz-Target'}: here is {known}")
        answer = await operation(await request.read())
        return web.Response(body=msgspec.json.encode(answer), content_type=_CONTENT_TYPE)

    # --- groups and streams ---

    async def _describe_groups(self, body: bytes) -> dict[str, Any]:
        asked = _parsed(body, _DescribeGroups)
        names = [
            name
            for name in sorted(self._groups())
            if name.startswith(asked.log_group_name_prefix)
            and asked.log_group_name_pattern.lower() in name.lower()
            and name > asked.next_token
        ]
        page = names[: asked.limit]
        groups = [
            {
                "logGroupName": name,
                "arn": f"{self._arn(name)}:*",
                "logGroupArn": self._arn(name),
                "metricFilterCount": 0,
                "storedBytes": 0,
                "logGroupClass": "STANDARD",
            }
            for name in page
        ]
        return {"logGroups": groups} | _next(page, more=len(names) > len(page))

    async def _describe_streams(self, body: bytes) -> dict[str, Any]:
        asked = _parsed(body, _DescribeStreams)
        group, functions = self._group(asked)
        if asked.order_by not in ("LogStreamName", "LastEventTime"):
            raise _invalid(f"orderBy is LogStreamName or LastEventTime, not '{asked.order_by}'")
        found = await asyncio.to_thread(log_events.streams, self._folder, functions)
        by_time = asked.order_by == "LastEventTime"
        found.sort(key=lambda each: (each.last if by_time else 0, each.name), reverse=asked.descending)
        found = [each for each in found if each.name.startswith(asked.log_stream_name_prefix)]
        if asked.next_token:
            at = next((at for at, each in enumerate(found) if each.name == asked.next_token), None)
            if at is None:
                raise _invalid("The specified nextToken is invalid.")
            found = found[at + 1 :]
        page = found[: asked.limit]
        streams = [
            {
                "logStreamName": each.name,
                "creationTime": each.first,
                "firstEventTimestamp": each.first,
                "lastEventTimestamp": each.last,
                "lastIngestionTime": each.last,
                "arn": f"{self._arn(group)}:log-stream:{each.name}",
                "storedBytes": 0,
            }
            for each in page
        ]
        return {"logStreams": streams} | _next([each.name for each in page], more=len(found) > len(page))

    # --- events ---

    async def _get_events(self, body: bytes) -> dict[str, Any]:
        asked = _parsed(body, _GetEvents)
        _, functions = self._group(asked)
        with _RefusingTokens():
            events, forward, backward = await asyncio.to_thread(
                log_events.read,
                self._folder,
                functions,
                asked.log_stream_name,
                start=asked.start_time,
                end=asked.end_time,
                limit=asked.limit,
                from_head=asked.start_from_head,
                token=asked.next_token,
            )
        if not events and asked.next_token is None and not await self._has_stream(functions, asked.log_stream_name):
            raise _refused("ResourceNotFoundException", "The specified log stream does not exist.")
        shown = [
            {"timestamp": event.timestamp, "message": event.message, "ingestionTime": event.timestamp}
            for event in events
        ]
        return {"events": shown, "nextForwardToken": forward, "nextBackwardToken": backward}

    async def _filter_events(self, body: bytes) -> dict[str, Any]:
        asked = _parsed(body, _Filter)
        _, functions = self._group(asked)
        if asked.log_stream_names is not None and asked.log_stream_name_prefix:
            raise _invalid("logStreamNames and logStreamNamePrefix cannot be used together.")
        try:
            matches = compiled(asked.filter_pattern)
        except BadPattern as error:
            raise _invalid(str(error)) from error
        with _RefusingTokens():
            events, token = await asyncio.to_thread(
                log_events.search,
                self._folder,
                functions,
                start=asked.start_time,
                end=None if asked.end_time is None else asked.end_time + 1,  # in this operation it is included
                matches=matches,
                streams=asked.log_stream_names,
                prefix=asked.log_stream_name_prefix,
                limit=asked.limit,
                token=asked.next_token,
            )
        shown = [
            {
                "logStreamName": event.stream,
                "timestamp": event.timestamp,
                "message": event.message,
                "ingestionTime": event.timestamp,
                "eventId": event.id,
            }
            for event in events
        ]
        return {"events": shown, "searchedLogStreams": []} | ({} if token is None else {"nextToken": token})

    # --- names ---

    def _groups(self) -> dict[str, list[str]]:
        """Each with the functions that log to it: those that are there, and those whose logs still are."""
        names = dict.fromkeys([*self._node.control.names(), *logs.functions(self._folder)])
        found: dict[str, list[str]] = {}
        for name in names:
            function = self._node.control.get(name)
            configured = {} if function is None else function.latest.configuration.logging_config
            found.setdefault(configured.get("LogGroup") or f"/aws/lambda/{name}", []).append(name)
        return found

    @property
    def _folder(self) -> Path:
        return Path(self._node.control.project.data) / "logs"

    async def _has_stream(self, functions: list[str], name: str) -> bool:
        found = await asyncio.to_thread(log_events.streams, self._folder, functions)
        return any(stream.name == name for stream in found)

    def _group(self, asked: _OfGroup) -> tuple[str, list[str]]:
        """Its name, and the functions that log to it."""
        name = asked.log_group_name or asked.log_group_identifier
        if name is None:
            raise _invalid("logGroupName or logGroupIdentifier is missing.")
        if name.startswith("arn:"):
            name = ":".join(name.split(":")[6:]).removesuffix(":*")
        functions = self._groups().get(name)
        if functions is None:
            raise _refused("ResourceNotFoundException", "The specified log group does not exist.")
        return name, list(functions)

    def _arn(self, group: str) -> str:
        aws = self._node.aws
        return f"arn:aws:logs:{aws.region}:{aws.account}:log-group:{group}"


class _RefusingTokens:
    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BadToken):
            raise _invalid("The specified nextToken is invalid.") from error


def _parsed(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refused("SerializationException", str(error)) from error


def _next(page: list[str], *, more: bool) -> dict[str, str]:
    return {"nextToken": page[-1]} if more else {}


def _invalid(message: str) -> ApiError:
    return _refused("InvalidParameterException", message)


def _refused(code: str, message: str) -> ApiError:
    return ApiError(400, code, {"__type": code, "message": message})
