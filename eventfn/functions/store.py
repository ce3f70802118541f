"""What was made through the API, in the engine's key-value store: one document a function, a layer, a mapping ...

In memory are the documents as they were last committed, so looking up asks nobody. A change is one commit, mostly of
one document, held against what the document was (compare-and-set): after a crash it is the one before or the one after.

Belongs here: keeping documents. Does not: what a change means (api/), what it does to a running node (deployment.py).
"""

from __future__ import annotations

import asyncio
import re
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec

from eventfn.clock import Clock
from eventfn.engine.contract import Conflict, Engine, Expect, Put
from eventfn.errors import FunctionNotFound, Refused
from eventfn.functions.managed import ManagedFunction

T = TypeVar("T", bound=msgspec.Struct)
Edit = Callable[[ManagedFunction], ManagedFunction]
# What has changed: the name, and the function before (None: it is new) and after (None: it is gone).
Listener = Callable[[str, ManagedFunction | None, ManagedFunction | None], None]

_PREFIX = "lambda/"  # of all its keys in the engine
_FUNCTIONS = "functions/"
_BLOB = re.compile(rb'"blob":"([0-9a-f]{64})"')


class Exists(Refused):
    """There is a document under that key already."""


class Store:
    """Raises EngineFull and EngineError from all that writes: nothing has changed then."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._kept: dict[str, bytes] = {}  # all documents, as they are on disk
        self._functions: dict[str, ManagedFunction] = {}
        self._listeners: list[Listener] = []
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._writing: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """All there is, before anything is asked. Listeners hear nothing of it."""
        found = await self._engine.scan(_PREFIX)
        self._kept = {key.removeprefix(_PREFIX): document for key, document in found.items()}
        decoder = msgspec.json.Decoder(ManagedFunction)
        names = [key for key in self._kept if key.startswith(_FUNCTIONS)]
        self._functions = {key.removeprefix(_FUNCTIONS): decoder.decode(self._kept[key]) for key in names}

    def on_change(self, listener: Listener) -> None:
        """Called on the loop's thread, after each commit of a function."""
        self._listeners.append(listener)

    # --- functions ---------------------------------------------------------------------------------------------------

    def get(self, name: str) -> ManagedFunction | None:
        return self._functions.get(name)

    def names(self) -> list[str]:
        """In the order of the alphabet."""
        return sorted(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    async def create(self, function: ManagedFunction) -> None:
        """Raises Exists."""
        async with self._turn(_FUNCTIONS + function.name):
            if function.name in self._functions:
                raise Exists(f"Function already exist: {function.name}")
            await self._keep_function(function.name, None, function)

    async def change(self, name: str, edit: Edit) -> ManagedFunction:
        """The function that `edit` made of the present one, once it is kept. One change after the other; what `edit`
        raises is the caller's, and nothing has changed then. Raises FunctionNotFound."""
        async with self._turn(_FUNCTIONS + name):
            before = self._require(name)
            after = edit(before)
            if after is not before:
                await self._keep_function(name, before, after)
            return after

    async def delete(self, name: str) -> None:
        """Raises FunctionNotFound."""
        async with self._turn(_FUNCTIONS + name):
            await self._keep_function(name, self._require(name), None)

    def _require(self, name: str) -> ManagedFunction:
        found = self._functions.get(name)
        if found is None:
            raise FunctionNotFound(name)
        return found

    async def _keep_function(self, name: str, before: ManagedFunction | None, after: ManagedFunction | None) -> None:
        def kept() -> None:
            if after is None:
                del self._functions[name]
            else:
                self._functions[name] = after
            for listener in self._listeners:
                listener(name, before, after)

        await self._keep({_FUNCTIONS + name: _encoded(after)}, kept)

    # --- everything else ---------------------------------------------------------------------------------------------

    def document(self, key: str, kind: type[T]) -> T | None:
        """`key` is "layers/<name>", "mappings/<uuid>", "code-signing/<id>" ..."""
        found = self._kept.get(key)
        return None if found is None else msgspec.json.decode(found, type=kind)

    def documents(self, prefix: str, kind: type[T]) -> dict[str, T]:
        """Key without the prefix -> document, in the order of the keys."""
        keys = sorted(key for key in self._kept if key.startswith(prefix))
        return {key.removeprefix(prefix): msgspec.json.decode(self._kept[key], type=kind) for key in keys}

    async def put_document(self, key: str, document: msgspec.Struct | None) -> None:
        """None forgets it."""
        async with self._turn(key):
            await self._put(key, document)

    async def change_document(self, key: str, kind: type[T], edit: Callable[[T | None], T | None]) -> T | None:
        """As `change`. `edit` gets None when there is none, and gives None to forget it."""
        async with self._turn(key):
            after = edit(self.document(key, kind))
            await self._put(key, after)
            return after

    async def put_together(
        self, key: str, kind: type[T], edit: Callable[[T | None], Mapping[str, msgspec.Struct | None]]
    ) -> None:
        """As `change_document`, of several in one commit: `edit` gets the document of `key`, and gives what is kept
        under which keys; nothing changes by an empty mapping."""
        async with self._turn(key):
            if documents := edit(self.document(key, kind)):
                await self._keep({each: _encoded(document) for each, document in documents.items()}, lambda: None)

    async def _put(self, key: str, document: msgspec.Struct | None) -> None:
        value = _encoded(document)
        if value != self._kept.get(key):
            await self._keep({key: value}, lambda: None)

    def blobs(self) -> set[str]:
        """The digests of all code that any document names (managed.Code)."""
        return {found.decode() for document in self._kept.values() for found in _BLOB.findall(document)}

    # --- one commit --------------------------------------------------------------------------------------------------

    def _turn(self, key: str) -> asyncio.Lock:
        lock = self._turns.get(key)
        if lock is None:
            lock = self._turns[key] = asyncio.Lock()
        return lock

    async def _keep(self, values: Mapping[str, bytes | None], then: Callable[[], None]) -> None:
        """Not to be cut off: what the disk has and what is in memory must not differ because a caller has gone."""

        async def keep() -> None:
            expected = [Expect(_PREFIX + key, self._kept.get(key)) for key in values]
            puts = [Put(_PREFIX + key, value) for key, value in values.items()]
            try:
                await self._engine.commit([*expected, *puts], self._clock.now_ms())
            except Conflict as conflict:
                changed = " or ".join(values)
                raise Refused(f"{changed} was changed by another node of this data folder: try again") from conflict
            for key, value in values.items():
                if value is None:
                    self._kept.pop(key, None)
                else:
                    self._kept[key] = value
            then()

        await self._to_its_end(keep())

    async def _to_its_end(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})  # the next in turn begins with what this one has made
            raise


def _encoded(document: msgspec.Struct | None) -> bytes | None:
    return None if document is None else msgspec.json.encode(document)
