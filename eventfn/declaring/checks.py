"""The rules between two settings, and between a setting and what is on disk. `eventfn check` is these and the types.

Belongs here: what can be known without starting, installing or connecting. Does not: a rule about one value (its
type), triggers (trigger_checks.py), what only the function's own interpreter can say (does the module import?).
"""

from __future__ import annotations

import ipaddress
import re
import zipfile
from collections.abc import Mapping
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any

from eventfn.declaring import file_system_checks
from eventfn.declaring.settings import KeyPath, SettingsReader, did_you_mean, is_table, nearest, shown
from eventfn.functions import runs
from eventfn.functions.model import Function, LoggingConfig, Network, Project
from eventfn.plugins import Plugins, PluginUnusable
from eventfn.sandbox import allow_list
from eventfn.workers.runtimes import family, finding

_FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_QUEUE_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,80}")
_VARIABLE_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[a-zA-Z_0-9+=,.@/-]+", re.ASCII)  # Lambda's
_LOG_GROUP = re.compile(r"[a-zA-Z0-9_/.#-]{1,512}")
_ENVIRONMENT_LIMIT = 4096  # Lambda's quota, names and values together
_LAYER_LIMIT = 5

# Lambda's list: what the environment sets itself.
_RESERVED_VARIABLES = {
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
}


class Checks:
    """The rules over one project; what they find goes to `reader.findings` beside the mistakes of types.

    Some of the project may be defaults in place of what is wrong; `tables` says what was written.
    """

    def __init__(self, project: Project, plugins: Plugins, reader: SettingsReader, tables: Mapping[str, Any]) -> None:
        self._project = project
        self._plugins = plugins
        self._reader = reader
        self._tables = tables

    def run(self) -> None:
        self._admin()
        self._network(self._project.aws.network, ("aws", "network"))
        self._queues()
        for name, function in self._project.functions.items():
            path: KeyPath = ("functions", name)
            self._name(function, path)
            self._code(function, path)
            self._environment(function, path)
            self._logging(function.logging_config, (*path, "logging_config"))
            self._network(function.network, (*path, "network"))
            for place, message in file_system_checks.mistakes(function, self._project, path):
                self._find(place, message)
            self._concurrency(function, path)
        for path, uri in tuple(self._reader.destinations):  # a sink may have defaults to read
            self._destination(uri, path)
        self._reserved_concurrency()

    def _find(self, path: KeyPath, message: str, hint: str | None = None) -> None:
        self._reader.find(path, message, hint)

    # --- the node ---

    def _admin(self) -> None:
        listen = self._project.admin.listen
        host = _host(listen)
        if host is None:
            self._find(("admin", "listen"), f'expected an address such as "127.0.0.1:9000", got {shown(listen)}')
        elif not _is_loopback(host) and not self._project.aws.keys:
            self._find(
                ("admin", "listen"),
                f"expected a loopback address, got {shown(listen)}: elsewhere requests must be signed, as whoever "
                "reads the token of this listener off the network could run any function",
                'declare [[aws.keys]], or use "127.0.0.1:PORT" and an ssh tunnel to reach it from elsewhere',
            )

    def _queues(self) -> None:
        queues = self._project.queues
        for name, queue in queues.items():
            path: KeyPath = ("queues", name)
            if not _QUEUE_NAME.fullmatch(name):
                self._find(path, "expected a name of 1 to 80 letters, digits, '-', '_' and '.'")
            if queue.max_receive_count is not None and queue.dead_letter_queue is None:
                self._find((*path, "max_receive_count"), "means nothing without dead_letter_queue")
            if queue.content_based_deduplication and not queue.fifo:
                self._find((*path, "content_based_deduplication"), "means nothing without fifo = true")
            if (dead := queue.dead_letter_queue) is None:
                continue
            if not _QUEUE_NAME.fullmatch(dead):
                hint = f"'{dead[6:]}'" if dead.startswith("queue:") else None
                self._find((*path, "dead_letter_queue"), f"expected the name of a queue, got {shown(dead)}", hint)
            elif loop := self._loop(name):
                self._find((*path, "dead_letter_queue"), f"leads back to this queue: {' -> '.join(loop)}")

    def _loop(self, start: str) -> list[str] | None:
        way = [start]
        while (queue := self._project.queues.get(way[-1])) and queue.dead_letter_queue is not None:
            way.append(queue.dead_letter_queue)
            if way[-1] == start:
                return way
            if way[-1] in way[:-1]:
                return None  # a loop further on, which is found where it starts
        return None

    def _reserved_concurrency(self) -> None:
        limit = self._project.limits.concurrency
        reserved = {name: f.reserved_concurrency or 0 for name, f in self._project.functions.items()}
        if sum(reserved.values()) > limit:
            total = " + ".join(f"{name} {count}" for name, count in reserved.items() if count)
            self._find(
                ("limits", "concurrency") if "limits" in self._tables else ("functions",),
                f"the functions reserve more than the node's concurrency of {limit}: {total}",
            )

    # --- one function ---

    def _name(self, function: Function, path: KeyPath) -> None:
        if not _FUNCTION_NAME.fullmatch(function.name):
            self._find(path, "expected a name of 1 to 64 letters, digits, '-' and '_'")
        if function.role is not None and not _ROLE.fullmatch(function.role):
            example = f'"arn:aws:iam::{self._project.aws.account}:role/NAME"'
            self._find((*path, "role"), f"expected an ARN such as {example}, got {shown(function.role)}")
        if (runtime := function.runtime) is not None:
            if family(runtime) is None:
                self._find((*path, "runtime"), f"expected a runtime such as {finding.EXPECTED}, got {shown(runtime)}")
                return
            if (why_not := finding.why_not_installed(runtime)) is not None:
                self._find((*path, "runtime"), why_not)
        for key, message in runs.mistakes(function):
            self._find((*path, *key.split(".")), message)

    def _code(self, function: Function, path: KeyPath) -> None:
        code = Path(function.code)
        if not _is_folder_or_zip(code):
            self._find((*path, "code"), *_missing(code, "a folder or a zip"))
        elif family(function.runtime) == "python":
            self._handler(function, code, (*path, "handler"))
        for at, layer in enumerate(function.layers):
            if not _is_folder_or_zip(Path(layer)):
                self._find((*path, "layers", at), *_missing(Path(layer), "a folder or a zip"))
        if len(function.layers) > _LAYER_LIMIT:
            self._find((*path, "layers"), f"expected at most {_LAYER_LIMIT} layers, got {len(function.layers)}")
        if function.requirements is not None and not (file := Path(function.requirements)).is_file():
            message, hint = _missing(file, "a file")
            self._find((*path, "requirements"), message, hint)

    def _handler(self, function: Function, code: Path, path: KeyPath) -> None:
        """Only what is plain from outside; how a handler string is read in full is the runtime's (workers/child)."""
        module, _, name = function.handler.rpartition(".")
        segments = module.replace("/", ".").split(".")
        if not all((*segments, name)):
            self._find(path, f'expected "file.function", got {shown(function.handler)}')
            return
        if function.layers or function.requirements:
            return  # the module may come from one of them
        wanted = "/".join(segments)
        files = _files_near(code, wanted)
        if not any(f"{wanted}{suffix}" in files for suffix in (*all_suffixes(), "/__init__.py")):
            modules = [file.removesuffix(".py") for file in files if file.endswith(".py")]
            meant = nearest(wanted, modules)
            hint = f"did you mean '{meant.replace('/', '.')}.{name}'?" if meant else None
            self._find(path, f"there is no file {wanted}.py in {code}", hint)

    def _environment(self, function: Function, path: KeyPath) -> None:
        path = (*path, "environment")
        for name in function.environment:
            if name in _RESERVED_VARIABLES:
                self._find((*path, name), "is set by the environment itself and cannot be declared")
            elif not _VARIABLE_NAME.fullmatch(name):
                self._find((*path, name), "expected a name of letters, digits and '_' that starts with a letter")
            elif "\0" in function.environment[name]:
                self._find((*path, name), "holds a NUL character, which no environment variable can")
        size = sum(len(name.encode()) + len(value.encode()) for name, value in function.environment.items())
        if size > _ENVIRONMENT_LIMIT:
            self._find(path, f"expected at most {_ENVIRONMENT_LIMIT} bytes of names and values, got {size}")

    def _logging(self, logging: LoggingConfig, path: KeyPath) -> None:
        if logging.log_group is not None and not _LOG_GROUP.fullmatch(logging.log_group):
            expected = "expected 1 to 512 letters, digits, '_', '-', '/', '.' and '#'"
            self._find((*path, "log_group"), f"{expected}, got {shown(logging.log_group)}")
        if logging.log_format == "Text":
            for key in ("application_log_level", "system_log_level"):
                if getattr(logging, key) != "INFO":
                    self._find((*path, key), 'means nothing without log_format = "JSON"')

    def _network(self, network: Network, path: KeyPath) -> None:
        if isinstance(network, str):
            return
        for at, message, hint in allow_list.mistakes(network):
            self._find(path if at is None else (*path, at), message, hint)

    def _concurrency(self, function: Function, path: KeyPath) -> None:
        provisioned, reserved = function.provisioned_concurrency, function.reserved_concurrency
        limit, of = (
            (self._project.limits.concurrency, "[limits] concurrency")
            if reserved is None
            else (reserved, "its reserved_concurrency")
        )
        if provisioned > limit:
            self._find((*path, "provisioned_concurrency"), f"expected at most {of}, {limit}, got {provisioned}")
        if provisioned and function.snap_start:
            # As in Lambda: the one keeps environments ready, the other makes them quickly.
            self._find((*path, "snap_start"), "cannot be together with provisioned_concurrency: choose one of them")

    # --- destinations ---

    def _destination(self, uri: str, path: KeyPath) -> None:
        scheme, colon, target = uri.partition(":")
        if not colon:
            self._find(path, f'expected a destination such as "queue:{uri}" or "fn:NAME", got {shown(uri)}')
            return
        try:
            plugin = self._plugins.destination(scheme)
        except PluginUnusable as unusable:
            self._find(path, unusable.message, unusable.hint)
            return
        if scheme not in self._project.destinations:
            # Not written: the defaults. Kept in the project, so that nobody else needs to know them.
            self._project.destinations[scheme] = self._reader.struct(plugin.Settings, {}, ("destinations", scheme))
        settings = self._project.destinations[scheme]
        if settings is not None and (wrong := plugin.check(target, settings)) is not None:
            self._find(path, wrong)
        elif scheme == "fn" and target not in (declared := self._declared_functions()):
            self._find(path, f"no function is called '{target}'", did_you_mean(target, declared, "declared"))

    def _declared_functions(self) -> list[str]:
        written = self._tables.get("functions", {})
        return list(written) if is_table(written) else []


def _host(address: str) -> str | None:
    """The host of "host:port"; None when it is not one. IPv6 stands in brackets."""
    found = re.fullmatch(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^:\[\]/\s]+)):(?P<port>\d{1,5})", address)
    if found is None or int(found["port"]) > 65535:
        return None
    return found["v6"] or found["host"]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_folder_or_zip(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and zipfile.is_zipfile(path))


def _missing(path: Path, expected: str) -> tuple[str, str | None]:
    """Message and hint for a path that is not what it should be."""
    if path.exists():
        return f"{path} is not {expected}", None
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    return f"{path} does not exist: expected {expected}", did_you_mean(path.name, siblings)


def _files_near(code: Path, module: str) -> list[str]:
    """Files in the folder of a module and in that of its own name if it is a package, as paths with "/" in the code."""
    if code.is_file():
        with zipfile.ZipFile(code) as archive:
            return archive.namelist()
    near = (code / module, (code / module).parent)
    return [file.relative_to(code).as_posix() for folder in near if folder.is_dir() for file in folder.iterdir()]
