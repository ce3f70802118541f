"""Several layers -> one folder shaped as /opt, in which later layers overwrite files of earlier ones, as in Lambda."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path


def merge(layers: Iterable[Path], ours: Path, into: Path) -> None:
    """Into an empty folder. Files below `ours` are never changed and become hard links, their bytecode too; of a folder
    of the user's, which may be edited in place at any time, the sources are copied. Links stay what they are.

    Blocks. Raises OSError.
    """
    for layer in layers:
        is_ours = layer.is_relative_to(ours)
        for folder, folders, files in os.walk(layer):
            if not is_ours and "__pycache__" in folders:
                folders.remove("__pycache__")
            target = into / os.path.relpath(folder, layer)
            if target.is_symlink() or target.is_file():
                target.unlink()
            target.mkdir(exist_ok=True)
            # Sources come before the folders below, and so before the bytecode of theirs.
            for name in [*files, *(name for name in folders if os.path.islink(f"{folder}/{name}"))]:  # noqa: PTH114
                _place(Path(folder, name), target / name, link=is_ours)


def _place(source: Path, target: Path, *, link: bool) -> None:
    _remove(target)
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_file() and not (link and _linked(source, target)):  # sockets and the like are no part of a layer
        shutil.copy2(source, target)
    if target.suffix == ".py":
        for compiled in (target.parent / "__pycache__").glob(f"{target.stem}.*.pyc"):
            compiled.unlink()  # of the file that was there before


def _linked(source: Path, target: Path) -> bool:
    try:
        target.hardlink_to(source)
    except OSError:
        return False  # a file system without links, or with no more of them for this file
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
