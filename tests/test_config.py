# ruff: noqa: E501 - tables of whole messages, which read best one to a line

import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, ClassVar

import msgspec
import pytest

from eventfn.config import load
from eventfn.errors import ConfigError
from eventfn.functions.model import Admin, Aws, FileSystem, Function, Limits, Project, Queue, Workers
from eventfn.plugins import Plugins
from eventfn.trigger import Filtering, ListenContext, Traits
from eventfn.units import Between, Duration, Instant, Megabytes
from eventfn.workers.runtimes import python


class Pulled:
    """What every fake source has; none of it is called while a project loads."""

    Shared: ClassVar[type[msgspec.Struct] | None] = None

    def __init__(self, *_: Any) -> None:
        raise AssertionError("a trigger is not built before it runs")

    async def connect(self) -> None: ...
    async def read(self) -> None: ...
    async def settle(self) -> None: ...
    async def close(self) -> None: ...


class FakeQueue(Pulled):
    class Settings(msgspec.Struct, frozen=True):
        queue: str

    traits = Traits(invocation="request_response")
    data_key = "body"


class FakeKafka(Pulled):
    class Settings(msgspec.Struct, frozen=True):
        topic: str

    class Shared(msgspec.Struct, frozen=True):
        servers: list[str]
        password: str = ""

    traits = Traits(invocation="request_response", max_batch_size=500)


class FakeStream(Pulled):
    """Shards that its server assigns."""

    class Settings(msgspec.Struct, frozen=True):
        topic: str = "t"

    traits = Traits(invocation="request_response", ack="prefix", starting_positions=("TRIM_HORIZON", "AT_TIMESTAMP"))

    async def open_shard(self) -> None: ...


class FakeListed(FakeStream):
    """Shards that the host assigns."""

    data_key = "data"
    filtering = Filtering(root="inner", base64_keys=("data",))

    async def shards(self) -> None: ...


class FakeFiles(Pulled):
    class Settings(msgspec.Struct, frozen=True):
        path: str
        every: Annotated[Duration, Between(1, 60)] = Duration(5)

    traits = Traits(invocation="event")


class FakeHttp:
    class Settings(msgspec.Struct, frozen=True):
        path: str
        method: str = "ANY"

    class Shared(msgspec.Struct, frozen=True):
        listen: str = "127.0.0.1:8080"

        def __post_init__(self) -> None:
            if ":" not in self.listen:
                raise ValueError(f"listen: {self.listen} has no port")

    traits = Traits(invocation="listen")

    def __init__(self, shared: Any, context: ListenContext) -> None:
        assert isinstance(shared, FakeHttp.Shared)
        self._folder = context.folder

    def check(self, mounted: Sequence[Any]) -> list[tuple[int, str, str]]:
        assert Path(self._folder).is_absolute()
        paths = [settings.path for settings in mounted]
        return [(at, "path", "is taken") for at, path in enumerate(paths) if path in paths[:at]]

    def mount(self) -> None: ...
    async def open(self) -> None: ...
    async def drain(self) -> None: ...
    async def close(self) -> None: ...


class FakeDestination:
    class Settings(msgspec.Struct, frozen=True):
        token: str = "none"

    idempotent = True

    @classmethod
    def check(cls, target: str, settings: Any) -> str | None:
        assert isinstance(settings, cls.Settings)
        return None if target else "expected a name after the colon"

    async def connect(self) -> None: ...
    async def write(self) -> None: ...
    async def close(self) -> None: ...


PLUGINS = Plugins(
    triggers={
        "queue": FakeQueue,
        "kafka": FakeKafka,
        "files": FakeFiles,
        "http": FakeHttp,
        "stream": FakeStream,
        "listed": FakeListed,
    },
    destinations={"queue": FakeDestination, "fn": FakeDestination, "https": FakeDestination},
)

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes eventfn.toml beside an a.py, and makes its folder the current one, so that problems name it shortly."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("def handler(event, context): ...\n")

    def write(text: str) -> Path:
        (tmp_path / "eventfn.toml").write_text(dedent(text))
        return Path()

    return write


def problems(target: Path, **overrides: Any) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(target, PLUGINS, **overrides)
    return [str(problem) for problem in raised.value.problems]


def handler(extra: str = "", name: str = "a") -> str:
    return f'[functions.{name}]\nhandler = "a.handler"\n{dedent(extra)}'


# --- what fits -------------------------------------------------------------------------------------------------------


def test_a_stream_with_all_that_it_may_be_told(write: Write) -> None:
    project = load(
        write(
            handler("""
            [[functions.a.triggers]]
            type = "listed"
            starting_position = "AT_TIMESTAMP"
            starting_position_timestamp = 2026-01-31T12:00:00Z
            bisect_batch_on_function_error = true
            maximum_retry_attempts = 3
            maximum_record_age = "1h"
            tumbling_window = "30s"
            on_failure = "queue:failed"
            """)
        ),
        PLUGINS,
    )
    intake = project.functions["a"].triggers[0].intake
    assert intake.starting_position_timestamp == Instant(1769860800)
    assert intake.maximum_record_age == Duration(3600)
    assert intake.tumbling_window == Duration(30)
    assert intake.on_failure == "queue:failed"


def test_a_whole_project(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "hunter2")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "thumbnail.py").touch()
    (tmp_path / "layer").mkdir()
    (tmp_path / "requirements.txt").touch()
    project = load(
        write(
            """
            data = "state"

            [http]
            listen = "127.0.0.1:9000"

            [kafka]
            servers = ["k:9092"]
            password = "${KAFKA_PASSWORD}"

            [limits]
            concurrency = 50

            [workers]
            idle_timeout = "1m"

            [admin]
            listen = "[::1]:9001"

            [aws]
            region = "eu-central-1"

            [destinations.https]
            token = "t"

            [queues.dead]
            visibility_timeout = "2m"

            [functions.thumbnail]
            handler = "thumbnail.handler"
            code = "code"
            layers = ["layer"]
            requirements = "requirements.txt"
            file_system_configs = [
                { path = "inbox", read_only = true }, { path = "/srv/x/../y", local_mount_path = "/mnt/y" }
            ]
            ephemeral_storage = "1 GB"
            memory_size = "256 MB"
            timeout = "10s"
            retry_delays = ["1s", 5]
            environment = { SIZE = "256", INBOX = "${EVENTFN_FOLDER}/inbox" }
            on_success = "https://example.org/hook"
            on_failure = "queue:dead"
            dead_letter_queue = "fn:clean-up"
            reserved_concurrency = 10
            provisioned_concurrency = 10

            [[functions.thumbnail.triggers]]
            type = "files"
            path = "inbox"
            every = "10s"
            filter_criteria = [{ key = [{ prefix = "a" }] }]

            [[functions.thumbnail.triggers]]
            type = "kafka"
            topic = "t"
            batch_size = 500
            maximum_batching_window = "5s"
            enabled = false

            [functions.clean-up]
            handler = "a.handler"

            [[functions.clean-up.triggers]]
            type = "http"
            path = "/"
            """
        ),
        PLUGINS,
    )
    assert project.folder == str(tmp_path)
    assert project.file == str(tmp_path / "eventfn.toml")
    assert project.data == str(tmp_path / "state")
    assert project.limits == Limits(concurrency=50)
    assert project.workers == Workers(idle_timeout=Duration(60))
    assert project.admin == Admin(listen="[::1]:9001")
    assert project.aws == Aws(region="eu-central-1")
    assert project.shared == {
        "http": FakeHttp.Shared("127.0.0.1:9000"),
        "kafka": FakeKafka.Shared(["k:9092"], "hunter2"),
    }
    assert project.destinations == {
        "https": FakeDestination.Settings("t"),
        "queue": FakeDestination.Settings(),
        "fn": FakeDestination.Settings(),
    }
    assert list(project.functions) == ["thumbnail", "clean-up"]
    thumbnail = project.functions["thumbnail"]
    files, kafka = thumbnail.triggers
    assert msgspec.structs.replace(thumbnail, triggers=(), where=Function.__struct_defaults__[-1]) == Function(
        name="thumbnail",
        handler="thumbnail.handler",
        code=str(tmp_path / "code"),
        layers=(str(tmp_path / "layer"),),
        requirements=str(tmp_path / "requirements.txt"),
        file_system_configs=(
            FileSystem(path=str(tmp_path / "inbox"), read_only=True),
            FileSystem(path="/srv/y", local_mount_path="/mnt/y"),
        ),
        ephemeral_storage=Megabytes(1024),
        memory_size=Megabytes(256),
        timeout=Duration(10),
        retry_delays=(Duration(1), Duration(5)),
        environment={"SIZE": "256", "INBOX": str(tmp_path / "inbox")},
        on_success="https://example.org/hook",
        on_failure="queue:dead",
        dead_letter_queue="fn:clean-up",
        reserved_concurrency=10,
        provisioned_concurrency=10,
    )
    assert (thumbnail.where.file, thumbnail.where.line) == ("eventfn.toml", 29)
    assert files.type == "files"
    assert files.settings == FakeFiles.Settings("inbox", Duration(10))
    assert files.intake.filter_criteria == [{"key": [{"prefix": "a"}]}]
    assert files.where.line == 48
    assert (kafka.intake.batch_size, kafka.intake.maximum_batching_window, kafka.intake.enabled) == (500, 5.0, False)
    queue = project.queues["dead"]
    assert queue == Queue(name="dead", visibility_timeout=Duration(120), where=queue.where)
    assert project.function_arn("clean-up") == "arn:aws:lambda:eu-central-1:000000000000:function:clean-up"


def test_a_function_needs_nothing_but_a_handler(write: Write, tmp_path: Path) -> None:
    project = load(write(handler()), PLUGINS)
    assert project == Project(
        folder=str(tmp_path),
        file=str(tmp_path / "eventfn.toml"),
        data=str(tmp_path / ".eventfn"),
        functions={
            "a": Function(name="a", handler="a.handler", code=str(tmp_path), where=project.functions["a"].where)
        },
    )


def test_the_file_itself_as_the_target(write: Write, tmp_path: Path) -> None:
    write(handler())
    assert load(tmp_path / "eventfn.toml", PLUGINS).folder == str(tmp_path)


def test_the_command_line_wins_over_the_file(write: Write, tmp_path: Path) -> None:
    text = 'data = "state"\n[http]\nlisten = "127.0.0.1:1"\n[admin]\nlisten = "127.0.0.1:2"\n' + handler()
    project = load(write(text), PLUGINS, data=Path("x/../else"), http="127.0.0.1:3", admin="localhost:0")
    assert project.data == str(tmp_path / "else")
    assert project.shared["http"] == FakeHttp.Shared("127.0.0.1:3")
    assert project.admin.listen == "localhost:0"
    # Without a table in the file, too.
    assert load(write(handler()), PLUGINS, http="127.0.0.1:4").shared["http"] == FakeHttp.Shared("127.0.0.1:4")


def test_a_mistake_on_the_command_line_names_its_option(write: Write) -> None:
    assert problems(write(handler()), http="nowhere", admin="0.0.0.0:1") == [
        '--admin: expected a loopback address, got "0.0.0.0:1": elsewhere requests must be signed, as whoever reads the '
        "token of this listener off the network could run any function (declare [[aws.keys]], or use "
        '"127.0.0.1:PORT" and an ssh tunnel to reach it from elsewhere)',
        "--http: nowhere has no port",
    ]


def test_with_keys_the_admin_listener_may_be_reached_from_elsewhere(write: Write) -> None:
    keys = '[[aws.keys]]\naccess_key_id = "AKIATEST"\nsecret_access_key = "not-a-real-secret-0123456789"\n'
    project = load(write(handler() + keys), PLUGINS, admin="0.0.0.0:1")
    assert project.admin.listen == "0.0.0.0:1"


# --- the source of a trigger -----------------------------------------------------------------------------------------


def sources(target: Path) -> list[str]:
    return [trigger.source for trigger in load(target, PLUGINS).functions["a"].triggers]


TWO = """
[[functions.a.triggers]]
type = "files"
path = "one"
every = "5s"

[[functions.a.triggers]]
type = "files"
path = "${TWO}"
"""


def test_a_source_is_stable(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWO", "two")
    one, two = sources(write(handler(TWO)))
    assert one.startswith("a/files/")
    assert one != two
    # In another order, with other settings of the host, and with another value of a variable.
    monkeypatch.setenv("TWO", "zwei")
    reordered = """
    triggers = [
        { filter_criteria = [{ k = [1] }], path = "${TWO}", type = "files" },
        { enabled = false, every = "5s", path = "one", type = "files" },
    ]
    """
    assert sources(write(handler(reordered))) == [two, one]
    assert sources(write(handler(TWO.replace('"one"', '"other"'))))[0] != one


def test_the_same_trigger_twice(write: Write) -> None:
    twice = TWO.replace("${TWO}", "one").replace('every = "5s"\n', "")
    assert problems(write(handler(twice))) == [
        "eventfn.toml:8: functions.a.triggers[1]: is the same trigger as one before it on this function"
    ]


# --- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("functions = 1\n", ["eventfn.toml:1: functions: expected a table, got 1"]),
        ("limits = 1\n", ["eventfn.toml:1: limits: expected a table, got 1"]),
        ("[functions]\na = 1\n", ["eventfn.toml:2: functions.a: expected a table, got 1"]),
        ("[functions.a]\n", ["eventfn.toml:1: functions.a.handler: is missing: expected text"]),
        ("data = 5\n", ['eventfn.toml:1: data: expected text, got 5 (in quotes: "5")']),
        ("[limts]\n", ["eventfn.toml:1: limts: unknown key (did you mean 'limits'?)"]),
        (
            "x = 1\n",
            [
                "eventfn.toml:1: x: unknown key (known keys: admin, aws, data, destinations, files, functions, http, "
                "kafka, limits, listed, queue, queues, stream, workers)"
            ],
        ),
        (handler("timout = 3"), ["eventfn.toml:3: functions.a.timout: unknown key (did you mean 'timeout'?)"]),
        (handler("[functions.a.trigger]"), ["eventfn.toml:3: functions.a.trigger: unknown key (did you mean 'triggers'?)"]),
        (
            handler('timeout = "20m"\nmemory_size = 16'),
            [
                'eventfn.toml:3: functions.a.timeout: expected 100ms to 15m, got "20m"',
                "eventfn.toml:4: functions.a.memory_size: expected 32 MB to 10 GB, got 16",
            ],
        ),
        (handler('runtime = "python3.99"'), [f"eventfn.toml:3: functions.a.runtime: no python3.99 is on PATH: install it, or say {python.own().runtime}, which is here"]),
        (handler('runtime = "node22"'), ['eventfn.toml:3: functions.a.runtime: expected a runtime such as "python3.12", "nodejs20.x" or "provided.al2023", got "node22"']),
        (handler(name='"a b"'), ["eventfn.toml:1: functions.\"a b\": expected a name of 1 to 64 letters, digits, '-' and '_'"]),
        (handler(name="a" * 65), [f"eventfn.toml:1: functions.{'a' * 65}: expected a name of 1 to 64 letters, digits, '-' and '_'"]),
        # triggers
        (
            handler("[functions.a.triggers]"),
            ["eventfn.toml:3: functions.a.triggers: expected a list of tables, got a table ([[functions.a.triggers]])"],
        ),
        (handler("triggers = [1]"), ["eventfn.toml:3: functions.a.triggers[0]: expected a table, got 1"]),
        (
            handler("[[functions.a.triggers]]"),
            [
                "eventfn.toml:3: functions.a.triggers[0].type: is missing: expected the name of a trigger "
                "(installed triggers: files, http, kafka, listed, queue, stream)"
            ],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "htp"'),
            ["eventfn.toml:4: functions.a.triggers[0].type: no trigger is called 'htp' (did you mean 'http'?)"],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "files"\npath = "x"\nevry = 1\nbatch_size = 1'),
            [
                "eventfn.toml:6: functions.a.triggers[0].evry: unknown key (did you mean 'every'?)",
                "eventfn.toml:7: functions.a.triggers[0].batch_size: unknown key "
                "(known keys: enabled, every, filter_criteria, path, type)",
            ],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "http"\npath = "/"\nfilter_criteria = []'),
            [
                "eventfn.toml:6: functions.a.triggers[0].filter_criteria: unknown key "
                "(known keys: enabled, method, path, type)"
            ],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "files"\npath = "x"\nevery = "2m"\nenabled = 1'),
            [
                'eventfn.toml:6: functions.a.triggers[0].every: expected 1s to 1m, got "2m"',
                "eventfn.toml:7: functions.a.triggers[0].enabled: expected true or false, got 1",
            ],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "stream"\nstarting_position = "LATEST"'),
            [
                'eventfn.toml:5: functions.a.triggers[0].starting_position: expected one of TRIM_HORIZON, AT_TIMESTAMP for this trigger',
            ],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "stream"\nstarting_position = "AT_TIMESTAMP"'),
            [
                'eventfn.toml:3: functions.a.triggers[0].starting_position_timestamp: goes together with starting_position = "AT_TIMESTAMP"',
            ],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "stream"\nstarting_position = "AT_TIMESTAMP"\nstarting_position_timestamp = 2026-01-31T12:00:00'),
            [
                'eventfn.toml:6: functions.a.triggers[0].starting_position_timestamp: expected a moment such as 2026-01-31T12:00:00Z, with its time zone (a bare number is seconds since 1970), got 2026-01-31 12:00:00',
            ],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "stream"\ntumbling_window = "1m"'),
            [
                'eventfn.toml:5: functions.a.triggers[0].tumbling_window: this trigger has none: its server keeps positions, but no state',
            ],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "listed"\ntumbling_window = "1m"\nparallelization_factor = 2'),
            [
                'eventfn.toml:5: functions.a.triggers[0].tumbling_window: needs parallelization_factor = 1: a window has one state',
            ],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "stream"\non_failure = "fn:b"'),
            [
                "eventfn.toml:5: functions.a.triggers[0].on_failure: no function is called 'b' (declared: a)",
            ],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "stream"\nmaximum_record_age = "10s"'),
            [
                'eventfn.toml:5: functions.a.triggers[0].maximum_record_age: expected 1m to 7d, got "10s"',
            ],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "kafka"\ntopic = "t"\nparallelization_factor = 2'),
            [
                'eventfn.toml:6: functions.a.triggers[0].parallelization_factor: unknown key (known keys: batch_size, enabled, filter_criteria, maximum_batching_window, maximum_concurrency, report_batch_item_failures, topic, type)',
            ],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "files"\npath = "x"\nfilter_criteria = [{ k = [1] }, { k = 1 }]'),
            [
                "eventfn.toml:6: functions.a.triggers[0].filter_criteria[1]: is not a filter pattern: "
                '"k" must be an object or an array'
            ],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "listed"\nfilter_criteria = [{ data = ["text"] }]'),
            [
                "eventfn.toml:5: functions.a.triggers[0].filter_criteria[0]: is not a filter pattern: "
                '"data" must be an object: the data of this source is filtered as JSON only'
            ],
        ),
        (
            handler(f'[[functions.a.triggers]]\ntype = "files"\npath = "x"\nfilter_criteria = [{"{ k = [1] }," * 11}]'),
            ["eventfn.toml:6: functions.a.triggers[0].filter_criteria: expected at most 10 patterns, got 11"],
        ),
        (
            "[kafka]\nservers = []\n" + handler('[[functions.a.triggers]]\ntype = "kafka"\ntopic = "t"\nbatch_size = 501'),
            ["eventfn.toml:8: functions.a.triggers[0].batch_size: expected at most 500 for this trigger, got 501"],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "queue"\nqueue = "q"\nbatch_size = 11'),
            ["eventfn.toml:6: functions.a.triggers[0].batch_size: more than 10 needs a maximum_batching_window, got 11"],
        ),
        (
            "[queues.q]\nfifo = true\n"
            + handler('[[functions.a.triggers]]\ntype = "queue"\nqueue = "q"\nbatch_size = 11\nmaximum_batching_window = 1'),
            [
                "eventfn.toml:8: functions.a.triggers[0].batch_size: expected at most 10 for a FIFO queue, got 11",
                "eventfn.toml:9: functions.a.triggers[0].maximum_batching_window: "
                "a FIFO queue has none, and 'q' is one",
            ],
        ),
        (
            handler('[[functions.a.triggers]]\ntype = "http"\npath = "/"\nmethod = "GET"')
            + "\n[functions.b]\nhandler = 'a.handler'\n[[functions.b.triggers]]\ntype = 'http'\npath = 1\n"
            "[[functions.b.triggers]]\ntype = 'http'\npath = '/'\n",
            [
                'eventfn.toml:11: functions.b.triggers[0].path: expected text, got 1 (in quotes: "1")',
                "eventfn.toml:14: functions.b.triggers[1].path: is taken",
            ],
        ),
        # what connectors share
        (
            handler('[[functions.a.triggers]]\ntype = "kafka"\ntopic = "t"'),
            ["eventfn.toml: kafka.servers: is missing: expected a list of text"],
        ),
        ("[kafka]\nserver = []\n", ["eventfn.toml:1: kafka.servers: is missing: expected a list of text", "eventfn.toml:2: kafka.server: unknown key (did you mean 'servers'?)"]),
        ("[files]\nx = 1\n", ["eventfn.toml:1: files: the trigger 'files' has no settings that its triggers share"]),
        # A table with a mistake is not held against anything else.
        (
            "[destinations.queue]\ntokn = 1\n[http]\nlistn = 1\n"
            + handler('on_failure = "queue:"\n[[functions.a.triggers]]\ntype = "http"\npath = "/"\n')
            + '[[functions.a.triggers]]\ntype = "http"\npath = "/"\nmethod = "GET"\n',
            [
                "eventfn.toml:2: destinations.queue.tokn: unknown key (did you mean 'token'?)",
                "eventfn.toml:4: http.listn: unknown key (did you mean 'listen'?)",
            ],
        ),
        ("[http]\nlisten = 'here'\n", ["eventfn.toml:2: http.listen: here has no port"]),
        (
            "[destinations.htps]\n[destinations.https]\ntokn = 1\n",
            [
                "eventfn.toml:1: destinations.htps: no destination is called 'htps' (did you mean 'https'?)",
                "eventfn.toml:3: destinations.https.tokn: unknown key (did you mean 'token'?)",
            ],
        ),
        # destinations
        (
            handler('on_failure = "dead"\non_success = "htps://x"\ndead_letter_queue = "queue:"'),
            [
                'eventfn.toml:3: functions.a.on_failure: expected a destination such as "queue:dead" or "fn:NAME", got "dead"',
                "eventfn.toml:4: functions.a.on_success: no destination is called 'htps' (did you mean 'https'?)",
                "eventfn.toml:5: functions.a.dead_letter_queue: expected a name after the colon",
            ],
        ),
        (
            handler('on_failure = "fn:clean-pu"\n') + handler(name="clean-up"),
            ["eventfn.toml:3: functions.a.on_failure: no function is called 'clean-pu' (did you mean 'clean-up'?)"],
        ),
        # queues
        (
            "[queues.a]\ndead_letter_queue = 'b'\n[queues.b]\ndead_letter_queue = 'c'\n[queues.c]\ndead_letter_queue = 'b'\n",
            [
                "eventfn.toml:4: queues.b.dead_letter_queue: leads back to this queue: b -> c -> b",
                "eventfn.toml:6: queues.c.dead_letter_queue: leads back to this queue: c -> b -> c",
            ],
        ),
        ("[queues.a]\ndead_letter_queue = 'a'\n", ["eventfn.toml:2: queues.a.dead_letter_queue: leads back to this queue: a -> a"]),
        (
            "[queues.a]\ndead_letter_queue = 'queue:b'\n",
            ["eventfn.toml:2: queues.a.dead_letter_queue: expected the name of a queue, got \"queue:b\" ('b')"],
        ),
        (
            "[queues.a]\nmax_receive_count = 3\ncontent_based_deduplication = true\n",
            [
                "eventfn.toml:2: queues.a.max_receive_count: means nothing without dead_letter_queue",
                "eventfn.toml:3: queues.a.content_based_deduplication: means nothing without fifo = true",
            ],
        ),
        ("[queues.'a b']\n", ["eventfn.toml:1: queues.\"a b\": expected a name of 1 to 80 letters, digits, '-', '_' and '.'"]),
        # the environment of a function
        (
            handler('[functions.a.environment]\nAWS_REGION = "x"\n1A = "x"\n_HANDLER = "x"\nOK = 1\nNUL = "\\u0000"'),
            [
                "eventfn.toml:7: functions.a.environment.OK: expected text, got 1 (in quotes: \"1\")",
            ],
        ),
        (
            handler('[functions.a.environment]\nAWS_REGION = "x"\n1A = "x"\n_HANDLER = "x"\nNUL = "\\u0000"'),
            [
                "eventfn.toml:4: functions.a.environment.AWS_REGION: is set by the environment itself and cannot be declared",
                "eventfn.toml:5: functions.a.environment.1A: expected a name of letters, digits and '_' that starts with a letter",
                "eventfn.toml:6: functions.a.environment._HANDLER: is set by the environment itself and cannot be declared",
                "eventfn.toml:7: functions.a.environment.NUL: holds a NUL character, which no environment variable can",
            ],
        ),
        (
            handler(f'environment = {{ A = "{"é" * 2048}" }}'),
            ["eventfn.toml:3: functions.a.environment: expected at most 4096 bytes of names and values, got 4097"],
        ),
        # concurrency
        (
            "[limits]\nconcurrency = 5\n" + handler("reserved_concurrency = 3") + "\n" + handler("reserved_concurrency = 3", "b"),
            ["eventfn.toml:2: limits.concurrency: the functions reserve more than the node's concurrency of 5: a 3 + b 3"],
        ),
        (
            handler("reserved_concurrency = 1001"),
            ["eventfn.toml:1: functions: the functions reserve more than the node's concurrency of 1000: a 1001"],
        ),
        (
            handler("reserved_concurrency = 2\nprovisioned_concurrency = 3"),
            ["eventfn.toml:4: functions.a.provisioned_concurrency: expected at most its reserved_concurrency, 2, got 3"],
        ),
        (
            "[limits]\nconcurrency = 2\n" + handler("provisioned_concurrency = 3"),
            ["eventfn.toml:5: functions.a.provisioned_concurrency: expected at most [limits] concurrency, 2, got 3"],
        ),
        # the network
        (
            handler('network = "egres"'),
            ["eventfn.toml:3: functions.a.network: expected one of \"none\", \"egress\", \"aws\" or a list of text, got \"egres\" (did you mean 'egress'?)"],
        ),
        (
            handler('network = "db.internal:5432"'),
            ['eventfn.toml:3: functions.a.network: expected one of "none", "egress", "aws" or a list of text, got "db.internal:5432" (in brackets: ["db.internal:5432"])'],
        ),
        (handler("network = true"), ['eventfn.toml:3: functions.a.network: expected one of "none", "egress", "aws" or a list of text, got true']),
        (handler("network = []"), ['eventfn.toml:3: functions.a.network: is an empty list (write "none")']),
        (
            handler('network = [\n"db.internal:5432",\n5432,\n"*.github.com:443"]'),
            ['eventfn.toml:5: functions.a.network[1]: expected text, got 5432 (in quotes: "5432")'],
        ),
        (
            handler('network = [\n"db.internal:5432",\n"https://api.github.com/",\n"*.github.com:443",\n"DB.internal:5432"]'),
            [
                'eventfn.toml:5: functions.a.network[1]: expected "host:port", got "https://api.github.com/" (write "api.github.com:443")',
                'eventfn.toml:6: functions.a.network[2]: "*.github.com:443" is a wildcard: every host has to be known before the function starts (list each host by name)',
                "eventfn.toml:7: functions.a.network[3]: db.internal:5432 is listed twice",
            ],
        ),
        (
            handler(f"network = {[f'a:{port}' for port in range(1, 66)]}"),
            ["eventfn.toml:3: functions.a.network: expected at most 64 entries, got 65"],
        ),
        (
            handler("provisioned_concurrency = 3\nsnap_start = true"),
            ["eventfn.toml:4: functions.a.snap_start: cannot be together with provisioned_concurrency: choose one of them"],
        ),
        # file systems
        (
            handler('file_system_configs = [\n{ path = "x" },\n{ path = "y", local_mount_path = "/var" }]'),
            ["eventfn.toml:5: functions.a.file_system_configs[1].local_mount_path: /var/task is the environment's own: choose another, such as /mnt/data"],
        ),
        # the role, and logs
        (handler('role = "worker"'), ['eventfn.toml:3: functions.a.role: expected an ARN such as "arn:aws:iam::000000000000:role/NAME", got "worker"']),
        (
            handler('[functions.a.logging_config]\nlog_format = "json"'),
            ["eventfn.toml:4: functions.a.logging_config.log_format: expected one of \"Text\", \"JSON\", got \"json\""],
        ),
        (
            handler('[functions.a.logging_config]\nsystem_log_level = "WARN"\nlog_group = "a b"'),
            [
                'eventfn.toml:4: functions.a.logging_config.system_log_level: means nothing without log_format = "JSON"',
                "eventfn.toml:5: functions.a.logging_config.log_group: expected 1 to 512 letters, digits, '_', '-', '/', '.' and '#', got \"a b\"",
            ],
        ),
        # the admin listener
        ("[admin]\nlisten = '127.0.0.1'\n", ['eventfn.toml:2: admin.listen: expected an address such as "127.0.0.1:9000", got "127.0.0.1"']),
        ("[admin]\nlisten = '127.0.0.1:65536'\n", ['eventfn.toml:2: admin.listen: expected an address such as "127.0.0.1:9000", got "127.0.0.1:65536"']),
        # the operator's environment
        (
            handler('description = "${EVENTFN_TEST_UNSET}"'),
            [
                "eventfn.toml:3: functions.a.description: the environment variable EVENTFN_TEST_UNSET is not set "
                '(set it, or write "${EVENTFN_TEST_UNSET:-default}")'
            ],
        ),
    ],
)  # fmt: skip
def test_each_mistake_has_its_file_line_and_key(write: Write, text: str, expected: list[str]) -> None:
    assert problems(write(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        handler('[[functions.a.triggers]]\ntype = "queue"\nqueue = "q"\nbatch_size = 11\nmaximum_batching_window = 1'),
        handler('on_failure = "fn:a"'),
        handler('network = "egress"'),
        handler(f"network = {[f'a:{port}' for port in range(1, 65)]}"),
        handler(f'environment = {{ AB = "{"é" * 2047}" }}'),
        "[queues.a]\ndead_letter_queue = 'b'\nmax_receive_count = 3\n[queues.b]\ndead_letter_queue = 'c'\n",
    ],
)
def test_what_just_fits(write: Write, text: str) -> None:
    load(write(text), PLUGINS)


@pytest.mark.parametrize("key", ["name", "where"])
def test_fields_of_the_model_that_are_no_keys(write: Write, key: str) -> None:
    (problem,) = problems(write(handler(f"{key} = 'x'")))
    assert problem.startswith(f"eventfn.toml:3: functions.a.{key}: unknown key")


@pytest.mark.parametrize(
    ("text", "line", "place"),
    [
        ("a = \n", 1, "at column 5"),
        ("\n[a\n", 2, "at column 3"),
        ("\n\na = [\n", 3, "at the end of the file"),
        ("[a]\n[a]\n", 2, "at column 3"),
    ],
)
def test_what_is_not_toml(write: Write, text: str, line: int, place: str) -> None:
    (problem,) = problems(write(text))
    assert problem.startswith(f"eventfn.toml:{line}: is not valid TOML: ")
    assert problem.endswith(f", {place}")


def test_all_mistakes_come_at_once_in_the_order_of_the_file(write: Write) -> None:
    text = """
    [functions.b]
    handler = "b.handler"
    timout = 1

    [functions.a]
    handler = "a.handler"
    on_failure = "fn:c"

    [[functions.a.triggers]]
    type = "htp"

    [limits]
    concurrency = "many"

    [zzz]
    """
    assert [line.split(": ")[:2] for line in problems(write(text))] == [
        ["eventfn.toml:3", "functions.b.handler"],
        ["eventfn.toml:4", "functions.b.timout"],
        ["eventfn.toml:8", "functions.a.on_failure"],
        ["eventfn.toml:11", "functions.a.triggers[0].type"],
        ["eventfn.toml:14", "limits.concurrency"],
        ["eventfn.toml:16", "zzz"],
    ]


# --- what is on disk -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ('handler = "handler"', ['3: functions.x.handler: expected "file.function", got "handler"']),
        ('handler = ".handler"', ['3: functions.x.handler: expected "file.function", got ".handler"']),
        ('handler = "thumbnial.run"', ["3: functions.x.handler: there is no file thumbnial.py in {code} (did you mean 'thumbnail.run'?)"]),
        ('handler = "package.subb.run"', ["3: functions.x.handler: there is no file package/subb.py in {code} (did you mean 'package.sub.run'?)"]),
        ('handler = "nothing.run"', ["3: functions.x.handler: there is no file nothing.py in {code}"]),
        ('handler = "thumbnail.rum"', ["3: functions.x.handler: thumbnail.py has no function 'rum' (did you mean 'run'?)"]),
        ('handler = "package/sub.run"', []),
        ('handler = "package.run"', []),
        ('handler = "elsewhere.run"\nlayers = ["layer"]', []),
        ('handler = "elsewhere.run"\nrequirements = "requirements.txt"', []),
        ('handler = "inside.run"\ncode = "code.zip"', []),
        ('handler = "insde.run"\ncode = "code.zip"', ["3: functions.x.handler: there is no file insde.py in {root}/code.zip (did you mean 'inside.run'?)"]),
        ('handler = "x.y"\ncode = "cod"', ["4: functions.x.code: {root}/cod does not exist: expected a folder or a zip (did you mean 'code'?)"]),
        ('handler = "x.y"\ncode = "requirements.txt"', ["4: functions.x.code: {root}/requirements.txt is not a folder or a zip"]),
        ('handler = "x.y"\nlayers = ["layer", "nolayer/deep"]', ["4: functions.x.layers[1]: {root}/nolayer/deep does not exist: expected a folder or a zip"]),
        ('handler = "x.y"\nlayers = [' + '"layer",' * 6 + "]", ["4: functions.x.layers: expected at most 5 layers, got 6"]),
        ('handler = "x.y"\nrequirements = "requirement.txt"', ["4: functions.x.requirements: {root}/requirement.txt does not exist: expected a file (did you mean 'requirements.txt'?)"]),
        ('handler = "x.y"\nrequirements = "layer"', ["4: functions.x.requirements: {root}/layer is not a file"]),
    ],
)  # fmt: skip
def test_code_layers_and_requirements_are_looked_at(
    write: Write, tmp_path: Path, declared: str, expected: list[str]
) -> None:
    for file in ("code/thumbnail.py", "code/package/__init__.py", "code/package/sub.py", "layer/x", "requirements.txt"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("def run(event, context): ...\n" if file.endswith(".py") else "")
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("inside.py", "")
    code = "" if "code =" in declared else '\ncode = "code"'
    target = write(f"\n[functions.x]\n{declared}{code}\n")
    if not expected:
        load(target, PLUGINS, read_handlers=True)
        return
    assert problems(target, read_handlers=True) == [
        f"eventfn.toml:{line}".format(root=tmp_path, code=tmp_path / "code") for line in expected
    ]


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def handler(event, context): ...")
    file = tmp_path / "eventfn.toml"
    file.write_bytes(b'\xef\xbb\xbf[functions.a]\nhandler = "a.handler"\n')
    assert list(load(file, PLUGINS).functions) == ["a"]


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "eventfn.toml"
    file.write_bytes(b"# one\n# \xff\n")
    assert problems(file) == [f"{file}:2: is not UTF-8 text"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "eventfn.toml"
    file.touch(mode=0)
    assert problems(file) == [f"{file}: cannot be read: Permission denied"]


def test_a_function_that_cannot_run_keeps_no_other_from_running(write: Write, tmp_path: Path) -> None:
    target = write(handler())
    (tmp_path / "a.py").write_text("def handler(:\n")

    assert problems(target, read_handlers=True) == ["eventfn.toml:2: functions.a.handler: a.py, line 1: invalid syntax"]
    assert load(target, PLUGINS).functions["a"].handler == "a.handler"


# --- which file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "target", "expected"),
    [
        ([], ".", "no eventfn.toml here, no app.py, and no other Python file with an App or a handler (start one with 'eventfn new')"),
        ([], "missing.toml", "missing.toml: cannot be read: No such file or directory"),
        ([], "missing.py", "missing.py: cannot be read: No such file or directory"),
        ([], "missing", "missing: expected a folder, an eventfn.toml or a Python file"),
        (["one.py", "two.py"], ".", "several files declare functions: one.py, two.py (name the one that is meant)"),
    ],
)  # fmt: skip
def test_no_file_or_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], target: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in files:
        (tmp_path / file).write_text("def handler(event, context): ...\n")
    (message,) = problems(Path(target))
    assert message.endswith(expected)


@pytest.mark.parametrize(
    ("files", "target", "name"),
    [
        (["a.py"], ".", "a"),
        (["a.py", "b.py"], "b.py", "b"),
        (["a.py", "app.py"], ".", "app"),
    ],
)
def test_a_bare_handler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], target: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in files:
        (tmp_path / file).write_text("raise SystemExit('never imported')\ndef handler(event, context): ...\n")
    project = load(Path(target), PLUGINS)
    assert project.file == str(tmp_path / f"{name}.py")
    function = project.functions[name]
    assert (function.handler, function.where.file, function.where.line) == (f"{name}.handler", f"{name}.py", 2)
    assert [(trigger.type, trigger.settings.method, trigger.settings.path) for trigger in function.triggers] == [
        ("http", "ANY", "/"),
        ("http", "ANY", "/{path+}"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("async def anything(event, context): ...\ndef _helper(): ...\n", "anything"),
        ("def other(): ...\ndef handler(event, context): ...\n", "handler"),
    ],
)
def test_which_function_of_a_bare_file(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "hello.py").write_text(text)
    assert load(tmp_path / "hello.py", PLUGINS).functions["hello"].handler == f"hello.{expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def one(): ...\ndef two(): ...\n", "{file}: expected an eventfn.App, or a function called 'handler', or exactly one function; found one, two"),
        ("x = 1\n", "{file}: expected an eventfn.App, or a function called 'handler', or exactly one function; found none"),
        ("import eventfn\n", "{file}: expected an eventfn.App, or a function called 'handler', or exactly one function; found none"),
        ("\ndef handler(:\n", "{file}:2: is not valid Python: invalid syntax"),
    ],
)  # fmt: skip
def test_a_file_that_declares_nothing(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "hello.py"
    file.write_text(text)
    assert problems(file) == [expected.format(file=file)]


def test_a_fifo_queue_of_sqs_is_known_by_its_name(write: Write) -> None:
    trigger = '[[functions.a.triggers]]\ntype = "sqs"\nqueue = "{}"\nmaximum_batching_window = "1s"\nbatch_size = 11'
    plugins = Plugins(triggers={"sqs": FakeQueue})
    assert load(write(handler(trigger.format("jobs"))), plugins)
    with pytest.raises(ConfigError) as raised:
        load(write(handler(trigger.format("https://sqs.example.com/0/jobs.fifo"))), plugins)
    assert [str(problem) for problem in raised.value.problems] == [
        "eventfn.toml:6: functions.a.triggers[0].maximum_batching_window: a FIFO queue has none, "
        "and 'https://sqs.example.com/0/jobs.fifo' is one",
        "eventfn.toml:7: functions.a.triggers[0].batch_size: expected at most 10 for a FIFO queue, got 11",
    ]
