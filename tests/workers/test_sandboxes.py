"""What of a function's settings its sandbox is made of: memory, CPU, network, folders of the machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from eventfn.clock import SystemClock
from eventfn.functions.model import FileSystem
from eventfn.sandbox.probe import Sandbox
from eventfn.units import Duration, Megabytes
from tests.processes import alive, descendants_of, handlers, parent_of

from .conftest import Workbench, error_of, until, workbench


async def test_children_run_out_of_memory_together(bench: Workbench, sandbox: Sandbox) -> None:
    if sandbox.cgroups is None:
        pytest.skip(sandbox.no_cgroups)
    bench.deploy(
        "fn",
        """
        import os, time
        def handler(event, context):
            for _ in range(event):
                if os.fork() == 0:
                    os.setsid()
                    held = b"x" * (20 * 1024 * 1024)
                    time.sleep(60)
            time.sleep(60 if event else 0)
        """,
        memory_size=Megabytes(128),
        timeout=Duration(30),
    )
    assert (await bench.invoke("fn", 0)).ok
    (handler,) = handlers(os.getpid(), "fn")
    init = parent_of(handler)
    answer = bench.begin("fn", 10)
    await until(lambda: len(descendants_of(init)) > 4)
    everybody = descendants_of(init)
    outcome = await answer
    assert outcome.error_type == "Runtime.OutOfMemory"
    assert error_of(outcome)["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")
    await until(lambda: not any(map(alive, everybody)))
    assert (await bench.invoke("fn", 0)).ok


@pytest.mark.parametrize("snap_start", [False, True])
async def test_the_share_of_the_cpu_is_limited_once_the_init_is_over(
    bench: Workbench, sandbox: Sandbox, snap_start: bool
) -> None:
    if sandbox.cgroups is None or "cpu" not in sandbox.cgroups.controllers:
        pytest.skip(sandbox.no_cgroups or "no cpu controller")
    root = bench.deploy(
        "fn",
        """
        import os, time
        while not os.path.exists("/var/task/go"):
            time.sleep(0.001)
        def handler(event, context): return event
        """,
        memory_size=Megabytes(1769),
        snap_start=snap_start,
    ).task_root
    answer = bench.begin("fn", 1)
    await bench.sink.saw("INIT_START")
    await until(lambda: len(handlers(os.getpid(), "fn")) == 1)
    (handler,) = handlers(os.getpid(), "fn")
    assert quota(handler) is None
    Path(root, "go").touch()
    assert (await answer).ok
    assert quota(handler) == (2 if snap_start else 1), "the original counts as one"


def quota(pid: int) -> float | None:
    """CPUs that the group of a process may use."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers and (unified := Path(f"/sys/fs/cgroup{path}/cpu.max")).exists():
            most, period = unified.read_text().split()
            return None if most == "max" else int(most) / int(period)
        if "cpu" in controllers.split(","):
            folder = f"/sys/fs/cgroup/{controllers}{path}"
            most = Path(folder, "cpu.cfs_quota_us").read_text()
            return None if int(most) < 0 else int(most) / int(Path(folder, "cpu.cfs_period_us").read_text())
    raise AssertionError(f"process {pid} is in no group with a share of the CPU")


CLIENT = """
import socket
def handler(event, context):
    try:
        with socket.create_connection(tuple(event), 2) as client:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            return client.makefile("rb").read().decode()
    except OSError as error:
        return type(error).__name__
"""


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.read()).upper())
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("snap_start", [False, True])
async def test_an_allow_list_reaches_what_it_names_and_nothing_else(bench: Workbench, snap_start: bool) -> None:
    async with (
        await asyncio.start_server(shout, "127.0.0.1", 0) as allowed,
        await asyncio.start_server(shout, "127.0.0.1", 0) as other,
    ):
        port, other_port = (server.sockets[0].getsockname()[1] for server in (allowed, other))
        bench.deploy("fn", CLIENT, network=(f"localhost:{port}",), snap_start=snap_start)
        assert await bench.result("fn", ["localhost", port]) == "HELLO"
        assert await bench.result("fn", ["localhost", other_port]) == "ConnectionRefusedError"
        assert await bench.result("fn", ["127.0.0.1", other_port]) == "ConnectionRefusedError"
        assert await bench.result("fn", ["192.0.2.1", port]) in ("OSError", "ConnectionRefusedError")
        assert await bench.result("fn", ["example.invalid", port]) == "gaierror"
        assert await bench.result("fn", ["localhost", port]) == "HELLO", "also after it has stood still"


async def test_connections_of_an_allow_list_end_with_their_environment(bench: Workbench) -> None:
    ended = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        writer.close()
        ended.set()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        code = """
            import socket
            def handler(event, context):
                global client
                client = socket.create_connection(tuple(event))
        """
        bench.deploy("fn", code, network=(f"localhost:{port}",))
        assert (await bench.invoke("fn", ["localhost", port])).ok
        assert not ended.is_set()
        bench.pool.retire("fn")
        await asyncio.wait_for(ended.wait(), 60)


async def test_the_machines_network_is_for_those_who_ask_for_it(bench: Workbench) -> None:
    async with await asyncio.start_server(shout, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        bench.deploy("egress", CLIENT, network="egress")
        bench.deploy("none", CLIENT)
        assert await bench.result("egress", ["127.0.0.1", port]) == "HELLO"
        assert await bench.result("none", ["127.0.0.1", port]) == "ConnectionRefusedError"


async def test_without_walls_a_list_is_the_machines_network_and_changes_nothing_of_it(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    hosts = Path("/etc/hosts").read_text()
    async with (
        workbench(tmp_path, SystemClock(), sandbox.lowered("none")) as bench,
        await asyncio.start_server(shout, "127.0.0.1", 0) as server,
    ):
        port = server.sockets[0].getsockname()[1]
        bench.deploy("fn", CLIENT, network=(f"127.0.0.1:{port}", "db.internal:5432"))
        assert await bench.result("fn", ["127.0.0.1", port]) == "HELLO"
        assert Path("/etc/hosts").read_text() == hosts


FILES = """
import os
def handler(event, context):
    folder, name = event
    try:
        with open(f"{folder}/{name}", "w") as file:
            file.write("written")
        os.mkdir(f"{folder}/{name}.d")
        return sorted(os.listdir(folder))
    except OSError as error:
        return error.strerror
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="folders of others are shared by root only")
async def test_what_is_written_to_a_shared_folder_belongs_to_its_owner(bench: Workbench, tmp_path: Path) -> None:
    folders: dict[str, Any] = {}
    for name, owner in (("one", 1234), ("two", 1235), ("kept", 1234)):
        folders[name] = tmp_path / name
        folders[name].mkdir(mode=0o750)
        os.chown(folders[name], owner, owner + 1)
    (folders["kept"] / "there").write_text("read me")
    os.chown(folders["kept"] / "there", 1234, 1235)
    bench.deploy(
        "fn",
        FILES,
        file_system_configs=(
            FileSystem(path=str(folders["one"]), local_mount_path="/mnt/one"),
            FileSystem(path=str(folders["two"]), local_mount_path="/mnt/two"),
            FileSystem(path=str(folders["kept"]), local_mount_path="/mnt/kept", read_only=True),
        ),
    )
    for name, owner in (("one", 1234), ("two", 1235)):
        assert await bench.result("fn", [f"/mnt/{name}", "new"]) == ["new", "new.d"]
        for made in folders[name].iterdir():
            found = made.stat()
            assert (found.st_uid, found.st_gid) == (owner, owner + 1)
    assert await bench.result("fn", ["/mnt/kept", "new"]) == "Read-only file system"
    assert os.listdir(folders["kept"]) == ["there"]
