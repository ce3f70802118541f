"""What can be seen of a handler's file without running it: that it parses, and that it has the function.

Nothing is said where only running it could tell: a star import, a module `__getattr__`, a name made by `global`.
"""

from __future__ import annotations

import symtable
from pathlib import Path

from eventfn.declaring.settings import nearest


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
