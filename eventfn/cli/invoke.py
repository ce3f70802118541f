from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from urllib.parse import quote

import click
import msgspec

from eventfn.cli.client import Answer, Client
from eventfn.cli.failing import CannotRun, Failed
from eventfn.cli.options import data_folder, data_option, json_option
from eventfn.cli.safe import safe


@click.command()
@click.argument("name")
@click.option(
    "-e",
    "--event",
    default="{}",
    metavar="FILE|-|JSON",
    help="The event: a file, - for standard input, or JSON. Without it {}.",
)
@click.option("--async", "is_async", is_flag=True, help="Hand it over and do not wait: retried, with destinations.")
@click.option("--log", "show_log", is_flag=True, help="Also print the end of its log, on standard error.")
@data_option
@json_option
def invoke(name: str, event: str, is_async: bool, show_log: bool, data: Path | None, as_json: bool) -> int:
    """Call the function NAME of the running node and print its answer.

    An error of the function goes to standard error, and the exit code is 1. With --json one object is printed:
    status_code, function_error, payload, log_tail, duration (milliseconds), request_id.
    """
    payload = _event(event)
    headers = {"X-Amz-Invocation-Type": "Event" if is_async else "RequestResponse", "Content-Type": "application/json"}
    if show_log or as_json:
        headers["X-Amz-Log-Type"] = "Tail"
    path = f"/2015-03-31/functions/{quote(name, safe='')}/invocations"
    answer = Client(data_folder(data)).request("POST", path, payload, headers)
    if as_json:
        click.echo(json.dumps(_as_object(answer)))
    if (refused := answer.refused) is not None:
        raise Failed(refused)
    failed = "x-amz-function-error" in answer.headers
    if as_json:
        return int(failed)
    if show_log:
        click.echo(safe(_log_tail(answer) or ""), err=True, nl=False)
    if is_async:
        click.echo(f"accepted: {answer.headers['x-amzn-requestid']}")
    elif failed:
        _print_error(answer.body)
    else:
        _print_answer(answer.body)
    return int(failed)


def _event(given: str) -> bytes:
    if given.lstrip()[:1] in ("{", "[", '"'):
        place, payload = "the event", given.encode()
    elif given == "-":
        place, payload = "standard input", sys.stdin.buffer.read()
    elif not (file := Path(given)).exists():
        if _why_no_json(given.encode()) is not None:  # it may be a number, true, false or null
            raise CannotRun(f"{given}: no such file, and no JSON")
        return given.encode()
    else:
        place, payload = given, file.read_bytes()
    if (why := _why_no_json(payload)) is not None:
        raise CannotRun(f"{place} is not JSON: {why}")
    return payload


def _why_no_json(payload: bytes) -> str | None:
    try:
        json.loads(payload, parse_constant=_refuse)
    except ValueError as error:
        return str(error)
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is none of its values")  # json.loads takes NaN and Infinity


def _as_object(answer: Answer) -> dict[str, object]:
    duration = answer.headers.get("x-eventfn-duration-ms")
    return {
        "status_code": answer.status,
        "function_error": answer.headers.get("x-amz-function-error"),
        "payload": _json(answer.body),
        "log_tail": _log_tail(answer),
        "duration": None if duration is None else float(duration),
        "request_id": answer.headers.get("x-amzn-requestid"),
    }


def _log_tail(answer: Answer) -> str | None:
    encoded = answer.headers.get("x-amz-log-result")
    return None if encoded is None else base64.b64decode(encoded).decode(errors="replace")


def _json(body: bytes) -> object:
    try:
        value: object = json.loads(body) if body else None
    except ValueError:
        return body.decode(errors="replace")
    return value


def _print_answer(body: bytes) -> None:
    """As the function gave it; laid out for reading on a terminal."""
    if sys.stdout.isatty():
        click.echo(safe(json.dumps(_json(body), indent=2, ensure_ascii=False)))
    else:
        click.echo(body)


class _FunctionError(msgspec.Struct, rename="camel"):
    """The error object of Lambda's Python runtime; other runtimes leave out the trace."""

    error_type: str
    error_message: str | None = None
    stack_trace: list[str] = []


# The first surprise of whoever has a package installed beside eventfn.
_NO_MODULE = (
    "    a function sees its code and its layers, and no packages that are installed beside eventfn: name those that "
    "it needs in a file, and that file as `requirements` of the function"
)


def _print_error(body: bytes) -> None:
    try:
        error = msgspec.json.decode(body, type=_FunctionError)
    except (msgspec.DecodeError, RecursionError):  # a custom runtime may post anything
        raise Failed(f"the function failed: {body.decode(errors='replace')}") from None
    click.echo(safe(f"{error.error_type}: {error.error_message or ''}"), err=True)
    for entry in error.stack_trace:
        click.echo(safe(entry).rstrip("\n"), err=True)
    if error.error_type == "Runtime.ImportModuleError" and "No module named" in (error.error_message or ""):
        click.echo(_NO_MODULE, err=True)
