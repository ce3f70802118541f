"""A supervisor in a process of its own, in one tier and as one user, and what must be true of it after any attack."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.sandbox.attacks.attack import Attack, handler
from tests.support import PATIENCE

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
# Not below /tmp, which is a function's to write to in the tier without namespaces.
HOME = "/var/tmp"

NEIGHBOUR = """
import uuid
ME = uuid.uuid4().hex
seen = []
def handler(event, context):
    seen.append(event)
    return ME
"""
NEIGHBOURS_EVENT = "event-of-the-neighbour"
NEIGHBOURS_SECRET = "variable-of-the-neighbour"
_GOES_WITHIN = 10.0  # seconds: what has ended takes the kernel a moment to be gone
GROWTH_KB = 48 * 1024  # some answers of 6 MB in flight, and what the allocator keeps of them


class Stage:
    def __init__(self, tier: str, who: str) -> None:
        if who == "root" and os.getuid() != 0:
            pytest.skip("the tests do not run as root")
        self.tier = tier
        self.who = who
        self.unharmed = True  # what has been looked at last
        self.folder = Path(tempfile.mkdtemp(prefix="eventfn-attacks-", dir=HOME))
        program = [sys.executable, str(HERE / "supervisor.py"), tier, str(self.folder)]
        if who != "root" and os.getuid() == 0:
            os.chown(self.folder, 65534, 65534)
            folders = [ROOT, sys.prefix, sys.base_prefix, *(path for path in sys.path if os.path.isdir(path))]
            program = [
                sys.executable,
                str(HERE / "as_nobody.py"),
                json.dumps([str(each) for each in folders]),
                *program,
            ]
        self._numbers = itertools.count()
        self._answers: dict[int, dict[str, Any]] = {}
        self._before = processes.children_of(os.getpid())
        self._log = (self.folder.parent / f"{self.folder.name}.log").open("w+")
        self.process = subprocess.Popen(
            program,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "connectors")])},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        hello = self._read()
        if "skip" in hello:
            pytest.skip(hello["skip"])
        self.walls: dict[str, bool] = hello.pop("walls")
        self.machine: dict[str, Any] = hello
        self.machine["neighbours_code"] = self.deploy("neighbour", NEIGHBOUR, environment={"SECRET": NEIGHBOURS_SECRET})
        self._neighbour = self.result("neighbour", NEIGHBOURS_EVENT)
        supervisor = self.process.pid
        (neighbour,) = processes.handlers(supervisor, "neighbour")
        zygote = processes.zygote(supervisor)
        self.machine["processes"] = {"neighbour": neighbour, "zygote": zygote}
        self._names_of_no_functions = {processes.name_of(zygote), "fn:init", "fn:neighbour"}
        self._at_first = self._state_at_rest()

    # --- what it is told ---------------------------------------------------------------------------------------------

    def ask(self, do: str, **arguments: Any) -> Any:
        return self.answer(self.begin(do, **arguments))

    def begin(self, do: str, **arguments: Any) -> int:
        number = next(self._numbers)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"number": number, "do": do, "with": arguments}) + "\n")
        self.process.stdin.flush()
        return number

    def answer(self, number: int) -> Any:
        while number not in self._answers:
            said = self._read()
            self._answers[said["number"]] = said
        said = self._answers.pop(number)
        assert "broken" not in said, said["broken"]
        return said["answer"]

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()  # pytest-timeout ends a supervisor that says nothing
        if not line:
            self._log.seek(0)
            raise AssertionError(f"the supervisor ended with {self.process.wait(PATIENCE)}:\n{self._log.read()}")
        said: dict[str, Any] = json.loads(line)
        return said

    def deploy(self, name: str, code: str, **settings: Any) -> str:
        files = handler(code) if "def handler" not in code else {**handler(""), "main.py": code}
        where: str = self.ask("deploy", name=name, files=files, settings={"timeout": 20.0, **settings})
        return where

    def invoke(self, name: str, event: object = None) -> Any:
        """What the handler returned, or what is said of its failure."""
        return self.outcome(self.begin("invoke", name=name, event=event))

    def outcome(self, number: int) -> Any:
        outcome = self.answer(number)
        if outcome["ok"]:
            return json.loads(outcome["payload"]) if outcome["payload"] != "long" else "long"
        return f"{outcome['type']}: {outcome['message'].rpartition(' Error: ')[2]}"

    def result(self, name: str, event: object = None) -> Any:
        outcome = self.ask("invoke", name=name, event=event)
        assert outcome["ok"], outcome
        return json.loads(outcome["payload"])

    # --- what is asserted of it --------------------------------------------------------------------------------------

    def stands_up_to(self, attack: Attack, reaches: Sequence[str] = ()) -> None:
        """`reaches`: services of the machine that it gets to by design."""
        name = "".join(letter if letter.isalnum() else "-" for letter in attack.name)
        where = self.deploy(name, attack.code, **attack.settings)
        answer = self.invoke(name, self.machine | {"code": where})
        self.ask("retire", name=name)
        expected = attack.expected(self.tier, self.walls)
        assert answer == expected, f"{attack.name}: {json.dumps(answer)} instead of {expected}"
        self._at_first["reached"] = [*self._at_first["reached"], *reaches]
        self.is_unharmed()

    def is_unharmed(self) -> None:
        """It lives, serves others, holds no more than before, and nothing is left that it does not know of."""
        assert self.result("neighbour") == self._neighbour, "the neighbour had to start again"
        until = time.monotonic() + _GOES_WITHIN
        while (harm := self._harm()) and time.monotonic() < until:
            time.sleep(0.01)
        assert not harm, harm
        self.unharmed = True

    def _harm(self) -> dict[str, Any]:
        """What differs from before."""
        state, first = self.state(), self._at_first
        same = ("data", "victim", "reached")
        harm: dict[str, Any] = {key: (first[key], state[key]) for key in same if state[key] != first[key]}
        # There may be more blank environments: a channel and a pidfd each, and a file of a cgroup where there is one.
        more = (state["children"] - first["children"]) * (3 if self.walls["total memory"] else 2)
        if state["descriptors"] != first["descriptors"] + more:
            harm["descriptors"] = first["descriptors"], state["descriptors"], more
        if state["resident_kb"] > first["resident_kb"] + GROWTH_KB:
            harm["memory"] = first["resident_kb"], state["resident_kb"]
        if strays := self.strays():
            harm["processes left"] = {pid: processes.name_of(pid) for pid in strays}
        return harm

    def state(self) -> dict[str, Any]:
        """Of the supervisor, and of what it guards."""
        children = len(processes.children_of(self.process.pid))
        found: dict[str, Any] = self.ask("state")
        return {**found, "children": children}

    def _state_at_rest(self) -> dict[str, Any]:
        """Not between two: blank environments are still being made, and a child is not counted with its descriptors."""
        before = self.state()
        while True:
            time.sleep(0.1)
            now = self.state()
            if (now["children"], now["descriptors"]) == (before["children"], before["descriptors"]):
                return now
            before = now

    def strays(self) -> set[int]:
        """Processes that were a function's, or were started by one, by their names; and inits that have lost theirs."""
        orphans = processes.children_of(os.getpid()) - self._before - {self.process.pid}
        for pid in [pid for pid in orphans if not processes.alive(pid)]:
            os.waitpid(pid, os.WNOHANG)
            orphans.discard(pid)
        below = processes.descendants_of(self.process.pid) - {self.machine["victim"]}
        looked_after = set()
        for pid in below:
            with contextlib.suppress(AssertionError):  # it is just gone
                looked_after.add(processes.parent_of(pid))
        names = {pid: processes.name_of(pid) for pid in below}
        idle = {pid for pid, name in names.items() if name == "fn:init" and pid not in looked_after}
        return orphans | idle | {pid for pid, name in names.items() if name not in self._names_of_no_functions}

    # --- its end -----------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(_GOES_WITHIN)
        finally:
            self.process.kill()
            self.process.stdout.close()
            self._log.close()
            os.unlink(self._log.name)
            shutil.rmtree(self.folder)
            for pid in processes.children_of(os.getpid()) - self._before - {self.process.pid}:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
