"""Sees that a declaration or a function's code has changed, for `--watch`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable

from watchfiles import (
    Change,
    DefaultFilter,
    awatch,  # pyright: ignore[reportUnknownVariableType] - one parameter of it names a type of anyio, which is optional
)

from eventfn.functions.model import Project

STEP_MS = 20  # how long it must be quiet: an editor that saves by writing and renaming is one change
DEBOUNCE_MS = 100  # ... but a stream of writes does not put it off longer


async def changes(current: Callable[[], Project]) -> AsyncIterator[None]:
    """Yields whenever something below the project, its code folders or its layers changed. The folders are looked up
    anew after each change, since a reload may declare others. The data folder is not the project's."""
    while True:
        project = current()
        noticed = _Noticed(project.data)
        async for _ in awatch(*_folders(project), watch_filter=noticed, debounce=DEBOUNCE_MS, step=STEP_MS):
            yield
            if _folders(current()) != _folders(project):
                break


class _Noticed(DefaultFilter):
    def __init__(self, data: str) -> None:
        super().__init__()
        self._data = data + os.sep

    def __call__(self, change: Change, path: str) -> bool:
        return not path.startswith(self._data) and super().__call__(change, path)


def _folders(project: Project) -> list[str]:
    """Without those inside another: each change is seen once."""
    wanted = {project.folder}
    for function in project.functions.values():
        for path in (function.code, *function.layers):
            # A zip is watched through its folder: it is replaced, most often, and a watch on the file would end.
            wanted.add(path if os.path.isdir(path) else os.path.dirname(path))  # noqa: PTH112, PTH120 - strings
    return sorted(
        path for path in wanted if not any(path != other and path.startswith(other + os.sep) for other in wanted)
    )
