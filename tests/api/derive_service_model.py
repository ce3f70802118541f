"""Lambda's service model without its texts, from the botocore that is installed.

`python -m tests.api.derive_service_model` writes eventfn/api/service_model.json anew; test_service_model.py holds the
file equal to it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import botocore.session

FILE = Path(__file__).parents[2] / "eventfn/api/service_model.json"

# Facts about a client, not about the wire.
_LEFT_OUT = {"documentation", "box", "idempotencyToken", "exception", "fault", "deprecated", "deprecatedMessage"}
_LEFT_OUT_TOO = {"deprecatedSince", "streaming", "event", "eventstream", "eventpayload"}


def derived() -> str:
    """The text of the file: a line for each operation and each shape, so that a change is seen in a diff."""
    description = botocore.session.get_session().get_service_model("lambda")._service_description
    operations = {name: _operation(found) for name, found in description["operations"].items()}
    shapes = {name: _kept(found) for name, found in description["shapes"].items()}
    return f'{{"operations": {{\n{_lines(operations)}\n}}, "shapes": {{\n{_lines(shapes)}\n}}}}\n'


def _operation(found: Any) -> dict[str, Any]:
    kept = {
        "name": found["name"],
        "method": found["http"]["method"],
        "path": found["http"]["requestUri"],
        "status": found["http"]["responseCode"],
        "input": found["input"]["shape"],
    }
    if "output" in found:
        kept["output"] = found["output"]["shape"]
    if found.get("deprecated"):
        kept["deprecated"] = True
    return kept


def _kept(value: Any) -> Any:
    match value:
        case dict():
            # A member may be called as one of these keys is: only what is not a structure is left out.
            return {
                key: _kept(inner)
                for key, inner in value.items()
                if isinstance(inner, dict) or key not in _LEFT_OUT | _LEFT_OUT_TOO
            }
        case list():
            return [_kept(inner) for inner in value]
        case _:
            return value


def _lines(entries: dict[str, Any]) -> str:
    return ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())


if __name__ == "__main__":
    FILE.write_text(derived())
