import asyncio
import fcntl
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventfn.errors import ConfigError
from eventfn.functions import archives, kept, requirements
from eventfn.functions.model import FileSystem, Function, Project, TriggerBinding, Where
from eventfn.functions.packages import prepare
from eventfn.units import Megabytes
from eventfn.workers.contract import Prepared
from eventfn.workers.runtimes import python


class Folder:
    """A project on disk, and what was said while its function was prepared."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / ".eventfn"
        self.said: list[str] = []
        self.spoken = asyncio.Event()
        (root / "code").mkdir()
        (root / "code" / "work.py").write_text("def handler(event, context): ...\n")
        self.function = Function(
            name="work", handler="work.handler", code=str(root / "code"), where=Where("eventfn.toml", 3)
        )

    async def prepare(self, **changes: Any) -> Prepared:
        self.function = msgspec.structs.replace(self.function, **changes)
        project = Project(folder=str(self.root), file=None, data=str(self.data), functions={"work": self.function})
        return await prepare(self.function, project, self.say)

    def say(self, line: str) -> None:
        self.said.append(line)
        self.spoken.set()

    async def problem(self, **changes: Any) -> str:
        with pytest.raises(ConfigError) as raised:
            await self.prepare(**changes)
        return str(raised.value)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def make_zip(path: Path, **files: str) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/") + ".py", content)
    return str(path)


# --- code and layers -------------------------------------------------------------------------------------------------


async def test_a_folder_is_used_in_place(folder: Folder) -> None:
    (folder.root / "layer" / "python").mkdir(parents=True)
    prepared = await folder.prepare(layers=(str(folder.root / "layer"),))
    assert prepared == Prepared(
        function=folder.function,
        arn="arn:aws:lambda:us-east-1:000000000000:function:work",
        version=prepared.version,
        task_root=str(folder.root / "code"),
        opt_root=str(folder.root / "layer"),
        bytecode_root=prepared.bytecode_root,
        hidden=(str(folder.root / ".eventfn"),),
        interpreter=python.find(folder.function).path,
        runtime=f"python{sys.version_info[0]}.{sys.version_info[1]}",
        runtime_version=python.find(folder.function).version,
        runtime_build=python.find(folder.function).build,
    )
    assert len(prepared.version) == 16
    assert [path.name for path in folder.data.iterdir()] == ["bytecode"]


async def test_zips_are_unpacked_by_their_hash(folder: Folder) -> None:
    code = make_zip(folder.root / "code.zip", work="1")
    layer = make_zip(folder.root / "layer.zip", python__library="2")
    prepared = await folder.prepare(code=code, layers=(layer,))
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    assert prepared.task_root == str(folder.data / "code" / f"{archives.digest(Path(code))}-{version}")
    assert prepared.opt_root is not None
    assert prepared.opt_root == str(folder.data / "layers" / f"{archives.digest(Path(layer))}-{version}")
    assert (Path(prepared.task_root) / "work.py").read_text() == "1"
    assert (Path(prepared.opt_root) / "python" / "library.py").read_text() == "2"


async def test_the_quota_is_for_code_and_layers_together(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED", 2 * 1024**2)
    code = make_zip(folder.root / "code.zip", work="x" * 1024**2)
    await folder.prepare(code=code, layers=(code,))
    layer = make_zip(folder.root / "layer.zip", library="x" * (1024**2 + 1))
    assert await folder.problem(code=code, layers=(layer,)) == (
        f"eventfn.toml:3: functions.work.layers: {layer} cannot be used: "
        "with it, code and layers unpack to more than 2 MB"
    )


async def test_a_zip_that_cannot_be_used_names_the_function(folder: Folder) -> None:
    with zipfile.ZipFile(folder.root / "evil.zip", "w") as archive:
        archive.writestr("../evil.py", "")
    problem = await folder.problem(code=str(folder.root / "evil.zip"))
    assert problem == (
        f"eventfn.toml:3: functions.work.code: {folder.root}/evil.zip cannot be used: "
        "../evil.py would be written outside its folder"
    )


async def test_a_data_folder_that_cannot_be_written(folder: Folder) -> None:
    folder.data.write_text("a file in its place")
    problem = await folder.problem(code=make_zip(folder.root / "code.zip", work=""))
    assert problem.startswith(f"eventfn.toml:3: functions.work.code: {folder.root}/code.zip cannot be unpacked: ")


# --- the version -----------------------------------------------------------------------------------------------------


async def version_after(folder: Folder, change: Callable[[], object]) -> bool:
    """Whether the change made another version."""
    before = await folder.prepare()
    change()
    return (await folder.prepare()).version != before.version


@pytest.mark.parametrize("file", ["code/work.py", "code/new.py", "code/template.html", "code/deep/er.json"])
async def test_code_makes_another_version(folder: Folder, file: str) -> None:
    (folder.root / file).parent.mkdir(exist_ok=True)
    assert await version_after(folder, lambda: (folder.root / file).write_text("changed"))


async def test_a_file_that_is_touched_or_removed_makes_another_version(folder: Folder) -> None:
    file = folder.root / "code" / "work.py"
    assert await version_after(folder, lambda: os.utime(file, ns=(1, 1)))
    assert await version_after(folder, file.unlink)


@pytest.mark.parametrize("file", [".git/index", "__pycache__/work.pyc", "node_modules/x.js", "venv/lib/x.py"])
async def test_what_is_no_code_makes_no_other_version(folder: Folder, file: str) -> None:
    path = folder.root / "code" / file
    (folder.root / "code" / "venv").mkdir()
    (folder.root / "code" / "venv" / "pyvenv.cfg").touch()
    path.parent.mkdir(parents=True, exist_ok=True)
    assert not await version_after(folder, lambda: path.write_text("changed"))


@pytest.mark.parametrize(
    ("file", "another"),
    [("app.py", True), ("code/work.py", True), ("outbox/photo.jpg", False), ("state/log.py", False)],
)
async def test_in_the_folder_of_the_project_only_python_is_code(folder: Folder, file: str, another: bool) -> None:
    folder.data = folder.root / "state"
    await folder.prepare(code=str(folder.root))
    (folder.root / file).parent.mkdir(exist_ok=True)
    assert await version_after(folder, lambda: (folder.root / file).write_text("changed")) is another


@pytest.mark.parametrize(
    ("changes", "another"),
    [
        ({"memory_size": Megabytes(256)}, True),
        ({"environment": {"A": "b"}}, True),
        ({"handler": "work.other"}, True),
        ({"description": "new"}, False),
        ({"where": Where("eventfn.toml", 99)}, False),
        ({"triggers": (TriggerBinding(type="http", source="a/http/1", settings=object()),)}, False),
    ],
)
async def test_which_configuration_makes_another_version(
    folder: Folder, changes: dict[str, Any], another: bool
) -> None:
    before = (await folder.prepare()).version
    assert ((await folder.prepare(**changes)).version != before) is another


async def test_a_layer_makes_another_version(folder: Folder) -> None:
    (folder.root / "layer").mkdir()
    await folder.prepare(layers=(str(folder.root / "layer"),))
    assert await version_after(folder, (folder.root / "layer" / "x.txt").touch)


# --- requirements ----------------------------------------------------------------------------------------------------


def make_wheel(where: Path, name: str, version: str = "1.0") -> None:
    """The smallest package that pip installs, with one module that holds its version."""
    where.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(where / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"]))


@pytest.fixture
def required(folder: Folder) -> Path:
    make_wheel(folder.root / "wheels", "tiny_library")
    file = folder.root / "requirements.txt"
    file.write_text("--no-index\n--find-links wheels\ntiny_library\n")
    return file


async def test_requirements_are_installed_once(folder: Folder, required: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await folder.prepare(requirements=str(required))
    installed = first.opt_root
    assert installed is not None
    assert Path(installed).parent == folder.data / "layers"
    assert (Path(installed) / "python" / "tiny_library.py").read_text() == "VERSION = '1.0'\n"
    assert any("Successfully installed" in line for line in folder.said)

    async def no_pip(*_: Any) -> None:
        raise AssertionError("installed again")

    monkeypatch.setattr(requirements, "_pip", no_pip)
    assert await folder.prepare() == first
    assert sorted(path.name for path in (folder.data / "layers").iterdir() if path.is_dir()) == [Path(installed).name]


async def test_other_requirements_are_another_layer(folder: Folder, required: Path) -> None:
    first = await folder.prepare(requirements=str(required))
    required.write_text(required.read_text() + "-r more.txt\n")
    more = folder.root / "more.txt"
    more.write_text("# one\n")
    second = await folder.prepare()
    more.write_text("# two\n")
    third = await folder.prepare()
    assert len({first.opt_root, second.opt_root, third.opt_root}) == 3
    assert len({first.version, second.version, third.version}) == 3


async def test_a_failed_pip_is_shown(folder: Folder, required: Path) -> None:
    required.write_text("--no-index\n--find-links wheels\ntiny_library==9\n")
    problem = await folder.problem(requirements=str(required))
    assert problem.startswith(
        f"eventfn.toml:3: functions.work.requirements: {required}: pip cannot install them, exit code 1:\n"
    )
    assert "No matching distribution found for tiny_library==9" in problem
    assert [path for path in (folder.data / "layers").iterdir() if path.is_dir()] == []
    # Once it is mended it installs.
    make_wheel(folder.root / "wheels", "tiny_library", "9")
    installed = (await folder.prepare()).opt_root
    assert installed is not None
    assert "'9'" in (Path(installed) / "python" / "tiny_library.py").read_text()


async def test_two_at_once_install_once(folder: Folder, required: Path) -> None:
    both = await asyncio.gather(*(folder.prepare(requirements=str(required)) for _ in range(2)))
    assert both[0] == both[1]
    assert sum("Successfully installed" in line for line in folder.said) == 1


async def test_it_waits_for_another_process(folder: Folder, required: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = folder.data / "layers"
    name = requirements.name(required, python.find(folder.function))
    layers.mkdir(parents=True)
    tried = asyncio.Event()
    really_open = kept._opened

    def opened(file: Path) -> int:
        tried.set()  # the first try to lock it follows before anybody else runs
        return really_open(file)

    monkeypatch.setattr(kept, "_opened", opened)
    with (layers / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        preparing = asyncio.create_task(folder.prepare(requirements=str(required)))
        await tried.wait()
        assert not list(layers.glob(".*.partial"))
        (layers / name / "python").mkdir(parents=True)  # the other process is done
    assert (await preparing).opt_root == str(layers / name)
    assert folder.said == []


async def test_what_a_killed_run_left_is_cleared(folder: Folder, required: Path) -> None:
    name = requirements.name(required, python.find(folder.function))
    partial = folder.data / "layers" / f".{name}.killed.partial"
    (partial / "python").mkdir(parents=True)
    (partial / "python" / "half.py").touch()
    installed = (await folder.prepare(requirements=str(required))).opt_root
    assert installed is not None
    assert not (Path(installed) / "python" / "half.py").exists()
    assert not partial.exists()


async def test_a_cancelled_install_leaves_nothing(folder: Folder, required: Path) -> None:
    preparing = asyncio.create_task(folder.prepare(requirements=str(required)))
    await folder.spoken.wait()  # the first line of pip
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing
    assert [path for path in (folder.data / "layers").iterdir() if path.is_dir()] == []


# --- who may read it -------------------------------------------------------------------------------------------------


async def test_what_only_its_owner_can_read_is_refused_where_a_function_is_somebody_else(folder: Folder) -> None:
    project = Project(folder=str(folder.root), file=None, data=str(folder.data), functions={})
    secret = folder.root / "code" / "secret.py"
    secret.touch(mode=0o600)
    with pytest.raises(ConfigError) as raised:
        await prepare(folder.function, project, folder.say, for_others=True)
    assert str(raised.value) == (
        f"eventfn.toml:3: functions.work.code: {secret} can be read by its owner alone, and where eventfn runs as "
        f"root, functions run as somebody else: chmod -R o+rX {folder.root}/code"
    )
    await prepare(folder.function, project, folder.say)
    within = msgspec.structs.replace(project, data=str(folder.root / "code" / "data"))
    with pytest.raises(ConfigError, match=rf": chmod o\+rX {secret}$"):  # -R would open the data folder too
        await prepare(folder.function, within, folder.say, for_others=True)
    secret.chmod(0o644)
    (folder.root / "layer").mkdir(mode=0o700)
    function = msgspec.structs.replace(folder.function, layers=(str(folder.root / "layer"),))
    with pytest.raises(ConfigError, match=f"functions.work.layers: .* chmod -R o\\+rX {folder.root}/layer"):
        await prepare(function, project, folder.say, for_others=True)


# --- bytecode --------------------------------------------------------------------------------------------------------


async def test_what_is_kept_holds_its_bytecode_and_what_is_not_has_it_beside(folder: Folder, required: Path) -> None:
    code = make_zip(folder.root / "code.zip", work="1")
    (folder.root / "layer" / "python").mkdir(parents=True)
    (folder.root / "layer" / "python" / "tiny_library.py").write_text("VERSION = 'of the layer'")
    pyc = f"__pycache__/tiny_library.{sys.implementation.cache_tag}.pyc"

    kept = await folder.prepare(code=code, requirements=str(required))
    assert kept.opt_root is not None
    assert kept.bytecode_root is None
    assert list(Path(kept.task_root).glob("__pycache__/work.*.pyc"))
    assert b"1.0" in (Path(kept.opt_root) / "python" / pyc).read_bytes()

    merged = await folder.prepare(layers=(str(folder.root / "layer"),))
    assert merged.opt_root is not None
    assert b"of the layer" in (Path(merged.opt_root) / "python" / pyc).read_bytes()

    in_place = await folder.prepare(code=str(folder.root / "code"), requirements=None)
    assert in_place.bytecode_root is not None
    assert list(Path(in_place.bytecode_root).glob("task/__pycache__/work.*.pyc"))
    assert (Path(in_place.bytecode_root) / "opt" / "python" / pyc).exists()


async def test_another_configuration_has_the_same_bytecode_and_another_source_has_not(folder: Folder) -> None:
    first = await folder.prepare()
    second = await folder.prepare(memory_size=Megabytes(256))
    (folder.root / "code" / "work.py").write_text("changed = 1")
    third = await folder.prepare()
    assert first.version != second.version
    assert first.bytecode_root == second.bytecode_root != third.bytecode_root


async def test_a_disk_that_takes_no_bytecode_keeps_nothing_from_running(folder: Folder) -> None:
    folder.data.mkdir()
    (folder.data / "bytecode").write_text("a file in its place")
    prepared = await folder.prepare()
    assert prepared.bytecode_root is None
    (said,) = folder.said  # Python 3.13 adds the path
    assert said.startswith("not compiled ahead, so that each environment does it: [Errno 20] Not a directory")


# --- file systems ----------------------------------------------------------------------------------------------------


async def test_a_file_system_that_is_missing_is_made(folder: Folder) -> None:
    shared = folder.root / "deep" / "shared"
    await folder.prepare(file_system_configs=(FileSystem(path=str(shared)),))
    assert shared.is_dir()
    (folder.root / "file").touch()
    problem = await folder.problem(file_system_configs=(FileSystem(path=str(folder.root / "file")),))
    assert problem.startswith(
        f"eventfn.toml:3: functions.work.file_system_configs: {folder.root}/file cannot be made: [Errno 17] File exists"
    )
