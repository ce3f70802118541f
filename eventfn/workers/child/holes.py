"""Room in the zygote's memory that its clones would fill, each for itself.

Between the objects of a zygote are places that are free again, nearly one in every page. A clone that made its objects
there would copy all these pages; so something is put there before, and what a clone makes stands side by side in new
ones. That is 0.3 MB of each environment, and fifty page faults of its start.
"""

from __future__ import annotations

from collections.abc import Callable

# CPython's since 3.10 (Objects/obmalloc.c): objects of up to so many bytes are kept together by size, in pools.
_STEP, _LARGEST = 16, 512
_POOL, _HEADER = 16_384, 48
_MOST = 2_000  # of one size, were all this otherwise; there are 20 to 700 holes
_OF_BYTES = bytes.__basicsize__


_filled: list[list[object]] = []


def fill() -> None:
    """All that there are now, for good."""
    makers: list[tuple[int, Callable[[int], object]]] = [(16, lambda _: object()), (32, lambda number: number + 1_000)]
    makers += [
        (size, lambda _, length=size - _OF_BYTES: bytes(length))  # type: ignore[misc]  # bound here, now
        for size in range(3 * _STEP, _LARGEST + 1, _STEP)
    ]
    _filled.extend(_of_size(size, make) for size, make in makers)


def _of_size(size: int, make: Callable[[int], object]) -> list[object]:
    """Until a new pool is begun, which happens when there is no place in any other."""
    made: list[object] = []
    before = 0
    for number in range(_MOST):
        made.append(make(number))
        address = id(made[-1])
        if before % _POOL == _HEADER and address == before + size:
            break
        before = address
    return made
