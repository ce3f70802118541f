# ruff: noqa: E501 - tables of whole messages, which read best one to a line

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from eventfn.config import load
from eventfn.errors import ConfigError
from eventfn.functions.model import AccessKey, Aws
from eventfn.plugins import Plugins

Write = Callable[[str], Path]
SECRET = "wJalrXUtnFEMI/K7MDENG"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        (tmp_path / "eventfn.toml").write_text(dedent(text))
        return Path()

    return write


def problems(target: Path) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(target, Plugins())
    return [str(problem) for problem in raised.value.problems]


def test_all_that_can_be_said(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYER", SECRET)
    (tmp_path / "secret").write_text(f"{SECRET}-of-a-file\n")
    aws = load(
        write("""
            [aws]
            account = "123456789012"
            region = "eu-central-1"
            endpoint = "http://127.0.0.1:4566"
            endpoints = { s3 = "http://127.0.0.1:9000", logs = "https://logs.internal/x" }
            network = ["aws", "db:5432"]

            [[aws.keys]]
            access_key_id = "AKIAIOSFODNN7EXAMPLE"
            secret_access_key = "${DEPLOYER}"
            principal = "arn:aws:iam::123456789012:user/deployer"
            policy = [{ Effect = "Allow", Action = ["lambda:Get*", "lambda:List*"], Resource = "*" }]

            [[aws.keys]]
            access_key_id = "test"
            secret_access_key_file = "secret"
        """),
        Plugins(),
    ).aws
    assert aws == Aws(
        account="123456789012",
        region="eu-central-1",
        endpoint="http://127.0.0.1:4566",
        endpoints={"s3": "http://127.0.0.1:9000", "logs": "https://logs.internal/x"},
        network=("aws", "db:5432"),
        keys=(
            AccessKey(
                access_key_id="AKIAIOSFODNN7EXAMPLE",
                secret_access_key=SECRET,
                principal="arn:aws:iam::123456789012:user/deployer",
                policy=({"Effect": "Allow", "Action": ["lambda:Get*", "lambda:List*"], "Resource": "*"},),
            ),
            AccessKey(
                access_key_id="test",
                secret_access_key=f"{SECRET}-of-a-file",
                secret_access_key_file="secret",
                principal="arn:aws:iam::123456789012:root",
            ),
        ),
    )
    assert SECRET not in repr(aws)
    assert aws.endpoint_of("s3") == "http://127.0.0.1:9000"
    assert aws.endpoint_of("sqs") == "http://127.0.0.1:4566"


def test_nothing_has_to_be_said(write: Write) -> None:
    aws = load(write(""), Plugins()).aws
    assert aws == Aws(account="000000000000", region="us-east-1", network="aws")
    assert aws.endpoint_of("s3") is None


def key(text: str, secret: str = f'secret_access_key = "{SECRET}"') -> str:
    return f'[[aws.keys]]\naccess_key_id = "test"\n{secret}\n{text}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[aws]\naccount = '1'", 'eventfn.toml:2: aws.account: expected 12 digits, got "1"'),
        ("[aws]\nregion = 'here'", 'eventfn.toml:2: aws.region: expected a region such as "us-east-1", got "here"'),
        ("[aws]\nendpont = 'x'", "eventfn.toml:2: aws.endpont: unknown key (did you mean 'endpoint'?)"),
        (
            "[aws]\nendpoint = 'localhost:4566'",
            'eventfn.toml:2: aws.endpoint: expected a URL such as "http://127.0.0.1:4566", got "localhost:4566"',
        ),
        (
            "[aws]\nendpoint = 'http://h:99999'",
            'eventfn.toml:2: aws.endpoint: expected a URL such as "http://127.0.0.1:4566", got "http://h:99999"',
        ),
        (
            "[aws]\nendpoint = 'http://me:pw@h'",
            "eventfn.toml:2: aws.endpoint: a name and a password are no part of an endpoint (requests are signed with keys)",
        ),
        (
            "[aws]\nendpoint = 'http://h/?x=1'",
            'eventfn.toml:2: aws.endpoint: expected a URL that ends with its host, port or path, got "http://h/?x=1"',
        ),
        (
            "[aws]\nendpoint = 'http://0.0.0.0:80'",
            'eventfn.toml:2: aws.endpoint: "0.0.0.0:80" is not the address of one host: functions could not reach it',
        ),
        (
            "[aws]\nendpoint = 'http://0x7f.1'",
            'eventfn.toml:2: aws.endpoint: "0x7f.1" is not an IP address, and no host is called so: functions could not reach it',
        ),
        (
            "[aws.endpoints]\nsqss = 'http://h'",
            "eventfn.toml:2: aws.endpoints.sqss: no service of AWS is called so (did you mean 'sqs'?)",
        ),
        (
            "[aws.endpoints]\nlambda = 'http://h'",
            "eventfn.toml:2: aws.endpoints.lambda: Lambda is this node itself: functions are told its address (leave it out)",
        ),
        (
            "[aws.endpoints]\nsqs = 'h'",
            'eventfn.toml:2: aws.endpoints.sqs: expected a URL such as "http://127.0.0.1:4566", got "h"',
        ),
        (
            "[aws]\nnetwork = ['sqs']",
            'eventfn.toml:2: aws.network[0]: expected "host:port", got "sqs" (with its port: "sqs:443")',
        ),
        ("[aws]\nnetwork = ['aws', 'aws']", "eventfn.toml:2: aws.network[1]: aws is listed twice"),
        (
            "[[aws.keys]]\nsecret_access_key = 'wJalrXUtn'",
            "eventfn.toml:1: aws.keys[0].access_key_id: is missing: expected text",
        ),
        (
            key("", ""),
            'eventfn.toml:1: aws.keys[0].secret_access_key: is missing: expected text (or secret_access_key_file = "PATH"; "${NAME}" takes it from the environment)',
        ),
        (
            key('secret_access_key_file = "f"'),
            "eventfn.toml:4: aws.keys[0].secret_access_key_file: expected this or secret_access_key, not both",
        ),
        (
            key("", 'secret_access_key = "short"'),
            "eventfn.toml:3: aws.keys[0].secret_access_key: expected at least 8 characters without blanks (such as `openssl rand -hex 20` makes)",
        ),
        (
            key("", 'secret_access_key_file = "secrt"'),
            "eventfn.toml:3: aws.keys[0].secret_access_key_file: FOLDER/secrt cannot be read: No such file or directory (did you mean 'secret'?)",
        ),
        (
            key("", 'secret_access_key_file = "."'),
            "eventfn.toml:3: aws.keys[0].secret_access_key_file: FOLDER cannot be read: Is a directory",
        ),
        (
            key("", 'secret_access_key_file = "secret"'),
            "eventfn.toml:3: aws.keys[0].secret_access_key_file: expected one line with the secret in FOLDER/secret",
        ),
        (
            key("") + key(""),
            "eventfn.toml:6: aws.keys[1].access_key_id: is also that of aws.keys[0]: each key has its own",
        ),
        (
            key("").replace('"test"', '"a/b"'),
            "eventfn.toml:2: aws.keys[0].access_key_id: expected 3 to 128 letters, digits, '_', '.' and '-', got \"a/b\"",
        ),
        (
            key("principal = 'me'"),
            'eventfn.toml:4: aws.keys[0].principal: expected an ARN such as "arn:aws:iam::000000000000:user/NAME", got "me"',
        ),
        (
            key("policy = [{ Efect = 'Allow', Effect = 'Allow', Action = '*', Resource = '*' }]"),
            "eventfn.toml:4: aws.keys[0].policy[0].Efect: unknown key (did you mean 'Effect'?)",
        ),
        (
            key("policy = [{ Effect = 'allow', Action = '*', Resource = '*' }]"),
            'eventfn.toml:4: aws.keys[0].policy[0].Effect: expected "Allow" or "Deny", got "allow"',
        ),
        (
            key("policy = [{ Effect = 'Allow', Resource = '*' }]"),
            'eventfn.toml:4: aws.keys[0].policy[0].Action: expected either Action or NotAction (such as Action = "lambda:InvokeFunction")',
        ),
        (
            key("policy = [{ Effect = 'Allow', Action = '*', Resource = [1] }]"),
            "eventfn.toml:4: aws.keys[0].policy[0].Resource: expected text or a list of text, got a list",
        ),
        (
            key("policy = [{ Effect = 'Allow', Action = '*', Resource = '*', Condition = { Bool = 1 } }]"),
            'eventfn.toml:4: aws.keys[0].policy[0].Condition: expected a table of operators with a table of keys each (such as { StringEquals = { "aws:PrincipalAccount" = "..." } })',
        ),
        (
            key("policy = [{ Effect = 'Allow', Action = '*', Resource = '*', Principal = '*' }]"),
            "eventfn.toml:4: aws.keys[0].policy[0].Principal: a key's policy says what its own principal may do (leave it out)",
        ),
        (key("policy = 1"), "eventfn.toml:4: aws.keys[0].policy: expected a list of tables, got 1 (in brackets: [1])"),
    ],
)
def test_every_mistake_is_named(write: Write, tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "secret").write_text("two\nlines\n")
    found = problems(write(text))
    assert found == [expected.replace("FOLDER", str(tmp_path))]
    assert SECRET not in "".join(found)
