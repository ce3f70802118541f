import os
from pathlib import Path

import pytest

from eventfn.functions import contents
from eventfn.functions.contents import NotForOthers


def tree(root: Path, *files: str) -> str:
    root.chmod(0o755)
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return str(root)


FILES = ("a.py", "a.so", "a.html", "deep/b.py", "__pycache__/a.pyc", ".git/x.py", "venv/pyvenv.cfg", "venv/x.py",
         "node_modules/x.py", "state/x.py")  # fmt: skip


@pytest.mark.parametrize(
    ("project", "expected"),
    [("elsewhere", ["a.html", "a.py", "a.so", "deep/b.py"]), ("", ["a.py", "a.so", "deep/b.py"])],
)
def test_what_of_a_folder_is_code(tmp_path: Path, project: str, expected: list[str]) -> None:
    folder = tree(tmp_path, *FILES)
    found = contents.of_code(folder, project or folder, f"{folder}/state", for_others=False)
    assert [file.path for file in found.files] == expected
    assert [file.path for file in found.sources()] == ["a.py", "deep/b.py"]


def test_of_a_layer_it_is_all(tmp_path: Path) -> None:
    found = contents.of_layer(tree(tmp_path, *FILES), for_others=False)
    assert [file.path for file in found.files] == sorted(set(FILES) - {"__pycache__/a.pyc"})


def test_when_it_was_changed_last(tmp_path: Path) -> None:
    folder = tree(tmp_path, "a.py", "b.py")
    for name, time in (("a.py", 5), ("b.py", 3)):
        os.utime(tmp_path / name, ns=(0, time))
    assert contents.of_layer(folder, for_others=False).newest_ns() == 5


@pytest.mark.parametrize(
    ("path", "mode"), [("deep", 0o751), ("deep", 0o754), ("deep/b.py", 0o640), ("deep/c.html", 0o600), ("", 0o700)]
)
def test_what_others_cannot_read_is_named(tmp_path: Path, path: str, mode: int) -> None:
    folder = tree(tmp_path, "a.py", "deep/b.py", "deep/c.html")
    (tmp_path / path).chmod(mode)
    with pytest.raises(NotForOthers) as raised:
        contents.of_layer(folder, for_others=True)
    assert raised.value.path == str(tmp_path / path)
    with pytest.raises(NotForOthers) as raised:
        contents.of_code(folder, "elsewhere", "data", for_others=True)
    assert raised.value.path == str(tmp_path / path)
    if os.geteuid() == 0:  # who else could look into them
        assert contents.of_layer(folder, for_others=False).files


def test_a_copy_of_a_data_folder_is_no_code_either(tmp_path: Path) -> None:
    folder = tree(tmp_path, "a.py", "backup/eventfn.db", "backup/bytecode/b.py")
    (tmp_path / "backup").chmod(0o700)
    assert [file.path for file in contents.of_code(folder, folder, "data", for_others=True).files] == ["a.py"]


def test_what_is_no_code_may_be_anybodys(tmp_path: Path) -> None:
    folder = tree(tmp_path, "a.py", "outbox/secret.txt", ".git/x")
    (tmp_path / "outbox" / "secret.txt").chmod(0o600)
    (tmp_path / ".git").chmod(0o700)
    assert [file.path for file in contents.of_code(folder, folder, "data", for_others=True).files] == ["a.py"]
