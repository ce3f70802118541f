import contextlib
import io
import stat
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.functions import archives
from eventfn.functions.archives import BadArchive, Checked, TooMuch, check, unpack, unpacked_size

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
        ([("link", "a\0b", LINK)], "the link link leads nowhere"),
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
    with pytest.raises(BadArchive):
        unpack(archive, into)
    assert list((tmp_path / "outside").iterdir()) == list(into.iterdir()) == []


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


# --- checked before anything is written -------------------------------------------------------------------------------


def test_a_zip_that_is_right_says_how_large_it_is_and_what_runs(make: Callable[..., Path], into: Path) -> None:
    archive = make(
        ("a.py", "12345", 0), ("folder/", "", stat.S_IFDIR | 0o755), ("folder/./", "", 0), ("l", "a.py", LINK),
        ("./run", "", 0o755), ("text", "", 0o644), ("folder/run-too", "", 0o755),
    )  # fmt: skip
    assert check(archive) == Checked(5, frozenset({"l", "run"}))
    with archive.open("rb") as file:
        assert check(file).unpacked == 5
        unpack(file, into)
    assert (into / "l").read_text() == "12345"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([("a.py", "1", 0), ("a.py", "2", 0)], "a.py is in it twice"),
        ([("a/b.py", "1", 0), ("a//./b.py", "2", 0)], "a/b.py is in it twice"),
        ([("a.py", "1", 0), ("a.py", "b.py", LINK)], "a.py is in it twice"),
        ([("a", "1", 0), ("a/b", "2", 0)], "a is a folder and a file"),
        ([("a", "1", 0), ("a/b/", "", stat.S_IFDIR | 0o755)], "a is a folder and a file"),
        ([("a", "1", 0), ("a/", "", stat.S_IFDIR | 0o755)], "a is a folder and a file"),
        ([("out", "..", LINK)], "the link out leads out of the zip"),
        ([("out", "a/b", LINK), ("out/x", "", 0)], "out is a folder and a file"),
        ([("a/" * 2000 + "b", "", 0)], "is too long for a path"),
        ([("x" * 256, "", 0)], "is too long for a path"),
        ([("../x", "", 0)], "outside its folder"),
        ([(".", "1", 0)], "without a name"),
        ([("l", "a" * 5000, LINK)], "a link of it is no path"),
    ],
)
def test_what_is_found_before_anything_is_written(
    make: Callable[..., Path], into: Path, entries: list[Entry], reason: str
) -> None:
    archive = make(*entries)
    with pytest.raises(BadArchive, match=reason):
        check(archive)
    with pytest.raises(BadArchive, match=reason):
        unpack(archive, into)
    assert list(into.iterdir()) == []


def test_links_over_links_are_followed_as_linux_does(make: Callable[..., Path]) -> None:
    assert check(make(("deep/er/link", "../..", LINK), ("x", "deep/er/link/deep/er", LINK))).unpacked == 0
    with pytest.raises(BadArchive, match="the link x leads out of the zip"):
        check(make(("deep/er/link", "../..", LINK), ("x", "deep/er/link/../a", LINK)))


def test_wrong_checksums_and_false_sizes_are_found(make: Callable[..., Path], tmp_path: Path) -> None:
    archive = make(("a.py", "content", 0))
    archive.write_bytes(archive.read_bytes().replace(b"content", b"CONTENT", 1))
    with pytest.raises(BadArchive, match="Bad CRC-32"):
        check(archive)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("zeros", b"\0" * 1_000_000)
    archive.write_bytes(archive.read_bytes().replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(BadArchive):
        check(archive)


def test_a_bomb(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        for n in range(26):
            bomb.writestr(f"zeros{n}", bytes(10 * 1024 * 1024))
    assert (tmp_path / "bomb.zip").stat().st_size < 1024 * 1024
    with pytest.raises(TooMuch, match="272629760 bytes"):
        check(tmp_path / "bomb.zip")


def test_too_many_files(make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 2)
    assert check(make(("a", "", 0), ("b", "", 0))).unpacked == 0
    with pytest.raises(TooMuch):
        check(make(("a", "", 0), ("b", "", 0), ("c", "", 0)))


@given(st.binary(max_size=400))
def test_whatever_is_uploaded_is_a_zip_or_a_bad_archive(content: bytes) -> None:
    with contextlib.suppress(BadArchive):
        check(io.BytesIO(content))


@given(st.data())
def test_a_zip_that_is_damaged_anywhere_is_a_bad_archive_or_unpacks(data: st.DataObject) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.py", "def handler(event, context): return event\n" * 5)
        archive.writestr("b/c.txt", "text")
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(BadArchive):
        check(io.BytesIO(content))
        unpack(io.BytesIO(content), Path(folder))


def test_links_that_lead_to_each_other_for_hours_are_refused(make: Callable[..., Path]) -> None:
    links = [(f"l{number}", "a/../" * 600 + f"l{(number + 1) % 2000}", LINK) for number in range(2000)]
    with pytest.raises(BadArchive, match="lead through too many folders"):
        check(make(*links))


def test_the_links_of_many_packages_are_not_too_many(make: Callable[..., Path]) -> None:
    links = [(f"node_modules/.bin/tool{n}", f"../@scope/package{n}/dist/bin/tool.js", LINK) for n in range(10_000)]
    assert check(make(*links)).unpacked == 0
