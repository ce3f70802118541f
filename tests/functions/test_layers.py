import os
from pathlib import Path

from eventfn.functions.layers import merge


def tree(root: Path, **files: str) -> Path:
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_later_layers_overwrite_files_of_earlier_ones(tmp_path: Path) -> None:
    first = tree(tmp_path / "first", python__both="1", python__one="1")
    second = tree(tmp_path / "second", python__both="2", bin__tool="2")
    merge([first, second], tmp_path / "data", tmp_path / "opt")
    read = {name: (tmp_path / "opt" / name).read_text() for name in ("python/both", "python/one", "bin/tool")}
    assert read == {"python/both": "2", "python/one": "1", "bin/tool": "2"}
    assert (first / "python" / "both").read_text() == "1", "nothing is written through a link"


def test_what_is_ours_is_linked_and_what_is_the_users_is_copied(tmp_path: Path) -> None:
    ours = tree(tmp_path / "data" / "layers" / "x", ours="1")
    users = tree(tmp_path / "layer", users="2")
    merge([ours, users], tmp_path / "data", tmp_path / "data" / "opt")
    opt = tmp_path / "data" / "opt"
    assert (opt / "ours").samefile(ours / "ours")
    assert not (opt / "users").samefile(users / "users")
    assert (opt / "users").stat().st_mtime_ns == (users / "users").stat().st_mtime_ns


def test_a_folder_a_file_and_a_link_take_each_others_place(tmp_path: Path) -> None:
    first = tree(tmp_path / "first", a__inside="1", b="1", target__kept="1")
    (first / "c").symlink_to("target")
    second = tree(tmp_path / "second", a="2", b__inside="2", c__inside="2")
    (second / "d").symlink_to("c")
    os.mkfifo(second / "pipe")
    merge([first, second], tmp_path / "data", tmp_path / "opt")
    opt = tmp_path / "opt"
    assert (opt / "a").read_text() == (opt / "b" / "inside").read_text() == (opt / "c" / "inside").read_text() == "2"
    assert [path.name for path in (opt / "target").iterdir()] == ["kept"], "nothing is written through a link"
    assert os.readlink(opt / "d") == "c"
    assert not (opt / "pipe").exists()
