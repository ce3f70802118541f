import pytest

from eventfn.aws import endpoints
from eventfn.aws.endpoints import Told
from eventfn.aws.sessions import Sessions
from eventfn.functions.model import Aws, Network

API = "127.0.0.1:9001"
SOME = Aws(
    endpoint="http://127.0.0.1:4566",
    endpoints={"s3": "https://minio.internal", "logs": "http://[::1]:80/x", "sqs": "http://127.0.0.1:4566"},
)


def test_every_sdk_is_told_where_services_are() -> None:
    assert endpoints.variables(SOME, API) == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
        "AWS_ENDPOINT_URL_S3": "https://minio.internal",
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": "http://[::1]:80/x",
        "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:4566",
        "AWS_ENDPOINT_URL_LAMBDA": "http://127.0.0.1:9001",
    }
    assert endpoints.variables(Aws(), "0.0.0.0:80") == {"AWS_ENDPOINT_URL_LAMBDA": "http://127.0.0.1:80"}


@pytest.mark.parametrize(
    ("wanted", "aws", "expected"),
    [
        ("none", SOME, "none"),
        ("egress", SOME, "egress"),
        (("db:1",), SOME, ("db:1",)),
        ("aws", Aws(), (API,)),
        ("aws", SOME, ("127.0.0.1:4566", "minio.internal:443", "[::1]:80", API)),
        (("aws", "db:1", API), Aws(endpoint="http://h"), ("db:1", API, "h:80")),
    ],
)
def test_aws_stands_for_its_endpoints(wanted: Network, aws: Aws, expected: Network) -> None:
    assert endpoints.network(wanted, aws, API) == expected


def test_credentials_are_where_the_sdk_of_a_runtime_looks() -> None:
    given = Sessions().mint("arn", "000000000000", 1)
    usual = {
        "AWS_ACCESS_KEY_ID": given.access_key_id,
        "AWS_SECRET_ACCESS_KEY": given.secret_access_key,
        "AWS_SESSION_TOKEN": given.session_token,
    }
    old = {"AWS_ACCESS_KEY": given.access_key_id, "AWS_SECRET_KEY": given.secret_access_key}
    assert endpoints.credential_variables(given, "python3.12") == usual
    assert endpoints.credential_variables(given, "java11") == usual | old
    assert given.secret_access_key not in repr(Told({}, usual))
