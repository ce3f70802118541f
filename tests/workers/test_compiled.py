"""Imports from bytecode, in an interpreter of their own: the finder stays in sys.path_hooks."""

import subprocess
import sys
from pathlib import Path

import pytest

from eventfn.functions import bytecode, contents
from eventfn.functions.model import Function
from eventfn.workers.child import compiled
from eventfn.workers.runtimes import python

OURS = python.find(Function(name="any", handler="a.b", code="/"))

PROGRAM = """
import runpy, sys
sys.dont_write_bytecode = True
use = runpy.run_path(sys.argv[1])["use"]
code, bytecode = sys.argv[2:4]
sys.path.insert(0, code)
use({code: bytecode})
import importlib, importlib.resources
for name in sys.argv[4:]:
    module = importlib.import_module(name)
    print(name, module.NAME, module.__file__.removeprefix(code), end=" ")
    try:
        module.fails()
    except LookupError as error:
        print(error.__traceback__.tb_next.tb_frame.f_code.co_filename.removeprefix(code))
print(importlib.resources.files("package").joinpath("data.txt").read_text())
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    code = tmp_path / "code"
    (code / "package").mkdir(parents=True)
    for name in ("first", "second", "package/__init__", "package/inner"):
        (code / f"{name}.py").write_text("NAME = 'new'\ndef fails():\n    raise LookupError\n")
    (code / "package" / "data.txt").write_text("data")
    return code


def imported(code: Path, from_: Path, *names: str) -> list[str]:
    arguments = [OURS.path, "-I", "-S", "-c", PROGRAM, compiled.__file__, str(code), str(from_), *names]
    ran = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


async def test_modules_come_from_their_bytecode_and_say_where_their_source_is(code: Path, tmp_path: Path) -> None:
    made = await bytecode.beside(
        {"task": contents.of_code(str(code), "", "", for_others=False)}, OURS, tmp_path / "store"
    )
    assert made is not None
    # Only what was compiled still says "new": that the sources were never compiled again is seen by it.
    for name in ("first", "package/__init__", "package/inner"):
        (code / f"{name}.py").write_text("NAME = 'compiled again'\ndef fails(): raise LookupError\n")
    (made / "task" / "__pycache__" / f"second.{sys.implementation.cache_tag}.pyc").unlink()
    assert imported(code, made / "task", "first", "second", "package", "package.inner") == [
        "first new /first.py /first.py",
        "second new /second.py /second.py",
        "package new /package/__init__.py /package/__init__.py",
        "package.inner new /package/inner.py /package/inner.py",
        "data",
    ]


async def test_a_folder_without_bytecode_imports_as_ever(code: Path, tmp_path: Path) -> None:
    assert imported(code, tmp_path / "nothing", "first")[0] == "first new /first.py /first.py"


def test_the_standard_library_keeps_its_own(code: Path, tmp_path: Path) -> None:
    (code / "first.py").write_text("import csv\nNAME = csv.__spec__.cached\ndef fails(): raise LookupError\n")
    (line, _) = imported(code, tmp_path / "nothing", "first")
    assert line.split()[1].startswith(f"{Path(OURS.path).parents[1]}/lib/"), "sys.pycache_prefix would be for all"
