"""A Runtime API for one process, on a port of its own: it hands out the events that a test gives it and keeps answers.

with RuntimeApi() as api, api.run([...], environment) as runtime:
    answer = api.invoke({"a": 1})
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import msgspec

PATIENCE = 60.0  # seconds that anything may take on a busy machine
_BASE = "/2018-06-01/runtime/"


class Answer(msgspec.Struct, frozen=True):
    """What the runtime has posted."""

    kind: str  # "response", "error", "init error"
    request_id: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    chunks: Sequence[bytes] = ()  # of a streamed response, as they came
    trailers: Mapping[str, str] = {}

    @property
    def value(self) -> Any:
        return json.loads(self.body)

    @property
    def streamed_error(self) -> Any:
        return json.loads(base64.b64decode(self.trailers["lambda-runtime-function-error-body"]))


class Runtime:
    """The process under test."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self._process = process
        self._output = output

    def ended(self) -> int:
        return self._process.wait(PATIENCE)

    def lines(self) -> list[str]:
        return self._output.read_bytes().decode().split("\n")[:-1]


class RuntimeApi:
    def __init__(self, limit: int = 6_291_556) -> None:
        self.limit = limit  # bytes of a response
        self.arn = "arn:aws:lambda:us-east-1:000000000000:function:fn"
        self._events: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()
        self._answers: queue.Queue[Answer] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def run(self, command: Sequence[str], environment: Mapping[str, str], output: Path) -> Iterator[Runtime]:
        """Only these variables, and where this Runtime API is."""
        variables = {"PATH": os.environ["PATH"], "AWS_LAMBDA_RUNTIME_API": self.address, **environment}
        with output.open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=variables
            )
        try:
            yield Runtime(process, output)
        finally:
            process.kill()
            process.wait()

    def send(self, event: object = None, *, raw: bytes | None = None, timeout: float = 30, **headers: str) -> str:
        """Returns the request's id. Headers by their last words: trace_id="Root=1"."""
        request_id = str(uuid.uuid4())
        told = {
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + timeout) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self.arn,
            "Content-Type": "application/json",
        }
        told |= {"Lambda-Runtime-" + name.replace("_", "-").title(): value for name, value in headers.items()}
        self._events.put((told, json.dumps(event).encode() if raw is None else raw))
        return request_id

    def answer(self) -> Answer:
        return self._answers.get(timeout=PATIENCE)

    def invoke(self, event: object = None, **more: Any) -> Answer:
        request_id = self.send(event, **more)
        answer = self.answer()
        assert answer.request_id == request_id, answer
        return answer

    def result(self, event: object = None, **more: Any) -> Any:
        answer = self.invoke(event, **more)
        assert answer.kind == "response", answer
        return answer.value

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *said: object) -> None: ...

            def do_GET(self) -> None:
                assert self.path == f"{_BASE}invocation/next", self.path
                headers, body = api._events.get()
                self._say(200, body, headers)

            def do_POST(self) -> None:
                assert self.path.startswith(_BASE), self.path
                words = self.path.removeprefix(_BASE).split("/")
                headers = {name.lower(): value for name, value in self.headers.items()}
                chunks, trailers = self._chunks() if "transfer-encoding" in headers else ([], {})
                body = b"".join(chunks) if chunks else self.rfile.read(int(headers.get("content-length", "0")))
                kind = "init error" if words == ["init", "error"] else words[-1]
                if len(body) > api.limit:
                    error = {
                        "errorMessage": "Exceeded maximum allowed payload size",
                        "errorType": "RequestEntityTooLarge",
                    }
                    self._say(413, json.dumps(error).encode())
                    kind = "too large"
                else:
                    self._say(202, b'{"status":"OK"}\n')
                api._answers.put(
                    Answer(kind, words[1] if words[0] == "invocation" else "", headers, body, chunks, trailers)
                )

            def _chunks(self) -> tuple[list[bytes], dict[str, str]]:
                chunks = []
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                trailers = {}
                while line := self.rfile.readline().decode().strip():
                    name, _, value = line.partition(":")
                    trailers[name.lower()] = value.strip()
                return chunks, trailers

            def _say(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler
