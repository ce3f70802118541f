"""What the bus sees of the workers: a pool that runs invocations, and what a pool is told about a function.

PURE: shapes only. `eventfn.workers.pool.WorkerPool` is the real one, `eventfn.testing.InProcessPool` the one for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from eventfn.aws.endpoints import Told
from eventfn.event import Invocation, Outcome, ResponseStream
from eventfn.functions.model import Function, Network
from eventfn.workers.runtimes import family, versions

Done = Callable[[Outcome], None]


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A function whose code is on disk and ready to run: what functions/packages.py makes of a Function."""

    function: Function
    arn: str
    version: str  # changes with code or configuration: an environment never serves two versions
    number: str = "$LATEST"  # Lambda's: "3" of a version that was published
    updated_ms: int = 0  # by the API: after an update all environments are new, whatever it has changed
    task_root: str  # folder with the code
    opt_root: str | None = None  # folder shaped as /opt is: requirements and layers together
    # What is compiled of code and layers that are used in place: `task/` for task_root, `opt/` for opt_root, each laid
    # out as its sources are, with __pycache__ folders. None when all of them hold their own. Read by child/compiled.py
    # and not by sys.pycache_prefix, which would hide the compiled standard library too.
    bytecode_root: str | None = None
    # Folders that no function sees although they may lie within its code: the data folder, mostly in the project's.
    hidden: tuple[str, ...] = ()
    # Absolute path of the real Python, never a shim, that makes the sandbox; of a Python function the one that runs it.
    interpreter: str
    runtime: str  # "python3.11", "nodejs20.x", "provided.al2023"
    executable: str | None = None  # of a runtime that is a program of the machine's: its absolute path
    runtime_version: str = ""  # of what was found: "20.11.0"
    runtime_build: str = ""  # of it, where one version may be built twice
    most_environments: int | None = None  # at once; None: as many as are waited for
    extensions: tuple[str, ...] = ()  # names of the executables in /opt/extensions
    region: str = "us-east-1"
    told: Told = Told()  # of an environment that is being started: see Surroundings

    @property
    def key(self) -> str:
        """What a pool knows it by: each published version has environments of its own."""
        name = self.function.name
        return name if self.number == "$LATEST" else f"{name}:{self.number}"

    @property
    def runtime_version_arn(self) -> str:
        return versions.arn(self.region, self.runtime, self.runtime_version, self.runtime_build)

    @property
    def shown_runtime(self) -> str:
        """With the version that was found on the machine, where it is a program of the machine's."""
        return self.runtime if self.executable is None else f"{self.runtime} ({self.runtime_version})"

    @property
    def wrapper(self) -> str | None:
        """What starts its runtime, where the function says so; as in Lambda none whose program comes with the code."""
        wrapper = self.function.environment.get("AWS_LAMBDA_EXEC_WRAPPER", "")
        return wrapper if wrapper and family(self.runtime) != "provided" else None

    @property
    def is_program(self) -> bool:
        """Whether its runtime is started by exec. A Python handler is forked from the zygote, but behind a wrapper."""
        return family(self.runtime) != "python" or self.wrapper is not None

    @property
    def speaks_runtime_api(self) -> bool:
        """Whether it is no Python handler, or has company: over HTTP then, instead of frames."""
        return family(self.runtime) != "python" or bool(self.extensions)


class Surroundings(Protocol):
    """What environments are started with beyond their function's own. `eventfn.aws.surroundings` has the real one."""

    def network(self, function: Function) -> Network:
        """What the function reaches: without "aws", which is replaced by what it stands for."""
        ...

    async def told(self, function: Function, runtime: str) -> tuple[Told, float]:
        """Variables, and until when they will do, in seconds since the epoch. Raises ConnectorError."""
        ...


class LogSink(Protocol):
    """Where the lines of functions go. `write` never blocks and never raises; `message` is one log event without its
    last newline (it may have several lines). `stream` is "YYYY/MM/DD/[<version>]<32 hex>", one per environment."""

    def write(self, function: str, stream: str, timestamp_ms: int, message: str) -> None: ...

    def write_all(self, function: str, stream: str, messages: Sequence[tuple[int, str]]) -> None:
        """Several at once, each with its timestamp: for the hot path, cheaper than one by one."""
        ...


class PoolStats(msgspec.Struct, frozen=True):
    environments: int
    idle: int
    starting: int
    in_flight: int
    waiting: int
    failing: bool = False  # there are none, as the latest inits have failed


class Pool(Protocol):
    """Admission has already said yes: a pool never throttles, it waits for an environment. It is called on the loop's
    thread; `invoke` is the hot path and creates no task when an environment is idle."""

    def deploy(self, prepared: Prepared) -> None:
        """From now on `invoke` of this key (Prepared.key) runs this version. Environments of the version before finish
        what they run and go. Provisioned environments are started."""
        ...

    def retire(self, key: str) -> None:
        """The function, or this version of it, is gone: idle environments go now, busy ones when they are done."""
        ...

    def invoke(
        self, invocation: Invocation, done: Done, *, log_tail: bool = False, stream: ResponseStream | None = None
    ) -> None:
        """`done` is called exactly once, with the outcome, whatever happens to the environment. With a `stream`, a
        function that streams is heard there first."""
        ...

    def stats(self, key: str) -> PoolStats: ...

    async def drain(self, deadline: float) -> None:
        """Waits until nothing is in flight, at most `deadline` seconds."""
        ...

    async def close(self) -> None:
        """Ends every process; what was in flight gets a system error outcome."""
        ...
