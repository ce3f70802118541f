"""Sees that a declaration or a function's code has changed, for `--watch`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable

from watchfiles import (
    Change,
    DefaultFilter,
    awatch,  # pyright: ignore[reportUnknownVariableType] - one parameter of it names a type of anyio, which is optional
)

from eventfn.functions.model import Project

STEP_MS = 20  # how long it must be quiet: an editor that saves by writing and renaming is one change
DEBOUNCE_MS = 100  # ... but a stream of writes does not put it off longer


async def changes(current: Callable[[], Project]) -> AsyncGenerator[None, None]:
    """Yields whenever something below the project, its code folders or its layers may have changed. The folders are
    looked up anew after each change, since a reload may declare others. The data folder is not the project's.

    Whoever loads is always behind: what changed after a project was loaded and before its folders were watched would
    be seen by nobody. So each watch, once it is in place, begins with a yield.
    """
    while True:
        folders = _folders(current())
        watch = awatch(*folders, watch_filter=_Noticed(current().data), debounce=DEBOUNCE_MS, step=STEP_MS)
        coming = asyncio.ensure_future(anext(watch))
        try:
            await asyncio.sleep(0)  # the task's first turn puts the watch in place
            yield
            while _folders(current()) == folders:
                await coming
                yield
                coming = asyncio.ensure_future(anext(watch))
        finally:
            coming.cancel()
            await asyncio.wait({coming})
            await watch.aclose()


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
