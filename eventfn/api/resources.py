"""The resources of Lambda's API: a line for each.

Not here: what they do (a file per resource), and who mounts them (app).
"""

from __future__ import annotations

from eventfn.api.operations import Resource
from eventfn.api.ports import Node


def resources(node: Node) -> list[Resource]:
    return []
