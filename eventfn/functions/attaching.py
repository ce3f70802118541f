"""Layers by their ARNs -> the layers of a function, with their code.

PURE. Source of the texts: functions-api, "Attach errors".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from eventfn.functions.managed import AttachedLayer, Layer
from eventfn.functions.refusals import invalid

MAX_LAYERS = 5

_LAYER_VERSION = re.compile(
    r"(?P<layer>arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):layer:(?P<name>[A-Za-z0-9_-]+))"
    r":(?P<number>\d+)"
)


def attached(arns: Sequence[str], layer: Callable[[str], Layer | None], region: str) -> tuple[AttachedLayer, ...]:
    """In the order in which they are merged. `layer` knows them by name. Raises Refusal."""
    if len(arns) > MAX_LAYERS:
        raise invalid(f"Cannot reference more than {MAX_LAYERS} layers.")
    found: dict[str, AttachedLayer] = {}
    for arn in arns:
        parts = _LAYER_VERSION.fullmatch(arn)
        if parts is None:
            raise invalid(f"Layer version {arn} does not exist.")
        if parts["region"] != region:
            raise invalid(
                "Layers are not in the same region as the function. Layers are expected to be in region " + f"{region}."
            )
        known = layer(parts["name"])
        version = known.versions.get(str(int(parts["number"]))) if known and known.arn == parts["layer"] else None
        if version is None:
            raise invalid(f"Layer version {arn} does not exist.")
        if parts["layer"] in found:
            raise invalid(
                "Two different versions of the same layer are not allowed to be referenced in the same function. "
                f"{found[parts['layer']].arn} and {arn} are versions of the same layer."
            )
        found[parts["layer"]] = AttachedLayer(arn=arn, code=version.code)
    return tuple(found.values())
