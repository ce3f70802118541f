"""The running node, as a command talks to it: its admin listener, found through the data folder."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from eventfn.cli.failing import CannotRun, Failed
from eventfn.observe import node_file

CONNECT_SECONDS = 5.0


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def refused(self) -> str | None:
        """What the node says is wrong with the request; None when it took it."""
        if self.status < 400:
            return None
        try:
            told: dict[str, Any] = msgspec.json.decode(self.body, type=dict[str, Any])
        except msgspec.DecodeError:
            told = {}
        message = told.get("Message") or told.get("message") or f"the node answered {self.status}"
        reason = f" ({told['Reason']})" if told.get("Reason") else ""
        again = f" Try again in {self.headers['retry-after']} s." if "retry-after" in self.headers else ""
        return f"{message}{reason}{again}"


class Client:
    def __init__(self, data: Path) -> None:
        """Raises CannotRun when no node is running on this data folder."""
        try:
            node = node_file.running(data)
        except PermissionError as error:
            raise CannotRun(f"{error.filename}: the node belongs to another user") from error
        if node is None:
            raise self._no_node(data)
        self._data = data
        self._admin = node.admin
        self._headers = {"Authorization": f"Bearer {node.token}"}

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Waits as long as it takes: a function may run for 15 minutes. Raises CannotRun when the node is gone."""
        connection = http.client.HTTPConnection(self._admin, timeout=CONNECT_SECONDS)
        try:
            connection.connect()
            connection.sock.settimeout(None)
            connection.request(method, path, body, {**self._headers, **(headers or {})})
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, fields, answer.read())
        except ConnectionRefusedError as error:  # a node was killed, and its number is another process's now
            raise self._no_node(self._data) from error
        except (OSError, http.client.HTTPException) as error:
            raise CannotRun(f"the node on {self._data} did not answer: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def call(self, method: str, path: str, body: Any = None) -> bytes:
        """The JSON that the node answers. Raises Failed with its words when it refuses."""
        answer = self.request(method, path, None if body is None else msgspec.json.encode(body))
        if (refused := answer.refused) is not None:
            raise Failed(refused)
        return answer.body

    @staticmethod
    def _no_node(data: Path) -> CannotRun:
        return CannotRun(
            f"no node is running on {data}: start one with 'eventfn run', or name its data folder with --data"
        )
