"""What a change does to the node: an engine in memory, code that is really unpacked, and a pool that takes notes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventfn.engine.memory import MemoryEngine
from eventfn.errors import ConfigError, EngineError, FunctionNotFound, FunctionNotReady
from eventfn.functions import kept, uploads, versioning
from eventfn.functions.control import Control
from eventfn.functions.deployment import Deployments
from eventfn.functions.managed import LATEST, Code, Configuration, EventInvoke, ManagedFunction, Provisioned
from eventfn.functions.model import Aws, Function, Project, Where
from eventfn.functions.registry import Registry
from eventfn.functions.store import Store
from eventfn.testing import FakeClock
from eventfn.workers.contract import PoolStats, Prepared

ROLE = "arn:aws:iam::000000000000:role/r"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"


class Pool:
    """Notes what is deployed."""

    def __init__(self) -> None:
        self.deployed: dict[str, Prepared] = {}
        self.retired: list[str] = []

    def deploy(self, prepared: Prepared) -> None:
        self.deployed[prepared.key] = prepared

    def retire(self, key: str) -> None:
        self.retired.append(key)
        del self.deployed[key]

    def invoke(self, *_: Any, **__: Any) -> None:
        raise AssertionError("nobody invokes")

    def stats(self, key: str) -> PoolStats:
        return PoolStats(0, 0, 0, 0, 0)

    async def drain(self, deadline: float) -> None: ...

    async def close(self) -> None: ...


class Node:
    def __init__(self, data: Path, engine: MemoryEngine, **project: Any) -> None:
        self.project = Project(folder=str(data), file=None, data=str(data), functions={}, **project)
        self.engine = engine
        self.clock = FakeClock()
        self.store = Store(engine, self.clock)
        self.registry = Registry()
        self.pool = Pool()
        self.in_force = 0
        self.control = Control(self.store, self.registry, engine, self.clock, lambda: self.project, nothing)
        self.why_not: str | None = None
        self.deployments = Deployments(
            *(self.store, self.registry, self.pool, engine, lambda: self.project, self._in_force),
            lambda _: self.why_not,
            self.control.new_id,
        )

    def _in_force(self) -> None:
        self.in_force += 1

    async def upload(self, text: str) -> Code:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(zipfile.ZipInfo("app.py"), text)
        await self.engine.put_blob([buffer.getvalue()])
        return uploads.checked(buffer.getvalue())

    async def create(self, text: str = "", code: Code | None = None, **configuration: Any) -> None:
        given = {"role": ROLE, "runtime": None, "handler": "app.handler", **configuration}
        code = code or await self.upload(text)
        latest = versioning.pending(LATEST, Configuration(**given), code, 1, self.control.new_id)
        await self.store.create(ManagedFunction(name="f", region="us-east-1", account="000000000000", latest=latest))

    async def update(self, code: Code) -> None:
        await self.store.change(
            "f", lambda f: versioning.in_progress(f, f.latest.configuration, code, 2, self.control.new_id)
        )

    async def publish(self) -> None:
        await self.store.change("f", lambda f: versioning.publish(f, None, 3, self.control.new_id)[0])

    def function(self) -> ManagedFunction:
        found = self.store.get("f")
        assert found is not None
        return found

    async def idle(self) -> ManagedFunction:
        async with asyncio.timeout(30):
            while any(version.busy for version in self.function().all_versions()):
                await asyncio.sleep(0.001)
        return self.function()

    def text(self, reference: str = "f") -> str:
        return Path(self.registry.require(reference).prepared.task_root, "app.py").read_text()


async def nothing(bucket: str, key: str, version: str | None, region: str) -> bytes:
    raise AssertionError("nobody asks S3")


@pytest.fixture
async def engine() -> MemoryEngine:
    engine = MemoryEngine()
    await engine.open(0)
    return engine


@contextlib.asynccontextmanager
async def running(data: Path, engine: MemoryEngine, **project: Any) -> AsyncIterator[Node]:
    node = Node(data, engine, **project)
    await node.store.load()
    await node.deployments.load()
    task = asyncio.create_task(node.deployments.run())
    try:
        yield node
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_new_function_is_pending_and_then_active(tmp_path: Path, engine: MemoryEngine) -> None:
    async with running(tmp_path, engine) as node:
        await node.create("one")
        with pytest.raises(FunctionNotReady, match="Pending"):
            node.registry.require("f")
        active = await node.idle()
        assert (active.latest.state, active.latest.last_update_status) == ("Active", "Successful")
        assert active.latest.state_reason is None
        target = node.registry.require("f")
        assert (target.arn, target.version, target.key) == (ARN, LATEST, "f")
        assert node.registry.require("f:$LATEST").arn == f"{ARN}:$LATEST"
        assert node.text() == "one"
        assert node.pool.deployed["f"] is target.prepared
        assert node.in_force >= 1


async def test_until_an_update_is_ready_the_one_before_runs_on(tmp_path: Path, engine: MemoryEngine) -> None:
    async with running(tmp_path, engine) as node:
        await node.create("one")
        await node.idle()
        await node.update(await node.upload("two"))
        assert node.text() == "one"
        await node.idle()
        assert node.text() == "two"


async def test_every_update_begins_with_fresh_environments(tmp_path: Path, engine: MemoryEngine) -> None:
    """Also one that changes nothing: it is how owners make a function read again what it has read at init."""
    async with running(tmp_path, engine) as node:
        await node.create("one")
        await node.idle()
        first = node.pool.deployed["f"]
        await node.update(await node.upload("one"))
        await node.idle()
        assert node.pool.deployed["f"].task_root == first.task_root
        assert node.pool.deployed["f"] != first, "which is what the pool goes by"
        second = node.pool.deployed["f"]
        await node.store.change("f", lambda f: msgspec.structs.replace(f, tags={"a": "b"}))
        await node.idle()
        assert node.pool.deployed["f"] is second


async def test_a_version_stays_what_it_was(tmp_path: Path, engine: MemoryEngine) -> None:
    async with running(tmp_path, engine) as node:
        await node.create("one")
        await node.idle()
        await node.publish()
        await node.idle()
        await node.update(await node.upload("two"))
        await node.idle()
        assert (node.text("f:1"), node.text("f")) == ("one", "two")
        assert node.registry.require("f:1").key == "f:1"
        assert node.pool.deployed["f:1"].number == "1"

        await node.store.change("f", lambda f: versioning.with_alias(f, "live", "1", "", {}, node.control.new_id))
        assert node.text("f:live") == "one"  # at once
        assert node.registry.require("f:live").arn == f"{ARN}:live"
        await node.store.change("f", lambda f: versioning.without_alias(f, "live"))
        with pytest.raises(FunctionNotFound):
            node.registry.require("f:live")
        await node.store.change("f", lambda f: versioning.without_version(f, "1"))
        async with asyncio.timeout(30):
            while "f:1" not in node.pool.retired:
                await asyncio.sleep(0.001)
        assert "f:1" not in node.registry


async def test_deleted_everything_of_it_is_retired_at_once(tmp_path: Path, engine: MemoryEngine) -> None:
    async with running(tmp_path, engine) as node:
        await node.create("one")
        await node.idle()
        await node.publish()
        await node.idle()
        await node.store.delete("f")
        assert sorted(node.pool.retired) == ["f", "f:1"]
        assert "f" not in node.registry


async def test_deleted_while_it_is_being_made_ready_it_leaves_nothing(tmp_path: Path, engine: MemoryEngine) -> None:
    async with running(tmp_path, engine) as node:
        for _ in range(20):
            await node.create("one")
            await asyncio.sleep(0)
            await node.store.delete("f")
        await node.create("two")
        await node.idle()
        assert node.text() == "two"
        await node.store.delete("f")
        assert node.pool.deployed == {}


async def test_code_that_is_not_there_any_more(tmp_path: Path, engine: MemoryEngine) -> None:
    gone = Code(sha256="x", size=1, blob="00" * 32)
    async with running(tmp_path, engine) as node:
        await node.create(code=gone)
        failed = (await node.idle()).latest
        assert failed.state == "Failed"
        assert "is not in the data folder any more: upload it again" in (failed.state_reason or "")
        with pytest.raises(FunctionNotReady, match="Failed"):
            node.registry.require("f")
        await node.update(await node.upload("one"))
        assert (await node.idle()).latest.state == "Active"
        assert node.text() == "one"

        await node.update(gone)
        failed = (await node.idle()).latest
        assert (failed.state, failed.last_update_status) == ("Active", "Failed")
        assert node.text() == "one"  # what ran before runs on


async def test_a_full_disk_fails_one_update_and_not_the_node(
    tmp_path: Path, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, engine) as node:
        await node.create("one")
        await node.idle()

        async def full(*_: object) -> Path:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(kept, "make", full)
            await node.update(await node.upload("two"))
            failed = (await node.idle()).latest
        assert failed.last_update_status == "Failed"
        assert "No space left on device" in (failed.last_update_status_reason or "")
        assert node.text() == "one"
        await node.update(await node.upload("two"))
        await node.idle()
        assert node.text() == "two"


async def test_what_a_crash_cut_off_is_done_at_the_next_start(
    tmp_path: Path, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()

    async def hang(*_: object) -> Path:
        await never.wait()
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(kept, "make", hang)
        async with running(tmp_path, engine) as node:
            await node.create("one")
            await asyncio.sleep(0.01)
            assert node.function().latest.state == "Pending"
    async with running(tmp_path, engine) as node:
        assert node.function().latest.state == "Active"
        assert node.text() == "one"


async def test_a_state_that_cannot_be_kept_is_made_good_at_the_next_start(
    tmp_path: Path, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, engine) as node:
        commit = engine.commit
        await node.create("one")

        async def refuse(*_: object) -> None:
            raise EngineError("the disk is gone")

        with monkeypatch.context() as patched:
            patched.setattr(engine, "commit", refuse)
            async with asyncio.timeout(30):
                while node.registry.get("f") is None:
                    await asyncio.sleep(0.001)
        assert engine.commit == commit
        assert node.function().latest.state == "Pending"
    async with running(tmp_path, engine) as node:
        assert node.function().latest.state == "Active"


async def test_a_name_that_the_file_declares_too(tmp_path: Path, engine: MemoryEngine) -> None:
    async with running(tmp_path, engine) as node:
        await node.create("one")
        await node.idle()
        declared = Function(name="f", handler="a.b", code="/code", where=Where("eventfn.toml", 7))
        project = msgspec.structs.replace(node.project, functions={"f": declared})
        with pytest.raises(ConfigError) as raised:
            node.deployments.check_names(project)
    assert str(raised.value).startswith(
        "eventfn.toml:7: functions.f: a function of this name was made through the API: rename one of them"
    )


async def test_what_is_configured_for_a_qualifier(tmp_path: Path, engine: MemoryEngine) -> None:
    aws = Aws(retry_delays=(1.0, 2.0))  # type: ignore[arg-type]
    async with running(tmp_path, engine, aws=aws) as node:
        await node.create("one", dead_letter_target="arn:aws:sqs:us-east-1:000000000000:bad")
        await node.idle()
        await node.publish()
        await node.idle()
        prepared = node.registry.require("f:1").prepared

        def configure(function: ManagedFunction) -> ManagedFunction:
            function = versioning.with_alias(function, "live", "1", "", {}, node.control.new_id)
            asynchronous = EventInvoke(
                last_modified_ms=1,
                maximum_retry_attempts=0,
                maximum_event_age_in_seconds=60,
                on_success="arn:aws:lambda:us-east-1:000000000000:function:audit:live",
                on_failure="arn:aws:sns:us-east-1:000000000000:failed",
            )
            return msgspec.structs.replace(function, event_invoke={"live": asynchronous}, reserved=7)

        before = node.in_force
        await node.store.change("f", configure)
        assert node.in_force == before + 1
        live = node.registry.require("f:live").function
        assert (live.maximum_retry_attempts, float(live.maximum_event_age)) == (0, 60.0)
        assert (live.on_success, live.on_failure) == ("fn:audit:live", "arn:aws:sns:us-east-1:000000000000:failed")
        assert live.reserved_concurrency == 7
        other = node.registry.require("f").function
        assert (other.maximum_retry_attempts, other.on_failure) == (2, None)
        assert other.dead_letter_queue == "arn:aws:sqs:us-east-1:000000000000:bad"
        assert other.retry_delays == (1.0, 2.0)
        # None of this takes new environments.
        assert node.registry.require("f:1").prepared is prepared


async def test_provisioned_environments_are_of_one_version(tmp_path: Path, engine: MemoryEngine) -> None:
    async with running(tmp_path, engine) as node:
        await node.create("one")
        await node.idle()
        await node.publish()
        await node.idle()
        ahead = Provisioned(requested=3, last_modified_ms=1)
        await node.store.change("f", lambda f: msgspec.structs.replace(f, provisioned={"1": ahead}))
        async with asyncio.timeout(30):
            while node.pool.deployed["f:1"].function.provisioned_concurrency != 3:
                await asyncio.sleep(0.001)
        assert node.pool.deployed["f"].function.provisioned_concurrency == 0


async def test_a_folder_is_looked_at_again_when_its_function_is_updated(tmp_path: Path, engine: MemoryEngine) -> None:
    live = tmp_path / "live"
    live.mkdir()
    (live / "app.py").write_text("one")
    data = tmp_path / "data"
    data.mkdir()
    async with running(data, engine) as node:
        code = await uploads.of_folder(str(live), str(data))
        await node.create(code=code)
        await node.idle()
        first = node.pool.deployed["f"].version
        (live / "app.py").write_text("two, and longer")
        await node.update(code)
        await node.idle()
        assert node.pool.deployed["f"].version != first
        assert node.text() == "two, and longer"


async def test_code_that_nothing_uses_is_forgotten_at_a_start(tmp_path: Path, engine: MemoryEngine) -> None:
    async with running(tmp_path, engine) as node:
        await node.create("one")
        await node.idle()
        await node.publish()
        await node.idle()
        published = node.function().latest.code.blob
        for text in ("two", "three"):
            await node.update(await node.upload(text))
            await node.idle()
        latest = node.function().latest.code.blob
        await node.upload("for a function that was never made")
    assert len(engine._blobs) == 4
    async with running(tmp_path, engine) as node:
        assert set(engine._blobs) == {published, latest}
        assert (node.text("f:1"), node.text("f")) == ("one", "three")


async def test_what_failed_is_tried_again_at_the_next_start(
    tmp_path: Path, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    async with running(tmp_path, engine) as node:
        await node.create("one")
        await node.idle()
        with monkeypatch.context() as patched:
            patched.setattr(kept, "make", full)
            await node.update(await node.upload("two"))
            assert (await node.idle()).latest.last_update_status == "Failed"
    with monkeypatch.context() as patched:
        patched.setattr(kept, "make", full)
        async with running(tmp_path, engine) as node:  # and what ran before is not known any more
            assert node.function().latest.state == "Failed"
            with pytest.raises(FunctionNotReady, match="Failed"):
                node.registry.require("f")
    async with running(tmp_path, engine) as node:
        latest = node.function().latest
        assert (latest.state, latest.last_update_status, latest.state_reason) == ("Active", "Successful", None)
        assert node.text() == "two"


async def test_a_function_that_the_machine_cannot_keep_in_does_not_run(tmp_path: Path, engine: MemoryEngine) -> None:
    async with running(tmp_path, engine) as node:
        node.why_not = "the machine has no walls"
        await node.create("one")
        failed = (await node.idle()).latest
        assert (failed.state, failed.state_reason) == ("Failed", "the machine has no walls")
        assert node.pool.deployed == {}
