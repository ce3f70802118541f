"""What somebody wrote, still raw: the tables of eventfn.toml, or the same tables told by a Python file.

Belongs here: finding the file of a project and reading it. Does not: what the keys mean (config.py).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from eventfn.declaring.settings import KeyPath
from eventfn.declaring.toml_lines import TomlLines
from eventfn.errors import ConfigError, Problem
from eventfn.functions.model import Where

FILE_NAME = "eventfn.toml"


class Document(msgspec.Struct, frozen=True):
    """The declarations of one project before they are checked. Both kinds of file have the shape of eventfn.toml."""

    folder: Path  # absolute
    file: Path  # absolute
    tables: dict[str, Any]
    where: Callable[[KeyPath], Where]  # the file as the user spelled it, and the line of a key


def find(target: Path) -> Document:
    """The document of a folder, an eventfn.toml or a Python file. Raises ConfigError."""
    if target.is_dir() and (target / FILE_NAME).exists():
        return from_toml(target / FILE_NAME)
    if target.suffix == ".toml" and target.is_file():
        return from_toml(target)
    raise ConfigError([Problem(str(target), None, "", f"there is no {FILE_NAME} here", "start one with 'eventfn new'")])


def from_toml(file: Path) -> Document:
    """Raises ConfigError with the line of a syntax error."""
    text = read_text(file)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax_problem(file, text, str(error))]) from None
    lines = TomlLines(text)
    return Document(
        folder=file.resolve().parent,
        file=file.resolve(),
        tables=tables,
        where=lambda path: Where(str(file), lines.line(path)),
    )


def read_text(file: Path) -> str:
    """Raises ConfigError."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Problem(str(file), None, "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(str(file), line, "", "is not UTF-8 text")]) from None


def _syntax_problem(file: Path, text: str, message: str) -> Problem:
    found = re.fullmatch(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", message)
    if found is None:
        return Problem(str(file), None, "", f"is not valid TOML: {message}")
    what = found["what"] + (f", at column {found['column']}" if found["column"] else ", at the end of the file")
    line = int(found["line"]) if found["line"] else text.rstrip().count("\n") + 1
    return Problem(str(file), line, "", f"is not valid TOML: {what}")
