"""aiokafka, which has no types: everything that comes from it is Any here, and gets a type where it is used."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

from eventfn.errors import ConnectorError

try:
    aiokafka: Final[Any] = importlib.import_module("aiokafka")
    errors: Final[Any] = importlib.import_module("aiokafka.errors")
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(f"{missing}: run pip install 'eventfn[kafka]'") from missing

# While brokers are away it logs every try, ten a second. The host says so once, with the ConnectorError that it gets.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

KafkaError: Final[type[Exception]] = errors.KafkaError
Partition: Final[Callable[[str, int], Any]] = aiokafka.TopicPartition


@contextmanager
def outside(doing: str) -> Generator[None]:
    """What goes wrong between here and the brokers is a ConnectorError that says what was being done."""
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        # Some of the library's errors are empty, and say all they know with their name.
        raise ConnectorError(f"{doing}: {type(error).__name__}{str(error) and ': '}{error}") from error
