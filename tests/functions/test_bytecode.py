import importlib.util
import marshal
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eventfn.errors import ConfigError
from eventfn.functions import bytecode, compiling, contents
from eventfn.functions.contents import Contents
from eventfn.functions.model import Function
from eventfn.workers.runtimes import python
from eventfn.workers.runtimes.python import Interpreter

TAG = sys.implementation.cache_tag
ANY = Function(name="any", handler="a.b", code="/")
OURS = python.find(ANY)


def look(folder: Path) -> Contents:
    return contents.of_code(str(folder), "elsewhere", "data", for_others=False)


def read(pyc: Path) -> object:
    """What its module is called by its own code."""
    data = pyc.read_bytes()
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(data[4:8], "little") == 0b01, "hashed, and never held against its source"
    names: dict[str, object] = {}
    exec(marshal.loads(data[16:]), names)
    return names["NAME"]


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "code" / "package").mkdir(parents=True)
    (tmp_path / "code" / "a.py").write_text("NAME = 'a'")
    (tmp_path / "code" / "package" / "b.py").write_text("NAME = 'b'")
    return tmp_path / "code"


async def test_a_folder_of_ours_holds_its_own(code: Path) -> None:
    await bytecode.add(code, OURS)
    assert read(code / "__pycache__" / f"a.{TAG}.pyc") == "a"
    assert read(code / "package" / "__pycache__" / f"b.{TAG}.pyc") == "b"


async def test_what_is_compiled_is_left_alone(code: Path) -> None:
    (code / "__pycache__").mkdir()
    (code / "__pycache__" / f"a.{TAG}.pyc").write_text("compiled before")
    await bytecode.add(code, OURS)
    assert (code / "__pycache__" / f"a.{TAG}.pyc").read_text() == "compiled before"


async def test_code_in_place_is_left_as_it_is(code: Path, tmp_path: Path) -> None:
    made = await bytecode.beside({"task": look(code), "opt": look(code / "package")}, OURS, tmp_path / "store")
    assert made is not None
    assert read(made / "task" / "__pycache__" / f"a.{TAG}.pyc") == "a"
    assert read(made / "task" / "package" / "__pycache__" / f"b.{TAG}.pyc") == "b"
    assert read(made / "opt" / "__pycache__" / f"b.{TAG}.pyc") == "b"
    assert sorted(path.name for path in code.rglob("*")) == ["a.py", "b.py", "package"]
    assert await bytecode.beside({"task": look(code), "opt": look(code / "package")}, OURS, tmp_path / "store") == made


async def test_without_a_source_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.so").touch()
    assert await bytecode.beside({"task": look(tmp_path / "code")}, OURS, tmp_path / "store") is None
    assert await bytecode.beside({}, OURS, tmp_path / "store") is None
    assert not (tmp_path / "store").exists()


async def test_a_changed_source_is_compiled_and_the_others_are_taken_over(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await bytecode.beside({"task": look(code)}, OURS, tmp_path / "store")
    compiled: list[str] = []
    really = compiling.compile_all

    def noted(pairs: list[tuple[str, str]]) -> None:
        compiled.extend(source for source, _ in pairs)
        really(pairs)

    monkeypatch.setattr(compiling, "compile_all", noted)
    (code / "a.py").write_text("NAME = 'changed'")
    (code / "new.py").write_text("NAME = 'new'")
    second = await bytecode.beside({"task": look(code)}, OURS, tmp_path / "store")
    assert first is not None
    assert second is not None
    assert sorted(compiled) == [f"{code}/a.py", f"{code}/new.py"]
    assert read(second / "task" / "__pycache__" / f"a.{TAG}.pyc") == "changed"
    assert read(first / "task" / "__pycache__" / f"a.{TAG}.pyc") == "a", "an environment may still run from it"
    b = f"task/package/__pycache__/b.{TAG}.pyc"
    assert (first / b).samefile(second / b)


async def test_a_source_that_only_looks_older_is_another(code: Path, tmp_path: Path) -> None:
    first = await bytecode.beside({"task": look(code)}, OURS, tmp_path / "store")
    (code / "a.py").write_text("NAME = 'z'")
    os.utime(code / "a.py", ns=(1, 1))
    second = await bytecode.beside({"task": look(code)}, OURS, tmp_path / "store")
    assert second is not None
    assert second != first
    assert read(second / "task" / "__pycache__" / f"a.{TAG}.pyc") == "z"


@pytest.mark.parametrize(
    "text", [b"def (:", b"\0", b"# coding: nothing\n", b"x = '\xff'", b"(" * 100_000, b"-" * 500_000 + b"1"]
)
async def test_what_does_not_compile_is_left_out(code: Path, tmp_path: Path, text: bytes) -> None:
    (code / "bad.py").write_bytes(text)
    made = await bytecode.beside({"task": look(code)}, OURS, tmp_path / "store")
    assert made is not None
    assert sorted(path.name for path in made.rglob("*.pyc")) == [f"a.{TAG}.pyc", f"b.{TAG}.pyc"]
    (code / "a.py").write_text("NAME = 'changed'")
    assert await bytecode.beside({"task": look(code)}, OURS, tmp_path / "store") != made


async def test_a_warning_is_the_functions_affair(code: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (code / "a.py").write_text(r"NAME = '\d'")
    made = await bytecode.beside({"task": look(code)}, OURS, tmp_path / "store")
    assert made is not None
    assert read(made / "task" / "__pycache__" / f"a.{TAG}.pyc") == r"\d"
    assert capfd.readouterr().err == ""


async def test_much_is_compiled_by_a_process_of_the_interpreter(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(_: object) -> None:
        raise AssertionError("compiled in this process")

    monkeypatch.setattr(compiling, "compile_all", here)
    (code / "big.py").write_text("NAME = 'big'\n" + "# long\n" * 30_000)
    (code / "bad.py").write_text("def (:")
    made = await bytecode.beside({"task": look(code)}, OURS, tmp_path / "store")
    assert made is not None
    found = {read(pyc) for pyc in made.rglob("*.pyc")}
    assert found == {"a", "b", "big"}


@pytest.mark.parametrize("runtime", ["python3.12", "python3.13"])
async def test_each_version_of_python_compiles_its_own(code: Path, tmp_path: Path, runtime: str) -> None:
    try:
        other = python.find(Function(name="any", handler="a.b", code="/", runtime=runtime))
    except ConfigError as error:
        pytest.skip(str(error))
    made = await bytecode.beside({"task": look(code)}, other, tmp_path / "store")
    assert made is not None
    tag = f"cpython-{runtime.removeprefix('python').replace('.', '')}"
    pyc = made / "task" / "__pycache__" / f"a.{tag}.pyc"
    script = f"import importlib.util as u, sys; sys.exit(open({str(pyc)!r}, 'rb').read(4) != u.MAGIC_NUMBER)"
    assert subprocess.run([other.path, "-I", "-c", script], check=False).returncode == 0


async def test_a_compiler_that_cannot_write_says_so(code: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file in its place")
    with pytest.raises(OSError, match="Not a directory"):
        await bytecode.beside({"task": look(code)}, OURS, tmp_path / "store")
    other = Interpreter("/bin/false", "3.1.0")
    with pytest.raises(OSError, match="/bin/false could not compile: exit code 1"):
        await bytecode.beside({"task": look(code)}, other, tmp_path / "other")
    assert list((tmp_path / "other").glob("[!.]*")) == []
