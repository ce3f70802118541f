import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from eventfn.functions import archives
from eventfn.functions.archives import BadArchive, unpack, unpacked_size

Entry = tuple[str, str | bytes, int]  # name, content, unix mode

FILE = stat.S_IFREG
LINK = stat.S_IFLNK | 0o777


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    def make(*entries: Entry, system: int = 3) -> Path:
        with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
            for name, content, mode in entries:
                info = zipfile.ZipInfo(name)
                info.external_attr = mode << 16 | 0x20  # DOS archive bit: with 0 zipfile makes up a mode
                info.create_system = system
                archive.writestr(info, content)
        return tmp_path / "code.zip"

    return make


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_content_modes_and_links_are_kept(make: Callable[..., Path], tmp_path: Path) -> None:
    archive = make(
        ("a.py", "print(1)", FILE | 0o640),
        ("bin/run", "#!/bin/sh", FILE | 0o4755),
        ("plain.txt", "", 0),
        ("empty/", "", stat.S_IFDIR | 0o700),
        ("lib/link.py", "../a.py", LINK),
        ("lib/folder", "../bin", LINK),
        ("lib/nowhere", "missing", LINK),
    )
    assert unpacked_size(archive) == 8 + 9 + 7 + 6 + 7
    folder = unpack(archive, tmp_path / "store")
    assert folder == tmp_path / "store" / archives.digest(archive)
    assert (folder / "a.py").read_text() == "print(1)"
    assert mode(folder / "a.py") == 0o640
    assert mode(folder / "bin" / "run") == 0o755  # no set-user-id
    assert mode(folder / "plain.txt") == 0o644
    assert mode(folder / "empty") == 0o755
    assert (folder / "lib" / "link.py").read_text() == "print(1)"
    assert (folder / "lib" / "folder" / "run").exists()
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [folder.name]


def test_a_zip_from_a_system_without_modes(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = unpack(make(("a.py", "", 0o120777), system=0), tmp_path / "store")
    assert mode(folder / "a.py") == 0o644
    assert not (folder / "a.py").is_symlink()


def test_the_second_time_nothing_is_written(make: Callable[..., Path], tmp_path: Path) -> None:
    archive = make(("a.py", "1", 0))
    folder = unpack(archive, tmp_path / "store")
    (folder / "a.py").unlink()
    assert unpack(archive, tmp_path / "store") == folder
    assert not (folder / "a.py").exists()


def test_what_a_killed_run_left_is_cleared(make: Callable[..., Path], tmp_path: Path) -> None:
    archive = make(("a.py", "1", 0))
    partial = tmp_path / "store" / f".{archives.digest(archive)}.{os.getpid()}.partial"
    partial.mkdir(parents=True)
    (partial / "half.py").touch()
    assert [path.name for path in unpack(archive, tmp_path / "store").iterdir()] == ["a.py"]
    assert not partial.exists()


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([("../evil.py", "", 0)], "../evil.py would be written outside its folder"),
        ([("good.py", "", 0), ("a/../../evil.py", "", 0)], "a/../../evil.py would be written outside its folder"),
        ([("/etc/evil", "", 0)], "/etc/evil would be written outside its folder"),
        ([("link", "/etc/passwd", LINK)], "the link link leads out of the zip"),
        ([("a/link", "../../outside", LINK)], "the link a/link leads out of the zip"),
        # By its text the second one stays inside; by way of the first it does not.
        ([("d/up", "..", LINK), ("d/out", "up/../outside", LINK)], "the link d/out leads out of the zip"),
        ([("link", "a\0b", LINK)], "embedded null"),
        ([("pipe", "", stat.S_IFIFO | 0o600)], "pipe is neither a file nor a folder nor a link"),
        ([("device", "", stat.S_IFCHR | 0o600)], "device is neither a file nor a folder nor a link"),
    ],
)
def test_what_a_zip_may_not_hold(make: Callable[..., Path], tmp_path: Path, entries: list[Entry], reason: str) -> None:
    with pytest.raises(BadArchive, match=reason):
        unpack(make(*entries), tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code.zip", "store"]


def test_no_file_is_written_through_a_link(make: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    archive = make(("out", str(tmp_path / "outside"), LINK), ("out/evil.py", "", 0))
    with pytest.raises((BadArchive, FileExistsError)):
        unpack(archive, tmp_path / "store")
    assert list((tmp_path / "outside").iterdir()) == []


def test_links_in_a_circle(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = unpack(make(("a", "b", LINK), ("b", "a", LINK)), tmp_path / "store")
    assert (folder / "a").is_symlink()


@pytest.mark.parametrize("damage", [b"PK\x03\x04 not a zip", b""])
def test_what_is_no_zip(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "code.zip").write_bytes(damage)
    with pytest.raises(BadArchive):
        unpacked_size(tmp_path / "code.zip")
    with pytest.raises(BadArchive):
        unpack(tmp_path / "code.zip", tmp_path / "store")


def test_a_zip_with_a_wrong_checksum(make: Callable[..., Path], tmp_path: Path) -> None:
    archive = make(("a.py", "content", 0))
    archive.write_bytes(archive.read_bytes().replace(b"content", b"CONTENT", 1))
    with pytest.raises(BadArchive, match="Bad CRC-32"):
        unpack(archive, tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []


def test_a_zip_that_says_it_is_small(make: Callable[..., Path], tmp_path: Path) -> None:
    """The size that is held against the quota is the most that is ever written."""
    archive = tmp_path / "code.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("zeros", b"\0" * 1_000_000)
    declared = (1_000_000).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(declared, (10).to_bytes(4, "little")))
    assert unpacked_size(archive) == 10
    with pytest.raises(BadArchive):
        unpack(archive, tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []


def test_two_at_once_leave_one(make: Callable[..., Path], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").touch()
        archives.keep(tmp_path / name, kept)
    assert [path.name for path in kept.iterdir()] == ["a.py"]
