import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from eventfn.functions.archives import BadArchive, unpack, unpacked_size

Entry = tuple[str, str | bytes, int]  # name, content, unix mode

FILE = stat.S_IFREG
LINK = stat.S_IFLNK | 0o777


@pytest.fixture
def into(tmp_path: Path) -> Path:
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


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


def test_content_modes_and_links_are_kept(make: Callable[..., Path], into: Path) -> None:
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
    unpack(archive, into)
    assert (into / "a.py").read_text() == "print(1)"
    assert mode(into / "a.py") == 0o640
    assert mode(into / "bin" / "run") == 0o755  # no set-user-id
    assert mode(into / "plain.txt") == 0o644
    assert mode(into / "empty") == 0o755
    assert (into / "lib" / "link.py").read_text() == "print(1)"
    assert (into / "lib" / "folder" / "run").exists()


def test_a_zip_from_a_system_without_modes(make: Callable[..., Path], into: Path) -> None:
    unpack(make(("a.py", "", 0o120777), system=0), into)
    assert mode(into / "a.py") == 0o644
    assert not (into / "a.py").is_symlink()


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
def test_what_a_zip_may_not_hold(
    make: Callable[..., Path], tmp_path: Path, into: Path, entries: list[Entry], reason: str
) -> None:
    with pytest.raises(BadArchive, match=reason):
        unpack(make(*entries), into)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code.zip", "into"]


def test_no_file_is_written_through_a_link(make: Callable[..., Path], tmp_path: Path, into: Path) -> None:
    (tmp_path / "outside").mkdir()
    archive = make(("out", str(tmp_path / "outside"), LINK), ("out/evil.py", "", 0))
    with pytest.raises((BadArchive, FileExistsError)):
        unpack(archive, into)
    assert list((tmp_path / "outside").iterdir()) == []


def test_links_in_a_circle(make: Callable[..., Path], into: Path) -> None:
    unpack(make(("a", "b", LINK), ("b", "a", LINK)), into)
    assert (into / "a").is_symlink()


@pytest.mark.parametrize("damage", [b"PK\x03\x04 not a zip", b""])
def test_what_is_no_zip(tmp_path: Path, into: Path, damage: bytes) -> None:
    (tmp_path / "code.zip").write_bytes(damage)
    with pytest.raises(BadArchive):
        unpacked_size(tmp_path / "code.zip")
    with pytest.raises(BadArchive):
        unpack(tmp_path / "code.zip", into)


def test_a_zip_with_a_wrong_checksum(make: Callable[..., Path], into: Path) -> None:
    archive = make(("a.py", "content", 0))
    archive.write_bytes(archive.read_bytes().replace(b"content", b"CONTENT", 1))
    with pytest.raises(BadArchive, match="Bad CRC-32"):
        unpack(archive, into)


def test_a_zip_that_says_it_is_small(tmp_path: Path, into: Path) -> None:
    """The size that is held against the quota is the most that is ever written."""
    archive = tmp_path / "code.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("zeros", b"\0" * 1_000_000)
    declared = (1_000_000).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(declared, (10).to_bytes(4, "little")))
    assert unpacked_size(archive) == 10
    with pytest.raises(BadArchive):
        unpack(archive, into)
