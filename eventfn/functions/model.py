"""The one frozen model that all three ways to declare lead to: eventfn.toml, decorators, a bare Python file.

PURE: no I/O. Every default of a function stands here and nowhere else. Field names are Lambda's in snake_case;
durations are seconds, sizes megabytes, paths absolute.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from eventfn.units import Between, DestinationUri, Duration, Instant, Megabytes


class Where(msgspec.Struct, frozen=True):
    """Where something was declared, to name it in errors and in `status`."""

    file: str
    line: int | None = None


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """The host's settings of a pulled trigger: Lambda's event source mapping. They stand in the trigger's own table
    beside the connector's keys. Which of them a source knows follows from its traits: `plugins.intake_keys`."""

    enabled: bool = True
    filter_criteria: list[dict[str, Any]] = []  # patterns, ORed; Lambda's grammar
    batch_size: Annotated[int, Between(1, 10_000)] | None = None  # None: the connector's default
    maximum_batching_window: Annotated[Duration, Between(0, 300)] = Duration(0)
    # Batches in flight. None: 5 where records are settled one by one, one for each shard and key lane of a stream.
    maximum_concurrency: Annotated[int, Between(1, 1000)] | None = None
    report_batch_item_failures: bool = False  # Lambda's FunctionResponseTypes

    # Of streams only. None: the connector's first, TRIM_HORIZON where it has that: it misses nothing.
    starting_position: Literal["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"] | None = None
    starting_position_timestamp: Instant | None = None
    parallelization_factor: Annotated[int, Between(1, 10)] = 1  # batches of one shard in flight; order holds per key
    bisect_batch_on_function_error: bool = False
    maximum_retry_attempts: Annotated[int, Between(-1, 10_000)] = -1  # -1: until the record leaves the stream
    maximum_record_age: Annotated[Duration, Between(60, 604_800)] | None = None  # None: never too old
    tumbling_window: Annotated[Duration, Between(0, 900)] = Duration(0)  # 0: none
    on_failure: DestinationUri | None = None  # of the batches that are given up; None: the dead letters


# The keys of Intake by what they are of; `enabled` and `filter_criteria` are everybody's.
BATCHING = ("batch_size", "maximum_batching_window", "maximum_concurrency", "report_batch_item_failures")
STREAMING = (
    "starting_position",
    "starting_position_timestamp",
    "parallelization_factor",
    "bisect_batch_on_function_error",
    "maximum_retry_attempts",
    "maximum_record_age",
    "tumbling_window",
    "on_failure",
)


class TriggerBinding(msgspec.Struct, frozen=True, kw_only=True):
    """One declared trigger of one function."""

    type: str  # the connector's name
    source: str  # stable across restarts: "<function>/<type>/<digest of the settings>"
    settings: Any  # the connector's Settings
    shared: Any = None  # its Shared, in place of the connector's table: of a mapping that was made through the API
    intake: Intake = Intake()
    where: Where = Where("")


class FileSystem(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of the machine that a function sees too: Lambda's FileSystemConfigs."""

    path: str  # absolute; a folder that is not there is made
    local_mount_path: str | None = None  # where the function finds it; None: under the same path as on the machine
    read_only: bool = False


class LoggingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a function logs. The levels are of the format JSON."""

    log_format: Literal["Text", "JSON"] = "Text"
    application_log_level: Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"] = "INFO"
    system_log_level: Literal["DEBUG", "INFO", "WARN"] = "INFO"
    log_group: str | None = None  # None: /aws/lambda/<function>


Network = Literal["none", "egress", "aws"] | tuple[str, ...]


class Function(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    handler: str  # "module.function", as Lambda reads it
    code: str  # absolute path of a folder, or of a zip
    runtime: str | None = None  # "python3.12"; None: the interpreter that runs eventfn
    role: str | None = None  # the execution role's ARN: whose credentials it has where [aws] names STS
    description: str = ""
    memory_size: Annotated[Megabytes, Between(32, 10_240)] = Megabytes(128)
    timeout: Annotated[Duration, Between(0.1, 900)] = Duration(3)
    ephemeral_storage: Annotated[Megabytes, Between(1, 10_240)] = Megabytes(512)  # of /tmp
    # "none", "egress" (the machine's own network), "aws" (the endpoints of [aws] and the node's own API), or the only
    # "host:port"s that can be reached, of which one may be "aws"
    network: Network = "none"
    file_system_configs: tuple[FileSystem, ...] = ()
    environment: dict[str, str] = {}
    logging_config: LoggingConfig = LoggingConfig()
    layers: tuple[str, ...] = ()  # absolute paths of folders or zips, in order
    requirements: str | None = None  # absolute path of a requirements.txt
    concurrency_per_environment: Annotated[int, Between(1, 1000)] = 1  # above 1: `async def` handlers only
    reserved_concurrency: Annotated[int, Between(0, 100_000)] | None = None
    snap_start: bool = False  # environments are copies of one whose init has run
    provisioned_concurrency: Annotated[int, Between(0, 1000)] = 0
    maximum_retry_attempts: Annotated[int, Between(0, 100)] = 2
    maximum_event_age: Annotated[Duration, Between(1, 1_209_600)] = Duration(21_600)
    retry_delays: tuple[Duration, ...] = (Duration(60), Duration(120))  # before retry 1, 2 ...; the last one repeats
    on_success: DestinationUri | None = None
    on_failure: DestinationUri | None = None
    dead_letter_queue: DestinationUri | None = None
    triggers: tuple[TriggerBinding, ...] = ()
    where: Where = Where("")


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """[queues.NAME]: SQS's attributes of a queue. A queue that is only named somewhere has these defaults."""

    name: str
    fifo: bool = False
    visibility_timeout: Annotated[Duration, Between(0, 43_200)] = Duration(30)
    delay: Annotated[Duration, Between(0, 900)] = Duration(0)
    dead_letter_queue: str | None = None
    max_receive_count: Annotated[int, Between(1, 1000)] | None = None  # 3 when there is a dead_letter_queue
    content_based_deduplication: bool = False
    dedupe_window: Annotated[Duration, Between(0, 86_400)] = Duration(300)
    maximum_messages: Annotated[int, Between(1, 1_000_000_000)] = 1_000_000
    where: Where = Where("")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """[limits]: of the whole node."""

    concurrency: Annotated[int, Between(1, 100_000)] = 1000  # Lambda's account limit
    # Asynchronous events of one function that run at once: enough for handlers that wait, few enough that a backlog
    # leaves most of the node to callers who wait.
    asynchronous_concurrency: Annotated[int, Between(1, 100_000)] = 32
    queued_events: Annotated[int, Between(1, 100_000_000)] = 1_000_000  # asynchronous events waiting, per function
    idempotency_window: Annotated[Duration, Between(1, 1_209_600)] = Duration(86_400)


class Workers(msgspec.Struct, frozen=True, kw_only=True):
    """[workers]: the life of environments, and the least that must keep functions in."""

    sandbox: Literal["full", "landlock", "none"] = "landlock"  # nothing runs with less than this tier
    idle_timeout: Annotated[Duration, Between(1, 86_400)] = Duration(300)
    init_timeout: Annotated[Duration, Between(1, 900)] = Duration(10)
    drain_timeout: Annotated[Duration, Between(0, 900)] = Duration(30)  # what SIGTERM waits for what runs


class Admin(msgspec.Struct, frozen=True, kw_only=True):
    """[admin]: the listener of API, metrics and commands. Port 0: any free one, written to the data folder."""

    listen: str = "127.0.0.1:0"


class AccessKey(msgspec.Struct, frozen=True, kw_only=True):
    """[[aws.keys]]: who may sign requests to the node's API, and what he may do there.

    As loaded the secret is here, whether it was written or stands in a file, and the principal is filled in.
    """

    access_key_id: str
    secret_access_key: str = ""  # one of the two has to be written
    secret_access_key_file: str | None = None  # its first line, blanks around it apart
    principal: str = ""  # an ARN; not written: the account's root
    policy: tuple[dict[str, Any], ...] | None = None  # IAM statements; None: everything is allowed

    def __repr__(self) -> str:
        """Without the secret: a representation ends in logs."""
        return f"AccessKey({self.access_key_id!r}, {self.principal!r})"


class Aws(msgspec.Struct, frozen=True, kw_only=True):
    """[aws]: what ARNs say, where the services beside this node are, and who may use its API."""

    account: str = "000000000000"
    region: str = "us-east-1"  # of a request that is signed for none
    endpoint: str | None = None  # of every service but Lambda, unless it is named in `endpoints`
    endpoints: dict[str, str] = {}  # by boto3's name of the service
    network: Network = "aws"  # of functions that are made through the API
    # Of their asynchronous events, before retry 1, 2 ...; the last one repeats.
    retry_delays: tuple[Duration, ...] = (Duration(60), Duration(120))
    keys: tuple[AccessKey, ...] = ()

    def endpoint_of(self, service: str) -> str | None:
        """Where this service is; None: at AWS, where its SDKs look for it."""
        return self.endpoints.get(service, self.endpoint)


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was declared, checked, with all defaults filled in."""

    folder: str  # absolute; relative paths start here
    file: str | None  # eventfn.toml, or the Python file; None: nothing was found
    data: str  # the data folder, absolute
    functions: dict[str, Function]
    queues: dict[str, Queue] = {}
    shared: dict[str, Any] = {}  # connector name -> its Shared settings ([http] ...)
    destinations: dict[str, Any] = {}  # scheme -> its Settings ([destinations.https] ...)
    limits: Limits = Limits()
    workers: Workers = Workers()
    admin: Admin = Admin()
    aws: Aws = Aws()

    def function_arn(self, name: str) -> str:
        return f"arn:aws:lambda:{self.aws.region}:{self.aws.account}:function:{name}"
