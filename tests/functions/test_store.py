"""Documents of the API: kept whole or not at all, one change after the other."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from eventfn.engine.contract import Put
from eventfn.engine.memory import MemoryEngine
from eventfn.errors import EngineFull, FunctionNotFound, Refused
from eventfn.functions.managed import Alias, Code, Configuration, ManagedFunction, Version
from eventfn.functions.store import Exists, Store
from eventfn.testing import FakeClock


def function(name: str = "f") -> ManagedFunction:
    latest = Version(
        number="$LATEST",
        configuration=Configuration(role="arn:aws:iam::000000000000:role/r", handler="a.b", runtime="python3.11"),
        code=Code(sha256="c2hh", size=1, blob="ab"),
        revision_id="1",
        last_modified_ms=1,
    )
    return ManagedFunction(name=name, region="us-east-1", account="000000000000", latest=latest)


def described(function: ManagedFunction, text: str) -> ManagedFunction:
    alias = Alias(name="a", function_version="$LATEST", revision_id="r", description=text)
    return msgspec.structs.replace(function, aliases={"a": alias})


async def loaded(engine: MemoryEngine) -> Store:
    store = Store(engine, FakeClock())
    await store.load()
    return store


@pytest.fixture
async def engine() -> MemoryEngine:
    engine = MemoryEngine()
    await engine.open(0)
    return engine


async def test_a_function_is_there_after_a_restart_as_it_was_kept(engine: MemoryEngine) -> None:
    store = await loaded(engine)
    await store.create(function())
    changed = await store.change("f", lambda before: described(before, "one"))

    again = await loaded(engine)
    assert again.get("f") == store.get("f") == changed
    assert again.names() == ["f"]

    await again.delete("f")
    assert again.get("f") is None
    assert (await loaded(engine)).names() == []


async def test_a_name_is_given_once(engine: MemoryEngine) -> None:
    store = await loaded(engine)
    results = await asyncio.gather(*(store.create(function()) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), Exists, Exists]


async def test_changes_of_one_function_follow_each_other(engine: MemoryEngine) -> None:
    store = await loaded(engine)
    await store.create(function())

    def longer(before: ManagedFunction) -> ManagedFunction:
        alias = before.aliases.get("a")
        return described(before, (alias.description if alias else "") + "x")

    await asyncio.gather(*(store.change("f", longer) for _ in range(50)))
    after = store.get("f")
    assert after is not None
    assert after.aliases["a"].description == "x" * 50


async def test_what_an_edit_refuses_changes_nothing(engine: MemoryEngine) -> None:
    store = await loaded(engine)
    await store.create(function())

    def refuse(before: ManagedFunction) -> ManagedFunction:
        raise Refused("no")

    with pytest.raises(Refused):
        await store.change("f", refuse)
    assert store.get("f") == function()
    with pytest.raises(FunctionNotFound):
        await store.change("g", lambda before: before)
    with pytest.raises(FunctionNotFound):
        await store.delete("g")


async def test_a_full_disk_changes_nothing(engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await loaded(engine)
    await store.create(function())

    async def full(*_: object) -> None:
        raise EngineFull("no space")

    monkeypatch.setattr(engine, "commit", full)
    with pytest.raises(EngineFull):
        await store.change("f", lambda before: described(before, "one"))
    assert store.get("f") == function()


async def test_a_caller_that_goes_away_leaves_memory_and_disk_alike(engine: MemoryEngine) -> None:
    store = await loaded(engine)
    await store.create(function())
    changing = asyncio.create_task(store.change("f", lambda before: described(before, "one")))
    while not store._writing:
        await asyncio.sleep(0)
    changing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await changing
    assert store.get("f") == (await loaded(engine)).get("f") == described(function(), "one")


async def test_another_node_that_was_first_wins(engine: MemoryEngine) -> None:
    store = await loaded(engine)
    await store.create(function())
    await engine.commit([Put("lambda/functions/f", b"{}")], 0)
    with pytest.raises(Refused, match="another node"):
        await store.change("f", lambda before: described(before, "one"))
    assert store.get("f") == function()


async def test_listeners_hear_of_what_is_kept_before_and_after(engine: MemoryEngine) -> None:
    store = await loaded(engine)
    heard: list[tuple[bool, bool]] = []
    store.on_change(lambda name, before, after: heard.append((before is None, after is None)))
    await store.create(function())
    await store.change("f", lambda before: before)  # nothing
    await store.change("f", lambda before: described(before, "one"))
    await store.delete("f")
    assert heard == [(True, False), (False, False), (False, True)]


class Note(msgspec.Struct, frozen=True):
    text: str


async def test_documents_of_other_resources(engine: MemoryEngine) -> None:
    store = await loaded(engine)
    await store.put_document("notes/b", Note("b"))
    await store.put_document("notes/a", Note("a"))
    changed = await store.change_document("notes/a", Note, lambda before: Note((before.text if before else "") + "!"))
    assert changed == Note("a!")

    again = await loaded(engine)
    assert again.documents("notes/", Note) == {"a": Note("a!"), "b": Note("b")}
    await again.put_document("notes/a", None)
    await again.put_document("notes/never", None)
    assert again.document("notes/a", Note) is None
    assert list(again.documents("notes/", Note)) == ["b"]
    assert again.names() == []


async def test_documents_that_are_put_together_are_kept_or_refused_together(engine: MemoryEngine) -> None:
    store, other = await loaded(engine), await loaded(engine)
    document, another = function("one"), function("two")
    await other.put_document("b/1", another)
    with pytest.raises(Refused, match="a/1 or b/1 was changed by another node"):
        await store.put_together("a/1", ManagedFunction, lambda _: {"a/1": document, "b/1": document})
    assert store.document("a/1", ManagedFunction) is None
    again = await loaded(engine)
    assert (again.document("a/1", ManagedFunction), again.document("b/1", ManagedFunction)) == (None, another)
    await again.put_together("a/1", ManagedFunction, lambda _: {"a/1": document, "b/1": None})
    assert list((await loaded(engine)).documents("", ManagedFunction)) == ["a/1"]
