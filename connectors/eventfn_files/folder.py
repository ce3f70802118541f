"""The disk: what is in the folder, whether a file is complete, and the watcher that says where to look.

What belongs here: every system call of the connector; all of it runs in threads. What does not: what a file's state
means (ledger.py).

Symbolic links inside the folder are not followed, neither to files nor to folders: nothing outside is ever announced.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import watchfiles

from eventfn.errors import ConnectorError
from eventfn_files.ledger import Busy, Gone, Look, Stamp, Unreadable, Whole
from eventfn_files.settings import Rules

_CHUNK = 1024 * 1024
_LINK = "it is a symbolic link, and links are not followed"

# On these a lease is refused with the very error that means "somebody writes", whoever does.
_LEASELESS = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "afs", "gfs2", "ocfs2", "virtiofs")


class Scan(msgspec.Struct):
    found: dict[str, Stamp]
    gone: list[str]  # of the names that were asked for
    closed: list[str]  # folders, with a slash at the end, that could not be looked into
    passed_over: dict[str, str]  # name -> why it is not announced, which its owner should know


class Folder:
    """The folder of a trigger, opened: made if it is missing and `may_create`. Raises ConnectorError."""

    def __init__(self, path: Path, data: Path, rules: Rules, may_create: bool) -> None:
        try:
            if may_create:
                path.mkdir(parents=True, exist_ok=True)
            self.root = str(path.resolve(strict=True))
            os.scandir(self.root).close()
        except FileNotFoundError:
            raise ConnectorError(
                f"the folder {path} is gone, and files in it were announced before: mount it or make it again; "
                "nothing counts as removed until then"
            ) from None
        except (FileExistsError, NotADirectoryError):
            raise ConnectorError(f"{path} is not a folder: move what stands there, or choose another path") from None
        except OSError as error:
            raise ConnectorError(f"the folder {path} cannot be read: {error.strerror}") from error
        self._rules = rules
        self._data = str(data.resolve())
        if f"{self.root}/".startswith(f"{self._data}/"):
            raise ConnectorError(f"the folder {path} is inside eventfn's data folder {data}: choose another one")
        self._leases = not _file_system(self.root).startswith(_LEASELESS)

    def scan(self) -> Scan:
        """All plain files that the rules mean. Raises ConnectorError when the folder itself is not there."""
        scan = Scan({}, [], [], {})
        self._walk("", scan)
        if "" in scan.closed:
            raise ConnectorError(f"the folder {self.root} cannot be read: {scan.passed_over['']}")
        return scan

    def glance(self, names: Sequence[str]) -> Scan:
        """As `scan`, of these names only: files, or folders with all that is in them."""
        scan = Scan({}, [], [], {})
        for name in names:
            if self._is_outside(name):
                continue
            try:
                status = os.lstat(f"{self.root}/{name}")
            except (FileNotFoundError, NotADirectoryError):
                scan.gone.append(name)
            except OSError as error:
                scan.passed_over[name] = str(error.strerror)
            else:
                if stat.S_ISDIR(status.st_mode):
                    self._walk(f"{name}/", scan)
                elif stat.S_ISREG(status.st_mode):
                    self._see(name, status, scan)
                else:
                    scan.gone.append(name)  # a plain file may have stood there before
                    if stat.S_ISLNK(status.st_mode) and self._rules.mean(name):
                        scan.passed_over[name] = _LINK
        return scan

    def look(self, names: Sequence[str], stop: threading.Event) -> list[Look]:
        """Reads these files; fewer answers than names once `stop` is set."""
        looks: list[Look] = []
        for name in names:
            if stop.is_set():
                break
            looks.append(self._look(name, stop))
        return looks

    def _walk(self, start: str, scan: Scan) -> None:
        folders = [start]  # each empty or with a slash at its end
        while folders:
            folder = folders.pop()
            if not self._rules.recursive and folder:
                continue
            try:
                with os.scandir(f"{self.root}/{folder}") as entries:
                    for entry in entries:
                        name = folder + entry.name
                        if self._rules.ignores(entry.name):
                            continue
                        if entry.is_symlink():
                            if self._rules.mean(name):
                                scan.passed_over[name] = _LINK
                        elif entry.is_dir(follow_symlinks=False):
                            if entry.path != self._data:
                                folders.append(f"{name}/")
                        elif entry.is_file(follow_symlinks=False):
                            self._see(name, entry, scan)
            except OSError as error:
                scan.closed.append(folder)
                scan.passed_over[folder] = str(error.strerror)

    def _see(self, name: str, found: os.DirEntry[str] | os.stat_result, scan: Scan) -> None:
        if self._rules.mean(name):
            try:
                status = found if isinstance(found, os.stat_result) else found.stat(follow_symlinks=False)
            except FileNotFoundError:
                return
            scan.found[name] = _stamp(status)

    def _is_outside(self, name: str) -> bool:
        """Behind a symbolic link, in the data folder, or in an ignored folder: the watcher reports those too."""
        path = f"{self.root}/{name}"
        parent = os.path.dirname(path)  # noqa: PTH120 - Path would normalise a name that must stay as it is
        return (
            any(map(self._rules.ignores, name.split("/")))
            or f"{path}/".startswith(f"{self._data}/")
            or os.path.realpath(parent) != parent
        )

    def _look(self, name: str, stop: threading.Event) -> Look:
        path = f"{self.root}/{name}"
        try:
            if self._is_outside(name):
                return Gone()
            # O_NONBLOCK: opening a pipe that took the file's place must not wait for somebody at its other end.
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return Gone()
        except BlockingIOError:
            return Busy()  # somebody else holds a lease on it
        except OSError as error:
            return Gone() if os.path.islink(path) else Unreadable(str(error.strerror))  # noqa: PTH114 - as above
        try:
            before = os.fstat(file)
            if not stat.S_ISREG(before.st_mode):
                return Gone()
            writers = _has_writers(file) if self._leases else None
            if writers:
                return Busy()
            etag = _md5(file, stop)
            if etag is None or _stamp(os.fstat(file)) != _stamp(before):
                return Busy()
            return Whole(_stamp(before), etag, sure=writers is False)
        except OSError as error:
            return Unreadable(str(error.strerror))
        finally:
            os.close(file)


class Stop:
    """Set on request, and of itself when the program ends: the watch's thread keeps nothing alive."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set() or not threading.main_thread().is_alive()


def watch(root: str, recursive: bool, stop: Stop, report: Callable[[set[str]], None]) -> None:
    """Calls `report` with paths that may have changed, until `stop` is set. Raises OSError or RuntimeError.

    Only hints: watchfiles does not report that a writer has closed a file, drops the kernel's message of an overflow,
    and fails for good at a name that is no UTF-8. Hence the close looks and the rescans.
    """
    changes = watchfiles.watch(
        root,
        watch_filter=None,
        debounce=200,
        step=50,
        # With a timeout watchfiles forgets what came in just as it timed out.
        rust_timeout=0,
        stop_event=stop,
        raise_interrupt=False,
        recursive=recursive,
        ignore_permission_denied=True,
    )
    for batch in changes:
        report({path for _, path in batch})


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


def _md5(file: int, stop: threading.Event) -> str | None:
    digest = hashlib.md5(usedforsecurity=False)  # S3's eTag of a simple PUT
    while chunk := os.read(file, _CHUNK):
        if stop.is_set():
            return None
        digest.update(chunk)
    return digest.hexdigest()


def _has_writers(file: int) -> bool | None:
    """Whether anybody has the file open for writing; None when it cannot be known (another owner's file, mostly).

    A read lease is granted only if nobody does. It is given back at once; whoever opens the file in between makes the
    kernel signal us, by SIGIO, which would kill the process, so SIGURG is asked for, which is ignored.
    """
    try:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _file_system(root: str) -> str:
    """The type of the file system that `root` is on, by the last mount whose point is above it; "" if unknown."""
    best, found = "", ""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        mount, _, details = line.partition(" - ")
        point = mount.split()[4].replace("\\040", " ")
        if f"{root}/".startswith(f"{point.rstrip('/')}/") and len(point) >= len(best):
            best, found = point, details.split()[0]
    return found
