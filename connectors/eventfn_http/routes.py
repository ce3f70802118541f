"""Which function answers a method and a path. PURE.

Patterns are API Gateway's: "/hello", "/items/{id}" (one segment), "/files/{path+}" (all that is left, last segment
only). At each segment a literal goes before a parameter and a parameter before a greedy one; a pattern that does not
answer the method gives way to the next one that does; at one pattern a method goes before ANY. Literals are compared
as they stand on the wire, so percent-encoding and a trailing slash count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Generic, TypeVar
from urllib.parse import unquote

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
ANY = "ANY"

Target = TypeVar("Target")

_PARAMETER = re.compile(r"\{([A-Za-z0-9_.-]+)(\+?)\}")
_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*")  # RFC 3986: segment


class BadPath(ValueError):
    """A pattern that could never match, or not as its author thinks. The message is for him."""


class Pattern:
    """One path of a route, split: `shape` is what it matches, with {} and {+} for any parameter; `names` is what the
    parameters are called."""

    __slots__ = ("names", "shape", "text")

    def __init__(self, text: str) -> None:
        """Raises BadPath."""
        if not text.startswith("/"):
            raise BadPath(f"expected a path that starts with '/', got {text!r}")
        shape: list[str] = []
        names: list[str] = []
        segments = text[1:].split("/")
        for at, segment in enumerate(segments):
            if found := _PARAMETER.fullmatch(segment):
                name, greedy = found.groups()
                if greedy and at != len(segments) - 1:
                    raise BadPath(f"{segment} takes all that is left of the path, so it must stand last")
                if name in names:
                    raise BadPath(f"two parameters are called {name!r}")
                names.append(name)
                shape.append("{+}" if greedy else "{}")
            elif "{" in segment or "}" in segment:
                raise BadPath(f"a parameter is a whole segment such as {{id}} or {{path+}}, got {segment!r}")
            elif not _LITERAL.fullmatch(segment):
                raise BadPath(f"{segment!r} holds characters that a URL must percent-encode")
            else:
                shape.append(segment)
        self.text = text
        self.shape = tuple(shape)
        self.names = tuple(names)


class Match(Generic[Target]):
    """What answers, and the path's parameters, decoded."""

    __slots__ = ("parameters", "target")

    def __init__(self, target: Target, parameters: dict[str, str]) -> None:
        self.target = target
        self.parameters = parameters


class _Answer(Generic[Target]):
    """A method at the end of a pattern."""

    __slots__ = ("match", "names")

    def __init__(self, target: Target, names: tuple[str, ...]) -> None:
        self.match = Match(target, {})  # ready for paths without parameters
        self.names = names


class _Node(Generic[Target]):
    """One segment of the tree of patterns, with what ends here."""

    __slots__ = ("greedy", "literals", "methods", "parameter")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[Target]] = {}
        self.parameter: _Node[Target] | None = None
        self.greedy: _Node[Target] | None = None
        self.methods: dict[str, _Answer[Target]] = {}

    def child(self, segment: str) -> _Node[Target]:
        if segment == "{}":
            self.parameter = self.parameter or _Node()
            return self.parameter
        if segment == "{+}":
            self.greedy = self.greedy or _Node()
            return self.greedy
        return self.literals.setdefault(segment, _Node())


class RouteTable(Generic[Target]):
    """Frozen after the last `add`: reloading builds a new one and swaps it in."""

    def __init__(self) -> None:
        self._root: _Node[Target] = _Node()
        self._exact: dict[str, dict[str, _Answer[Target]]] = {}  # the hot path: no walk, no split

    def add(self, method: str, pattern: Pattern, target: Target) -> Target | None:
        """The target that already answers this method on a path of this shape, and keeps it; None when added."""
        node = self._root
        for segment in pattern.shape:
            node = node.child(segment)
        if method in node.methods:
            return node.methods[method].match.target
        node.methods[method] = _Answer(target, pattern.names)
        if not pattern.names:
            self._exact[pattern.text] = node.methods
        return None

    def find(self, method: str, path: str) -> Match[Target] | list[str]:
        """What answers; or the methods that the path does have ([]: it is unknown).

        HEAD is answered by what answers GET.
        """
        methods = self._exact.get(path)
        if methods is not None:
            found = _answering(methods, method)
            if found is not None:
                return found.match
        allowed: set[str] = set()
        for methods, values in _walk(self._root, path.split("/")[1:], 0, ()):
            found = _answering(methods, method)
            if found is not None:
                return Match(found.match.target, dict(zip(found.names, map(unquote, values), strict=True)))
            allowed.update(methods)
        if "GET" in allowed:
            allowed.add("HEAD")
        return sorted(allowed)


def _answering(methods: dict[str, _Answer[Target]], method: str) -> _Answer[Target] | None:
    found = methods.get(method)
    if found is None and method == "HEAD":
        found = methods.get("GET")
    return methods.get(ANY) if found is None else found


def _walk(
    node: _Node[Target], segments: list[str], at: int, values: tuple[str, ...]
) -> Iterator[tuple[dict[str, _Answer[Target]], tuple[str, ...]]]:
    """Every pattern that matches, the most specific first. As deep as the deepest pattern, however long the path."""
    if at == len(segments):
        if node.methods:
            yield node.methods, values
        return
    segment = segments[at]
    literal = node.literals.get(segment)
    if literal is not None:
        yield from _walk(literal, segments, at + 1, values)
    if node.parameter is not None and segment:
        yield from _walk(node.parameter, segments, at + 1, (*values, segment))
    if node.greedy is not None:
        rest = "/".join(segments[at:])
        if rest:
            yield node.greedy.methods, (*values, rest)
