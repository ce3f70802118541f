"""What a change of a function does to the running node: code onto the disk, environments, what it is invoked under.

    store ─changed─▶ at once: references, aliases, concurrency      ─▶ registry
                 └─▶ as a task: unpack, compile ─▶ pool, registry ─▶ store: Pending is Active, InProgress Successful

A task of a function begins anew when the function has changed meanwhile; one that a crash cut off is done at the next
start, since the document says what is still to be done. Does not belong here: what a change may be (api/), what a
function is to the node (deriving.py).
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventfn.engine.contract import Engine
from eventfn.errors import ConfigError, EngineError, FunctionNotFound, Problem
from eventfn.functions import archives, bytecode, deriving, kept
from eventfn.functions.managed import LATEST, Code, ManagedFunction, Version
from eventfn.functions.model import Function, Project
from eventfn.functions.packages import prepare
from eventfn.functions.registry import Leads, NotReady, Registry, Split, Target, target
from eventfn.functions.store import Store
from eventfn.workers.contract import Pool, Prepared
from eventfn.workers.runtimes import family, finding, python

_AT_ONCE = 8  # functions that are made ready at the same time; the rest wait for their turn

log = logging.getLogger("eventfn.functions")


class _Ready(NamedTuple):
    made_of: object
    prepared: Prepared


class _CannotBeKeptIn(Exception):
    """The machine lacks a wall that the function must have."""


class _AnotherRuntime(Exception):
    """The machine has another version of the runtime than the one that the function may run on."""


class Deployments:
    """`load`, then `run`. `changed` is the store's listener."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        pool: Pool,
        engine: Engine,
        project: Callable[[], Project],
        in_force: Callable[[], None],
        why_not: Callable[[Function], str | None],
        new_id: Callable[[], str],
    ) -> None:
        """`in_force` is called when a function is ready for the first time, and when its reserved concurrency is
        another: admission and those who wait for it look again. `why_not`: this machine cannot keep it in as it must,
        and then it does not run."""
        self._store = store
        self._registry = registry
        self._pool = pool
        self._engine = engine
        self._project = project
        self._in_force = in_force
        self._why_not = why_not
        self._new_id = new_id
        self._ready: dict[str, dict[str, _Ready]] = {}  # function -> version -> what runs
        self._reserved: dict[str, int | None] = {}
        self._waiting: dict[str, None] = {}  # functions that have something to be done, in the order of their changes
        self._something = asyncio.Event()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._working: set[str] = set()

    async def load(self) -> None:
        """Everything that was made ready before is ready again, before anything is invoked; code that nothing uses any
        more is forgotten. Raises ConfigError: a name stands in the file too."""
        self.check_names(self._project())
        await self._engine.drop_blobs(self._store.blobs())
        self._store.on_change(self._changed)
        # What has failed before is tried once more: a runtime may have been installed, or a disk have room again.
        await asyncio.gather(*(self._make_ready_in_turn(name, again=True) for name in self._store.names()))

    def check_names(self, project: Project) -> None:
        """Raises ConfigError when the project declares what is there already through the API."""
        problems = [
            Problem(
                function.where.file,
                function.where.line,
                f"functions.{name}",
                "a function of this name was made through the API: rename one of them, or delete that one with "
                f"`aws lambda delete-function --function-name {name}` while this one is not declared",
            )
            for name, function in project.functions.items()
            if self._store.get(name) is not None
        ]
        if problems:
            raise ConfigError(problems)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._something.wait()
                self._something.clear()
                for name in [name for name in self._waiting if name not in self._working]:
                    del self._waiting[name]
                    self._working.add(name)
                    tasks.create_task(self._work(name))

    async def _work(self, name: str) -> None:
        try:
            await self._make_ready_in_turn(name)
        except Exception:
            log.exception("eventfn bug: %s could not be made ready", name)
        finally:
            self._working.discard(name)
            self._something.set()

    # --- at once -----------------------------------------------------------------------------------------------------

    def _changed(self, name: str, before: ManagedFunction | None, after: ManagedFunction | None) -> None:
        if after is None:
            self._gone(name)
            return
        self._show(after)
        ready = self._ready.get(name, {})
        wanted = {version.number: version for version in after.all_versions()}
        if any(
            version.busy or (version.state == "Active" and not self._is_current(ready.get(number), after, version))
            for number, version in wanted.items()
        ) or any(number not in wanted for number in ready):
            self._waiting[name] = None
            self._something.set()

    def _gone(self, name: str) -> None:
        self._registry.manage(name, {})
        self._waiting.pop(name, None)
        for ready in self._ready.pop(name, {}).values():
            self._pool.retire(ready.prepared.key)
        if self._reserved.pop(name, None) is not None:
            self._in_force()

    def _show(self, function: ManagedFunction) -> None:
        """Its references lead where the document says, as far as its versions are ready."""
        first = function.name not in self._reserved
        self._registry.manage(function.name, self._leads(function))
        changed = self._reserved.get(function.name) != function.reserved
        self._reserved[function.name] = function.reserved
        if first or changed:
            self._in_force()

    def _leads(self, function: ManagedFunction) -> Mapping[str, Leads]:
        name, arn = function.name, function.arn
        latest = self._lead(function, LATEST, LATEST, arn)
        leads: dict[str, Leads] = {name: latest, f"{name}:{LATEST}": _addressed(latest, f"{arn}:{LATEST}")}
        for number in function.versions:
            leads[f"{name}:{number}"] = self._lead(function, number, number, f"{arn}:{number}")
        for alias in function.aliases.values():
            own = f"{arn}:{alias.name}"
            lead: Leads = self._lead(function, alias.function_version, alias.name, own)
            for number, weight in alias.weights.items():
                other = self._lead(function, number, alias.name, own)
                if isinstance(lead, Target) and isinstance(other, Target):
                    lead = Split(lead, other, weight)
            leads[f"{name}:{alias.name}"] = lead
        return leads

    def _lead(self, function: ManagedFunction, number: str, qualifier: str, arn: str) -> Target | NotReady:
        version = function.version(number)
        if version is None:
            return NotReady("Failed")  # an alias of a version that is gone: the API lets none come to be
        if function.deactivated(number):
            return NotReady("Deactivated")
        ready = self._ready.get(function.name, {}).get(number)
        if ready is None:
            return NotReady(version.state if version.state != "Active" else "Pending", version.runtime_version_error)
        prepared = ready.prepared
        aws = self._project().aws
        invoked = deriving.invoked_as(prepared.function, function, version, qualifier, aws)
        return target(invoked, arn, prepared, terminates=function.recursive_loop == "Terminate")

    # --- as a task ---------------------------------------------------------------------------------------------------

    async def _make_ready_in_turn(self, name: str, *, again: bool = False) -> None:
        async with self._turns:
            await self._make_ready(name, again)

    async def _make_ready(self, name: str, again: bool) -> None:
        while (function := self._store.get(name)) is not None:
            ready: dict[str, _Ready] = {}
            failed: dict[str, str] = {}
            missing: dict[str, str] = {}  # version -> why its version of the runtime is not there
            before = self._ready.get(name, {})
            for version in function.all_versions():
                if version.state == "Failed" and not again:
                    continue
                known = before.get(version.number)
                if known is not None and self._is_current(known, function, version):
                    ready[version.number] = known
                    continue
                try:
                    ready[version.number] = await self._prepared(function, version)
                except _AnotherRuntime as error:  # what ran before is not what it may run on now
                    missing[version.number] = str(error)
                except Exception as error:
                    failed[version.number] = _reason(error)
                    if known is not None:  # what ran before runs on
                        ready[version.number] = known
            if self._store.get(name) is not function:
                continue
            for number, one in ready.items():
                if before.get(number) is not one:
                    self._pool.deploy(one.prepared)
            for number, old in before.items():
                if number not in ready:
                    self._pool.retire(old.prepared.key)
            self._ready[name] = ready
            self._show(function)
            await self._settle(function, ready, failed, missing)
            return

    def _is_current(self, ready: _Ready | None, function: ManagedFunction, version: Version) -> bool:
        return ready is not None and ready.made_of == self._made_of(function, version)

    def _made_of(self, function: ManagedFunction, version: Version) -> object:
        """What makes another version of it. Every update does, also one that changes nothing: a folder is looked at
        once more, and what was read at init is read again."""
        environments = function.provisioned_of(version.number), function.scaling_of(version.number)
        looked, runtime = version.last_modified_ms, function.runtime_wanted(version)
        return version.code, version.configuration, environments, looked, runtime

    async def _prepared(self, function: ManagedFunction, version: Version) -> _Ready:
        """Raises ConfigError, OSError, EngineError, BadArchive, _CannotBeKeptIn, _AnotherRuntime."""
        made_of, project = self._made_of(function, version), self._project()
        if (wanted := function.runtime_wanted(version)) is not None:
            await asyncio.to_thread(_check_runtime_version, function, version, wanted)
        runtime = version.configuration.runtime
        code = await self._folder("code", version.code, runtime)
        layers = [await self._folder("layers", layer.code, runtime) for layer in version.configuration.layers]
        environment = deriving.environment_of(function, version, code, tuple(layers), project.aws)
        if (why := self._why_not(environment)) is not None:
            raise _CannotBeKeptIn(why)
        found = await prepare(environment, project, _to_log(function.name), for_others=os.geteuid() == 0)
        prepared = msgspec.structs.replace(
            found,
            arn=function.arn,
            region=function.region,
            number=version.number,
            updated_ms=version.last_modified_ms,
            most_environments=function.scaling_of(version.number).max_execution_environments,
        )
        return _Ready(made_of, prepared)

    async def _folder(self, store: str, code: Code, runtime: str | None) -> str:
        """Where it lies unpacked, with its bytecode beside it."""
        if code.folder is not None:
            return code.folder
        assert code.blob is not None, "code is a folder or a blob"
        blob = code.blob

        async def build(partial: Path) -> None:
            content = await self._engine.get_blob(blob)
            if content is None:
                raise OSError(f"its code, blob {blob}, is not in the data folder any more: upload it again")
            await asyncio.to_thread(archives.unpack, io.BytesIO(content), partial)
            if family(runtime) == "python":
                stub = Function(name="", handler="", code="", runtime=runtime)
                await bytecode.add(partial, await asyncio.to_thread(python.find, stub))

        return str(await kept.make(Path(self._project().data) / store, f"{blob}-{runtime}", build))

    # --- what came of it ---------------------------------------------------------------------------------------------

    async def _settle(
        self,
        function: ManagedFunction,
        ready: Mapping[str, _Ready],
        failed: Mapping[str, str],
        missing: Mapping[str, str],
    ) -> None:
        """Keeps what came of it: Pending becomes Active or Failed, an update is over, and on which version of its
        runtime each runs, or why it cannot."""
        over: dict[str, tuple[str, str | None]] = {}  # version -> revision, why it has failed
        runtimes: dict[str, tuple[str | None, str | None]] = {}  # version -> ARN and error of its runtime
        for version in function.all_versions():
            number, reason = version.number, failed.get(version.number)
            if reason is not None:
                log.error("%s:%s cannot run: %s", function.name, number, reason)
            if (why := missing.get(number)) is not None:
                log.error("%s", why)
                runtimes[number] = function.runtime_wanted(version), why
            elif number in ready and reason is None:
                runtimes[number] = ready[number].prepared.runtime_version_arn, None
            if runtimes.get(number) == (version.runtime_version_arn, version.runtime_version_error):
                del runtimes[number]
            if version.busy or (number not in ready and number not in missing and version.state == "Active"):
                over[number] = version.revision_id, reason
            elif reason is None and number in ready and _has_failed(version):
                over[number] = version.revision_id, None
        if not over and not runtimes:
            return

        def edit(now: ManagedFunction) -> ManagedFunction:
            for number, (revision, reason) in over.items():
                version = now.version(number)
                if version is not None and version.revision_id == revision:
                    runs_on = number in ready  # as it was before
                    now = now.with_version(_over(version, reason, self._new_id(), runs_on=runs_on))
            for number, (arn, error) in runtimes.items():
                if (version := now.version(number)) is not None:
                    now = now.with_version(
                        msgspec.structs.replace(version, runtime_version_arn=arn, runtime_version_error=error)
                    )
            return now

        try:
            await self._store.change(function.name, edit)
        except FunctionNotFound:
            return  # deleted meanwhile
        except EngineError as error:
            log.error("%s is ready, and its state cannot be kept: %s", function.name, error)


def _has_failed(version: Version) -> bool:
    return version.state == "Failed" or version.last_update_status == "Failed"


def _over(version: Version, failure: str | None, revision_id: str, *, runs_on: bool) -> Version:
    """A version that was busy, and is not any more. `runs_on`: what it was before does, which has not failed."""
    broken = None if runs_on else failure
    return msgspec.structs.replace(
        version,
        revision_id=revision_id,
        state="Active" if broken is None else "Failed",
        state_reason=broken,
        state_reason_code=None if broken is None else "InternalError",
        last_update_status="Successful" if failure is None else "Failed",
        last_update_status_reason=failure,
        last_update_status_reason_code=None if failure is None else "InternalError",
    )


def _check_runtime_version(function: ManagedFunction, version: Version, wanted: str) -> None:
    """Raises _AnotherRuntime. Blocks as finding does."""
    runtime = version.configuration.runtime
    try:
        found = finding.find(Function(name=function.name, handler="", code="", runtime=runtime))
    except ConfigError as error:
        here = _reason(error)
    else:
        if (installed := found.version_arn(function.region)) == wanted:
            return
        here = f"this machine has {found.runtime} {found.version}, {installed}"
    raise _AnotherRuntime(
        f"{function.name}:{version.number} may run on the runtime version {wanted} only, and {here}. Whoever operates "
        "this node can install that version and restart eventfn; whoever owns the function can let it run on what is "
        "here by PutRuntimeManagementConfig with UpdateRuntimeOn Auto"
    )


def _addressed(lead: Target | NotReady, arn: str) -> Target | NotReady:
    return msgspec.structs.replace(lead, arn=arn) if isinstance(lead, Target) else lead


def _reason(error: Exception) -> str:
    if isinstance(error, ConfigError):
        return "; ".join(problem.message for problem in error.problems)
    if not isinstance(error, OSError | EngineError | archives.BadArchive | _CannotBeKeptIn):
        log.error("eventfn bug: a function could not be made ready", exc_info=error)
    return str(error) or type(error).__name__


def _to_log(name: str) -> Callable[[str], None]:
    return lambda line: log.info("%s: %s", name, line)
