"""Ordinary programs run behind the filter as they do before it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.sandbox.forked import behind_filter

PYTHON = {
    "threads": """
        import threading, concurrent.futures
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(lambda n: n * n, range(1000))) == 332833500
    """,
    "processes": """
        import multiprocessing
        for method in ("fork", "spawn", "forkserver"):
            context = multiprocessing.get_context(method)
            lock, queue = context.Lock(), context.Queue()
            if __name__ == "__main__":
                with context.Pool(2) as pool:
                    assert pool.map(abs, [-1, -2]) == [1, 2]
    """,
    "programs": """
        import subprocess
        assert subprocess.check_output(["sh", "-c", "echo a b | tr a-z A-Z | sort; exit 0"]) == b"A B\\n"
        assert subprocess.run("sleep 0 & wait", shell=True).returncode == 0
    """,
    "a loop": """
        import asyncio
        async def main():
            async def answer(reader, writer):
                writer.write(await reader.readline())
                writer.close()
            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            async with server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"hello\\n")
                assert await reader.readline() == b"hello\\n"
                writer.close()
            process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            assert (await process.communicate(b"through"))[0] == b"through"
            assert await asyncio.to_thread(lambda: 5) == 5
        asyncio.run(main())
    """,
    "a database": """
        import sqlite3, tempfile, os
        with tempfile.TemporaryDirectory() as folder:
            base = sqlite3.connect(os.path.join(folder, "base"))
            base.execute("pragma journal_mode = wal")
            with base:
                base.execute("create table t (n)")
                base.executemany("insert into t values (?)", [(n,) for n in range(1000)])
            assert base.execute("select sum(n) from t").fetchone() == (499500,)
            base.close()
    """,
    "cryptography": """
        import ssl, hashlib, secrets, uuid
        ssl.create_default_context()
        assert len(secrets.token_bytes(32)) == 32 and uuid.uuid4() != uuid.uuid4()
        hashlib.sha256(b"x").hexdigest()
    """,
    "files and memory": """
        import os, shutil, tempfile, mmap, select, resource, signal, time
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(f"{folder}/a/b")
            with open(f"{folder}/a/f", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, 4096)
                file.truncate(100)
            os.link(f"{folder}/a/f", f"{folder}/a/hard"); os.symlink("f", f"{folder}/a/soft")
            shutil.copytree(f"{folder}/a", f"{folder}/copy", symlinks=True)
            os.mkfifo(f"{folder}/fifo"); os.utime(f"{folder}/a/f", (1e9, 1e9)); os.chmod(f"{folder}/a/f", 0o600)
            shutil.make_archive(f"{folder}/archive", "zip", f"{folder}/a")
        memory = os.memfd_create("m"); os.write(memory, b"x" * 4096)
        mapped = mmap.mmap(memory, 4096); mapped.madvise(mmap.MADV_DONTNEED); mapped.close()
        assert os.pidfd_open(os.getpid()) and len(os.sched_getaffinity(0))
        os.sched_setaffinity(0, os.sched_getaffinity(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
        select.epoll().close(); os.nice(0); os.getloadavg(); os.statvfs("/"); os.getgroups(); os.get_terminal_size
        signal.setitimer(signal.ITIMER_REAL, 60); signal.setitimer(signal.ITIMER_REAL, 0)
    """,
}


def program(*argv: str, strict: bool = False) -> str:
    """What it prints, run in a fork behind the wall. Fails with its standard error."""

    def work() -> list[object]:
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
        return [done.returncode, done.stdout, done.stderr[-4000:]]

    code, output, errors = behind_filter(work, strict=strict)
    assert code == 0, errors
    return str(output)


@pytest.mark.parametrize("subject", PYTHON)
def test_python_works(subject: str, tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(PYTHON[subject]))
    program(sys.executable, "-W", "error::ResourceWarning", str(file))


@pytest.mark.parametrize("subject", [subject for subject in PYTHON if subject not in ("a loop", "processes")])
def test_python_works_without_namespaces_or_network(subject: str, tmp_path: Path) -> None:
    """Except for what they are for: connections, and multiprocessing's servers, which listen on unix sockets."""
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(PYTHON[subject]))
    program(sys.executable, str(file), strict=True)


def test_a_loop_and_its_programs_work_without_namespaces_or_network() -> None:
    source = """
        import asyncio, multiprocessing
        async def main():
            process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            assert (await process.communicate(b"through"))[0] == b"through"
        asyncio.run(main())
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]
    """
    program(sys.executable, "-c", textwrap.dedent(source), strict=True)


def test_shells_and_their_tools_work(tmp_path: Path) -> None:
    script = r"""
        set -e
        cd "$1"
        mkdir -p a/b && printf 'x\ny\n' > a/f && cp -a a c && mv c d && ln -s f a/l && chmod 600 a/f && touch -d @1 a/f
        cat a/f | sort -r | head -1 | tr xy XY; tail -n 1 a/f; tar cf t.tar a && tar tf t.tar | wc -l
        find . -name f | xargs grep -l x | wc -l; sleep 0 & wait $!; trap 'echo bye' EXIT; ls -l /proc/self/fd >&2
        dd if=/dev/zero of=z bs=4096 count=4 2>/dev/null; truncate -s 0 z; stat -c %s z; nice true; timeout 5 true; sync
        rm -r a d; echo hello > /dev/null; df . >&2; id >&2; date >&2; nproc >&2; mkfifo p; env -i true
    """
    shell = shutil.which("sh")
    assert shell
    assert program(shell, "-c", textwrap.dedent(script), "sh", str(tmp_path)).split() == [
        "Y",
        "y",
        "4",
        "2",
        "0",
        "bye",
    ]


def test_node_works() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not on PATH")
    source = """
        const { Worker } = require('worker_threads'), fs = require('fs'), http = require('http');
        const { execSync } = require('child_process');
        new Worker('require("worker_threads").parentPort.postMessage(6 * 7)', { eval: true }).on('message', n => {
            const server = http.createServer((request, response) => response.end('' + n)).listen(0, '127.0.0.1', () =>
                http.get({ port: server.address().port, host: '127.0.0.1' }, response => response.on('data', data => {
                    fs.readFileSync('/proc/self/status');
                    console.log(data + execSync('echo more').toString());
                    server.close(); process.exit(0);
                })));
        });
    """
    assert program(node, "-e", source).strip() == "42more"


@pytest.mark.parametrize("command", [("java", "-version"), ("go", "version")])
def test_other_runtimes_start(command: tuple[str, ...]) -> None:
    found = shutil.which(command[0])
    if found is None:
        pytest.skip(f"{command[0]} is not on PATH")
    program(found, *command[1:])
