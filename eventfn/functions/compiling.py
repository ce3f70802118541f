"""Sources -> bytecode that is imported without a look at its source. Imported, and run by other interpreters too:

    python -I -S compiling.py < pairs          NUL-separated: source, where its bytecode goes, source ...

So: standard library only, and of that little. The file format is PEP 552's: a .pyc with an unchecked hash.
"""
# ruff: noqa: PTH103, PTH105, PTH120, PTH123 - pathlib takes as long to import as all the rest

import marshal
import os
import sys
import warnings
from collections.abc import Iterable
from importlib.util import MAGIC_NUMBER

_UNCHECKED, _NO_HASH = 0b01.to_bytes(4, "little"), bytes(8)


def compile_all(pairs: Iterable[tuple[str, str]]) -> None:
    """What does not compile is left out: the import says what is wrong with it. Raises OSError when writing fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a function's own, which nobody here can mend
        for source, target in pairs:
            try:
                with open(source, "rb") as file:
                    code = compile(file.read(), source, "exec", dont_inherit=True)
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            # Whole or not at all: a later source may bring this process down.
            with open(f"{target}.new", "wb") as file:
                file.write(MAGIC_NUMBER + _UNCHECKED + _NO_HASH + marshal.dumps(code))
            os.replace(f"{target}.new", target)


if __name__ == "__main__":
    names = iter(os.fsdecode(sys.stdin.buffer.read()).split("\0"))
    compile_all(zip(names, names))  # noqa: B905 - one iterator, taken from twice
