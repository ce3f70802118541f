"""What is seen of a handler's file from outside, and what is left to the interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventfn.declaring.handler_files import mistake_in


@pytest.mark.parametrize(
    ("source", "mistake"),
    [
        pytest.param("def handler(event, context): ...", None, id="function"),
        pytest.param("async def handler(event, context): ...", None, id="coroutine function"),
        pytest.param("handler = lambda event, context: event", None, id="assigned"),
        pytest.param("from other import handler", None, id="imported"),
        pytest.param("from other import api as handler", None, id="imported under the name"),
        pytest.param("class handler: ...", None, id="class"),
        pytest.param("if True:\n    def handler(event, context): ...", None, id="in a branch"),
        pytest.param("try:\n    from a import handler\nexcept ImportError:\n    pass", None, id="in a try"),
        pytest.param("from other import *", None, id="star import may bring it"),
        pytest.param("def __getattr__(name): ...", None, id="the module may answer"),
        pytest.param("def make():\n    global handler\n    handler = 1\nmake()", None, id="made by global"),
        pytest.param("globals()['handler'] = print", None, id="made by hand"),
        pytest.param("# coding: latin-1\n# \xe9", None, id="another encoding"),
        pytest.param("", ("f.py has no function 'handler'", None), id="empty"),
        pytest.param(
            "def handle(e, c): ...", ("f.py has no function 'handler'", "did you mean 'handle'?"), id="misspelt"
        ),
        pytest.param("print(handler)", ("f.py has no function 'handler'", None), id="used is not made"),
        pytest.param(
            "def f():\n    def handler(e, c): ...", ("f.py has no function 'handler'", None), id="inside another"
        ),
        pytest.param("x = 1\ndef handler(:\n", ("f.py, line 2: invalid syntax", None), id="syntax error"),
        pytest.param("a = 1\0", ("f.py: source code string cannot contain null bytes", None), id="NUL"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, source: str, mistake: tuple[str, str | None] | None) -> None:
    file = tmp_path / "f.py"
    file.write_bytes(source.encode("latin-1"))

    assert mistake_in(file, "handler") == mistake
