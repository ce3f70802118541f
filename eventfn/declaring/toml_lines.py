"""On which line of a TOML text does a key stand? tomllib does not say, and an error without a line is half an error.

A scanner of TOML's shape, not of its values: it is run over text that tomllib has accepted already, so it need not
judge anything. PURE.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

from eventfn.declaring.settings import KeyPath

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SINGLE_LINE_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'')
# The closing delimiter may follow one or two quotes that belong to the text.
_MULTI_LINE_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"""(?:"(?!")|""(?!"))?|\'\'\'(?:.|\n)*?\'\'\'(?!\')', re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}#\n\r]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")


class TomlLines:
    """The line of every key and every element of a TOML document."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0  # newlines before this offset are in _line
        self._lines: dict[KeyPath, int] = {}
        self._last: dict[KeyPath, int] = {}  # array of tables -> index of its last table
        self._document()

    def line(self, path: KeyPath) -> int | None:
        """The line of this key; of its nearest ancestor where the key itself is not in the text; else None."""
        while path:
            if (line := self._lines.get(path)) is not None:
                return line
            path = path[:-1]
        return None

    def _document(self) -> None:
        table: KeyPath = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text.startswith("[[", self._at):
                self._at += 2
                table = self._header_of_array()
            elif self._text[self._at] == "[":
                self._at += 1
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        line = self._line_here()
        path = self._resolved(self._key(), line)
        self._at += 1  # "]"
        # A table may be opened after its children: [a.b] before [a]. Its own header is the better place.
        self._lines[path] = line
        return path

    def _header_of_array(self) -> KeyPath:
        line = self._line_here()
        *parents, name = self._key()
        self._at += 2  # "]]"
        array: KeyPath = (*self._resolved(parents, line), name)
        self._last[array] = self._last.get(array, -1) + 1
        self._lines.setdefault(array, line)
        path: KeyPath = (*array, self._last[array])
        self._lines[path] = line
        return path

    def _resolved(self, keys: list[str], line: int) -> KeyPath:
        """The path of a header: a name of an array of tables means its last table."""
        path: KeyPath = ()
        for key in keys:
            path = (*path, key)
            if path in self._last:
                path = (*path, self._last[path])
            self._lines.setdefault(path, line)
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self._line_here()
        path = table
        for key in self._key():
            path = (*path, key)
            self._lines.setdefault(path, line)
        self._at += 1  # "="
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        """A dotted key; stops at what follows it: "=" or "]"."""
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            start = self._at
            if bare := _BARE_KEY.match(self._text, start):
                keys.append(bare[0])
                self._at = bare.end()
            else:
                self._skip(_SINGLE_LINE_STRING)
                keys.append(_text_of(self._text[start : self._at]))
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        first = self._text[self._at]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        elif self._text.startswith(('"""', "'''"), self._at):
            self._skip(_MULTI_LINE_STRING)
        elif first in "\"'":
            self._skip(_SINGLE_LINE_STRING)
        else:
            self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._text[self._skip(_BLANK)] != "]":
            self._lines[(*path, index)] = self._line_here()
            self._value((*path, index))
            index += 1
            if self._text[self._skip(_BLANK)] == ",":
                self._at += 1
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._text[self._skip(_BLANK)] != "}":
            self._pair(path)
            if self._text[self._skip(_BLANK)] == ",":
                self._at += 1
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> int:
        if found := pattern.match(self._text, self._at):
            self._at = found.end()
        return self._at

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line


def _text_of(quoted: str) -> str:
    document: dict[str, Any] = tomllib.loads(f"text = {quoted}")
    return str(document["text"])
