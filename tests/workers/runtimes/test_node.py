"""eventfn's own Node.js runtime against a Runtime API: real processes of this machine's node, no sandbox."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import eventfn.workers.runtimes as runtimes
from tests.servers.needed import need

from .runtime_api import Answer, Runtime, RuntimeApi

BOOTSTRAP = Path(runtimes.__file__).parent / "node" / "bootstrap.cjs"
VARIABLES = {
    "AWS_LAMBDA_FUNCTION_NAME": "fn",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/fn",
    "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[$LATEST]0",
}
HANDLER = "index.handler"
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def node_is_there() -> None:
    need(None if shutil.which("node") else "apt-get install nodejs")


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    with RuntimeApi() as ready:
        yield ready


Start = Callable[..., AbstractContextManager[Runtime]]


@pytest.fixture
def start(api: RuntimeApi, tmp_path: Path) -> Start:
    """start({"index.js": "..."}) runs the handler index.handler of these files."""

    @contextlib.contextmanager
    def run(files: dict[str, str] | str, handler: str = "index.handler", **environment: str) -> Iterator[Runtime]:
        root = tmp_path / "task"
        for name, code in ({"index.js": files} if isinstance(files, str) else files).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(dedent(code))
        variables = VARIABLES | {"LAMBDA_TASK_ROOT": str(root), "_HANDLER": handler} | environment
        with api.run(["node", str(BOOTSTRAP)], variables, tmp_path / "output") as runtime:
            yield runtime

    return run


def says(text: str) -> str:
    return f"async () => '{text}'"


@pytest.mark.parametrize(
    ("files", "handler"),
    [
        ({"index.js": f"exports.handler = {says('here')}"}, "index.handler"),
        ({"index.cjs": f"exports.handler = {says('here')}"}, "index.handler"),
        ({"index.mjs": f"export const handler = {says('here')}"}, "index.handler"),
        ({"index": f"exports.handler = {says('here')}"}, "index.handler"),
        (
            {"index.js": f"exports.handler = {says('here')}", "index.mjs": "throw 1", "index.cjs": "throw 2"},
            "index.handler",
        ),
        ({"src/app/orders.js": f"exports.create = {says('here')}"}, "src/app/orders.create"),
        ({"index.js": f"exports.api = {{v1: {{get: {says('here')}}}}}"}, "index.api.v1.get"),
        ({"index.mjs": f"export const api = {{get: {says('here')}}}"}, "index.api.get"),
        ({"index.mjs": f"export default {{handler: {says('here')}}}"}, "index.handler"),
        ({"index.mjs": f"export default {says('here')}"}, "index.default"),
        (
            {"index.js": f"module.exports = class {{ static handler() {{ return ({says('here')})() }} }}"},
            "index.handler",
        ),
        (
            {"index.js": f"export const handler = {says('here')}", "package.json": '{"type": "module"}'},
            "index.handler",
        ),
        (
            {"index.mjs": "const text = await Promise.resolve('here'); export const handler = async () => text"},
            "index.handler",
        ),
        (
            {
                "index.js": "const text = await Promise.resolve('here'); export const handler = async () => text",
                "package.json": '{"type": "module"}',
            },
            "index.handler",
        ),
        (
            {
                "index.js": "const text = require('lib'); exports.handler = async () => text",
                "node_modules/lib/index.js": "module.exports = 'here'",
            },
            "index.handler",
        ),
        (
            {
                "index.mjs": "import text from 'lib'; export const handler = async () => text",
                "node_modules/lib/package.json": '{"exports": {"import": "./esm.mjs", "require": "./cjs.js"}}',
                "node_modules/lib/esm.mjs": "export default 'here'",
            },
            "index.handler",
        ),
        ({"node_modules/wrapper/index.js": f"exports.handler = {says('here')}"}, "wrapper.handler"),
    ],
)
def test_handlers_are_found_where_lambda_looks(
    api: RuntimeApi, start: Start, files: dict[str, str], handler: str
) -> None:
    with start(files, handler):
        assert api.result() == "here"


@pytest.mark.parametrize(
    "code",
    {
        "index.js": "const text = require('lib'); exports.handler = async () => text",
        "index.mjs": "import text from 'lib'; export const handler = async () => text",
    }.items(),
    ids=lambda item: item[0],
)
def test_layers_are_found_through_node_path(
    api: RuntimeApi, start: Start, tmp_path: Path, code: tuple[str, str]
) -> None:
    if code[0] == "index.mjs" and not hooks():
        pytest.skip("this node has no hooks for import")
    for layer, text in (("node99", "here"), ("", "overridden")):
        folder = tmp_path / "opt/nodejs" / layer / "node_modules/lib"
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"exports": {"import": "./esm.mjs", "require": "./cjs.js"}}')
        (folder / "esm.mjs").write_text(f"export default '{text}'")
        (folder / "cjs.js").write_text(f"module.exports = '{text}'")
    folders = [str(tmp_path / "opt/nodejs" / layer / "node_modules") for layer in ("node99", "")]
    with start(dict([code]), NODE_PATH=":".join([*folders, "/var/runtime"])):
        assert api.result() == "here"


def hooks() -> bool:
    ask = ["node", "-p", "const {register, registerHooks} = require('node:module'); !!(register || registerHooks)"]
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip() == "true"


@pytest.mark.parametrize(
    ("files", "handler", "error_type", "message"),
    [
        ({}, HANDLER, "Runtime.ImportModuleError", "Error: Cannot find module 'index'\nRequire stack:\n- "),
        ({"index.js": "require('a')"}, HANDLER, "Runtime.ImportModuleError", "Error: Cannot find module 'a'\n"),
        ({"index.mjs": "import 'nowhere'"}, HANDLER, "Error", "Cannot find package 'nowhere' imported from "),
        ({"index.js": "exports.handler = {"}, HANDLER, "Runtime.UserCodeSyntaxError", "SyntaxError: "),
        ({"index.mjs": "export const handler ="}, HANDLER, "Runtime.UserCodeSyntaxError", "SyntaxError: "),
        ({"index.js": ""}, HANDLER, "Runtime.HandlerNotFound", "index.handler is undefined or not exported"),
        ({"index.js": "exports.a = 1"}, "index.a.b", "Runtime.HandlerNotFound", "index.a.b is undefined or not"),
        ({"index.js": "exports.handler = 1"}, HANDLER, "Runtime.HandlerNotFound", "index.handler is not a function"),
        ({"index.js": ""}, "index", "Runtime.MalformedHandlerName", "Bad handler"),
        ({"index.js": ""}, "../a.b", "Runtime.MalformedHandlerName", "'../a.b' is not a valid handler name."),
        ({"index.js": "throw new TypeError('no settings')"}, HANDLER, "TypeError", "no settings"),
        ({"index.js": "throw 'text'"}, HANDLER, "string", "text"),
        ({"index.js": "throw null"}, HANDLER, "object", "null"),
        ({"index.mjs": "await Promise.reject(new RangeError('far'))"}, HANDLER, "RangeError", "far"),
    ],
)  # fmt: skip
def test_a_handler_that_cannot_be_loaded_is_an_init_error(
    api: RuntimeApi, start: Start, files: dict[str, str], handler: str, error_type: str, message: str
) -> None:
    with start(files, handler) as runtime:
        answer = api.answer()
        assert answer.kind == "init error"
        assert answer.value["errorType"] == error_type
        assert answer.value["errorMessage"].startswith(message)
        assert isinstance(answer.value["trace"], list)
        told = error_type if error_type.startswith("Runtime.") else "Function.Unknown"
        assert answer.headers["lambda-runtime-function-error-type"] == told
        assert runtime.ended() == 129
        (line,) = runtime.lines()
        assert re.match(STAMP + "\tundefined\tERROR\tUncaught Exception \t{", line)


def test_a_syntax_error_says_where(api: RuntimeApi, start: Start) -> None:
    with start("exports.handler = async () => {\n  return {{}\n}"):
        assert "task/index.js:2" in api.answer().value["trace"][0]


def test_the_context_is_complete(api: RuntimeApi, start: Start) -> None:
    code = """
        exports.handler = async (event, context) => ({
            ...context, left: context.getRemainingTimeInMillis(),
            methods: ['done', 'fail', 'succeed', 'getRemainingTimeInMillis'].map((name) => typeof context[name]),
        })
    """
    with start(code):
        request_id = api.send(
            timeout=7,
            client_context='{"custom": {"a": 1}}',
            cognito_identity='{"cognitoIdentityId": "me"}',
            aws_tenant_id="blue",
        )
        facts = api.answer().value
        assert 0 < facts.pop("left") <= 7000
        assert facts.pop("methods") == ["function"] * 4
        assert facts == {
            "callbackWaitsForEmptyEventLoop": True,
            "functionName": "fn",
            "functionVersion": "$LATEST",
            "memoryLimitInMB": "128",
            "logGroupName": "/aws/lambda/fn",
            "logStreamName": "2026/01/01/[$LATEST]0",
            "clientContext": {"custom": {"a": 1}},
            "identity": {"cognitoIdentityId": "me"},
            "invokedFunctionArn": api.arn,
            "awsRequestId": request_id,
            "tenantId": "blue",
        }
        assert "clientContext" not in api.result()


def test_a_client_context_that_is_no_json_fails_its_request_only(api: RuntimeApi, start: Start) -> None:
    with start("exports.handler = async () => 1"):
        assert api.invoke(client_context="{").value["errorType"] == "Runtime.LambdaContextUnmarshalError"
        assert api.result() == 1


def test_the_trace_id_is_a_variable_of_its_request(api: RuntimeApi, start: Start) -> None:
    with start("exports.handler = async () => process.env._X_AMZN_TRACE_ID ?? null"):
        assert [api.result(trace_id="Root=1-a"), api.result(trace_id="Root=1-b"), api.result()] == [
            "Root=1-a", "Root=1-b", None,
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("handler", "value"),
    [
        ("async (event) => event.n + 1", 2),
        ("(event) => Promise.resolve(event)", {"n": 1}),
        ("async () => {}", None),
        ("async () => 'ä\\u2028\\n'", "ä\u2028\n"),
        ("async () => () => {}", None),
        ("() => new Promise(() => {})", None),  # nothing is left that could settle it
        ("() => 1", None),  # what is returned and is no promise does not count
        ("(event, context, callback) => callback(null, event)", {"n": 1}),
        ("(event, context, callback) => callback()", None),
        ("(event, context, callback) => { setTimeout(callback, 20, null, 'late'); return 1 }", "late"),
        ("(event, context, callback) => { callback(null, 1); callback(null, 2) }", 2),
        ("(event, context) => context.succeed(3)", 3),
        ("(event, context) => context.done(null, 4)", 4),
        ("async (event, context, callback) => { callback(null, 'called'); return 'returned' }", "returned"),
    ],
)
def test_results(api: RuntimeApi, start: Start, handler: str, value: Any) -> None:
    with start(f"exports.handler = {handler}"):
        assert api.result({"n": 1}) == value
        assert api.result({"n": 1}) == value


def test_a_callbacks_answer_waits_for_the_event_loop_unless_told_not_to(api: RuntimeApi, start: Start) -> None:
    code = """
        const seen = []
        exports.handler = (event, context, callback) => {
            context.callbackWaitsForEmptyEventLoop = event.waits
            setTimeout(() => seen.push(event.name), event.ms)
            callback(null, seen)
        }
    """
    with start(code):
        assert api.result({"waits": True, "name": "a", "ms": 30}) == ["a"]
        assert api.result({"waits": False, "name": "b", "ms": 30_000}) == ["a"]


@pytest.mark.parametrize(
    ("handler", "error_type", "message"),
    [
        ("async () => { throw new RangeError('far') }", "RangeError", "far"),
        ("() => { throw new Error('at once') }", "Error", "at once"),
        ("(event, context, callback) => callback(new TypeError('called'))", "TypeError", "called"),
        ("(event, context, callback) => callback('text')", "string", "text"),
        ("async () => Promise.reject('text')", "string", "text"),
        ("async () => Promise.reject()", "string", "handled"),
        ("(event, context) => context.fail(new Error('legacy'))", "Error", "legacy"),
        ("(event, context) => context.fail()", "string", "handled"),
        ("async () => { throw {a: 1} }", "object", "[object Object]"),
        ("async () => { throw Object.create(null) }", "handled", "The function failed with a value"),
        ("async () => 10n", "Runtime.JSONStringifyError", "Unable to stringify response body"),
        ("async () => { const a = {}; a.a = a; return a }", "Runtime.JSONStringifyError", "Unable to stringify"),
        ("async () => { throw Object.assign(new Error('x'), {name: 'a\\nb'}) }", "a\nb", "x"),
    ],
)
def test_errors(api: RuntimeApi, start: Start, handler: str, error_type: str, message: str) -> None:
    with start(f"exports.handler = {handler}") as runtime:
        answer = api.invoke()
        assert answer.kind == "error"
        assert list(answer.value) == ["errorType", "errorMessage", "trace"]
        assert answer.value["errorType"] == error_type
        assert answer.value["errorMessage"].startswith(message)
        line = runtime.lines()[0]
        assert re.match(f"{STAMP}\t{answer.request_id}\tERROR\tInvoke Error \t{{", line)
        assert json.loads(line.split("\t", 4)[4])["errorMessage"].startswith(message)
        assert api.invoke().kind == "error"  # it goes on


def test_a_trace_has_the_functions_frames(api: RuntimeApi, start: Start) -> None:
    with start("exports.handler = async () => { throw new Error('boom') }"):
        trace = api.invoke().value["trace"]
        assert trace[0] == "Error: boom"
        assert "task/index.js:1" in trace[1]


def test_an_event_that_is_no_json_fails_its_request_only(api: RuntimeApi, start: Start) -> None:
    with start("exports.handler = async (event) => event"):
        assert api.invoke(raw=b"{").value["errorType"] == "SyntaxError"
        assert api.result(1) == 1


@pytest.mark.parametrize(
    ("code", "error_type", "status"),
    [
        ("Promise.reject(new Error('lost'))", "Runtime.UnhandledPromiseRejection", 128),
        ("Promise.reject()", "Runtime.UnhandledPromiseRejection", 128),
        ("setTimeout(() => { throw new TypeError('lost') })", "TypeError", 129),
        ("setTimeout(() => { throw null })", "object", 129),
    ],
)
def test_what_nobody_catches_fails_the_request_and_ends_the_process(
    api: RuntimeApi, start: Start, code: str, error_type: str, status: int
) -> None:
    with start(f"exports.handler = () => new Promise(() => {{ {code} }})") as runtime:
        answer = api.invoke()
        assert (answer.kind, answer.value["errorType"]) == ("error", error_type)
        assert runtime.ended() == status
        title = "Unhandled Promise Rejection" if status == 128 else "Uncaught Exception"
        assert f"\t{answer.request_id}\tERROR\t{title} \t{{" in runtime.lines()[0]


def test_what_nobody_catches_during_init_is_an_init_error(api: RuntimeApi, start: Start) -> None:
    with start(
        {"index.mjs": "Promise.reject(new Error('early')); await new Promise(() => setTimeout(() => {}, 60000))"}
    ) as runtime:
        answer = api.answer()
        assert (answer.kind, answer.value["errorMessage"]) == ("init error", "Error: early")
        assert runtime.ended() == 128


def test_what_nobody_catches_between_requests_ends_the_process(api: RuntimeApi, start: Start) -> None:
    with start("exports.handler = async () => { setTimeout(() => { throw new Error('later') }, 50) }") as runtime:
        assert api.result() is None
        assert runtime.ended() == 129
        assert "later" in runtime.lines()[0]


def test_a_response_that_is_too_large_is_refused_and_the_next_request_served(start: Start, api: RuntimeApi) -> None:
    api.limit = 1000
    with start("exports.handler = async (event) => 'x'.repeat(event)"):
        assert api.invoke(2000).kind == "too large"
        assert api.result(3) == "xxx"


def test_large_events_and_responses_pass(start: Start, api: RuntimeApi) -> None:
    text = "ä" * 1_500_000
    with start("exports.handler = async (event) => event"):
        assert api.result(text) == text


def test_the_log_in_text_format(api: RuntimeApi, start: Start) -> None:
    code = """
        console.log('init')
        exports.handler = async (event) => {
            console.debug('a %s %d', 'b', 1, {c: [2]})
            console.info('two\\nlines')
            console.warn(new Error('shown').message)
            console.error('e')
            console.trace('t')
            process.stdout.write('raw\\n')
        }
    """
    with start(code, AWS_LAMBDA_LOG_LEVEL="FATAL") as runtime:
        request_id = api.send()
        api.answer()
        lines = [re.sub("^" + STAMP, "TIME", line).replace(request_id, "ID") for line in runtime.lines()]
        assert lines == [
            "TIME\tundefined\tINFO\tinit",
            "TIME\tID\tDEBUG\ta b 1 { c: [ 2 ] }",
            "TIME\tID\tINFO\ttwo\rlines",
            "TIME\tID\tWARN\tshown",
            "TIME\tID\tERROR\te",
            "TIME\tID\tTRACE\tt",
            "raw",
        ]


def test_the_log_in_json_format(api: RuntimeApi, start: Start) -> None:
    code = """
        exports.handler = async (event) => {
            console.debug('not shown')
            console.info({a: [1]})
            console.log('a', 'b', {c: 1})
            console.warn(new RangeError('alone'))
            console.error('with', new TypeError('more'))
            const circle = {}; circle.circle = circle
            console.log(circle)
            console.log(10n)
            throw new Error('end')
        }
    """
    with start(code, AWS_LAMBDA_LOG_FORMAT="JSON", AWS_LAMBDA_LOG_LEVEL="info") as runtime:
        request_id = api.invoke().request_id
        records = [json.loads(line) for line in runtime.lines()]
    assert {record["requestId"] for record in records} == {request_id}
    assert all(re.fullmatch(STAMP, record["timestamp"]) for record in records)
    assert [record["level"] for record in records] == ["INFO", "INFO", "WARN", "ERROR", "INFO", "INFO", "ERROR"]
    assert records[0]["message"] == {"a": [1]}
    assert records[1]["message"] == "a b { c: 1 }"
    assert {k: records[2]["message"][k] for k in ("errorType", "errorMessage")} == {
        "errorType": "RangeError",
        "errorMessage": "alone",
    }
    assert (records[3]["errorType"], records[3]["errorMessage"]) == ("TypeError", "more")
    assert records[3]["stackTrace"][0] == "TypeError: more"
    assert records[4]["message"].startswith("<ref *1>")
    assert records[5]["message"] == "10n"
    assert records[6]["message"]["errorMessage"] == "end"


# --- response streaming ---------------------------------------------------------------------------------------------


def streamed(code: str) -> str:
    return f"exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {{ {code} }})"


def test_a_response_is_streamed(api: RuntimeApi, start: Start) -> None:
    code = """
        stream.setContentType('text/plain')
        stream.write('one ')
        await new Promise((resolve) => setTimeout(resolve, 20))
        stream.write(Buffer.from('two '))
        stream.write({three: 3})
        stream.end(' four')
    """
    with start(streamed(code)):
        for _ in range(2):
            answer = api.invoke()
            assert answer.kind == "response"
            assert answer.headers["lambda-runtime-function-response-mode"] == "streaming"
            assert answer.headers["content-type"] == "text/plain"
            assert answer.body == b'one two {"three":3} four'
            assert answer.chunks[0] == b"one "
            assert answer.trailers == {}


def test_a_pipeline_streams(api: RuntimeApi, start: Start) -> None:
    code = """
        const { pipeline } = require('node:stream/promises')
        const parts = function* () { for (let i = 0; i < 50; i++) yield Buffer.alloc(65536, i) }
        await pipeline(require('node:stream').Readable.from(parts()), stream)
    """
    with start(streamed(code)):
        assert api.invoke().body == b"".join(bytes([i]) * 65536 for i in range(50))


@pytest.mark.parametrize("code", ["stream.write('body'); stream.end()", "stream.end('body')", "stream.end()"])
def test_an_http_response_is_a_prelude_and_a_body(api: RuntimeApi, start: Start, code: str) -> None:
    prelude = {"statusCode": 201, "headers": {"content-type": "text/plain"}, "cookies": ["a=1"]}
    code = f"stream = awslambda.HttpResponseStream.from(stream, {json.dumps(prelude)}); {code}"
    with start(streamed(code)):
        answer = api.invoke()
        assert answer.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
        head, _, body = answer.body.partition(b"\0" * 8)
        assert json.loads(head) == prelude
        assert body == (b"body" if "body" in code.rpartition(";")[0] + code.rpartition(";")[2] else b"")


def test_a_stream_that_fails_half_way_ends_with_the_error(api: RuntimeApi, start: Start) -> None:
    with start(streamed("stream.write('half'); if (event) throw new RangeError('far'); stream.end()")):
        answer = api.invoke(True)
        assert (answer.kind, answer.body) == ("response", b"half")
        assert answer.trailers["lambda-runtime-function-error-type"] == "Function.Unknown"
        error = answer.streamed_error
        assert (error["errorType"], error["errorMessage"]) == ("RangeError", "far")
        assert api.invoke(False).trailers == {}


def test_a_stream_that_fails_before_its_first_byte_is_an_error(api: RuntimeApi, start: Start) -> None:
    with start(streamed("stream.setContentType('text/plain'); throw new RangeError('far')")):
        answer = api.invoke()
        assert (answer.kind, answer.value["errorType"]) == ("error", "RangeError")


@pytest.mark.parametrize(
    ("code", "error_type", "message"),
    [
        (streamed(""), "Error", "Response stream is not finished."),
        (
            "exports.handler = awslambda.streamifyResponse((event, stream) => { stream.end('x') })",
            "Runtime.MalformedStreamingHandler",
            "Streaming does not support non-async handlers.",
        ),
    ],
)
def test_a_streaming_handler_that_does_not_stream_is_an_error(
    api: RuntimeApi, start: Start, code: str, error_type: str, message: str
) -> None:
    with start(code):
        answer = api.invoke()
        error = answer.value if answer.kind == "error" else answer.streamed_error
        assert (error["errorType"], error["errorMessage"]) == (error_type, message)


def test_an_uncaught_exception_half_way_through_a_stream_ends_it_with_the_error(api: RuntimeApi, start: Start) -> None:
    code = "stream.write('half'); setTimeout(() => { throw new Error('lost') }, 20); await new Promise(() => {})"
    with start(streamed(code)) as runtime:
        answer: Answer = api.invoke()
        assert (answer.body, answer.streamed_error["errorMessage"]) == (b"half", "lost")
        assert runtime.ended() == 129


def test_the_content_type_cannot_change_once_bytes_were_sent(api: RuntimeApi, start: Start) -> None:
    with start(streamed("stream.write('half'); stream.setContentType('text/plain')")):
        assert api.invoke().streamed_error["errorType"] == "Runtime.InvalidStreamingOperation"
