"""The session that README.md shows to somebody who comes from Lambda, typed as it stands there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.servers.needed import need
from tests.support import PATIENCE

README = Path(__file__).parents[1] / "README.md"
PORT = "9001"  # as README has it


def cli_version_2() -> str | None:
    """The first `aws` on PATH that is of version 2: only that one knows `logs tail`, and it is not on PyPI."""
    for folder in os.get_exec_path():
        found = shutil.which("aws", path=folder)
        if found is None:
            continue
        told = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
        if told.stdout.startswith("aws-cli/2"):
            return found
    return None


def section() -> str:
    _, _, after = README.read_text().partition("## Coming from Lambda\n")
    found, _, _ = after.partition("\n## ")
    assert found, "README has no section for those who come from Lambda"
    return found


def block(language: str) -> str:
    _, _, after = section().partition(f"```{language}\n")
    return after.partition("```")[0]


def typed() -> list[tuple[str, str]]:
    """(command, what README shows that it prints)"""
    steps: list[tuple[str, str]] = []
    for line in block("console").splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], ""))
        elif steps[-1][0].endswith("\\"):
            steps[-1] = (f"{steps[-1][0]}\n{line}", "")
        else:
            steps[-1] = (steps[-1][0], steps[-1][1] + line + "\n")
    return steps


class Shell:
    """One bash for all commands, since they share variables and an alias."""

    def __init__(self, folder: Path, aws: str) -> None:
        tools = folder / "tools"
        tools.mkdir()
        (tools / "aws").symlink_to(aws)
        path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder / "project",
            env={**os.environ, "PATH": path, "HOME": str(folder), "AWS_PAGER": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.run("shopt -s expand_aliases")

    def run(self, command: str) -> str:
        """What it prints; AssertionError when it fails."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f'{command}\necho "done $?"\n')
        self._bash.stdin.flush()
        printed = ""
        for line in self._bash.stdout:
            if (end := line.find("done ")) >= 0 and line[end + 5 :].strip().isdigit():
                assert line[end:].strip() == "done 0", f"{command}\n{printed}{line}"
                return printed + line[:end]
            printed += line
        raise AssertionError(f"bash ended:\n{command}\n{printed}")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGTERM)
        self._bash.communicate()


async def listening(port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)


async def test_the_session_prints_what_readme_shows(tmp_path: Path) -> None:
    aws = cli_version_2()
    need(
        None
        if aws and shutil.which("zip")
        else "README's session takes the AWS CLI 2 and zip: apt-get install awscli zip"
    )
    assert aws is not None
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    project = tmp_path / "project"
    project.mkdir()
    (project / "eventfn.toml").write_text(block("toml").replace(PORT, str(port)))
    shell = Shell(tmp_path, aws)
    try:
        for command, shown in typed():
            background = command.endswith(" &")
            mine = command.replace(PORT, str(port))
            printed = await asyncio.to_thread(shell.run, f"{mine[:-2]} >run.log 2>&1 &" if background else mine)
            if background:
                await listening(port)
            if shown:
                assert printed.rstrip("\n") == shown.rstrip("\n"), command
        assert "REPORT RequestId: " in printed, "the last command shows the function's log"
    finally:
        shell.close()
