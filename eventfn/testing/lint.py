"""What can be said of a connector without running it: its settings, its sample, and that it stays off the disk and
the network where the contract says "No I/O". The conformance suites ask these questions."""

from __future__ import annotations

import contextlib
import inspect
import keyword
import sys
import tomllib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from eventfn.functions.model import Intake
from eventfn.units import Bytes, Duration, Megabytes

_HOST_KEYS = {"type", *Intake.__struct_fields__}

# Audit events (docs.python.org/3/library/audit_events.html) that mean a disk, a network or a process was touched.
_TOUCHES = ("open", "os.", "shutil.", "socket.", "subprocess.", "sqlite3.connect", "tempfile.")
_watched: list[list[str]] = []
_hooked = False


def _friendly(wanted: type, value: Any) -> Any:
    if issubclass(wanted, Duration | Megabytes | Bytes):
        return wanted.parse(value)
    raise TypeError(f"{wanted} is not a type that a setting can have")


def without_host_keys(table: dict[str, Any]) -> dict[str, Any]:
    """What of a trigger's table is the connector's own."""
    return {key: value for key, value in table.items() if key not in _HOST_KEYS}


def load_settings(table: dict[str, Any], settings: type[msgspec.Struct]) -> Any:
    """The settings that a table of eventfn.toml makes. Raises msgspec.ValidationError for a value of the wrong kind,
    KeyError for a key that the settings do not have."""
    known = {field.encode_name for field in msgspec.structs.fields(settings)}
    if unknown := set(table) - known:
        raise KeyError(f"{settings.__qualname__} has no {sorted(unknown)}, only {sorted(known)}")
    return msgspec.convert(table, settings, dec_hook=_friendly)


def check_settings(settings: type[msgspec.Struct]) -> None:
    """AssertionError unless it can be the settings of a connector."""
    assert inspect.isclass(settings), f"{settings} is not a class"
    assert issubclass(settings, msgspec.Struct), f"{settings} is not a msgspec.Struct"
    assert settings.__struct_config__.frozen, f"{settings.__qualname__} is shared by the whole host: make it frozen"
    for field in msgspec.structs.fields(settings):
        name = field.encode_name
        assert name == name.lower(), f"{name}: settings are written in snake_case"
        assert name.isidentifier() or keyword.iskeyword(name), f"{name}: is not a bare key of TOML in snake_case"
        assert name not in _HOST_KEYS, f"{name}: is a key of the host's own in the table of a trigger"


def package_folder(connector: type) -> Path:
    """The folder of the top-level package that the class comes from: where README.md and sample.toml stand."""
    top = sys.modules[connector.__module__.partition(".")[0]]
    assert top.__file__ is not None
    return Path(top.__file__).parent


def check_sample(connector: type) -> dict[str, Any]:
    """The sample.toml beside the package, which its README shows word for word. AssertionError when it does not."""
    folder = package_folder(connector)
    text = (folder / "sample.toml").read_text()
    readme = next((path for path in (folder / "README.md", *_readmes_above(folder)) if path.is_file()), None)
    assert readme is not None, f"there is no README.md beside {folder}"
    assert text.strip() in readme.read_text(), f"{readme} does not show sample.toml as it is"
    return tomllib.loads(text)


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
