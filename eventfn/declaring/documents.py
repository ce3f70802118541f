"""What somebody wrote, still raw: the tables of eventfn.toml, or the same tables told by a Python file.

toml_files.py and python_files.py make one; config.py says what its keys mean.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from eventfn.declaring.settings import KeyPath
from eventfn.errors import ConfigError, Problem
from eventfn.functions.model import Where


class Document(msgspec.Struct, frozen=True):
    """The declarations of one project before they are checked. Both kinds of file have the shape of eventfn.toml."""

    folder: Path  # absolute
    file: Path  # absolute
    tables: dict[str, Any]
    where: Callable[[KeyPath], Where]  # the file as the user spelled it, and the line of a key


def read_text(file: Path) -> str:
    """Raises ConfigError."""
    try:
        return file.read_text(encoding="utf-8-sig")  # some editors put a byte order mark in front
    except OSError as error:
        raise ConfigError([Problem(str(file), None, "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(str(file), line, "", "is not UTF-8 text")]) from None
