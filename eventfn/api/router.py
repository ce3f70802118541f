"""Which operation a request is: its method, its path and its query, against the service model's templates.

PURE. Not here: reading a request (lambda_api), its input (inputs).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qsl, unquote

import msgspec

from eventfn.api.service_model import Operation


class Match(msgspec.Struct, frozen=True):
    operation: Operation
    labels: dict[str, str]  # decoded: "%24LATEST" is "$LATEST", an ARN's "%2F" is "/"


class _Template(msgspec.Struct, frozen=True):
    operation: Operation
    segments: tuple[str, ...]  # a label keeps its braces
    query: tuple[tuple[str, str], ...]

    def match(self, segments: Sequence[str], query: Mapping[str, Sequence[str]]) -> dict[str, str] | None:
        labels: dict[str, str] = {}
        for expected, given in zip(self.segments, segments, strict=True):
            if expected.startswith("{"):
                labels[expected[1:-1]] = given
            elif expected != given:
                return None
        return labels if all(value in query.get(key, ()) for key, value in self.query) else None


class Router:
    """`find` an operation."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._templates: dict[tuple[str, int], list[_Template]] = {}
        for operation in operations:
            path, _, query = operation.path.partition("?")
            segments = tuple(path.strip("/").split("/"))
            found = self._templates.setdefault((operation.method, len(segments)), [])
            found.append(_Template(operation, segments, tuple(parse_qsl(query))))
        for templates in self._templates.values():  # the one that asks for more is tried first
            templates.sort(key=lambda template: (-len(template.query), template.operation.path.count("{")))

    def find(self, method: str, raw_path: str, query: Mapping[str, Sequence[str]]) -> Match | None:
        """`raw_path` is as it came, percent-encoded, so that an encoded "/" divides nothing; one "/" at its end is
        neither here nor there."""
        segments = [unquote(segment) for segment in raw_path.removeprefix("/").removesuffix("/").split("/")]
        for template in self._templates.get((method, len(segments)), ()):
            labels = template.match(segments, query)
            if labels is not None:
                return Match(template.operation, labels)
        return None
