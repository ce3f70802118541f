"""GetAccountSettings: what the account may have, and what it has."""

from __future__ import annotations

from collections.abc import Mapping

from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions import shares
from eventfn.functions.control import Control
from eventfn.functions.managed import Layer

TOTAL_CODE_SIZE = 80_530_636_800  # bytes, zipped, of all versions and layer versions
UNZIPPED = 262_144_000  # bytes, of one version with its layers
ZIPPED = 52_428_800  # bytes, of an upload


class Account:
    def __init__(self, control: Control) -> None:
        self._control = control

    def operations(self) -> Mapping[str, Handler]:
        return {"GetAccountSettings": self._get}

    async def _get(self, call: Call) -> Answer:
        functions = [each for name in self._control.names() if (each := self._control.get(name)) is not None]
        limit = self._control.project.limits.concurrency
        return Answer(
            {
                "AccountLimit": {
                    "TotalCodeSize": TOTAL_CODE_SIZE,
                    "CodeSizeUnzipped": UNZIPPED,
                    "CodeSizeZipped": ZIPPED,
                    "ConcurrentExecutions": limit,
                    "UnreservedConcurrentExecutions": max(0, shares.unreserved(limit, functions)),
                },
                "AccountUsage": {"TotalCodeSize": code_size(self._control), "FunctionCount": len(functions)},
            }
        )


def code_size(control: Control) -> int:
    """Bytes of all that was uploaded and is still there: each published version and each layer version counts."""
    functions = [each for name in control.store.names() if (each := control.store.get(name)) is not None]
    layers = control.store.documents("layers/", Layer).values()
    return sum(version.code.size for each in functions for version in each.all_versions()) + sum(
        version.code.size for layer in layers for version in layer.versions.values()
    )
