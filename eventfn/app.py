"""Declare in Python: the tables of eventfn.toml as calls. Declaring runs nothing and checks nothing; config.py does.

    import eventfn

    app = eventfn.App(limits={"concurrency": 100})

    @app.function(memory_size="256 MB", triggers=[eventfn.on("http", method="GET", path="/hello")])
    def hello(event, context):
        return {"message": "Hello"}

Keys and values are those of eventfn.toml. A function sees only its own code, so in an environment `import eventfn`
is answered by the stand-in in workers/child/importable, whose App does nothing at all; the two have one signature.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack

Handler = TypeVar("Handler", bound=Callable[..., Any])


class FunctionSettings(TypedDict, total=False):
    """The keys of [functions.NAME], for editors and type checkers; what they mean stands in functions/model.py."""

    code: str
    runtime: str
    description: str
    memory_size: int | str
    timeout: float | str
    ephemeral_storage: int | str
    network: str | Sequence[str]
    file_system_configs: Sequence[Mapping[str, str | bool]]
    environment: Mapping[str, str]
    role: str
    logging_config: Mapping[str, str]
    layers: Sequence[str]
    requirements: str
    concurrency_per_environment: int
    reserved_concurrency: int
    snap_start: bool
    provisioned_concurrency: int
    maximum_retry_attempts: int
    maximum_event_age: float | str
    retry_delays: Sequence[float | str]
    on_success: str
    on_failure: str
    dead_letter_queue: str


class QueueSettings(TypedDict, total=False):
    """The keys of [queues.NAME]."""

    fifo: bool
    visibility_timeout: float | str
    delay: float | str
    dead_letter_queue: str
    max_receive_count: int
    content_based_deduplication: bool
    dedupe_window: float | str
    maximum_messages: int


class Declaration(NamedTuple):
    """One function or queue as it was declared; `handler` is None for a queue."""

    name: str
    settings: dict[str, Any]
    handler: Callable[..., Any] | None
    file: str
    line: int


class App:
    """A project in Python. The keyword arguments are the other tables: `http={"listen": "127.0.0.1:8080"}`."""

    def __init__(self, *, data: str | None = None, **tables: Mapping[str, Any]) -> None:
        self.tables: dict[str, Any] = dict(tables) if data is None else {"data": data, **tables}
        self.functions: list[Declaration] = []
        self.queues: list[Declaration] = []
        self.file, self.line = _caller()

    def function(
        self,
        *,
        name: str | None = None,
        triggers: Sequence[Mapping[str, Any]] = (),
        **settings: Unpack[FunctionSettings],
    ) -> Callable[[Handler], Handler]:
        """Declares the handler below it, under its own name unless `name` says another, and returns it unchanged."""
        file, line = _caller()

        def declare(handler: Handler) -> Handler:
            if not hasattr(handler, "__name__"):
                raise TypeError(f"@app.function goes on a function, and this is {type(handler).__name__}")
            declared = {**settings, "triggers": list(triggers)}
            self.functions.append(Declaration(name or handler.__name__, declared, handler, file, line))
            return handler

        return declare

    def queue(self, name: str, **settings: Unpack[QueueSettings]) -> None:
        """Declares a named queue whose attributes are not the defaults."""
        self.queues.append(Declaration(name, {**settings}, None, *_caller()))


def on(type: str, **settings: Any) -> dict[str, Any]:  # noqa: A002 - the key is called so in eventfn.toml
    """A trigger of a function: the connector's name and the keys of its table."""
    return {"type": type, **settings}


def _caller() -> tuple[str, int]:
    """File and line of whoever called into this module."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    assert frame is not None, "somebody calls"
    return frame.f_code.co_filename, frame.f_lineno
