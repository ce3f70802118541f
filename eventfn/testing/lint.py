"""What can be said of a connector without running it: its settings, its sample, and that it stays off the disk and
the network where the contract says "No I/O". The conformance suites ask these questions."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import tomllib
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from eventfn.declaring.settings import SettingsReader, dotted

# Audit events (docs.python.org/3/library/audit_events.html) that mean a disk, a network or a process was touched.
_TOUCHES = ("open", "os.", "shutil.", "socket.", "subprocess.", "sqlite3.connect", "tempfile.")
_watched: list[list[str]] = []
_hooked = False


def load_settings(
    settings: type[msgspec.Struct], table: Mapping[str, Any], environ: Mapping[str, str], host_keys: Sequence[str] = ()
) -> Any:
    """The settings that a table of eventfn.toml makes. AssertionError with all that is wrong in it."""
    reader = SettingsReader(environ)
    loaded = reader.struct(settings, table, (), elsewhere=host_keys)
    wrong = "; ".join(f"{dotted(finding.path)}: {finding.message}" for finding in reader.findings)
    assert not wrong, f"{settings.__qualname__}: {wrong}"
    return loaded


def check_keys(settings: type[msgspec.Struct]) -> None:
    """AssertionError unless all its keys are written as the keys of eventfn.toml are."""
    for field in msgspec.structs.fields(settings):
        assert re.fullmatch("[a-z][a-z0-9_]*", field.encode_name), f"{field.encode_name}: expected a key in snake_case"


def is_secret(key: str) -> bool:
    """Whether a key of this name holds what nobody else may see."""
    return re.search("password|passphrase|secret|token|private_key|credential", key) is not None


def check_readme(connector: type, settings: type[msgspec.Struct]) -> None:
    """AssertionError unless the README says of all keys what they are: in a table or in a sample with comments."""
    readme = _readme(package_folder(connector))
    text = readme.read_text()
    missing = [
        field.encode_name
        for field in msgspec.structs.fields(settings)
        if not re.search(rf"(^|`[^`\n]*)\b{re.escape(field.encode_name)}\b", text, re.MULTILINE)
    ]
    assert not missing, f"{readme} does not say what `{'`, `'.join(missing)}` is"


def package_folder(connector: type) -> Path:
    """The folder of the package that the class comes from: where README.md and sample.toml stand. Of a package for
    several connectors, the one below it that has a sample of its own."""
    name = connector.__module__
    while True:
        file = sys.modules[name].__file__
        assert file is not None
        folder = Path(file).parent
        if "." not in name or (folder / "sample.toml").is_file():
            return folder
        name = name.rpartition(".")[0]


def check_sample(connector: type) -> dict[str, Any]:
    """The sample.toml beside the package, which its README shows word for word. AssertionError when it does not."""
    folder = package_folder(connector)
    text = (folder / "sample.toml").read_text()
    readme = _readme(folder)
    assert text.strip() in readme.read_text(), f"{readme} does not show sample.toml as it is"
    return tomllib.loads(text)


def _readme(folder: Path) -> Path:
    readme = next((path for path in (folder / "README.md", *_readmes_above(folder)) if path.is_file()), None)
    assert readme is not None, f"there is no README.md beside {folder}"
    return readme


def _readmes_above(folder: Path) -> Iterator[Path]:
    # A package of its own has its README beside its pyproject.toml, at most above a src folder.
    for parent in list(folder.parents)[:2]:
        if (parent / "pyproject.toml").is_file():
            yield parent / "README.md"


@contextlib.contextmanager
def no_io() -> Generator[None, None, None]:
    """AssertionError when what runs inside touches the disk, the network or another process."""
    global _hooked
    if not _hooked:
        # An audit hook cannot be taken away again, so there is one for all, and it does nothing outside of no_io().
        sys.addaudithook(_audit)
        _hooked = True
    touched: list[str] = []
    _watched.append(touched)
    try:
        yield
    finally:
        _watched.remove(touched)
    assert not touched, f"no I/O is allowed here, but it did: {', '.join(touched)}"


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _watched and event.startswith(_TOUCHES) and not _is_import():
        for touched in _watched:
            touched.append(f"{event}{args!r}")


def _is_import() -> bool:
    # Importing a module late reads files too, and is nobody's I/O.
    frame = inspect.currentframe()
    while frame is not None and "importlib" not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None
