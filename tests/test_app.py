# ruff: noqa: E501 - tables of whole messages, which read best one to a line

import inspect
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest

import eventfn
from eventfn.app import FunctionSettings, QueueSettings
from eventfn.config import load
from eventfn.declaring import python_files
from eventfn.errors import ConfigError
from eventfn.functions.model import Function, Project, Queue
from eventfn.plugins import Plugins
from eventfn.workers import child

STAND_IN = Path(child.__file__).parent / "importable"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(text: str, name: str = "app.py") -> Project:
    Path(name).write_text(dedent(text))
    return load(Path(name), Plugins.installed())


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        loaded(text)
    return [str(problem) for problem in raised.value.problems]


# --- declaring -------------------------------------------------------------------------------------------------------


def test_declaring_runs_nothing_and_returns_the_handler() -> None:
    app = eventfn.App(http={"listen": "127.0.0.1:0"}, data="state")

    def handler(event: Any, context: Any) -> None:
        raise AssertionError("nobody calls it")

    declared = app.function(timeout="10s", triggers=[eventfn.on("http", path="/")])(handler)
    app.queue("jobs", fifo=True)
    assert declared is handler
    assert app.tables == {"data": "state", "http": {"listen": "127.0.0.1:0"}}
    (function,), (queue,) = app.functions, app.queues
    assert function[:3] == (
        "handler",
        {"timeout": "10s", "triggers": [{"type": "http", "path": "/"}]},
        handler,
    )
    assert queue[:2] == ("jobs", {"fifo": True})
    assert function.file == queue.file == __file__
    assert function.line + 1 == queue.line


def test_the_typed_keys_are_those_of_the_model() -> None:
    not_keys = {"name", "handler", "triggers", "where"}
    assert set(FunctionSettings.__annotations__) == set(Function.__struct_fields__) - not_keys
    assert set(QueueSettings.__annotations__) == set(Queue.__struct_fields__) - not_keys


def test_what_is_no_function_cannot_be_declared() -> None:
    with pytest.raises(TypeError, match="goes on a function, and this is int"):
        eventfn.App().function()(5)  # type: ignore[type-var]  # the mistake under test


# --- from an App to a project ----------------------------------------------------------------------------------------


def test_a_whole_app(here: Path) -> None:
    project = loaded(
        """
        from datetime import timedelta
        from pathlib import Path

        import eventfn

        app = eventfn.App(data="state", limits={"concurrency": 9}, http={"listen": "127.0.0.1:0"})


        @app.function(
            memory_size="256 MB",
            timeout=timedelta(seconds=90),
            environment={"A": "b"},
            retry_delays=(1, "2s"),
            on_failure="queue:dead",
            triggers=[eventfn.on("http", method="GET", path="/hello")],
        )
        def hello(event, context):
            raise AssertionError


        @app.function(name="later", code=Path("."), triggers=[eventfn.on("queue", queue="jobs", batch_size=5)])
        async def work(event, context): ...


        app.queue("jobs", visibility_timeout="2m", dead_letter_queue="dead")
        print("what a module prints is not what it declares")
        """
    )
    written = """
        data = "state"
        [limits]
        concurrency = 9
        [http]
        listen = "127.0.0.1:0"
        [functions.hello]
        handler = "app.hello"
        memory_size = 256
        timeout = "1m30s"
        environment = { A = "b" }
        retry_delays = [1, 2]
        on_failure = "queue:dead"
        triggers = [{ type = "http", method = "GET", path = "/hello" }]
        [functions.later]
        handler = "app.work"
        triggers = [{ type = "queue", queue = "jobs", batch_size = 5 }]
        [queues.jobs]
        visibility_timeout = 120
        dead_letter_queue = "dead"
    """
    (here / "eventfn.toml").write_text(written)
    same = load(here, Plugins.installed())
    assert without_places(project) == without_places(same)
    assert project.file == str(here / "app.py")
    assert (project.functions["hello"].where.file, project.functions["hello"].where.line) == ("app.py", 10)
    assert project.functions["later"].triggers[0].where.line == 22
    assert project.queues["jobs"].where.line == 26


def without_places(project: Project) -> Any:
    """The project as plain data, without where anything was declared."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key not in ("where", "file")}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return plain(msgspec.to_builtins(project, enc_hook=float))


def test_a_handler_in_another_module_of_the_project(here: Path) -> None:
    (here / "jobs").mkdir()
    (here / "jobs" / "__init__.py").touch()
    (here / "shared.py").write_text("import eventfn\napp = eventfn.App()\n")
    (here / "jobs" / "resize.py").write_text(
        "from shared import app\n@app.function()\ndef resize(event, context): ...\n"
    )
    project = loaded("import eventfn\nimport jobs.resize\nfrom shared import app\n")
    function = project.functions["resize"]
    assert function.handler == "jobs.resize.resize"
    assert (function.where.file, function.where.line) == ("jobs/resize.py", 2)


def test_a_handler_behind_a_decorator_that_hides_its_name(here: Path) -> None:
    project = loaded(
        """
        from eventfn import App
        app = App()
        def logged(function):
            return lambda event, context: function(event, context)
        @app.function(name="a")
        @logged
        def work(event, context): ...
        """
    )
    assert project.functions["a"].handler == "app.work"


def test_libraries_of_functions_need_not_be_installed_beside_eventfn(here: Path) -> None:
    (here / "requirements.txt").touch()
    project = loaded(
        """
        import eventfn
        import not_installed.deep as nid
        from not_installed import thing, Base
        from not_installed.star import *

        app = eventfn.App()
        client = thing.connect(retries=3)

        class Model(Base):
            size: int | None = None

        @app.function(requirements="requirements.txt")
        def work(event: "Model", context): ...
        """
    )
    assert project.functions["work"].handler == "app.work"


def test_what_installed_packages_look_for_in_vain_stays_missing(here: Path) -> None:
    # subprocess asks for a module that exists on Windows only, and believes what it finds.
    assert "_winapi" not in sys.builtin_module_names
    project = loaded(
        """
        import subprocess
        import eventfn
        assert not subprocess._mswindows
        app = eventfn.App()
        @app.function()
        def work(event, context): ...
        """
    )
    assert list(project.functions) == ["work"]


def test_a_module_of_the_project_may_be_called_like_one_that_eventfn_needs(here: Path) -> None:
    (here / "msgspec.py").write_text("raise AssertionError('imported by eventfn')\n")
    assert list(loaded("import eventfn\napp = eventfn.App()\n@app.function()\ndef f(e, c): ...\n").functions) == ["f"]


def test_every_load_starts_from_nothing(here: Path) -> None:
    (here / "names.py").write_text("NAME = 'one'\n")
    text = "import eventfn, names\napp = eventfn.App()\n@app.function(name=names.NAME)\ndef f(e, c): ...\n"
    assert list(loaded(text).functions) == ["one"]
    (here / "names.py").write_text("NAME = 'second'\n")
    assert list(loaded(text).functions) == ["second"]
    assert "names" not in sys.modules


# --- mistakes --------------------------------------------------------------------------------------------------------

START = "import eventfn\napp = eventfn.App({})\n@app.function({})\ndef work(event, context): ...\n"
READ_BY_IMPORT = "eventfn imports this file to read what it declares"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (START.format("", "timout=3"), ["app.py:3: functions.work.timout: unknown key (did you mean 'timeout'?)"]),
        (START.format("limts={}", ""), ["app.py:2: limts: unknown key (did you mean 'limits'?)"]),
        (
            START.format("limits={'concurrency': 0}", "memory_size=1"),
            [
                "app.py:2: limits.concurrency: expected 1 to 100000, got 0",
                "app.py:3: functions.work.memory_size: expected 32 MB to 10 GB, got 1",
            ],
        ),
        (
            START.format("", "description=object()"),
            ["app.py:3: functions.work.description: expected text, got a Python object of type object"],
        ),
        (
            START.format("functions={'b': {}}", ""),
            ["app.py:2: functions: are declared with app.function(...)"],
        ),
        (
            START.format("", "") + "@app.function(name='work')\ndef other(event, context): ...\n",
            ["app.py:5: functions.work: is declared already, at app.py:3"],
        ),
        (
            START.format("", "") + "app.queue('q', fifoo=True)\napp.queue('q')\n",
            ["app.py:6: queues.q: is declared already, at app.py:5"],
        ),
        (START.format("", "") + "other = eventfn.App()\n", ["app.py:5: is a second App; a project has one"]),
        (START.format("", "") + "\nboom\n", [f"app.py:6: cannot be imported: NameError: name 'boom' is not defined ({READ_BY_IMPORT})"]),
        (START.format("", "") + "raise SystemExit(3)\n", [f"app.py:5: cannot be imported: SystemExit: 3 ({READ_BY_IMPORT})"]),
        (
            "import missing_here\n" + START.format("", "") + "assert missing_here.n == 1\n",
            [f"app.py:6: cannot be imported: AssertionError:  ({READ_BY_IMPORT}; missing_here is not installed beside eventfn and was replaced by a stand-in)"],
        ),
        (START.format("", "") + "import os\nos._exit(3)\n", [f"app.py: ended the process that imports it: exit code 3 ({READ_BY_IMPORT})"]),
        (START.format("", "") + "import os\nos.kill(os.getpid(), 9)\n", [f"app.py: ended the process that imports it: exit code -9 ({READ_BY_IMPORT})"]),
        (START.format("", "3"), [f"app.py:3: cannot be imported: TypeError: App.function() takes 1 positional argument but 2 were given ({READ_BY_IMPORT})"]),
    ],
)  # fmt: skip
def test_each_mistake_names_the_file_and_the_line(here: Path, text: str, expected: list[str]) -> None:
    assert problems(text) == expected


def test_a_mistake_in_a_module_that_is_imported(here: Path) -> None:
    (here / "broken.py").write_text("x = (\n")
    (problem,) = problems("import eventfn\nimport broken\n")
    assert problem.startswith("broken.py:1: cannot be imported: SyntaxError: '(' was never closed")


def test_a_module_that_never_ends_is_ended(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_files, "_IMPORT_TIMEOUT", 1)
    text = "import eventfn, subprocess, time\nsubprocess.Popen(['sleep', '1000'])\nwhile True: time.sleep(1000)\n"
    assert problems(text) == [f"app.py: took more than 1 s to import ({READ_BY_IMPORT})"]


# --- inside an environment -------------------------------------------------------------------------------------------


def test_the_stand_in_answers_whatever_the_real_one_does(here: Path) -> None:
    stand_in: dict[str, Any] = {}
    exec((STAND_IN / "eventfn" / "__init__.py").read_text(), stand_in)
    for name in ("App", "on"):
        assert callable(stand_in[name])
    methods = {name for name, value in vars(eventfn.App).items() if inspect.isfunction(value)}
    assert methods == {name for name, value in vars(stand_in["App"]).items() if inspect.isfunction(value)}
    assert inspect.signature(eventfn.on).parameters.keys() == inspect.signature(stand_in["on"]).parameters.keys()
    assert stand_in["on"]("http", path="/") == eventfn.on("http", path="/")


def test_a_file_that_declares_is_imported_without_eventfn(here: Path) -> None:
    (here / "hello.py").write_text(
        dedent(
            """
            import eventfn
            app = eventfn.App(data="x", http={})
            app.queue("q", fifo=True)
            @app.function(name="x", timeout=3, triggers=[eventfn.on("http", path="/")])
            def hello(event, context):
                return event + 1
            """
        )
    )
    path = f"import sys; sys.path[:0] = ['.']; sys.path.append({str(STAND_IN)!r})"
    code = f"{path}; import hello; print(hello.hello(1, None))"
    # -S leaves the packages of this environment out, eventfn among them.
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("2\n", "")


def test_durations_of_python_are_seconds(here: Path) -> None:
    text = f"import datetime\n{START.format('', 'maximum_event_age=datetime.timedelta(hours=2)')}"
    assert loaded(text).functions["work"].maximum_event_age == timedelta(hours=2).total_seconds()
