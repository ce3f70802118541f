from pathlib import Path

import msgspec
import pytest

from eventfn.declaring.file_system_checks import mistakes
from eventfn.functions.model import FileSystem, Function, Project

PATH = ("functions", "work")


def found(folder: Path, *configs: FileSystem, data: str = ".eventfn") -> list[str]:
    function = Function(name="work", handler="work.handler", code=str(folder), file_system_configs=configs)
    project = Project(folder=str(folder), file=None, data=str(folder / data), functions={"work": function})
    listed: list[str] = []
    for path, message in mistakes(function, project, PATH):
        assert path[:3] == (*PATH, "file_system_configs")
        listed.append(f"{path[3]}.{path[4]}: {message}")
    return listed


@pytest.mark.parametrize(
    ("mounted", "taken"),
    [
        ("/", "/var/task"),
        ("/var", "/var/task"),
        ("/var/task", "/var/task"),
        ("/var/task/data", "/var/task"),
        ("/opt/x", "/opt"),
        ("/tmp", "/tmp"),
        ("/tmp/x", "/tmp"),
        ("/proc/1", "/proc"),
        ("/dev/shm", "/dev"),
        ("/etc/ssl", "/etc"),
        ("/usr/local", "/usr"),
        ("/bin", "/bin"),
        ("/lib64", "/lib64"),
        ("/sys", "/sys"),
        ("/var/runtime", "/var/runtime"),
        ("/var/bytecode/x", "/var/bytecode"),
        ("/mnt/data", None),
        ("/var/data", None),
        ("/optional", None),
        ("/home/x/outbox", None),
    ],
)
def test_an_environment_keeps_its_own_folders(mounted: str, taken: str | None, tmp_path: Path) -> None:
    expected = [] if taken is None else [
        f"0.local_mount_path: {taken} is the environment's own: choose another, such as /mnt/data"
    ]  # fmt: skip
    assert found(tmp_path, FileSystem(path=str(tmp_path / "x"), local_mount_path=mounted)) == expected


@pytest.mark.parametrize("mounted", ["mnt/x", "", "/mnt/../etc", "/mnt/x/", "/mnt//x", "/mnt/./x"])
def test_a_mount_path_is_absolute_and_normalised(mounted: str, tmp_path: Path) -> None:
    assert found(tmp_path, FileSystem(path=str(tmp_path / "x"), local_mount_path=mounted)) == [
        '0.local_mount_path: expected an absolute path without "..", "//" or a slash at its end, ' + f'got "{mounted}"'
    ]


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("/opt/project/outbox", "/opt"),
        ("/etc/ssl", "/etc"),
        ("/tmp", "/tmp"),
        ("/tmp/project/outbox", None),
        ("/srv/outbox", None),
    ],
)
def test_without_one_the_real_path_is_held_to_the_same(path: str, taken: str | None, tmp_path: Path) -> None:
    expected = [] if taken is None else [
        f"0.path: a function has its own {taken}, so that it cannot find {path} there: say where with local_mount_path"
    ]  # fmt: skip
    assert found(tmp_path, FileSystem(path=path, read_only=True), data="/srv/data") == expected


def test_no_two_lie_in_each_other(tmp_path: Path) -> None:
    one, inside = str(tmp_path / "one"), str(tmp_path / "one" / "inside")
    assert found(
        tmp_path,
        FileSystem(path=one),
        FileSystem(path=inside, read_only=True),
        FileSystem(path=inside, local_mount_path="/mnt/x"),
        FileSystem(path=one, local_mount_path="/mnt/x"),
        FileSystem(path=one, local_mount_path="/mnt/y"),
    ) == [
        f"1.path: {inside} is not apart from {one}, of file_system_configs[0]",
        "3.local_mount_path: /mnt/x is not apart from /mnt/x, of file_system_configs[2]",
    ]


def test_the_data_folder_is_nobodys(tmp_path: Path) -> None:
    for path, data in ((tmp_path, ".eventfn"), (tmp_path / "state" / "layers", "state"), (tmp_path / "state", "state")):
        assert found(tmp_path, FileSystem(path=str(path), local_mount_path="/mnt/x"), data=data) == [
            f"0.path: {path} and the data folder {tmp_path / data} lie in each other: no function may reach that one"
        ]


@pytest.mark.parametrize("what", ["eventfn.toml", "code", "layer.zip", "deep/requirements.txt"])
def test_no_function_writes_what_decides_what_runs(what: str, tmp_path: Path) -> None:
    root = str(tmp_path)
    function = Function(
        name="other",
        handler="work.handler",
        code=f"{root}/1/code",
        layers=(f"{root}/2/layer.zip",),
        requirements=f"{root}/3/deep/requirements.txt",
    )
    number = {"code": 1, "layer.zip": 2, "deep/requirements.txt": 3}.get(what, 4)
    project = Project(folder=root, file=f"{root}/4/eventfn.toml", data=f"{root}/data", functions={"other": function})

    def said(path: str, *, read_only: bool = False) -> list[str]:
        work = msgspec.structs.replace(
            function, file_system_configs=(FileSystem(path=path, local_mount_path="/mnt/x", read_only=read_only),)
        )
        return [message for _, message in mistakes(work, project, PATH)]

    folder = f"{root}/{number}"
    assert said(folder) == [
        f"{folder} holds {folder}/{what}, and no function may write that: name a folder below, or read_only = true"
    ]
    assert said(folder, read_only=True) == []
    assert said(f"{folder}/{what}/below") == []
    assert said(f"{folder}/beside") == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert found(tmp_path, FileSystem(path=str(tmp_path / "file"))) == [f"0.path: {tmp_path}/file is not a folder"]
    assert found(tmp_path, FileSystem(path=str(tmp_path / "new" / "folder"))) == []
