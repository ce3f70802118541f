"""A process that reads a source and is killed while it has something in its hands: `python -m eventfn.testing.reader`.

It is told on its standard input, in JSON, which trigger to make; it settles one batch, reads another, says on its
standard output what it has, and waits for its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from eventfn.clock import SystemClock
from eventfn.event import Batch
from eventfn.testing import lint
from eventfn.testing.contexts import trigger_context
from eventfn.testing.stream_host import StreamHost
from eventfn.trigger import DONE, Start, Stream, Trigger


class Order(msgspec.Struct, frozen=True):
    """What to read. Settings are tables of eventfn.toml."""

    trigger: str  # "module:Class"
    settings: dict[str, Any]
    shared: dict[str, Any] | None
    folder: str
    limit: int


class Hands(msgspec.Struct, frozen=True):
    """What the reader has: record ids."""

    settled: list[str]
    held: list[str]


def table(settings: Any) -> dict[str, Any]:
    """Settings as they would stand in eventfn.toml; what is as by default is left out."""
    # A Duration is written as its seconds, a size as its number.
    whole: Mapping[str, Any] = msgspec.to_builtins(settings, enc_hook=lambda value: value.real)
    return {
        field.encode_name: whole[field.encode_name]
        for field in msgspec.structs.fields(settings)
        if field.required or getattr(settings, field.name) not in (field.default, None)
    }


@contextlib.asynccontextmanager
async def killed_reader(
    trigger: type[Any], settings: Any, shared: Any, folder: Path, limit: int
) -> AsyncGenerator[Hands]:
    """A process that has one batch settled and one in its hands. It is killed at the end."""
    order = Order(
        trigger=f"{trigger.__module__}:{trigger.__qualname__}",
        settings=table(settings),
        shared=None if shared is None else table(shared),
        folder=str(folder),
        limit=limit,
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "eventfn.testing.reader",
        # A package under test may be found by pytest's own `pythonpath` alone.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        line = await process.stdout.readline()
        assert line, "the reader ended before it had anything: see its errors"
        yield msgspec.json.decode(line, type=Hands)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.communicate()


async def _read(order: Order) -> None:
    module, _, name = order.trigger.partition(":")
    plugin: Any = import_module(module)
    for part in name.split("."):
        plugin = getattr(plugin, part)
    settings = lint.load_settings(plugin.Settings, order.settings, {})
    shared = None if order.shared is None else lint.load_settings(plugin.Shared, order.shared, {})
    host = StreamHost(Start("TRIM_HORIZON"), {})
    context = trigger_context(Path(order.folder), clock=SystemClock(), assignments=host)
    source = plugin(settings, shared, context)
    if hasattr(source, "open_shard"):
        hands = await _read_stream(host, source, order.limit)
    else:
        hands = await _read_trigger(source, order.limit)
    sys.stdout.write(msgspec.json.encode(hands).decode() + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def _read_trigger(trigger: Trigger, limit: int) -> Hands:
    await trigger.connect()
    first = await trigger.read(limit)
    await trigger.settle(first, [DONE] * len(first.records))
    return _hands(first, await trigger.read(limit))


async def _read_stream(host: StreamHost, stream: Stream, limit: int) -> Hands:
    host.stream = stream
    await host.connect()
    shard, first = await host.read(limit)
    await host.done(shard, *first.records)
    _, second = await host.read(limit)
    return _hands(first, second)


def _hands(settled: Batch, held: Batch) -> Hands:
    return Hands([record.id for record in settled.records], [record.id for record in held.records])


if __name__ == "__main__":
    asyncio.run(_read(msgspec.json.decode(sys.stdin.readline(), type=Order)))
