"""Imports from bytecode that was compiled when the function was published.

Not by sys.pycache_prefix: that holds for every folder, so the standard library's own bytecode would be found no more.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.abc import PathEntryFinder
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)

_folders: dict[str, str] = {}  # of this environment, which has one function


class _Loader(SourceFileLoader):
    def get_data(self, path: str) -> bytes:
        if path.endswith(".pyc"):
            for sources, bytecode in _folders.items():
                if path.startswith(f"{sources}/"):
                    try:
                        return super().get_data(bytecode + path.removeprefix(sources))
                    except FileNotFoundError:
                        break
        return super().get_data(path)


_find = FileFinder.path_hook(
    (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Loader, SOURCE_SUFFIXES), (SourcelessFileLoader, BYTECODE_SUFFIXES)
)


def use(folders: Mapping[str, str]) -> None:
    """Sources in these folders are imported from the bytecode in those; what has none there is compiled as ever."""
    _folders.update(folders)
    if folders:
        sys.path_hooks.insert(0, _hook)


def use_none() -> None:
    """As before `use`."""
    if _folders:
        sys.path_hooks.remove(_hook)
        _folders.clear()


def _hook(path: str) -> PathEntryFinder:
    if not any(f"{path}/".startswith(f"{sources}/") for sources in _folders):
        raise ImportError("none of ours")
    return _find(path)
