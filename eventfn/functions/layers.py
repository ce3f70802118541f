"""Several layers -> one folder shaped as /opt, in which later layers overwrite files of earlier ones, as in Lambda."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path


def merge(layers: Iterable[Path], ours: Path, into: Path) -> None:
    """Files below `ours` are never changed and become hard links; of a folder of the user's, which may be edited in
    place at any time, the files are copied. Links stay what they are. Blocks. Raises OSError."""
    for layer in layers:
        place = os.link if layer.is_relative_to(ours) else shutil.copy2
        for folder, folders, files in os.walk(layer):
            target = into / os.path.relpath(folder, layer)
            if target.is_symlink() or target.is_file():
                target.unlink()
            target.mkdir(exist_ok=True)
            for name in [*files, *(name for name in folders if os.path.islink(f"{folder}/{name}"))]:  # noqa: PTH114
                _make_room(target / name)
                source = Path(folder, name)
                if source.is_symlink():
                    (target / name).symlink_to(source.readlink())
                elif source.is_file():  # sockets and the like are no part of a layer
                    place(source, target / name)


def _make_room(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
