"""What can be seen of a handler's file without running it: that it parses, and that it has the function.

Nothing is said where only running it could tell: a star import, a module `__getattr__`, a name made by `global`. It is
for `eventfn check`: a node runs such a function, and gives its callers Lambda's error, since it harms no other.
"""

from __future__ import annotations

import symtable
from pathlib import Path

from eventfn.declaring.settings import KeyPath, SettingsReader, nearest
from eventfn.functions.model import Function, Project


def check_handlers(project: Project, reader: SettingsReader) -> None:
    for name, function in project.functions.items():
        file = _file_of(function)
        # Another Python's syntax is not ours to judge.
        if file is None or function.runtime is not None:
            continue
        mistake = mistake_in(file, function.handler.rpartition(".")[2])
        if mistake is not None:
            path: KeyPath = ("functions", name, "handler")
            reader.find(path, *mistake)


def _file_of(function: Function) -> Path | None:
    """The handler's file in a folder of code; None for what is in a zip, compiled, in a layer, or not there."""
    module = Path(function.code) / function.handler.rpartition(".")[0].replace(".", "/")
    candidates = (module.with_name(f"{module.name}.py"), module / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def mistake_in(file: Path, function: str) -> tuple[str, str | None] | None:
    """(what is wrong, a hint), or None. Raises OSError."""
    source = file.read_bytes()
    try:
        module = symtable.symtable(source.decode(), str(file), "exec")
    except UnicodeDecodeError:
        return None  # it may say another encoding, which only Python itself reads as it should
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        return f"{file.name}{f', line {line}' if line else ''}: {getattr(error, 'msg', error)}", None
    names = {
        symbol.get_name()
        for symbol in module.get_symbols()
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
    }
    if function in names or "__getattr__" in names:
        return None
    if b"import *" in source or f"global {function}".encode() in source or b"globals()" in source:
        return None
    meant = nearest(function, names)
    return f"{file.name} has no function '{function}'", f"did you mean '{meant}'?" if meant else None
