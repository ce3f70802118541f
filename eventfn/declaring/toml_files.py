"""Declarations in an eventfn.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from eventfn.declaring.documents import Document, read_text
from eventfn.declaring.toml_lines import TomlLines
from eventfn.errors import ConfigError, Problem
from eventfn.functions.model import Where


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


def _syntax_problem(file: Path, text: str, message: str) -> Problem:
    found = re.fullmatch(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", message)
    if found is None:
        return Problem(str(file), None, "", f"is not valid TOML: {message}")
    what = found["what"] + (f", at column {found['column']}" if found["column"] else ", at the end of the file")
    line = int(found["line"]) if found["line"] else text.rstrip().count("\n") + 1
    return Problem(str(file), line, "", f"is not valid TOML: {what}")
