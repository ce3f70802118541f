"""Raw tables -> typed settings: one mechanism for the core's own tables and for every plugin's.

A Struct type says which keys a table has, of which type, within which bounds. Everything that does not fit is found
at once, each with the path of its key, what was expected and what stands there. Text may name variables of the
operator's environment, "${NAME}" or "${NAME:-default}"; "$${" is a literal "${". A message shows what was written,
never what a variable holds: secrets belong there.

PURE: the environment is passed in. What does not belong here: files, lines, and rules between two settings.
"""

from __future__ import annotations

import difflib
import functools
import re
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeGuard, TypeVar, Union, get_args, get_origin

import msgspec

from eventfn.units import Between, Bytes, Duration, Instant, Megabytes, NamesDestination

KeyPath = tuple[str | int, ...]
StructType = TypeVar("StructType", bound=msgspec.Struct)

INVALID: Final = object()  # stands for a value that could not be read; the finding says why

NO_PLAIN_VALUE: Final = "<python>"  # the only key of a table that stands for a Python object with no form in a file

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{")


class Finding(msgspec.Struct, frozen=True):
    """A mistake at a key, before anybody knows the file and the line."""

    path: KeyPath
    message: str
    hint: str | None = None


def dotted(path: KeyPath) -> str:
    """The path as the file would have it: functions.hello.triggers[0].path"""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            word = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'
            text += f".{word}" if text else word
    return text


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def did_you_mean(name: str, known: Collection[str], otherwise: str | None = None) -> str | None:
    """The hint for an unknown name: the nearest one; without one, all there are under the heading `otherwise`."""
    if found := nearest(name, known):
        return f"did you mean '{found}'?"
    return f"{otherwise}: {', '.join(sorted(known))}" if otherwise and known else None


def is_table(raw: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(raw, Mapping)


def is_list(raw: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(raw, (list, tuple))


def shown(raw: Any) -> str:
    """A value as a message shows it."""
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, str):
        return f'"{raw}"' if len(raw) <= 80 else f'"{raw[:77]}..."'
    if raw is None:
        return "nothing"
    if is_table(raw):
        return f"a Python object of type {raw[NO_PLAIN_VALUE]}" if NO_PLAIN_VALUE in raw else "a table"
    if is_list(raw):
        return "a list"
    return str(raw)


class SettingsReader:
    """Reads tables into Structs and keeps every mistake in `findings`. `destinations` are the URIs among what it read:
    whether there is such a destination is for others to say."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.findings: list[Finding] = []
        self.destinations: list[tuple[KeyPath, str]] = []
        self._environ = environ

    def struct(
        self,
        kind: type[StructType],
        table: Any,
        path: KeyPath,
        *,
        given: Mapping[str, Any] | None = None,
        elsewhere: Collection[str] = (),
    ) -> StructType | None:
        """The Struct of this table, and findings for all that is wrong in it. A wrong value is left at its default, so
        that other checks can go on and every mistake is found at once; None when not even that can be built.

        `given` are fields that do not come from the table. `elsewhere` are keys of the same table that another
        Struct reads: known, and skipped here.
        """
        given = given or {}
        if not is_table(table):
            self.find(path, f"expected a table, got {shown(table)}")
            return None
        before = len(self.findings)
        fields = {name: field for name, field in _fields(kind).items() if field.name not in given}
        values = dict(given)
        known = [*fields, *elsewhere]
        for key, raw in table.items():
            if key in elsewhere:
                continue
            if key not in fields:
                self.find((*path, key), "unknown key", did_you_mean(key, known, "known keys"))
                continue
            value = self.value(fields[key].type, raw, (*path, key))
            if value is not INVALID:
                values[fields[key].name] = value
        for key, field in fields.items():
            if field.required and key not in table:
                self.find((*path, key), f"is missing: expected {described(field.type)}")
        if any(field.required and field.name not in values for field in fields.values()):
            return None
        try:
            return kind(**values)
        except ValueError as refused:  # its __post_init__, which may begin with the key that it means: "low: ..."
            key, colon, message = str(refused).partition(": ")
            if len(self.findings) > before:
                pass  # perhaps only because of a default that stands for a mistake
            elif colon and key in fields:
                self.find((*path, key), message)
            else:
                self.find(path, str(refused))
            return None

    def value(self, kind: Any, raw: Any, path: KeyPath) -> Any:
        """The value as this type, or INVALID."""
        origin, arguments = get_origin(kind), get_args(kind)
        if kind is Any or kind is object:
            return self._any(raw, path)
        if origin is Annotated:
            return self._constrained(kind, raw, path)
        if origin in (Union, types.UnionType):
            return self._one_of(arguments, raw, path)
        if _is_class(kind, msgspec.Struct):
            read = self.struct(kind, raw, path)
            return INVALID if read is None else read
        if origin in (list, set, frozenset) or (origin is tuple and len(arguments) == 2 and arguments[1] is ...):
            return self._list(origin, arguments[0], raw, path)
        if origin is dict and _is_text(arguments[0]):
            return self._table(arguments[0], arguments[1], raw, path)
        return self._leaf(kind, raw, path)

    def find(self, path: KeyPath, message: str, hint: str | None = None) -> None:
        self.findings.append(Finding(path, message, hint))

    def _constrained(self, kind: Any, raw: Any, path: KeyPath) -> Any:
        base, *notes = get_args(kind)
        value = self.value(base, raw, path)
        if value is INVALID or value is None:
            return value
        for note in notes:
            if isinstance(note, NamesDestination):
                self.destinations.append((path, value))
            if isinstance(note, Between) and not note.low <= value <= note.high:
                low, high = _in_unit(base, note.low), _in_unit(base, note.high)
                self.find(path, f"expected {low} to {high}, got {shown(raw)}")
                return INVALID
            if isinstance(note, msgspec.Meta):
                try:
                    msgspec.convert(value, Annotated[base, note])
                except msgspec.ValidationError as refused:
                    self.find(path, f"{_msgspec_says(refused)}, got {shown(raw)}")
                    return INVALID
        return value

    def _one_of(self, kinds: tuple[Any, ...], raw: Any, path: KeyPath) -> Any:
        if raw is None and type(None) in kinds:
            return None
        kinds = tuple(kind for kind in kinds if kind is not type(None))
        if len(kinds) == 1:
            return self.value(kinds[0], raw, path)
        hints: list[str] = []
        for kind in kinds:
            attempt = SettingsReader(self._environ)
            value = attempt.value(kind, raw, path)
            if not attempt.findings:
                self.destinations += attempt.destinations
                return value
            if all(finding.path != path for finding in attempt.findings):
                self.findings += attempt.findings  # of the right kind, and wrong inside
                return INVALID
            hints += [finding.hint for finding in attempt.findings if finding.hint is not None]
        expected = " or ".join(described(kind) for kind in kinds)
        # What would make a number text helps nobody who may also write a list.
        hint = hints[0] if hints and isinstance(raw, str) else None
        self.find(path, f"expected {expected}, got {shown(raw)}", hint)
        return INVALID

    def _list(self, origin: Any, kind: Any, raw: Any, path: KeyPath) -> Any:
        if not is_list(raw):
            hint = f"in brackets: [{shown(raw)}]" if isinstance(raw, (str, int, float)) else None
            self.find(path, f"expected {described(list[kind])}, got {shown(raw)}", hint)
            return INVALID
        values = [self.value(kind, item, (*path, at)) for at, item in enumerate(raw)]
        return INVALID if any(value is INVALID for value in values) else origin(values)

    def _table(self, keys: Any, kind: Any, raw: Any, path: KeyPath) -> Any:
        if not is_table(raw):
            self.find(path, f"expected a table, got {shown(raw)}")
            return INVALID
        named = keys is str or INVALID not in [self.value(keys, key, (*path, key)) for key in raw]
        values = {key: self.value(kind, item, (*path, key)) for key, item in raw.items()}
        return INVALID if not named or any(value is INVALID for value in values.values()) else values

    def _any(self, raw: Any, path: KeyPath) -> Any:
        if is_table(raw):
            return self._table(str, Any, raw, path)
        if is_list(raw):
            return self._list(list, Any, raw, path)
        return self._expanded(raw, path)

    def _leaf(self, kind: Any, raw: Any, path: KeyPath) -> Any:
        value = self._expanded(raw, path)
        if value is INVALID:
            return INVALID
        if value is not raw and kind in (bool, int, float):
            value = _number_of_text(value)  # a variable holds text; "${PORT}" may still be a number
        try:
            return _parsed(kind, value)
        except ValueError as expected:
            hint = f'in quotes: "{raw}"' if kind is str and type(raw) in (int, float) else None
            if get_origin(kind) is Literal and isinstance(raw, str):
                hint = did_you_mean(raw, [choice for choice in get_args(kind) if isinstance(choice, str)])
            self.find(path, f"expected {expected}, got {shown(raw)}", hint)
            return INVALID

    def _expanded(self, raw: Any, path: KeyPath) -> Any:
        """The text with its variables; the very same object when it refers to none."""
        if not isinstance(raw, str) or "${" not in raw:
            return raw
        unset: list[str] = []
        malformed = False

        def replace(reference: re.Match[str]) -> str:
            nonlocal malformed
            name = reference["name"]
            if name is None:
                malformed = malformed or reference[0] == "${"
                return "${"
            value = self._environ.get(name)
            # As in a shell, ":-" also stands in for a variable that is set to nothing.
            if reference["default"] is not None:
                return value or reference["default"]
            if value is None:
                unset.append(name)
                return ""
            return value

        text = _REFERENCE.sub(replace, raw)
        for name in unset:
            self.find(path, f"the environment variable {name} is not set", f'set it, or write "${{{name}:-default}}"')
        if malformed:
            expected = 'expected "${NAME}" or "${NAME:-default}"'
            self.find(path, f"{expected}, got {shown(raw)}", 'a literal "${" is written "$${"')
        return INVALID if unset or malformed else text


def _is_text(kind: Any) -> bool:
    return kind is str or (get_origin(kind) is Annotated and get_args(kind)[0] is str)


@functools.cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """By the name in a file. Kept, since msgspec evaluates every annotation anew: 0.4 ms for each function."""
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


_PLURALS = {"a table": "tables", "a whole number": "whole numbers", "a number": "numbers"}


def described(kind: Any) -> str:
    """What a value of this type is called in "expected ..."."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return described(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(described(each) for each in arguments if each is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(shown(choice) for choice in arguments)
    if origin in (list, tuple, set, frozenset):
        one = described(arguments[0])
        return f"a list of {_PLURALS.get(one, one)}"
    if origin is dict or _is_class(kind, msgspec.Struct):
        return "a table"
    names = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
    return names.get(kind) or str(getattr(kind, "expected", getattr(kind, "__name__", kind)))


def _parsed(kind: Any, value: Any) -> Any:
    """Raises ValueError with what was expected."""
    if _is_class(kind, Duration, Instant, Megabytes, Bytes):
        return kind.parse(value)
    if get_origin(kind) is Literal:
        # 1 == True: the type has to be that of the choice too.
        if any(value == choice and type(value) is type(choice) for choice in get_args(kind)):
            return value
        raise ValueError(described(kind))
    if kind is float and type(value) is int:
        return float(value)
    if kind in (str, bool, int, float):
        if type(value) is not kind:
            raise ValueError(described(kind))
        return value
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as refused:
        raise ValueError(_msgspec_says(refused).removeprefix("expected ")) from None


def _is_class(kind: object, *of: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, of)


def _number_of_text(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _msgspec_says(refused: msgspec.ValidationError) -> str:
    text = str(refused).replace("`", "")
    return text[:1].lower() + text[1:]


def _in_unit(kind: Any, bound: float) -> str:
    """A bound as one would write it in the file: 900 of a Duration is 15m."""
    if kind is Duration:
        for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
            if bound >= seconds and bound % seconds == 0:
                return f"{bound / seconds:g}{unit}"
        return f"{bound * 1000:g}ms"
    if kind in (Megabytes, Bytes):
        step = 1 if kind is Megabytes else 1024**2
        for unit, size in (("GB", 1024 * step), ("MB", step), ("KB", step / 1024)):
            if bound >= size and bound % size == 0:
                return f"{bound / size:g} {unit}"
        return f"{bound:g} B"
    return f"{bound:.15g}"
