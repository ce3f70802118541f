"""From a handler string to a function: "pkg/sub.module.name", with Lambda's rules and its error for each mistake."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventfn.workers.child.results import Fault

Handler = Callable[[Any, Any], Any]


def load(handler: str) -> Handler:
    """Imports the module and returns the function. Raises Fault, or whatever the module raised while imported."""
    try:
        module_name, function_name = handler.rsplit(".", 1)
    except ValueError as error:
        raise Fault("Runtime.MalformedHandlerName", f"Bad handler '{handler}': {error}") from None
    dotted = module_name.replace("/", ".")
    top = dotted.partition(".")[0]
    if top in sys.builtin_module_names:
        message = f"Cannot use built-in module {module_name} as a handler module"
        raise Fault("Runtime.BuiltInModuleConflict", message)
    _make_way(top)
    try:
        module = importlib.import_module(dotted)
    except ImportError as error:
        raise Fault("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}") from None
    except SyntaxError as error:
        line = f'  File "{error.filename}" Line {error.lineno}\n    {error.text}'
        message = f"Syntax error in module '{module_name}': {error}"
        raise Fault("Runtime.UserCodeSyntaxError", message, [line]) from None
    try:
        found: Handler = getattr(module, function_name)
    except AttributeError:
        message = f"Handler '{function_name}' missing on module '{module_name}'"
        raise Fault("Runtime.HandlerNotFound", message) from None
    return found


def _make_way(top: str) -> None:
    """The function's own module wins over one of the standard library that the zygote happens to have loaded."""
    if top in sys.modules and (Path(top).is_dir() or Path(f"{top}.py").is_file()):
        for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
            del sys.modules[name]
