import tomllib
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eventfn.declaring.toml_lines import TomlLines

DOCUMENT = '''\
title = "a" # 1

[owner.'quoted key']   # 3
"dotted".key = 1
text = """
[not.a.table]
x = 1
""\\" still text"""
after = 9
literal = \'\'\'
''quotes'' and \\\'\'\'
last = 12
[[fruit]]
name = "apple"
[[fruit.variety]]
name = "red"
[fruit.physical]
colour = "green"
[[fruit]]
name = "banana"
[[fruit.variety]]
name = "plantain"
[array]
numbers = [
  1, # one, ]
  [2,
   3],
]
inline = { a = 1, b = { c = "}", d = [4] } }
date = 1979-05-27T07:32:00Z
"" = "empty key"
"\\u00e9" = 1
'''


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for at, item in enumerate(value) for leaf in leaves(item, (*path, at))]
    return [path]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 1),
        (("owner",), 3),
        (("owner", "quoted key"), 3),
        (("owner", "quoted key", "dotted", "key"), 4),
        (("owner", "quoted key", "text"), 5),
        (("owner", "quoted key", "after"), 9),
        (("owner", "quoted key", "literal"), 10),
        (("owner", "quoted key", "last"), 12),
        (("fruit",), 13),
        (("fruit", 0), 13),
        (("fruit", 0, "variety", 0, "name"), 16),
        (("fruit", 0, "physical", "colour"), 18),
        (("fruit", 1), 19),
        (("fruit", 1, "variety", 0), 21),
        (("fruit", 1, "variety", 0, "name"), 22),
        (("array", "numbers"), 24),
        (("array", "numbers", 0), 25),
        (("array", "numbers", 1), 26),
        (("array", "numbers", 1, 1), 27),
        (("array", "inline", "b", "d", 0), 29),
        (("array", "date"), 30),
        (("array", ""), 31),
        (("array", "é"), 32),
        (("array", "missing"), 23),
        (("fruit", 1, "missing", "deeper"), 19),
        (("missing",), None),
    ],
)
def test_line_of_a_key(path: tuple[str | int, ...], line: int | None) -> None:
    tomllib.loads(DOCUMENT)
    assert TomlLines(DOCUMENT).line(path) == line


def test_a_table_that_is_opened_after_its_child() -> None:
    assert TomlLines("[a.b]\nx = 1\n[a]\ny = 2\n").line(("a",)) == 3


# --- any document that tomllib accepts -------------------------------------------------------------------------------

# Every leaf is a number or a string with a number that stands once in the document, so its line is known.
names = st.sampled_from(["a", "b", "c-d", "e_f", "0", "ünï", "with space", "dot.ted", 'quo"te', "it's", "#", "]", ""])
noise = st.sampled_from(["", " ", "  # comment ] } = '", "\t"])
blank = st.sampled_from(["", "\n", "# [comment]\n", " \t\n\n"])
text = st.text(st.sampled_from("ab[]{}=#,.'\" "), max_size=6)


class Writer:
    """Writes documents in every spelling that TOML has for the same thing."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.number = 1000

    def key(self, name: str) -> str:
        basic = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
        spellings = [basic]
        if "'" not in name:
            spellings.append(f"'{name}'")
        if name and all(c.isascii() and (c.isalnum() or c in "-_") for c in name):
            spellings.append(name)
        return str(self.draw(st.sampled_from(spellings)))

    def dotted(self, path: list[str]) -> str:
        dot: str = self.draw(st.sampled_from([".", " . "]))
        return dot.join(self.key(name) for name in path)

    def leaf(self) -> str:
        self.number += 1
        around = self.draw(text)
        kind = self.draw(st.sampled_from(["number", "basic", "literal", "multi", "multi literal", "date"]))
        if kind == "number":
            return str(self.number)
        if kind == "date":
            return f"{self.number}-05-27 07:32:00"
        if kind == "literal":
            return f"'{self.number}{around.replace(chr(39), '')}'"
        if kind == "basic":
            return '"' + f"{self.number}{around}".replace('"', '\\"') + '"'
        if kind == "multi":
            last = self.draw(st.sampled_from(["", '"', '""']))
            return f'"""{self.number}\n{around.replace(chr(34), "")}\n""\\"[x]\n{last}"""'
        return f"'''{self.number}\n{around.replace(chr(39), '')}\n''{self.draw(st.sampled_from(['x', 'x=1']))}'''"

    def value(self, depth: int) -> str:
        kind = self.draw(st.sampled_from(["leaf", "leaf", "array", "inline"])) if depth else "leaf"
        if kind == "leaf":
            return self.leaf()
        if kind == "array":
            items = [self.value(depth - 1) for _ in range(self.draw(st.integers(1, 3)))]
            return f"[{','.join(f'{self.draw(blank)} {item}' for item in items)}{self.draw(blank)}]"
        keys = self.draw(st.lists(names, unique=True, max_size=3))
        return "{ " + ", ".join(f"{self.key(key)} = {self.value(depth - 1)}" for key in keys) + " }"

    def document(self) -> str:
        parts: list[str] = []
        for header in ["", *self.draw(st.lists(st.sampled_from(["table", "array", "child"]), max_size=5))]:
            path = self.draw(st.lists(names, min_size=1, max_size=3))
            if header == "table":
                parts.append(f"[{self.dotted(path)}]{self.draw(noise)}\n")
            elif header:
                parts.append(f"[[ {self.dotted(path)} ]]{self.draw(noise)}\n")
            if header == "child":
                parts.append(f"[{self.dotted([*path, 'child'])}]\n")
            for key in self.draw(st.lists(names, unique=True, max_size=3)):
                keys = [key, *self.draw(st.lists(names, max_size=2))]
                parts.append(f"{self.draw(blank)}{self.dotted(keys)} = {self.value(2)}{self.draw(noise)}\n")
        return "".join(parts)


@st.composite
def documents(draw: Any) -> str:
    written: str = Writer(draw).document()
    if draw(st.booleans()):
        written = written.replace("\n", "\r\n")
    return written


@given(documents())
def test_every_leaf_is_found_on_the_line_where_it_stands(document: str) -> None:
    try:
        read = tomllib.loads(document)
    except tomllib.TOMLDecodeError:
        assume(False)  # a key or a table twice: the scanner only ever sees what tomllib has accepted
    lines = TomlLines(document)
    for path in leaves(read):
        value: Any = read
        for step in path:
            value = value[step]
        marker = str(value.year) if hasattr(value, "year") else str(value)[:4]
        line = lines.line(path)
        assert line is not None
        assert marker in document.split("\n")[line - 1]
