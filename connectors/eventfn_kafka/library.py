"""aiokafka, which has no types: everything that comes from it is Any here, and gets a type where it is used."""

from __future__ import annotations

import importlib
import logging
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from eventfn.errors import ConnectorError

try:
    aiokafka: Final[Any] = importlib.import_module("aiokafka")
    errors: Final[Any] = importlib.import_module("aiokafka.errors")
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(f"{missing}: run pip install 'eventfn[kafka]'") from missing

KafkaError: Final[type[Exception]] = errors.KafkaError
Partition: Final[Callable[[str, int], Any]] = aiokafka.TopicPartition

# What the library logged last while something was being done: its errors often leave out why.
_heard: ContextVar[deque[str] | None] = ContextVar("heard", default=None)


class _Listening(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if (heard := _heard.get()) is not None:
            heard.append(record.getMessage())


_log = logging.getLogger("aiokafka")
_log.setLevel(logging.WARNING)
_log.addHandler(_Listening())
# While brokers are away it logs every try, ten a second. The host says so once, with the ConnectorError that it gets.
_log.propagate = False


def said(error: BaseException) -> str:
    """Some are empty, and say all they know with their name; the library's begin with it."""
    name = type(error).__name__
    return str(error) if name in str(error) else f"{name}{str(error) and ': '}{error}"


@contextmanager
def outside(doing: str) -> Generator[None]:
    """What goes wrong between here and the brokers is a ConnectorError that says what was being done, and why not."""
    heard = deque[str](maxlen=1)
    token = _heard.set(heard)
    try:
        yield
    except (KafkaError, errors.ConsumerStoppedError, OSError, TimeoutError) as error:
        raise ConnectorError(f"{doing}: {heard[0] if heard else said(error)}") from error
    finally:
        _heard.reset(token)
