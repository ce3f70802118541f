from importlib import import_module
from typing import Any

import pytest

from eventfn.aws.services import SPELLED, variable


def test_the_names_are_botocores() -> None:
    botocore: Any = import_module("botocore.session")  # without types
    session = botocore.get_session()
    models: dict[str, str] = {
        name: session.get_service_model(name).service_id for name in session.get_available_services()
    }
    assert {name: text.replace(" ", "_").replace("-", "_").upper() for name, text in models.items()} == SPELLED


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("s3", "AWS_ENDPOINT_URL_S3"),
        ("logs", "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"),
        ("sso-oidc", "AWS_ENDPOINT_URL_SSO_OIDC"),
    ],
)
def test_a_variable_is_spelled_as_sdks_read_it(service: str, expected: str) -> None:
    assert variable(service) == expected
