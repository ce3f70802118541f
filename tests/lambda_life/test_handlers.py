"""Functions of many kinds as teams write them, made of zips through the API, with what they depend on."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import shutil
import time
from pathlib import Path
from typing import Any

from tests.lambda_life import packages
from tests.lambda_life.conftest import Team
from tests.servers.needed import need
from tests.support import PATIENCE

EXAMPLES = Path(__file__).parents[2] / "examples"


def http(method: str, path: str, body: str | None = None, **headers: str) -> dict[str, Any]:
    """A request as an HTTP API hands it over, payload version 2.0."""
    path, _, query = path.partition("?")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {name.replace("_", "-"): value for name, value in headers.items()},
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "api",
            "domainName": "api.example.com",
            "domainPrefix": "api",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "test",
            },
            "requestId": "request-1",
            "routeKey": "$default",
            "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1767225600000,
        },
        "isBase64Encoded": False,
    }
    if query:
        event["queryStringParameters"] = dict(pair.split("=") for pair in query.split("&"))
    if body is not None:
        event["body"] = body
        event["headers"]["content-length"] = str(len(body.encode()))
    return event


def sqs_event(*bodies: str) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": f"m{number}",
                "receiptHandle": "handle",
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1767225600000"},
                "messageAttributes": {},
                "md5OfBody": hashlib.md5(body.encode()).hexdigest(),
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:queue",
                "awsRegion": "us-east-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


def failures(answer: Any) -> list[str]:
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def test_an_api_with_a_router(team: Team) -> None:
    variables = {"POWERTOOLS_SERVICE_NAME": "orders", "POWERTOOLS_METRICS_NAMESPACE": "Shop"}
    variables["POWERTOOLS_TRACE_DISABLED"] = "true"
    team.deploy("orders", "app.handler", Layers=[team.python_layer()], variables=variables)
    assert json.loads(team.invoke("orders", http("GET", "/orders/1"))["body"]) == {"number": "1", "status": "paid"}
    assert team.invoke("orders", http("GET", "/orders/9"))["statusCode"] == 404
    assert team.invoke("orders", http("PUT", "/elsewhere"))["statusCode"] == 404
    made = team.invoke("orders", http("POST", "/orders", '{"item": "lamp"}', content_type="application/json"))
    assert (made["statusCode"], made["headers"]["Location"]) == (201, "/orders/2")
    listed = team.invoke("orders", http("GET", "/orders?status=new"))
    assert [order["item"] for order in json.loads(listed["body"])["orders"]] == ["lamp"]
    url = team.url("orders")
    status, _, body = url.fetch("GET", "/orders/1")
    assert (status, json.loads(body)) == (200, {"number": "1", "status": "paid"})
    status, headers, _ = url.fetch("POST", "/orders", b'{"item": "chair"}', content_type="application/json")
    assert (status, headers["Location"]) == (201, "/orders/2")
    assert url.fetch("GET", "/orders/9")[0] == 404
    line = json.loads(team.logged("orders", "correlation_id"))
    assert (line["message"], line["service"], line["order"]) == ("created", "orders", "2")
    assert (line["correlation_id"], line["function_name"], line["cold_start"]) == ("request-1", "orders", False)
    metric = json.loads(team.logged("orders", "CloudWatchMetrics"))
    assert (metric["Orders"], metric["_aws"]["CloudWatchMetrics"][0]["Namespace"]) == ([1.0], "Shop")


def test_pictures_of_a_bucket_get_smaller(team: Team) -> None:
    s3 = team.service("s3")
    s3.create_bucket(Bucket="photos")
    photograph = (EXAMPLES / "02_thumbnails/photographs/chelsea.jpg").read_bytes()
    s3.put_object(Bucket="photos", Key="in/a cat.jpg", Body=photograph)
    layer = team.python_layer()
    pillow = packages.PYTHON_PACKAGES.folder / "thumbnails"
    team.deploy(
        "thumbnails", "thumbnails.handler", f"python{packages.PYTHON}", pillow, Layers=[layer], variables={"SIZE": "64"}
    )
    event = {"Records": [{"s3": {"bucket": {"name": "photos"}, "object": {"key": "in/a+cat.jpg"}}}]}
    assert team.invoke("thumbnails", event) == ["small/a cat.jpg"]
    small = s3.get_object(Bucket="photos", Key="small/a cat.jpg")
    assert small["ContentType"] == "image/png"
    assert int.from_bytes(small["Body"].read()[16:20], "big") == 64  # the width that PNG's header says


def test_a_stream_is_aggregated_by_windows(team: Team) -> None:
    team.deploy("clicks", "clicks.handler")

    def window(state: dict[str, int], *pages: str, final: bool = False) -> Any:
        data = [base64.b64encode(json.dumps({"page": page}).encode()).decode() for page in pages]
        records = [{"kinesis": {"data": each}} for each in data]
        start = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:01:00Z"}
        return team.invoke(
            "clicks", {"Records": records, "state": state, "window": start, "isFinalInvokeForWindow": final}
        )

    state = window({}, "/", "/cart")["state"]
    state = window(state, "/")["state"]
    assert state == {"/": 2, "/cart": 1}
    assert window(state, final=True) == {}
    assert '"counts": {"/": 2, "/cart": 1}' in team.logged("clicks", "WINDOW")


def test_a_queue_of_which_some_messages_fail(team: Team) -> None:
    """Through a mapping: what failed comes again until it is in the dead letter queue, what did not does not."""
    sqs = team.service("sqs")
    dead = sqs.create_queue(QueueName="payments-dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "2"})
    attributes = {"VisibilityTimeout": "1", "RedrivePolicy": redrive}
    queue = sqs.create_queue(QueueName="payments", Attributes=attributes)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    team.deploy("payments", "app.handler", Timeout=1, Layers=[team.python_layer()])
    payments = [{"id": "a", "amount": 3}, {"id": "b", "amount": -1}, {"id": "c", "amount": 5}]
    assert failures(team.invoke("payments", sqs_event(*map(json.dumps, payments)))) == ["m1"]
    mapping = team.lab(
        "create_event_source_mapping",
        FunctionName="payments",
        EventSourceArn=arn,
        BatchSize=10,
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    for payment in payments:
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(payment))
    left: list[Any] = []
    deadline = time.monotonic() + PATIENCE
    while not left:
        assert time.monotonic() < deadline, "the payment that fails never came to the dead letters"
        left = sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=1, MaxNumberOfMessages=10).get("Messages", [])
    assert [json.loads(message["Body"])["id"] for message in left] == ["b"]
    team.lab("delete_event_source_mapping", UUID=mapping["UUID"])


def test_a_report_by_schedule(team: Team) -> None:
    team.service("s3").create_bucket(Bucket="reports")
    team.service("dynamodb").create_table(
        TableName="sales",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for sale, amount in (("b", "2.5"), ("a", "10")):
        team.service("dynamodb").put_item(TableName="sales", Item={"id": {"S": sale}, "amount": {"N": amount}})
    variables = {"TABLE": "sales", "BUCKET": "reports"}
    team.deploy("report", "report.handler", Layers=[team.python_layer()], variables=variables)
    event = {
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": "2026-01-02T03:00:00Z",
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:000000000000:rule/nightly"],
        "detail": {},
    }
    assert team.invoke("report", event) == {"key": "reports/2026-01-02.csv", "rows": 2}
    report = team.service("s3").get_object(Bucket="reports", Key="reports/2026-01-02.csv")["Body"].read()
    assert report == b"id,amount\r\na,10\r\nb,2.5\r\n"


def test_changes_of_a_table(team: Team) -> None:
    team.deploy("audit", "audit.handler", Layers=[team.python_layer()])
    old, new = {"id": {"S": "1"}, "n": {"N": "1"}}, {"id": {"S": "1"}, "n": {"N": "2.5"}, "tags": {"SS": ["x"]}}
    records = [
        {"eventName": "MODIFY", "dynamodb": {"OldImage": old, "NewImage": new}},
        {"eventName": "REMOVE", "dynamodb": {"OldImage": old}},
    ]
    assert team.invoke("audit", {"Records": records}) == [
        {"what": "MODIFY", "changed": ["n", "tags"], "new": {"id": "1", "n": "2.5", "tags": "{'x'}"}},
        {"what": "REMOVE", "changed": ["id", "n"], "new": {}},
    ]


def test_a_charge_is_made_once(team: Team) -> None:
    team.service("dynamodb").create_table(
        TableName="charges",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    team.deploy("charge", "charge.handler", Layers=[team.python_layer()], variables={"TABLE": "charges"})
    first = team.invoke("charge", {"order": "1", "attempt": 1})
    assert team.invoke("charge", {"order": "1", "attempt": 2}) == first
    assert team.invoke("charge", {"order": "2", "attempt": 1})["charge"] != first["charge"]
    answer = team.lab.client.invoke(FunctionName="charge", Payload=b"{}")
    assert json.loads(answer["Payload"].read())["errorType"] == "IdempotencyKeyError"


def test_a_subscription_of_a_log_group(team: Team) -> None:
    team.deploy("logs", "logs.handler")
    lines = [{"id": "1", "timestamp": 1767225600000, "message": text} for text in ("ERROR one", "fine", "ERROR two")]
    data = {"messageType": "DATA_MESSAGE", "logGroup": "g", "logStream": "s", "logEvents": lines}
    event = {"awslogs": {"data": base64.b64encode(gzip.compress(json.dumps(data).encode())).decode()}}
    assert team.invoke("logs", event) == ["ERROR one", "ERROR two"]


def test_a_webhook_with_a_signature(team: Team) -> None:
    team.deploy_node("webhook", "index.handler", variables={"SECRET": "s3cret"})
    payload = (EXAMPLES / "03_webhooks/payloads/star.json").read_text()
    signature = "sha256=" + hmac.new(b"s3cret", payload.encode(), "sha256").hexdigest()
    right = http("POST", "/", payload, x_hub_signature_256=signature, x_github_event="star")
    answer = team.invoke("webhook", right)
    assert answer["statusCode"] == 202
    assert json.loads(answer["body"]) == {"repo": json.loads(payload)["repository"]["full_name"]}
    assert team.invoke("webhook", right | {"body": payload + " "})["statusCode"] == 401
    assert team.invoke("webhook", http("POST", "/", payload))["statusCode"] == 401
    assert team.logged("webhook", "star:").endswith(f"star: {json.loads(payload)['action']}")


def test_a_topic_that_goes_on_to_a_queue_by_the_sdk_for_javascript(team: Team) -> None:
    queue = team.service("sqs").create_queue(QueueName="notes")["QueueUrl"]
    team.deploy_node("notifier", "index.handler", variables={"QUEUE": "notes"})
    records = [{"EventSource": "aws:sns", "Sns": {"Subject": "disk", "Message": text}} for text in ("full", "empty")]
    assert len(team.invoke("notifier", {"Records": records})) == 2
    got: set[str] = set()
    deadline = time.monotonic() + PATIENCE
    while len(got) < 2 and time.monotonic() < deadline:
        answer = team.service("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        got |= {message["Body"] for message in answer.get("Messages", [])}
    assert got == {"disk: full", "disk: empty"}


def test_an_authorizer_in_callback_style(team: Team) -> None:
    team.deploy_node("authorizer", "authorizer.handler", variables={"KEY": "key"})

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = f"{part(json.dumps({'alg': 'HS256'}).encode())}.{part(json.dumps({'sub': 'ada'}).encode())}"
    token = f"{claims}.{part(hmac.new(b'key', claims.encode(), 'sha256').digest())}"
    allowed = team.invoke("authorizer", {"headers": {"authorization": f"Bearer {token}"}})
    assert allowed == {"isAuthorized": True, "context": {"user": "ada"}}
    assert team.invoke("authorizer", {"headers": {"authorization": f"Bearer {claims}.x"}}) == {"isAuthorized": False}
    assert team.invoke("authorizer", {"headers": {}}) == {"isAuthorized": False}


def test_an_express_application(team: Team) -> None:
    team.deploy_node("shop", "app.handler")
    item = team.invoke("shop", http("GET", "/items/7?size=xl"))
    assert (item["statusCode"], json.loads(item["body"])) == (200, {"id": "7", "query": {"size": "xl"}})
    made = team.invoke("shop", http("POST", "/items", '{"a": [1]}', content_type="application/json"))
    assert (made["statusCode"], json.loads(made["body"]), made["headers"]["location"]) == (201, {"a": [1]}, "/items/7")
    wrong = team.invoke("shop", http("POST", "/items", "{", content_type="application/json"))
    assert (wrong["statusCode"], json.loads(wrong["body"])) == (400, {"error": "entity.parse.failed"})
    assert team.invoke("shop", http("GET", "/nowhere"))["statusCode"] == 404


def test_powertools_for_typescript_out_of_a_layer(team: Team) -> None:
    layer = packages.NODE_PACKAGES.folder / "layer"
    team.deploy_node("events", "index.handler", Layers=[team.layer("powertools-node", layer)])
    assert failures(team.invoke("events", sqs_event('{"type": "a"}', "{}", '{"type": "b"}'))) == ["m1"]
    line = json.loads(team.logged("events", "seen"))
    assert (line["service"], line["message"], line["type"], line["level"]) == ("events", "seen", "a", "INFO")
    assert (line["function_name"], line["function_memory_size"]) == ("events", "512")


def test_a_page_that_is_streamed(team: Team) -> None:
    team.deploy_node("page", "index.handler")
    answer = team.lab.client.invoke_with_response_stream(FunctionName="page", Payload=b'{"rows": 2000}')
    events = list(answer["EventStream"])
    assert events[-1] == {"InvokeComplete": {}}
    body = b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1])
    prelude, _, page = body.partition(b"\0" * 8)
    assert json.loads(prelude)["cookies"] == ["seen=1"]
    assert page == b"<ul>" + b"".join(b"<li>%d</li>" % row for row in range(2000)) + b"</ul>"
    status, headers, page = team.url("page", "RESPONSE_STREAM").fetch("GET", "/")
    assert (status, headers["content-type"], headers["set-cookie"]) == (200, "text/html", "seen=1")
    assert page == b"<ul><li>0</li><li>1</li><li>2</li></ul>"


def test_a_shell_script_with_a_layer_of_tools(team: Team, tmp_path: Path) -> None:
    need(None if shutil.which("curl") else "apt-get install curl")
    tool = tmp_path / "layer" / "bin" / "count-words"
    tool.parent.mkdir(parents=True)
    tool.write_text('#!/bin/sh\nwords=$(wc -w)\n[ "$words" -lt 4 ] && printf \'%d\' "$words"\n')
    tool.chmod(0o755)
    layer = team.layer("tools", tmp_path / "layer")
    team.deploy("backup", "any", "provided.al2023", Layers=[layer])
    assert team.invoke("backup", "two words") == {"words": 2}
    answer = team.lab.client.invoke(FunctionName="backup", Payload=b'"a b c d e"')
    assert json.loads(answer["Payload"].read()) == {
        "errorType": "Function.Failed",
        "errorMessage": "count-words failed",
    }
    assert team.logged("backup", "backing up") == 'backing up "two words"'
