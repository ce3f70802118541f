"""Which file of a folder declares its functions."""

from __future__ import annotations

from pathlib import Path

from eventfn.declaring.documents import Document
from eventfn.declaring.python_files import declares, from_python
from eventfn.declaring.toml_files import from_toml
from eventfn.errors import ConfigError, Problem

FILE_NAME = "eventfn.toml"
PYTHON_FILE_NAME = "app.py"


def find(target: Path) -> Document:
    """The document of a folder, an eventfn.toml or a Python file. Raises ConfigError."""
    if not target.is_dir():
        if target.suffix == ".toml":
            return from_toml(target)
        if target.suffix == ".py":
            return from_python(target)
        raise ConfigError([Problem(str(target), None, "", f"expected a folder, an {FILE_NAME} or a Python file")])
    if (target / FILE_NAME).exists():
        return from_toml(target / FILE_NAME)
    if (target / PYTHON_FILE_NAME).exists():
        return from_python(target / PYTHON_FILE_NAME)
    files = sorted(target.glob("*.py"))
    candidates = [file for file in files if declares(file)] if len(files) > 1 else files
    if len(candidates) == 1:
        return from_python(candidates[0])
    if candidates:
        message = f"several files declare functions: {', '.join(file.name for file in candidates)}"
        raise ConfigError([Problem(str(target), None, "", message, "name the one that is meant")])
    message = f"no {FILE_NAME} here, no {PYTHON_FILE_NAME}, and no other Python file with an App or a handler"
    raise ConfigError([Problem(str(target), None, "", message, "start one with 'eventfn new'")])
