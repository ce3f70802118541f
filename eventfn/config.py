"""What was declared -> one frozen Project, or every mistake in it at once.

`load` is the only entrance. It reads, converts and checks; it starts nothing and connects to nothing. A rule about
one value stands with its type (functions/model.py, a plugin's Settings); a rule between two stands in
declaring/checks.py.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from eventfn.declaring.aws_checks import AwsChecks
from eventfn.declaring.checks import Checks
from eventfn.declaring.documents import Document
from eventfn.declaring.finding import find
from eventfn.declaring.handler_files import check_handlers
from eventfn.declaring.settings import INVALID, KeyPath, SettingsReader, did_you_mean, dotted, is_list, is_table, shown
from eventfn.declaring.trigger_checks import TriggerChecks
from eventfn.errors import ConfigError, Problem
from eventfn.functions.model import (
    Admin,
    Aws,
    Function,
    Intake,
    Limits,
    Project,
    Queue,
    TriggerBinding,
    Where,
    Workers,
)
from eventfn.plugins import Plugins, PluginUnusable, intake_keys

StructType = TypeVar("StructType", bound=msgspec.Struct)

_CORE_KEYS = ("admin", "aws", "data", "destinations", "functions", "limits", "queues", "workers")
_OVERRIDES: dict[KeyPath, str] = {("http", "listen"): "--http", ("admin", "listen"): "--admin"}


def load(
    target: Path,
    plugins: Plugins,
    *,
    data: Path | None = None,
    http: str | None = None,
    admin: str | None = None,
    read_handlers: bool = False,
) -> Project:
    """The project of a folder, an eventfn.toml or a Python file.

    `data`, `http` and `admin` are the command line's and win over the file: the data folder, and the addresses of
    [http] and [admin]. `read_handlers` looks into the handlers' files too: what is wrong there is the function's
    affair, not the project's. Raises ConfigError with every mistake, in the order of the file.
    """
    document = find(Path(target))
    given: dict[KeyPath, str | None] = {("http", "listen"): http, ("admin", "listen"): admin}
    overrides = {path: value for path, value in given.items() if value is not None}
    return _Loading(document, plugins, overrides, data).project(read_handlers)


class _Loading:
    """One run of `load`: every step goes on after a mistake, and the last one raises them all."""

    def __init__(
        self, document: Document, plugins: Plugins, overrides: Mapping[KeyPath, str], data: Path | None
    ) -> None:
        self._document = document
        self._plugins = plugins
        self._overrides = overrides
        self._given_data = data
        self._tables = _overridden(document.tables, overrides)
        # The one variable that is not the operator's: where a function finds a folder of the project, for example.
        self._reader = SettingsReader({**os.environ, "EVENTFN_FOLDER": str(document.folder)})
        self._shared: dict[str, Any] = {}
        self._destinations: dict[str, Any] = {}
        self._trigger_paths: dict[str, KeyPath] = {}  # source -> where it is declared

    def project(self, read_handlers: bool) -> Project:
        self._find_unknown_tables()
        limits = self._table(Limits, "limits")
        workers = self._table(Workers, "workers")
        admin = self._table(Admin, "admin")
        aws = AwsChecks(self._table(Aws, "aws") or Aws(), self._reader, self._document.folder).complete()
        data = self._data()
        queues = {name: queue for name, table in self._children("queues") if (queue := self._queue(name, table))}
        functions = {name: made for name, table in self._children("functions") if (made := self._function(name, table))}
        self._read_plugin_tables(functions)
        project = Project(
            folder=str(self._document.folder),
            file=str(self._document.file),
            data=data,
            functions=functions,
            queues=queues,
            shared=self._shared,
            destinations=self._destinations,
            limits=limits or Limits(),
            workers=workers or Workers(),
            admin=admin or Admin(),
            aws=aws,
        )
        Checks(project, self._plugins, self._reader, self._tables).run()
        TriggerChecks(project, self._plugins, self._reader, self._trigger_paths).run()
        if read_handlers:
            check_handlers(project, self._reader)
        if self._reader.findings:
            raise ConfigError(self._problems())
        return project

    def _find_unknown_tables(self) -> None:
        known = [*_CORE_KEYS, *self._plugins.trigger_names]
        for key in self._tables:
            if key not in known:
                self._reader.find((key,), "unknown key", did_you_mean(key, known, "known keys"))

    def _table(self, kind: type[StructType], name: str) -> StructType | None:
        return self._reader.struct(kind, self._tables.get(name, {}), (name,))

    def _data(self) -> str:
        if self._given_data is not None:
            return os.path.abspath(self._given_data)  # noqa: PTH100 - Path.absolute would keep ".."
        written = self._reader.value(str, self._tables.get("data", ".eventfn"), ("data",))
        return "" if written is INVALID else self._absolute(written)

    def _children(self, name: str) -> list[tuple[str, Any]]:
        table = self._tables.get(name, {})
        if is_table(table):
            return list(table.items())
        self._reader.find((name,), f"expected a table, got {shown(table)}")
        return []

    def _queue(self, name: str, table: Any) -> Queue | None:
        path = ("queues", name)
        return self._reader.struct(Queue, table, path, given={"name": name, "where": self._document.where(path)})

    def _function(self, name: str, table: Any) -> Function | None:
        path = ("functions", name)
        if not is_table(table):
            self._reader.find(path, f"expected a table, got {shown(table)}")
            return None
        function = self._reader.struct(
            Function,
            {"code": ".", **table},
            path,
            given={"name": name, "triggers": (), "where": self._document.where(path)},
            elsewhere=("triggers",),
        )
        triggers = self._triggers(name, table.get("triggers", []))
        if function is None:
            return None
        return msgspec.structs.replace(
            function,
            code=self._absolute(function.code),
            layers=tuple(self._absolute(layer) for layer in function.layers),
            requirements=self._absolute(function.requirements) if function.requirements is not None else None,
            file_system_configs=tuple(
                msgspec.structs.replace(each, path=self._absolute(each.path)) for each in function.file_system_configs
            ),
            triggers=triggers,
        )

    def _triggers(self, function: str, tables: Any) -> tuple[TriggerBinding, ...]:
        path = ("functions", function, "triggers")
        if not is_list(tables):
            self._reader.find(path, f"expected a list of tables, got {shown(tables)}", f"[[{dotted(path)}]]")
            return ()
        bindings: dict[str, TriggerBinding] = {}
        for at, table in enumerate(tables):
            binding = self._trigger(function, table, (*path, at))
            if binding is None:
                continue
            if binding.source in bindings:
                self._reader.find((*path, at), "is the same trigger as one before it on this function")
            bindings[binding.source] = binding
        return tuple(bindings.values())

    def _trigger(self, function: str, table: Any, path: KeyPath) -> TriggerBinding | None:
        if not is_table(table):
            self._reader.find(path, f"expected a table, got {shown(table)}")
            return None
        if not isinstance(name := table.get("type"), str):
            missing = "is missing: expected" if name is None else "expected"
            self._reader.find((*path, "type"), f"{missing} the name of a trigger", self._trigger_names())
            return None
        try:
            plugin = self._plugins.trigger(name)
        except PluginUnusable as unusable:
            self._reader.find((*path, "type"), unusable.message, unusable.hint)
            return None
        hosts = intake_keys(plugin.traits)
        before = len(self._reader.findings)
        settings = self._reader.struct(plugin.Settings, table, path, elsewhere=("type", *hosts))
        intake = self._reader.struct(Intake, {key: table[key] for key in hosts if key in table}, path)
        # Only a trigger without a mistake is held against others: with defaults in it, it might clash for nothing.
        if settings is None or intake is None or len(self._reader.findings) > before:
            return None
        own = {key: value for key, value in table.items() if key not in hosts}
        source = f"{function}/{name}/{_digest(own)}"
        self._trigger_paths.setdefault(source, path)
        return TriggerBinding(
            type=name,
            source=source,
            settings=settings,
            intake=intake,
            where=self._document.where(path),
        )

    def _trigger_names(self) -> str:
        return f"installed triggers: {', '.join(self._plugins.trigger_names)}"

    def _read_plugin_tables(self, functions: Mapping[str, Function]) -> None:
        """The [http]s and [destinations.https]s: those that are written, and the defaults of all that are used."""
        used = {trigger.type for function in functions.values() for trigger in function.triggers}
        for name in self._plugins.trigger_names:
            if name in self._tables or name in used:
                self._read_shared(name)
        for scheme, table in self._children("destinations"):
            try:
                plugin = self._plugins.destination(scheme)
            except PluginUnusable as unusable:
                self._reader.find(("destinations", scheme), unusable.message, unusable.hint)
                continue
            self._destinations[scheme] = self._faultless(plugin.Settings, table, ("destinations", scheme))

    def _read_shared(self, name: str) -> None:
        try:
            shared = self._plugins.trigger(name).Shared
        except PluginUnusable as unusable:
            self._reader.find((name,), unusable.message, unusable.hint)
            return
        if shared is not None:
            self._shared[name] = self._faultless(shared, self._tables.get(name, {}), (name,))
        elif name in self._tables:
            self._reader.find((name,), f"the trigger '{name}' has no settings that its triggers share")

    def _faultless(self, kind: type[StructType], table: Any, path: KeyPath) -> StructType | None:
        """Settings that a plugin may be asked about: with defaults in place of mistakes it would find more of them."""
        before = len(self._reader.findings)
        settings = self._reader.struct(kind, table, path)
        return settings if len(self._reader.findings) == before else None

    def _absolute(self, path: str) -> str:
        return os.path.normpath(self._document.folder / path)

    def _problems(self) -> list[Problem]:
        problems: list[Problem] = []
        for finding in self._reader.findings:
            if finding.path in self._overrides:
                problems.append(Problem(_OVERRIDES[finding.path], None, "", finding.message, finding.hint))
                continue
            where: Where = self._document.where(finding.path)
            problems.append(Problem(where.file, where.line, dotted(finding.path), finding.message, finding.hint))
        return sorted(problems, key=lambda problem: (problem.file, problem.line or 0))


def _overridden(tables: Mapping[str, Any], overrides: Mapping[KeyPath, str]) -> dict[str, Any]:
    changed = dict(tables)
    for (name, key), value in overrides.items():
        if is_table(table := changed.get(str(name), {})):
            changed[str(name)] = {**table, str(key): value}
    return changed


def _digest(table: Mapping[str, Any]) -> str:
    """Of what is written, not of what it means: a secret that is rotated, or a default that a later version adds,
    leaves the source what it was, and with it everything that was kept under its name."""
    text = json.dumps(table, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
